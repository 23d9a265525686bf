"""Files of other formats that a release is turned into: each family is written and asked here.

* `network`: what every file holds, from a photo's pixels to mask and probabilities.
* `onnx`, `litert`, `openvino`: one module a family of `core.file_formats`.
* `photos`: examples of the training data, which 8 bits are calibrated on and files are judged by.

A family module has

* ``write(release, path, examples=None, opset=None)``: writes a file; with examples in 8 bits,
  calibrated on their photos;
* ``Runner(path, threads=None)``: asks one: `Answer` of photos, uint8 [batch, h, w, 3].

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
class Answer:
    """What a file says of photos."""

    mask: npt.NDArray[np.uint8]  # class ids, [batch, size, size]
    probabilities: npt.NDArray[np.float32]  # [batch, size, size, 3]


def module(family: file_formats.Family) -> ModuleType:
    """The module that writes and asks the files of a family; loads TensorFlow."""
    names = (name for name, each in file_formats.FAMILIES.items() if each == family)
    return importlib.import_module(f"{__name__}.{next(names)}")
