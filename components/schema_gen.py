"""Imports a curated schema file; an edit of the file is a cache miss."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx import types
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, component_spec, standard_artifacts
from tfx.utils import io_utils

from pipeline.core import features


class Executor(base_executor.BaseExecutor):
    """Writes the schema."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        uri = artifact_utils.get_single_uri(output_dict["schema"])
        io_utils.write_string_file(os.path.join(uri, "schema.pbtxt"), exec_properties["content"])


class _Spec(types.ComponentSpec):
    # The cache key of TFX's ImportSchemaGen has only the path, so it would not notice an edit.
    PARAMETERS: ClassVar[dict[str, Any]] = {"content": component_spec.ExecutionParameter(type=str)}
    INPUTS: ClassVar[dict[str, Any]] = {}
    OUTPUTS: ClassVar[dict[str, Any]] = {
        "schema": component_spec.ChannelParameter(type=standard_artifacts.Schema)
    }


class CuratedSchemaGen(base_component.BaseComponent):
    """Imports a curated schema file into the pipeline."""

    SPEC_CLASS = _Spec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(self, schema_file: str, breeds: Sequence[str] = ()):
        """Create the component.

        Args:
          schema_file: path of a schema in text format.
          breeds: allowed breeds; if empty, those in the file.
        """
        schema = text_format.Parse(Path(schema_file).read_text(), schema_pb2.Schema())
        if breeds:
            (breed,) = (each for each in schema.feature if each.name == features.BREED)
            breed.string_domain.value[:] = breeds
        super().__init__(
            _Spec(
                content=text_format.MessageToString(schema),
                schema=types.Channel(type=standard_artifacts.Schema),
            )
        )
