"""The fused batch normalisation against Keras' own."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from pipeline.models import _layers
from tests.support.forked import Forked
from tests.support.programs import two_devices

PHOTOS = np.random.default_rng(0).normal(3, 2, (4, 5, 6, 7)).astype(np.float32)
COUNT = 4 * 5 * 6

Pair = tuple[keras.layers.Layer, keras.layers.Layer]


@pytest.fixture
def pair() -> Pair:
    """Ours and Keras', with the same scales and offsets."""
    layers = (
        _layers.FusedBatchNormalization(momentum=0.9),
        keras.layers.BatchNormalization(momentum=0.9),
    )
    weights = np.random.default_rng(1).random((4, 7)).astype(np.float32)
    for layer in layers:
        layer.build(PHOTOS.shape)
        layer.set_weights(list(weights))
    return layers


@pytest.mark.parametrize("training", [True, False])
def test_it_computes_what_keras_computes(pair: Pair, training: bool) -> None:
    results, gradients = [], []
    for layer in pair:
        photos = tf.constant(PHOTOS)
        with tf.GradientTape() as tape:
            tape.watch(photos)
            result = layer(photos, training=training)
            total = tf.reduce_sum(result**3)
        results.append(result)
        gradients.append(tape.gradient(total, [photos, layer.gamma.value, layer.beta.value]))
    np.testing.assert_allclose(results[0], results[1], rtol=1e-4, atol=1e-4)
    for ours, theirs in zip(*gradients, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-2)


def test_running_means_follow_as_those_of_keras(pair: Pair) -> None:
    ours, theirs = pair
    for layer in pair:
        layer(PHOTOS, training=True)
    for mine, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-6)


def test_a_layer_that_does_not_train_keeps_its_running_means(pair: Pair) -> None:
    ours, _ = pair
    ours.trainable = False
    before = [np.array(weight) for weight in ours.get_weights()]
    trained, inferred = ours(PHOTOS, training=True), ours(PHOTOS, training=False)
    np.testing.assert_array_equal(trained, inferred)
    for old, new in zip(before, ours.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_two_devices_normalise_over_the_whole_batch(tmp_path: Path) -> None:
    """Each of two virtual devices gets half of the batch; in a process of its own, to make them."""
    code, output = Forked(two_devices.main, [], tmp_path / "log").wait()
    assert code == 0, output
