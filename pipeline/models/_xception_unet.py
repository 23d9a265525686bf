"""The network of `xception_unet` and its sizes."""

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
    """From float32 [batch, size, size, 3] in [0, 1] to float32 [batch, size, size, NUM_CLASSES].

    Args:
      image_size: side in pixels.
      name: of the model.
      widths: channels at a half, a quarter, ... of the size.
      down: residual blocks on the way down, at a quarter, an eighth, ... of the size.
      up: residual blocks on the way up, at a half, a quarter, ... of the size.
      width: what all `widths` are multiplied by.
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
