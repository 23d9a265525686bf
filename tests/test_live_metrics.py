"""What training says of itself, against Keras's own metrics."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from pipeline.training.streaming_metrics import LiveMetrics


def keras_values(
    batches: list[tuple[NDArray[np.uint8], NDArray[np.float32]]], classes: int
) -> dict[str, float]:
    accuracy = keras.metrics.SparseCategoricalAccuracy()
    iou = keras.metrics.MeanIoU(classes, sparse_y_pred=False)
    for truth, predicted in batches:
        accuracy.update_state(truth, predicted)
        iou.update_state(truth, predicted)
    return {"accuracy": float(accuracy.result()), "mean_iou": float(iou.result())}


@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "XLA"])
@pytest.mark.parametrize("seen", [(0, 1, 2), (0, 2), (1,)])
def test_as_keras_over_batches_of_any_size(seen: tuple[int, ...], jit_compile: bool) -> None:
    rng = np.random.default_rng(len(seen))
    batches = [
        (
            rng.choice(seen, (count, 9, 7)).astype(np.uint8),
            rng.dirichlet([1 if each in seen else 1e-3 for each in range(3)], (count, 9, 7)).astype(
                np.float32
            ),
        )
        for count in (4, 1, 3)
    ]
    live = LiveMetrics()
    update = tf.function(live.update_state, jit_compile=jit_compile)
    for truth, predicted in batches:
        update(truth, predicted)
    assert {k: float(v) for k, v in live.result().items()} == pytest.approx(
        keras_values(batches, 3), abs=1e-6
    )


def test_the_example_of_its_docstring_and_a_fresh_start() -> None:
    live = LiveMetrics()
    live.update_state(np.array([[0, 0, 1, 1]], np.uint8), np.eye(3, dtype=np.float32)[[0, 1, 1, 1]])
    assert float(live.result()["accuracy"]) == pytest.approx(3 / 4)
    assert float(live.result()["mean_iou"]) == pytest.approx(7 / 12)
    live.reset_state()
    assert float(live.result()["mean_iou"]) == 0
