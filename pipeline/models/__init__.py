"""The segmentation models, one module each; the name of the module is the name of the model.

To add an architecture, add a module to this folder with

* ``SIZE_MULTIPLE``: the image side in pixels must be a multiple of this number;
* ``build(image_size: int) -> keras.Model``: the model maps float32 [batch, size, size, 3] in [0, 1]
  to class probabilities, float32 [batch, size, size, NUM_CLASSES].

Optional:

* ``LEAST_SIZE``: minimum image side in pixels, if that is more than ``SIZE_MULTIPLE``;
* ``SCALABLE = True``: ``build`` also takes ``width``, a multiplier for the channels of each layer;
* ``PRETRAINED = True``: ``build`` also takes ``encoder_weights``, and the model has a layer
  ``encoder``, itself a model, which `freeze_encoder` freezes.

Modules that begin with an underscore are shared by several models.

Import Keras inside `build`: the settings import this package, and must not take the seconds that
TensorFlow needs to load.

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
    """Return the names of all models, sorted."""
    return tuple(
        sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))
    )


def sources(name: str) -> tuple[str, ...]:
    """Return the modules that define a model: this one, the shared ones and its own."""
    shared = [m.name for m in pkgutil.iter_modules(__path__) if m.name.startswith("_")]
    return (__name__, *(f"{__name__}.{module}" for module in [*sorted(shared), name]))


def check_image_size(name: str, image_size: int) -> None:
    """Raise ValueError if a model does not support this image side in pixels."""
    module = _module(name)
    multiple = module.SIZE_MULTIPLE
    least = getattr(module, "LEAST_SIZE", multiple)
    if image_size >= least and image_size % multiple == 0:
        return
    below = image_size // multiple * multiple
    around = [str(size) for size in (below, below + multiple) if size >= least] or [str(least)]
    raise ValueError(
        f"Model {name!r} does not support image size {image_size}; "
        f"it must be a positive multiple of {multiple}, for example {' or '.join(around)}."
    )


def check_pretrained(name: str) -> None:
    """Raise ValueError if a model has no pretrained encoder."""
    if not getattr(_module(name), "PRETRAINED", False):
        raise ValueError(
            f"Model {name!r} has no pretrained encoder, so it takes no encoder weights "
            "and cannot freeze the encoder."
        )


def scalable(name: str) -> bool:
    """Return whether the width of a model can be changed."""
    return bool(getattr(_module(name), "SCALABLE", False))


def check_width(name: str, width: float) -> None:
    """Raise ValueError if a model does not support this width."""
    if width != 1 and not scalable(name):
        raise ValueError(f"Model {name!r} cannot be scaled, so width must be 1, not {width:g}.")


def build(
    name: str, image_size: int, encoder_weights: str | None = None, width: float = 1
) -> keras.Model:
    """Build a model.

    Args:
      name: one of `names()`.
      image_size: side of the square input and output in pixels.
      encoder_weights: for models with a pretrained encoder: ``imagenet`` or a file. None: random
        initialisation.
      width: for scalable models: multiplier for the channels of each layer.

    Returns:
      A Keras model from float32 [batch, size, size, 3] in [0, 1] to class probabilities, float32
      [batch, size, size, NUM_CLASSES].

    Raises:
      ValueError: if the name is unknown, the model does not support the size, the width or encoder
        weights, or the weights cannot be loaded.
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
    """Freeze or unfreeze a pretrained encoder; compile the model afterwards.

    Batch normalisation in the encoder stays frozen either way, since small batches would spoil its
    statistics.

    Raises:
      ValueError: if the model has no layer ``encoder``.
    """
    import keras

    encoders = [layer for layer in model.layers if layer.name == "encoder"]
    if not encoders:
        raise ValueError(f"Model {model.name!r} has no pretrained encoder to freeze.")
    encoders[0].trainable = not frozen
    for layer in encoders[0].layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False  # runs in inference mode


def _module(name: str) -> ModuleType:
    if name not in names():
        raise ValueError(f"There is no model {name!r}; known models: {', '.join(names())}.")
    return importlib.import_module(f"{__name__}.{name}")
