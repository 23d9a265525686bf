"""TFX's Evaluator with progress."""

from __future__ import annotations

from typing import Any

from tfx import types
from tfx.components.evaluator import component, executor
from tfx.dsl.components.base import executor_spec
from tfx.types import standard_component_specs

from pipeline.artifacts import ingestion
from pipeline.core import features, progress


class Executor(executor.Executor):
    """TFX's executor with progress."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        (examples,) = input_dict[standard_component_specs.EXAMPLES_KEY]
        ingestion.expect_photos(examples.uri, [features.TEST], progress.READ)
        super().Do(input_dict, output_dict, exec_properties)


class PhotoEvaluator(component.Evaluator):
    """TFX's Evaluator with the executor above."""

    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)
