"""Building blocks that the U-Nets share. Tensors are float [batch, height, width, channels]."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import layers

from pipeline.core.features import NUM_CLASSES


@keras.saving.register_keras_serializable("pipeline")
class FusedBatchNormalization(layers.BatchNormalization):
    """Batch normalisation over the last of four axes by TensorFlow's fused kernel.

    Keras 3 computes it in separate steps, each through the whole tensor: slower on a CPU. On
    several devices Keras' own way is taken, which normalises over the whole batch, not over each
    device's part.
    """

    def __init__(self, **options: Any):
        super().__init__(**{"synchronized": True, **options})

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """From float [batch, height, width, channels] to the same."""
        training = bool(training and self.trainable)
        context = tf.distribute.get_replica_context()
        if training and (context is None or context.num_replicas_in_sync > 1):
            return super().call(inputs, training=training, mask=mask)
        empty = tf.zeros([0])
        result, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=_float32(self.gamma),
            offset=_float32(self.beta),
            mean=empty if training else _float32(self.moving_mean),
            variance=empty if training else _float32(self.moving_variance),
            epsilon=self.epsilon,
            is_training=training,
        )
        if training:
            # The kernel gives the variance of the population; Keras keeps that of the batch.
            pixels = tf.cast(tf.size(inputs) / tf.shape(inputs)[-1], tf.float32)
            variance *= (pixels - 1) / pixels
            for running, new in ((self.moving_mean, mean), (self.moving_variance, variance)):
                running.assign(running * self.momentum + new * (1 - self.momentum))
        return result


def _float32(variable: keras.Variable) -> tf.Tensor:
    return tf.cast(tf.convert_to_tensor(variable), tf.float32)


def channels(count: int, width: float) -> int:
    """So many channels times `width`, to the nearest multiple of 8, which processors like."""
    return max(8, round(count * width / 8) * 8)


def norm(x: Any, relu: bool = True) -> Any:
    """Batch normalisation, then ReLU.

    The running means follow faster than Keras' default lets them, because an epoch on a small set
    has few steps.
    """
    x = FusedBatchNormalization(momentum=0.95)(x)
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
