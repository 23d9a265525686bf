"""ImportSchemaGen that notices an edit of the schema file."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, ClassVar

from tfx import types
from tfx.components.schema_gen.import_schema_gen import component
from tfx.types import component_spec, standard_artifacts, standard_component_specs


class _Spec(types.ComponentSpec):
    PARAMETERS: ClassVar[dict[str, Any]] = {
        **standard_component_specs.ImportSchemaGenSpec.PARAMETERS,
        # Only there to be part of the cache key; TFX's own knows the file by its path alone.
        "digest": component_spec.ExecutionParameter(type=str),
    }
    INPUTS = standard_component_specs.ImportSchemaGenSpec.INPUTS
    OUTPUTS = standard_component_specs.ImportSchemaGenSpec.OUTPUTS


class CuratedSchemaGen(component.ImportSchemaGen):
    """Brings a curated schema file into the pipeline."""

    SPEC_CLASS = _Spec

    def __init__(self, schema_file: str):
        """Creates the component from the path of a text-format schema."""
        super(component.ImportSchemaGen, self).__init__(
            spec=_Spec(
                schema_file=schema_file,
                digest=hashlib.sha256(Path(schema_file).read_bytes()).hexdigest(),
                schema=types.Channel(type=standard_artifacts.Schema),
            )
        )
