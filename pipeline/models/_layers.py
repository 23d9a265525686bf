"""Building blocks of the U-Nets. Tensors are float [batch, height, width, channels]."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import layers

from pipeline.core.features import NUM_CLASSES

# Of the running mean and variance. Lower than Keras' default of 0.99, since an epoch on a small
# data set has few steps, and inference must not use the statistics of the first ones.
_MOMENTUM = 0.95


@keras.saving.register_keras_serializable("pipeline")
class FusedBatchNormalization(layers.BatchNormalization):
    """Batch normalisation over the last of four axes with TensorFlow's fused kernel.

    Keras 3 takes several passes over the whole tensor, which is slower on a CPU. With several
    replicas this falls back to Keras, which normalises over the global batch.
    """

    def __init__(self, **options: Any):
        super().__init__(**{"synchronized": True, **options})

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalise float [batch, height, width, channels]."""
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
            # The kernel returns the variance with Bessel's correction; Keras uses it without.
            pixels = tf.cast(tf.size(inputs) / tf.shape(inputs)[-1], tf.float32)
            variance *= (pixels - 1) / pixels
            for running, new in ((self.moving_mean, mean), (self.moving_variance, variance)):
                running.assign(running * self.momentum + new * (1 - self.momentum))
        return result


def _float32(variable: keras.Variable) -> tf.Tensor:
    return tf.cast(tf.convert_to_tensor(variable), tf.float32)


def with_our_normalization(model: keras.Model) -> keras.Model:
    """Rebuild a functional model, weights included, with the batch normalisation of `norm`.

    Models of `keras.applications` come with momenta for millions of steps (MobileNetV2: 0.999), and
    do not normalise over all devices.
    """

    def rebuilt(layer: keras.Layer) -> keras.Layer:
        config = layer.get_config()
        if isinstance(layer, layers.BatchNormalization):
            config |= {"momentum": _MOMENTUM, "synchronized": True}
            return FusedBatchNormalization.from_config(config)
        return type(layer).from_config(config)

    result = keras.models.clone_model(model, clone_function=rebuilt)
    result.set_weights(model.get_weights())
    return result


def channels(count: int, width: float) -> int:
    """Multiply a number of channels by `width`, rounded to a multiple of 8 for fast kernels."""
    return max(8, round(count * width / 8) * 8)


def norm(x: Any, relu: bool = True) -> Any:
    """Apply batch normalisation, then ReLU."""
    x = FusedBatchNormalization(momentum=_MOMENTUM)(x)
    return layers.Activation("relu")(x) if relu else x


def residual(x: Any, width: int, strides: int = 1) -> Any:
    """Apply two separable 3x3 convolutions to `width` channels, with a shortcut.

    With strides, the first convolution and average pooling in the shortcut shrink the image.
    Source: Chollet, "Xception", CVPR 2017, but with the stride before the pointwise convolution,
    which reduces its cost to a quarter.
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
    """Upsample `x` to the size and channels of `skip`, and add the two.

    A side of 25 is halved to 13 on the way down, so the result of doubling it is cropped.
    """
    x = norm(layers.Conv2D(skip.shape[-1], 1, use_bias=False)(x), relu=False)
    x = layers.UpSampling2D(2, interpolation="bilinear")(x)
    extra = x.shape[1] - skip.shape[1]
    if extra:
        x = layers.Cropping2D(((0, extra), (0, extra)))(x)
    return layers.Activation("relu")(layers.Add()([x, skip]))


def classify(x: Any) -> keras.KerasTensor:
    """Return class probabilities at twice the size of `x`: interpolated logits, then a softmax.

    The result is float32 [batch, 2 height, 2 width, NUM_CLASSES], even if the rest of the model
    computes in half precision.
    """
    x = layers.Conv2D(NUM_CLASSES, 3, padding="same", name="logits")(x)
    x = layers.UpSampling2D(2, interpolation="bilinear")(x)
    return layers.Activation("softmax", dtype="float32", name="probabilities")(x)
