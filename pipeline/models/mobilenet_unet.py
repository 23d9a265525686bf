"""A U-Net with MobileNetV2 from `keras.applications` as its encoder, optionally pretrained.

The encoder weights are ``imagenet`` (Keras downloads them), a file, or none to train from scratch.
With pretrained weights, batch normalisation in the encoder stays frozen;
`pipeline.models.freeze_encoder` freezes and unfreezes the rest.

At 200x200: 2,122,587 parameters, 377 million multiply-adds (benchmarks/models.py). Not trained on
real photos yet, with or without pretrained weights. Sources: Sandler et al., "MobileNetV2", CVPR
2018; Ronneberger, Fischer, Brox, "U-Net", MICCAI 2015.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras

SIZE_MULTIPLE = 8
LEAST_SIZE = 32  # required by keras.applications
PRETRAINED = True

# Layers of MobileNetV2 at 1/2, 1/4, 1/8 and 1/16 of the size, and its last one.
_SKIPS = ("block_1_expand_relu", "block_3_expand_relu", "block_6_expand_relu")
_DEEPER, _LAST = "block_13_expand_relu", "block_16_project_BN"
_WIDTHS = (24, 48, 96, 160)


def build(image_size: int, encoder_weights: str | None = None) -> keras.Model:
    """Build the model; see `pipeline.models`.

    Args:
      image_size: side in pixels.
      encoder_weights: ``imagenet``, the path of a weights file for
        ``keras.applications.MobileNetV2(include_top=False)``, or None.

    Raises:
      ValueError: if the weights cannot be loaded.
    """
    import keras
    from keras import layers

    from pipeline.models import _layers, freeze_encoder

    shape = (image_size, image_size, 3)
    backbone = keras.applications.MobileNetV2(input_shape=shape, include_top=False, weights=None)
    if encoder_weights is not None:
        _load(backbone, shape, encoder_weights)
    backbone = _layers.with_our_normalization(backbone)
    taps = [backbone.get_layer(name).output for name in (*_SKIPS, _DEEPER, _LAST)]
    encoder = keras.Model(backbone.input, taps, name="encoder")

    photo = keras.Input(shape, name="photo")
    scaled = layers.Rescaling(2.0, offset=-1.0, name="to_mobilenet")(photo)
    *skips, x = encoder(scaled)
    for width, skip in list(zip(_WIDTHS, skips, strict=True))[::-1]:
        narrow = _layers.norm(layers.Conv2D(width, 1, use_bias=False)(skip))
        x = _layers.residual(_layers.merge(x, narrow), width)
    model = keras.Model(photo, _layers.classify(x), name="mobilenet_unet")
    if encoder_weights is not None:
        freeze_encoder(model, False)
    return model


def _load(backbone: keras.Model, shape: tuple[int, int, int], weights: str) -> None:
    import keras

    try:
        if weights == "imagenet":
            donor = keras.applications.MobileNetV2(
                input_shape=shape, include_top=False, weights="imagenet"
            )
            backbone.set_weights(donor.get_weights())
        else:
            backbone.load_weights(weights)
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        raise ValueError(f"Cannot load the encoder weights {weights!r}: {reason}") from error
