"""The cost of running a model."""

from __future__ import annotations

import math

import keras
from keras import layers


def multiply_adds(model: keras.Model) -> int:
    """Count the multiply-adds of all convolutions for one image, and of nothing else.

    A 3x3 convolution from 8 to 16 channels with an output of 10x10 has 10 * 10 * 3 * 3 * 8 * 16.
    """
    total = 0
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            total += multiply_adds(layer)
        elif isinstance(layer, layers.SeparableConv2D):
            rows, columns, filters = layer.output.shape[1:]
            depthwise, pointwise = (kernel.shape for kernel in layer.trainable_weights[:2])
            channels = depthwise[2]
            total += rows * columns * channels * (depthwise[0] * depthwise[1] + filters)
            assert pointwise == (1, 1, channels, filters)
        elif isinstance(layer, layers.Conv2DTranspose):
            rows, columns = layer.input.shape[1:3]
            total += rows * columns * math.prod(layer.kernel.shape)
        elif isinstance(layer, (layers.Conv2D, layers.DepthwiseConv2D)):
            rows, columns = layer.output.shape[1:3]
            total += rows * columns * math.prod(layer.kernel.shape)
    return total
