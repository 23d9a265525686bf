"""TFX's StatisticsGen with few photos in memory at a time, and progress."""

from __future__ import annotations

from typing import Any, ClassVar

from tfx import types
from tfx.components.statistics_gen import component, executor
from tfx.dsl.components.base import executor_spec
from tfx.types import component_spec, standard_artifacts, standard_component_specs
from tfx.utils import json_utils

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


class _Spec(standard_component_specs.StatisticsGenSpec):
    PARAMETERS: ClassVar[dict[str, Any]] = {
        **standard_component_specs.StatisticsGenSpec.PARAMETERS,
        "code": component_spec.ExecutionParameter(type=str),
    }


class PhotoStatisticsGen(component.StatisticsGen):
    """TFX's StatisticsGen with the executor above, and with its code in the cache key."""

    SPEC_CLASS = _Spec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)

    def __init__(self, *, examples: types.BaseChannel, schema: types.BaseChannel, code: str):
        """Create the component.

        Args:
          examples: raw examples.
          schema: of the examples.
          code: fingerprint of the component's code.
        """
        super(component.StatisticsGen, self).__init__(
            spec=_Spec(
                examples=examples,
                schema=schema,
                exclude_splits=json_utils.dumps([]),
                code=code,
                statistics=types.Channel(type=standard_artifacts.ExampleStatistics),
            )
        )
