"""A working folder for training, which survives failed attempts."""

from __future__ import annotations

from typing import Any

from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.types import standard_component_specs
from tfx.utils import json_utils

WORKING_DIR = "working_dir"


class WithWorkingDir(base_executor.BaseExecutor):
    """Mixin for TFX executors that adds the key ``working_dir`` to their ``custom_config``.

    The folder exists, is the same for all attempts at the same work (see
    `pipeline.orchestration.launcher`), and is deleted after a success.
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
