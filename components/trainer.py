"""TFX's Trainer, which resumes an earlier attempt and checks the exported model."""

from __future__ import annotations

from typing import Any

from tfx import types
from tfx.components.trainer import component, executor
from tfx.dsl.components.base import executor_spec
from tfx.types import artifact_utils, standard_component_specs
from tfx.utils import json_utils, path_utils

from components.working_dir import WithWorkingDir
from pipeline.saved_model import contract


class Executor(WithWorkingDir, executor.GenericExecutor):
    """TFX's executor, which calls `run_fn`, with a working folder.

    The component fails if the exported model does not meet `pipeline.saved_model.contract`.
    """

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        super().Do(input_dict, output_dict, exec_properties)
        config = json_utils.loads(exec_properties[standard_component_specs.CUSTOM_CONFIG_KEY])
        model = artifact_utils.get_single_instance(output_dict[standard_component_specs.MODEL_KEY])
        contract.check(path_utils.serving_model_path(model.uri), config["image_size"])


class ResumableTrainer(component.Trainer):
    """TFX's Trainer with the executor above."""

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)
