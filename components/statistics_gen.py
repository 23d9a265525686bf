"""TFX's StatisticsGen with few photos in memory at a time, and progress."""

from __future__ import annotations

from typing import Any

from tfx import types
from tfx.components.statistics_gen import component, executor
from tfx.dsl.components.base import executor_spec
from tfx.types import standard_component_specs

from pipeline.artifacts import ingestion
from pipeline.compat import tfx_statistics_gen
from pipeline.core import features, progress


class Executor(executor.Executor):
    """TFX's executor with Beam's batches limited to 20 MB.

    By default, a batch has as many examples as are processed in a second, up to 1,000. As photos
    are not decoded here, that would be hundreds of megabytes per batch, several times over.
    """

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        (examples,) = input_dict[standard_component_specs.EXAMPLES_KEY]
        ingestion.expect_photos(examples.uri, features.SPLITS, progress.READ)
        with tfx_statistics_gen.batches_by_size():
            super().Do(input_dict, output_dict, exec_properties)


class PhotoStatisticsGen(component.StatisticsGen):
    """TFX's StatisticsGen with the executor above."""

    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)
