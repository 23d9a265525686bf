"""Losses, optimisers and learning rates against numbers worked out by hand."""

from __future__ import annotations

import math
from typing import Any, Literal

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from pipeline.training import optimization

PIXEL = np.array([[[1]]], np.uint8)
PREDICTED = np.array([[[[0.2, 0.7, 0.1]]]], np.float32)


def value(
    loss: keras.losses.Loss,
    truth: NDArray[np.uint8] = PIXEL,
    predicted: NDArray[np.float32] = PREDICTED,
) -> float:
    return float(loss(truth, predicted))


def test_cross_entropy_of_one_pixel() -> None:
    assert value(optimization.loss("cross_entropy")) == pytest.approx(-math.log(0.7), rel=1e-5)


def test_dice_of_one_pixel() -> None:
    dice = 1 - (1 / 1.2 + 2.4 / 2.7 + 1 / 1.1) / 3
    loss = optimization.loss("dice_cross_entropy")
    assert value(loss) == pytest.approx(-math.log(0.7) + dice, rel=1e-5)
    assert value(optimization.SegmentationLoss(dice=0.5)) == pytest.approx(
        -math.log(0.7) + dice / 2, rel=1e-5
    )


def test_label_smoothing_spreads_its_share_over_all_classes() -> None:
    target = np.array([0.1, 0.8, 0.1])
    expected = -(target * np.log([0.2, 0.7, 0.1])).sum()
    loss = optimization.loss("cross_entropy", label_smoothing=0.3)
    assert value(loss) == pytest.approx(expected, rel=1e-5)


def test_class_weights_count_by_the_true_class() -> None:
    loss = optimization.loss("cross_entropy", class_weights=[1, 3, 5])
    assert value(loss) == pytest.approx(-3 * math.log(0.7), rel=1e-5)


def test_certain_predictions_give_zero_or_finite_loss() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, (2, 8, 8)).astype(np.uint8)
    loss = optimization.loss("dice_cross_entropy")
    assert value(loss, truth, np.eye(3, dtype=np.float32)[truth]) == pytest.approx(0, abs=1e-5)
    wrong = value(loss, truth, np.eye(3, dtype=np.float32)[(truth + 1) % 3])
    assert wrong == pytest.approx(-math.log(1e-37) + 1, abs=0.1)


@pytest.mark.parametrize("name", ["cross_entropy", "dice_cross_entropy"])
def test_the_loss_of_a_batch_is_the_mean_of_its_halves(
    name: Literal["cross_entropy", "dice_cross_entropy"],
) -> None:
    """So that devices which share a batch give the gradient of the whole batch."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, (4, 8, 8)).astype(np.uint8)
    predicted = rng.dirichlet([1, 1, 1], (4, 8, 8)).astype(np.float32)
    loss = optimization.loss(name, class_weights=[0.5, 1, 2], label_smoothing=0.1)
    halves = [value(loss, truth[part], predicted[part]) for part in (slice(2), slice(2, 4))]
    assert value(loss, truth, predicted) == pytest.approx(np.mean(halves), rel=1e-5)


def test_plain_cross_entropy_is_that_of_keras() -> None:
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 3, (3, 5, 5)).astype(np.uint8)
    predicted = rng.dirichlet([1, 1, 1], (3, 5, 5)).astype(np.float32)
    expected = keras.losses.SparseCategoricalCrossentropy()(truth, predicted)
    ours = value(optimization.loss("cross_entropy"), truth, predicted)
    assert ours == pytest.approx(float(expected), rel=1e-5)


def test_class_weights_by_frequency() -> None:
    counts = [50, 40, 10]
    assert optimization.class_weights(counts, 0) == pytest.approx([1, 1, 1])
    assert optimization.class_weights(counts, 1) == pytest.approx([2 / 3, 5 / 6, 10 / 3])
    half = optimization.class_weights(counts, 0.5)
    assert half[2] / half[0] == pytest.approx(math.sqrt(5))
    assert np.dot(half, [0.5, 0.4, 0.1]) == pytest.approx(1)


def test_class_weights_without_pixels() -> None:
    assert optimization.class_weights([3, 1, 0], 1) == pytest.approx([2 / 3, 2, 0])
    with pytest.raises(ValueError, match="there are none"):
        optimization.class_weights([0, 0, 0], 1)


def step(
    optimizer: keras.optimizers.Optimizer, gradients: dict[str, list[float]]
) -> dict[str, Any]:
    """One step from weights of 1, by the weights' names."""
    weights = {
        name: keras.Variable(np.ones(len(gradient), np.float32), name=name)
        for name, gradient in gradients.items()
    }
    optimizer.apply(
        [keras.ops.convert_to_tensor(np.array(g, np.float32)) for g in gradients.values()],
        list(weights.values()),
    )
    return {name: np.asarray(weight.numpy()) for name, weight in weights.items()}


