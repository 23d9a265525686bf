"""Compares batch normalisation on one device and on two that share the batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from pipeline.models import _layers


def main(_: Sequence[str]) -> None:
    # Virtual devices can only be made before TensorFlow is used.
    (cpu,) = tf.config.list_physical_devices("CPU")
    two = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, two)
    photos = np.random.default_rng(0).normal(3, 2, (4, 5, 6, 7)).astype(np.float32)
    alone = _layers.FusedBatchNormalization()
    expected = alone(photos, training=True).numpy()
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        layer = _layers.FusedBatchNormalization()
        layer.build(photos.shape)
    halves = strategy.experimental_distribute_values_from_function(
        lambda context: tf.constant(np.split(photos, 2)[context.replica_id_in_sync_group])
    )
    result = strategy.run(tf.function(lambda x: layer(x, training=True)), (halves,))
    parts = strategy.experimental_local_results(result)
    normalised = np.concatenate([part.numpy() for part in parts])
    np.testing.assert_allclose(normalised, expected, atol=1e-5)
    mean = alone.moving_mean.numpy()
    np.testing.assert_allclose(layer.moving_mean.numpy(), mean, atol=1e-6)
