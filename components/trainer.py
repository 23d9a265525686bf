"""Trainer with a working folder, which outlives an attempt, and a check of what it exported."""

from __future__ import annotations

from typing import Any

from tfx import types
from tfx.components.trainer import component, executor
from tfx.dsl.components.base import executor_spec
from tfx.types import artifact_utils, standard_component_specs
from tfx.utils import json_utils, path_utils

from pipeline import contract

WORKING_DIR = "working_dir"


class Executor(executor.GenericExecutor):
    """TFX's own, which calls `run_fn`; its ``custom_config`` gets the key ``working_dir``.

    The folder exists, is the same for every attempt at the same training (see `pipeline.nodes`) and
    is deleted when one succeeds. An export that does not keep the contract fails the component.
    """

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        key = standard_component_specs.CUSTOM_CONFIG_KEY
        config = json_utils.loads(exec_properties[key])
        config[WORKING_DIR] = self._context.stateful_working_dir
        super().Do(input_dict, output_dict, {**exec_properties, key: json_utils.dumps(config)})
        model = artifact_utils.get_single_instance(output_dict[standard_component_specs.MODEL_KEY])
        contract.check(path_utils.serving_model_path(model.uri), config["image_size"])


class ResumableTrainer(component.Trainer):
    """TFX's Trainer with the executor above."""

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)
