"""Write and run releases in other file formats.

* `network`: the function in every file, from a photo's pixels to mask and probabilities.
* `onnx`, `litert`, `openvino`: one module for each family of `core.file_formats`.
* `photos`: examples from the release's data, for calibration and for the comparison of the files.

A family module has

* ``write(release, path, examples=None, opset=None)``, which writes a file; with examples, it
  quantizes to int8 and calibrates on their photos;
* ``Runner(path, threads=None)``, which loads a file and returns the `Output` of photos, uint8
  [batch, height, width, 3].

May import: `pipeline.core`, `pipeline.settings`, `pipeline.data`, `pipeline.models`,
`pipeline.saved_model`, `pipeline.release`.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

from pipeline.core import file_formats

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

IMAGE = "image"  # the input: uint8 [batch, height, width, 3], RGB


@dataclass(frozen=True)
class Output:
    """The output of a file for a batch of photos."""

    mask: npt.NDArray[np.uint8]  # class ids, [batch, size, size]
    probabilities: npt.NDArray[np.float32]  # [batch, size, size, 3]


def module(family: file_formats.Family) -> ModuleType:
    """Imports the module that writes and runs the files of a family, and TensorFlow with it."""
    names = (name for name, each in file_formats.FAMILIES.items() if each == family)
    return importlib.import_module(f"{__name__}.{next(names)}")
