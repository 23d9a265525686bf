"""The network of `xception_unet` and its larger and smaller variants."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import layers

from pipeline.models import _layers


def build(
    image_size: int,
    name: str,
    widths: Sequence[int],
    down: Sequence[int],
    up: Sequence[int],
    width: float,
) -> keras.Model:
    """Build a model: float32 [batch, size, size, 3] to float32 [batch, size, size, NUM_CLASSES].

    Args:
      image_size: side in pixels.
      name: name of the model.
      widths: channels at 1/2, 1/4, ... of the size.
      down: residual blocks in the encoder, at 1/4, 1/8, ... of the size.
      up: residual blocks in the decoder, at 1/2, 1/4, ... of the size.
      width: multiplier for all `widths`.
    """
    widths = [_layers.channels(count, width) for count in widths]
    photo = keras.Input((image_size, image_size, 3), name="photo")
    x = layers.Conv2D(widths[0], 3, strides=2, padding="same", use_bias=False)(photo)
    x = _layers.norm(x)
    skips = []
    for count, blocks in zip(widths[1:], down, strict=True):
        skips.append(x)
        for number in range(blocks):
            x = _layers.residual(x, count, strides=2 if number == 0 else 1)
    for skip, blocks in list(zip(skips, up, strict=True))[::-1]:
        x = _layers.merge(x, skip)
        for _ in range(blocks):
            x = _layers.residual(x, skip.shape[-1])
    return keras.Model(photo, _layers.classify(x), name=name)
