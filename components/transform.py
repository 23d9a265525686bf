"""Transform in small batches, whose examples are written by `components.records`."""

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

# Photos. Beam's batches hold what is processed in a second, which takes the more memory the quicker
# the machine is. Not bytes, as in StatisticsGen: a photo of any size is packed into as many.
_BATCH = 32


class Executor(executor.Executor):
    """TFX's own with another processor: it has no settings for these two."""

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
