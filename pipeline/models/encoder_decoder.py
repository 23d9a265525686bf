"""The reference model: a convolutional encoder and a mirrored decoder without skip connections.

It halves the image three times, to 256 channels, and doubles it three times. This is the
segmentation example in F. Chollet, "Deep Learning with Python", without the Rescaling layer, since
the input is in [0, 1] already.

At 200x200: 2,880,643 parameters, 4,510 million multiply-adds (benchmarks/models.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.core.features import NUM_CLASSES

if TYPE_CHECKING:
    import keras

SIZE_MULTIPLE = 8  # three layers of stride 2
SCALABLE = True


def build(image_size: int, width: float = 1) -> keras.Model:
    """Build the model; see `pipeline.models`."""
    import keras
    from keras import layers

    from pipeline.models import _layers

    stages = [_layers.channels(count, width) for count in (64, 128, 256)]
    same = {"padding": "same", "activation": "relu"}
    photo = keras.Input((image_size, image_size, 3), name="photo")
    x = photo
    for filters in stages:
        x = layers.Conv2D(filters, 3, strides=2, **same)(x)
        x = layers.Conv2D(filters, 3, **same)(x)
    for filters in reversed(stages):
        x = layers.Conv2DTranspose(filters, 3, **same)(x)
        x = layers.Conv2DTranspose(filters, 3, strides=2, **same)(x)
    probabilities = layers.Conv2D(
        NUM_CLASSES,
        3,
        padding="same",
        activation="softmax",
        dtype="float32",  # even if the rest of the model computes in half precision
        name="probabilities",
    )(x)
    return keras.Model(photo, probabilities, name="encoder_decoder")
