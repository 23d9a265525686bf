"""TFX's Transform with small batches, and with the records of `components.records`."""

from __future__ import annotations

from typing import Any

from tfx import types
from tfx.components.transform import component, executor
from tfx.dsl.components.base import executor_spec
from tfx.types import standard_component_specs

from components import records
from pipeline.artifacts import ingestion
from pipeline.compat import tfx_transform
from pipeline.core import features, progress

# Photos. By default, a batch has as many as are processed in a second, so faster machines need more
# memory. All packed photos have the same size, so there is no need to limit bytes.
_BATCH = 32


class Executor(executor.Executor):
    """TFX's executor with another processor, since batches and records are not configurable."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        (examples,) = input_dict[standard_component_specs.EXAMPLES_KEY]
        ingestion.expect_photos(examples.uri, [features.TRAIN, features.EVAL], progress.WRITTEN)
        with tfx_transform.processing(_BATCH, records.write):
            super().Do(input_dict, output_dict, exec_properties)


class PhotoTransform(component.Transform):
    """TFX's Transform with the executor above."""

    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)