def test_adamw_decays_kernels_only() -> None:
    optimizer = optimization.optimizer("adamw", 0.1, weight_decay=0.5)
    moved = step(optimizer, {"kernel": [0.0], "bias": [0.0], "gamma": [0.0], "beta": [0.0]})
    assert moved["kernel"] == pytest.approx(1 - 0.1 * 0.5)
    for name in ("bias", "gamma", "beta"):
        assert moved[name] == pytest.approx(1)


def test_rmsprop_is_the_reference_one() -> None:
    ours = optimization.optimizer("rmsprop", 0.01)
    theirs = keras.optimizers.RMSprop(0.01)
    gradient = {"kernel": [3.0, -0.2]}
    np.testing.assert_allclose(step(ours, gradient)["kernel"], step(theirs, gradient)["kernel"])


def test_clipping_bounds_all_gradients_together() -> None:
    """RMSprop's first step is rate * g / sqrt(0.1 g^2 + 1e-7), which shows g where g is tiny."""
    optimizer = optimization.optimizer("rmsprop", 1.0, clip_norm=1e-4)
    moved = step(optimizer, {"a": [3.0], "b": [4.0]})
    for name, gradient in (("a", 0.6e-4), ("b", 0.8e-4)):
        expected = 1 - gradient / math.sqrt(0.1 * gradient**2 + 1e-7)
        assert moved[name] == pytest.approx(expected, rel=1e-3)


def test_ema_is_kept_beside_the_weights() -> None:
    optimizer = optimization.optimizer("adamw", 0.1, ema=0.9)
    weight = keras.Variable(np.ones(1, np.float32), name="kernel")
    optimizer.apply([keras.ops.convert_to_tensor(np.ones(1, np.float32))], [weight])
    first = float(weight.numpy()[0])
    optimizer.apply([keras.ops.convert_to_tensor(np.ones(1, np.float32))], [weight])
    second = float(weight.numpy()[0])
    optimizer.finalize_variable_values([weight])
    assert second < float(weight.numpy()[0]) <= first


@pytest.mark.parametrize("gap", [1, 20, 60])
def test_a_pixel_that_is_most_wrong_still_has_a_gradient(gap: float) -> None:
    """That of cross-entropy by the logits is p - q, however small the true class's p."""
    logits = tf.Variable([[[[0.0, gap, 0.0]]]])
    with tf.GradientTape() as tape:
        p = tf.nn.softmax(logits)
        loss = optimization.loss("cross_entropy")(tf.zeros([1, 1, 1], tf.uint8), p)
    gradient = tape.gradient(loss, logits)
    expected = tf.nn.softmax(logits) - [1.0, 0.0, 0.0]
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("progress", "warmup", "share"),
    [
        *[(0, 0.2, 0), (0.1, 0.2, 0.5), (0.2, 0.2, 1), (0.6, 0.2, 0.5), (1, 0.2, 0)],
        *[(1.7, 0.2, 0), (0, 0, 1), (0.5, 0, 0.5)],
    ],
)
def test_warmup_and_cosine(progress: float, warmup: float, share: float) -> None:
    assert optimization.warmup_cosine(progress, warmup) == pytest.approx(share, abs=1e-9)


class Rates(keras.callbacks.Callback):
    """Notes the learning rate of each step."""

    def __init__(self) -> None:
        super().__init__()
        self.rates: list[float] = []

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self.rates.append(float(self.model.optimizer.learning_rate.numpy()))


def rates(epochs: int, steps: int, last_epoch: int, initial_epoch: int = 0) -> list[float]:
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(1.0), "mse")
    callback = optimization.WarmupCosine(2.0, steps, 0.5, lambda done: done / last_epoch)
    seen = Rates()
    x = np.ones((steps, 1), np.float32)
    model.fit(
        *(x, x),
        batch_size=1,
        epochs=epochs,
        initial_epoch=initial_epoch,
        verbose=0,
        callbacks=[callback, seen],
    )
    return seen.rates


def test_the_rate_follows_the_steps_also_after_a_resumption() -> None:
    whole = rates(epochs=4, steps=2, last_epoch=4)
    assert whole == pytest.approx([0.5, 1, 1.5, 2, *(1 + np.cos(np.pi * np.arange(1, 5) / 4))])
    assert rates(epochs=4, steps=2, last_epoch=4, initial_epoch=2) == pytest.approx(whole[4:])


def test_the_rate_is_down_with_the_last_epoch_that_fits() -> None:
    seen = rates(epochs=4, steps=2, last_epoch=2)
    assert seen == pytest.approx([1, 2, 1, 0, 0, 0, 0, 0])
