"""Building blocks that the U-Nets share. Tensors are float [batch, height, width, channels]."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from pipeline.features import NUM_CLASSES


def norm(x: Any, relu: bool = True) -> Any:
    """Batch normalisation, then ReLU.

    The running means follow faster than Keras' default lets them, because an epoch on a small set
    has few steps.
    """
    x = layers.BatchNormalization(momentum=0.95)(x)
    return layers.Activation("relu")(x) if relu else x


def residual(x: Any, width: int, strides: int = 1) -> Any:
    """Two separable 3x3 convolutions to `width` channels beside a shortcut.

    With strides the first of them halves the picture, and so does the shortcut, by the mean.
    Source: Chollet, "Xception", CVPR 2017, with the stride moved before the pointwise convolution,
    which then costs a quarter.
    """
    same = {"padding": "same", "use_bias": False}
    y = norm(layers.SeparableConv2D(width, 3, strides=strides, **same)(x))
    y = norm(layers.SeparableConv2D(width, 3, **same)(y), relu=False)
    if strides > 1:
        x = layers.AveragePooling2D(strides, padding="same")(x)
    if x.shape[-1] != width:
        x = norm(layers.Conv2D(width, 1, use_bias=False)(x), relu=False)
    return layers.Activation("relu")(layers.Add()([x, y]))


def merge(x: Any, skip: Any) -> Any:
    """Brings `x` to twice its size and to the channels of `skip`, and adds the two.

    A side of 25 is halved to 13 on the way down; what is too much after doubling is cut off.
    """
    x = norm(layers.Conv2D(skip.shape[-1], 1, use_bias=False)(x), relu=False)
    x = layers.UpSampling2D(2, interpolation="bilinear")(x)
    extra = x.shape[1] - skip.shape[1]
    if extra:
        x = layers.Cropping2D(((0, extra), (0, extra)))(x)
    return layers.Activation("relu")(layers.Add()([x, skip]))


def classify(x: Any) -> keras.KerasTensor:
    """Class probabilities at twice the size of `x`: the logits are interpolated, then the softmax.

    Returns float32 [batch, 2 height, 2 width, NUM_CLASSES], also when the rest of the model
    computes in half precision.
    """
    x = layers.Conv2D(NUM_CLASSES, 3, padding="same", name="logits")(x)
    x = layers.UpSampling2D(2, interpolation="bilinear")(x)
    return layers.Activation("softmax", dtype="float32", name="probabilities")(x)
