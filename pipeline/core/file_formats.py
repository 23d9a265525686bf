"""Formats that a release can be converted to: names, endings and packages, none of them loaded.

What writes and asks them is in `pipeline.formats`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.core.errors import UserError

_INT8 = "_int8"
WEIGHTS = ".bin"  # of OpenVINO's second file
# Versions of ONNX's operations: the lowest with all that are needed, the highest that the converter
# knows, and the one that is taken.
OPSETS, OPSET = range(13, 19), 17


@dataclass(frozen=True)
class Family:
    """What is known of a family without loading its module."""

    title: str
    ending: str  # of its files
    extra: str  # of setup.py, which has its packages
    runtime: str  # the package that asks them
    converters: tuple[str, ...]  # the packages that write them, beside that

    @property
    def endings(self) -> tuple[str, ...]:
        """Of its files, when it has two that belong together."""
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
    """One of `NAMES`: a family, as floats or in 8 bits."""

    name: str

    @property
    def int8(self) -> bool:
        """Whether it computes in 8 bits."""
        return self.name.endswith(_INT8)

    @property
    def family(self) -> Family:
        """What it has in common with its sister."""
        return FAMILIES[self.name.removesuffix(_INT8)]

    @property
    def title(self) -> str:
        """The name for people."""
        return self.family.title + (", 8 bits" if self.int8 else "")

    @property
    def file_name(self) -> str:
        """Of its file in a release; OpenVINO's has a second one beside it."""
        return f"model{_INT8 if self.int8 else ''}{self.family.ending}"


def wanted(settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The formats that settings (by dotted key) ask for, with the options of each."""
    opset = {"opset": settings.get("release.onnx_opset", OPSET)}
    return {
        name: opset if "onnx" in Format(name).family.converters else {}
        for name in settings.get("release.formats", ())
    }


def check_packages(name: str) -> None:
    """Raises UserError, one sentence, if a package is missing that makes files of this format."""
    family = Format(name).family
    _check(family, (family.runtime, *family.converters))


def check_runtime(family: Family) -> None:
    """Raises UserError, one sentence, if the package is missing that asks files of this family."""
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
    """The family whose files end so; None if there is none."""
    return next((each for each in FAMILIES.values() if each.ending == ending), None)
