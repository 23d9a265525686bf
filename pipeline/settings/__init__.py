"""All settings of a run, typed: defaults < YAML files < ``--set KEY=VALUE``.

`schema` and `training` define the settings, `values` the types of their values. `loader` builds
them from files and overrides, `mistakes` words pydantic's errors, `arguments` adds the options to
command lines, and ``configs/`` has presets.
May import: `pipeline.core`, `pipeline.models`.
"""

from pipeline.settings.schema import (
    BUILTIN_CONFIG,
    CONFIGS,
    Beam,
    Data,
    Exif,
    ExifMasks,
    FormatName,
    Gate,
    OneClassMasks,
    Release,
    Settings,
    Transform,
    describe,
    gate_of,
    load,
)
from pipeline.settings.training import (
    LossName,
    Model,
    OptimizerName,
    Rate,
    Strength,
    Train,
    Tune,
    Width,
)

__all__ = [
    "BUILTIN_CONFIG",
    "CONFIGS",
    "Beam",
    "Data",
    "Exif",
    "ExifMasks",
    "FormatName",
    "Gate",
    "LossName",
    "Model",
    "OneClassMasks",
    "OptimizerName",
    "Rate",
    "Release",
    "Settings",
    "Strength",
    "Train",
    "Transform",
    "Tune",
    "Width",
    "describe",
    "gate_of",
    "load",
]
