"""The segmentation models, one module each; the module's name is the model's name.

To add an architecture, add one file to this folder that has

* ``SIZE_MULTIPLE``: the image side, in pixels, must be a multiple of this number;
* ``build(image_size: int) -> keras.Model``: takes float32 [batch, size, size, 3] in [0, 1], returns
  float32 [batch, size, size, NUM_CLASSES], each pixel's class probabilities.

Import Keras inside `build`: settings are checked through this package, and that should not cost the
seconds which TensorFlow takes to load.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras


def names() -> tuple[str, ...]:
    """The names that `build` takes, sorted."""
    return tuple(
        sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))
    )


def sources(name: str) -> tuple[str, ...]:
    """The modules that decide what model `name` is: its own, the registry and what models share."""
    shared = [m.name for m in pkgutil.iter_modules(__path__) if m.name.startswith("_")]
    return (__name__, *(f"{__name__}.{module}" for module in [*sorted(shared), name]))


def check_image_size(name: str, image_size: int) -> None:
    """Raises ValueError, one sentence, if model `name` cannot take this side (pixels)."""
    multiple = _module(name).SIZE_MULTIPLE
    if image_size >= multiple and image_size % multiple == 0:
        return
    below = image_size // multiple * multiple
    around = [str(size) for size in (below, below + multiple) if size > 0] or [str(multiple)]
    raise ValueError(
        f"Model {name!r} cannot take image size {image_size}: "
        f"it must be a positive multiple of {multiple}, for example {' or '.join(around)}."
    )


def build(name: str, image_size: int) -> keras.Model:
    """Builds model `name` with fresh weights.

    Args:
        name: One of `names()`.
        image_size: Side of the square input and output, in pixels.

    Returns:
        A Keras model from float32 [batch, size, size, 3] in [0, 1] to class probabilities, float32
        [batch, size, size, NUM_CLASSES].

    Raises:
        ValueError: The name is unknown, or the model cannot take the size.
    """
    check_image_size(name, image_size)
    return _module(name).build(image_size)


def _module(name: str) -> ModuleType:
    if name not in names():
        raise ValueError(f"There is no model {name!r}; known models: {', '.join(names())}.")
    return importlib.import_module(f"{__name__}.{name}")
