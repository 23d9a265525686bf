"""The segmentation models, one module each; the module's name is the model's name.

To add an architecture, add one file to this folder that has

* ``SIZE_MULTIPLE``: the image side, in pixels, must be a multiple of this number;
* ``build(image_size: int) -> keras.Model``: takes float32 [batch, size, size, 3] in [0, 1], returns
  float32 [batch, size, size, NUM_CLASSES], each pixel's class probabilities.

It may have

* ``LEAST_SIZE``: the least image side, in pixels, where that is more than ``SIZE_MULTIPLE``;
* ``SCALABLE = True``: then ``build`` takes ``width`` as well, which multiplies the channels of its
  layers;
* ``PRETRAINED = True``: then ``build`` takes ``encoder_weights`` as well, and the model has a layer
  ``encoder``, itself a model, which `freeze_encoder` freezes.

Files whose names begin with an underscore hold what several models share.

Import Keras inside `build`: settings are checked through this package, and that should not cost the
seconds which TensorFlow takes to load.

May import: `pipeline.core`.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType
from typing import TYPE_CHECKING, Any

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
    module = _module(name)
    multiple = module.SIZE_MULTIPLE
    least = getattr(module, "LEAST_SIZE", multiple)
    if image_size >= least and image_size % multiple == 0:
        return
    below = image_size // multiple * multiple
    around = [str(size) for size in (below, below + multiple) if size >= least] or [str(least)]
    raise ValueError(
        f"Model {name!r} cannot take image size {image_size}: "
        f"it must be a positive multiple of {multiple}, for example {' or '.join(around)}."
    )


def check_pretrained(name: str) -> None:
    """Raises ValueError, one sentence, if model `name` has no encoder that could be pretrained."""
    if not getattr(_module(name), "PRETRAINED", False):
        raise ValueError(
            f"Model {name!r} has no pretrained encoder, so it takes no weights of one "
            "and freezes none."
        )


def scalable(name: str) -> bool:
    """Whether model `name` comes in any width."""
    return getattr(_module(name), "SCALABLE", False)


def check_width(name: str, width: float) -> None:
    """Raises ValueError, one sentence, if model `name` cannot have this width."""
    if width != 1 and not scalable(name):
        raise ValueError(f"Model {name!r} has one width only, so width must be 1, not {width:g}.")


def build(
    name: str, image_size: int, encoder_weights: str | None = None, width: float = 1
) -> keras.Model:
    """Builds model `name`.

    Args:
        name: One of `names()`.
        image_size: Side of the square input and output, in pixels.
        encoder_weights: For models with a pretrained encoder: ``imagenet`` or a file. None: all
            weights are fresh.
        width: For scalable models: what the channels of its layers are multiplied by.

    Returns:
        A Keras model from float32 [batch, size, size, 3] in [0, 1] to class probabilities, float32
        [batch, size, size, NUM_CLASSES].

    Raises:
        ValueError: The name is unknown, the model cannot take the size or the width, or it has no
            encoder to which the weights belong, or they cannot be loaded.
    """
    check_image_size(name, image_size)
    check_width(name, width)
    options: dict[str, Any] = {}
    if encoder_weights is not None:
        check_pretrained(name)
        options["encoder_weights"] = encoder_weights
    if width != 1:
        options["width"] = width
    return _module(name).build(image_size, **options)


def freeze_encoder(model: keras.Model, frozen: bool) -> None:
    """Keeps a pretrained encoder as it is, or fine-tunes it; compile the model afterwards.

    Batch normalisation in the encoder keeps its running means, scales and offsets either way:
    small batches would spoil them.

    Raises:
        ValueError: The model has no layer ``encoder``.
    """
    import keras

    encoders = [layer for layer in model.layers if layer.name == "encoder"]
    if not encoders:
        raise ValueError(f"Model {model.name!r} has no pretrained encoder that could be frozen.")
    encoders[0].trainable = not frozen
    for layer in encoders[0].layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False  # which makes it compute as in inference


def _module(name: str) -> ModuleType:
    if name not in names():
        raise ValueError(f"There is no model {name!r}; known models: {', '.join(names())}.")
    return importlib.import_module(f"{__name__}.{name}")
