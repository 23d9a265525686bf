"""Formats that a release can be converted to: names, file extensions, packages.

Loads none of the packages; `pipeline.formats` writes and runs the formats.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.core import code
from pipeline.core.errors import UserError

_INT8 = "_int8"
WEIGHTS = ".bin"  # extension of OpenVINO's second file
# ONNX opset versions: from the lowest that has all operations we need to the highest that the
# converter supports, and the default.
OPSETS, OPSET = range(13, 19), 17


@dataclass(frozen=True)
class Family:
    """Formats of one runtime, in float32 and int8."""

    title: str
    ending: str  # of its files
    extra: str  # of setup.py, with its packages
    runtime: str  # the package that runs its files
    converters: tuple[str, ...]  # the other packages needed to write its files

    @property
    def endings(self) -> tuple[str, ...]:
        """Extensions of all files of a model; OpenVINO has two."""
        return (self.ending, WEIGHTS) if self.ending == ".xml" else (self.ending,)


_ONNX = ("tf2onnx", "onnx")
FAMILIES = {
    "onnx": Family("ONNX", ".onnx", "onnx", "onnxruntime", _ONNX),
    "litert": Family("LiteRT", ".tflite", "litert", "ai_edge_litert", ()),
    "openvino": Family("OpenVINO", ".xml", "openvino", "openvino", ("nncf", *_ONNX)),
}
NAMES = tuple(name + kind for name in FAMILIES for kind in ("", _INT8))


@dataclass(frozen=True)
class Format:
    """One of `NAMES`: a family, in float32 or int8."""

    name: str

    @property
    def int8(self) -> bool:
        """Whether the model computes in int8."""
        return self.name.endswith(_INT8)

    @property
    def family(self) -> Family:
        """The family it belongs to."""
        return FAMILIES[self.name.removesuffix(_INT8)]

    @property
    def module(self) -> str:
        """Name of the module that writes and runs its files."""
        return f"pipeline.formats.{self.name.removesuffix(_INT8)}"

    @property
    def title(self) -> str:
        """The name shown to users."""
        return self.family.title + (" (int8)" if self.int8 else "")

    @property
    def file_name(self) -> str:
        """Name of its file in a release; OpenVINO writes a second file beside it."""
        return f"model{_INT8 if self.int8 else ''}{self.family.ending}"


def wanted(settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the formats that settings (by dotted key) ask for, with the options of each.

    The fingerprint of the code that writes a file counts as one of its options.
    """
    opset = {"opset": settings.get("release.onnx_opset", OPSET)}
    return {
        name: {
            **(opset if "onnx" in Format(name).family.converters else {}),
            "code": code.fingerprint("pipeline.conversion.converter", Format(name).module),
        }
        for name in settings.get("release.formats", ())
    }


def check_packages(name: str) -> None:
    """Raise UserError if a package that writes this format is missing."""
    family = Format(name).family
    _check(family, (family.runtime, *family.converters))


def check_runtime(family: Family) -> None:
    """Raise UserError if the package that runs files of this family is missing."""
    _check(family, (family.runtime,))


def _check(family: Family, packages: Sequence[str]) -> None:
    for package in packages:
        if not _installed(package):
            raise UserError(
                f"{family.title} needs the package {package}; install"
                f" segmentation-pipeline[{family.extra}]."
            )


def _installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):  # a test made it unavailable
        return False


def family_of(ending: str) -> Family | None:
    """Return the family whose files have this extension, if any."""
    return next((each for each in FAMILIES.values() if each.ending == ending), None)
