"""The metrics against counts over pixels and sets that know nothing of matrices."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from pipeline.evaluation import metrics
from pipeline.saved_model import pixel_counts

MASKS = hnp.arrays(np.int64, 60, elements=st.integers(0, 2))
EXAMPLE = np.array([[3.0, 1, 0], [1, 4, 0], [0, 0, 1]])


def confusion(truth: NDArray[Any], predicted: NDArray[Any]) -> NDArray[Any]:
    matrix = np.zeros([3, 3])
    for t, p in zip(truth, predicted, strict=True):
        matrix[t, p] += 1
    return matrix


def test_worked_examples() -> None:
    assert metrics.pixel_accuracy(EXAMPLE) == pytest.approx(8 / 10)
    assert metrics.mean_pixel_accuracy(EXAMPLE) == pytest.approx(0.85)
    assert metrics.class_iou(EXAMPLE) == pytest.approx([3 / 5, 4 / 6, 1])
    assert metrics.class_dice(EXAMPLE) == pytest.approx([6 / 8, 8 / 10, 1])
    assert metrics.mean_iou(EXAMPLE) == pytest.approx((3 / 5 + 4 / 6 + 1) / 3)
    assert metrics.frequency_weighted_iou(EXAMPLE) == pytest.approx(0.673, abs=5e-4)
    boundary = np.array([[6.0, 8, 5], [10, 10, 10]])
    assert metrics.boundary_iou(boundary) == pytest.approx(0.633, abs=5e-4)
    calibration = np.array([[10.0, 10], [6, 9], [6, 7]])
    assert metrics.calibration_error(calibration) == pytest.approx(0.1)


def with_mean_iou(value: float) -> NDArray[Any]:
    """The matrix of an image of 300 pixels whose classes all have that IoU."""
    right = 2 * value / (1 + value)
    return 100 * (np.eye(3) * right + (1 - np.eye(3)) * (1 - right) / 2)


def test_worked_examples_of_images() -> None:
    two = np.stack([with_mean_iou(0.4), with_mean_iou(0.8)])
    assert metrics.images_below_floor(two, 0.5) == 0.5
    assert metrics.images_below_floor(two, 0.4 - 1e-9) == 0
    assert metrics.mean_iou_interval(two) == pytest.approx([0.4, 0.8])
    assert np.isnan(metrics.mean_iou_interval(two[:1])).all()


@given(MASKS, MASKS)
def test_equal_sets_of_pixels(truth: NDArray[Any], predicted: NDArray[Any]) -> None:
    matrix = confusion(truth, predicted)
    assert metrics.pixel_accuracy(matrix) == pytest.approx(np.mean(truth == predicted))
    ious, found, weighted = [], [], 0.0
    for class_id in range(3):
        true = set(np.flatnonzero(truth == class_id))
        said = set(np.flatnonzero(predicted == class_id))
        if true | said:
            ious.append(len(true & said) / len(true | said))
            weighted += len(true) / len(truth) * ious[-1]
            assert metrics.class_iou(matrix)[class_id] == pytest.approx(ious[-1])
            dice = 2 * len(true & said) / (len(true) + len(said))
            assert metrics.class_dice(matrix)[class_id] == pytest.approx(dice)
        else:
            assert math.isnan(metrics.class_iou(matrix)[class_id])
        if true:
            found.append(len(true & said) / len(true))
    assert metrics.mean_iou(matrix) == pytest.approx(np.mean(ious))
    assert metrics.mean_pixel_accuracy(matrix) == pytest.approx(np.mean(found))
    assert metrics.frequency_weighted_iou(matrix) == pytest.approx(weighted)


def test_interval_is_that_of_a_mean_where_all_images_count_alike() -> None:
    """IoU sums are no means, but where unions are equal the normal approximation holds."""
    ious = np.random.default_rng(5).normal(0.7, 0.05, 400)
    images = np.stack([np.diag([100.0 * v, 0, 0]) for v in ious])
    images[:, 0, 1] = 100 - images[:, 0, 0]  # class 0: hits of 100; class 1 is never right
    low, high = metrics.mean_iou_interval(images)
    half = 1.96 * ious.std() / math.sqrt(len(ious)) / 2
    assert (low, high) == pytest.approx((ious.mean() / 2 - half, ious.mean() / 2 + half), abs=5e-4)
    assert (metrics.mean_iou_interval(images[::-1]) == [low, high]).all()


def boundary_pixels(mask: NDArray[Any], distance: int) -> set[tuple[int, int]]:
    """Pixels of a mask that see something else within a distance, found pixel by pixel."""
    inside = {(int(y), int(x)) for y, x in np.argwhere(mask)}
    steps = range(-distance, distance + 1)
    return {
        (y, x)
        for y, x in inside
        if any((y + dy, x + dx) not in inside for dy in steps for dx in steps)
    }


@given(hnp.arrays(np.float32, (5, 4, 3), elements=st.sampled_from([0, 0.25, 0.5, 1, np.inf])))
def test_most_probable_class_is_the_first_of_the_highest(probabilities: NDArray[Any]) -> None:
    ids = pixel_counts.most_probable(tf.constant(probabilities))
    assert ids.dtype == tf.uint8
    assert (ids.numpy() == probabilities.argmax(axis=-1)).all()


@pytest.mark.parametrize(("side", "distance"), [(12, 1), (60, 2)])
def test_boundary_iou_equals_sets_of_pixels(side: int, distance: int) -> None:
    random = np.random.default_rng(side)
    y, x = np.mgrid[:side, :side] / side
    truth = ((y - 0.5) ** 2 + (x - 0.4) ** 2 > 0.1).astype(np.int32)
    predicted = np.where(random.random([side, side]) < 0.02, 2, np.roll(truth, 2, axis=1))
    ious = []
    for class_id in range(3):
        true, said = (boundary_pixels(m == class_id, distance) for m in (truth, predicted))
        if true | said:
            ious.append(len(true & said) / len(true | said))
    counted = pixel_counts.boundary(tf.constant(truth), tf.constant(predicted, tf.int32)).numpy()
    assert metrics.boundary_iou(counted.reshape(2, 3)) == pytest.approx(np.mean(ious))


@settings(max_examples=25, deadline=None)
@given(
    hnp.arrays(np.float64, (5, 4, 3), elements=st.floats(0.0625, 1, width=32)),
    hnp.arrays(np.int32, (5, 4), elements=st.integers(0, 2)),
)
def test_calibration_error_equals_a_walk_over_the_pixels(
    weights: NDArray[Any], truth: NDArray[Any]
) -> None:
    probabilities = (weights / weights.sum(axis=-1, keepdims=True)).astype(np.float32)
    predicted = probabilities.argmax(axis=-1)
    bins: dict[int, list[tuple[float, bool]]] = {}
    for p, true, said in zip(
        probabilities.reshape(-1, 3), truth.ravel(), predicted.ravel(), strict=True
    ):
        bins.setdefault(min(int(p[said] * np.float32(10)), 9), []).append((p[said], true == said))
    gaps = [
        len(pixels)
        / truth.size
        * abs(np.mean([p for p, _ in pixels]) - np.mean([r for _, r in pixels]))
        for pixels in bins.values()
    ]
    counted = pixel_counts.calibration(
        tf.constant(truth), tf.constant(predicted, tf.int32), tf.constant(probabilities)
    )
    counted = counted.numpy().reshape(3, pixel_counts.BINS)
    assert metrics.calibration_error(counted) == pytest.approx(sum(gaps), abs=1e-6)


def test_sure_and_right_is_calibrated() -> None:
    truth = tf.constant([[0, 1], [2, 1]])
    counted = pixel_counts.calibration(truth, truth, tf.one_hot(truth, 3)).numpy()
    assert metrics.calibration_error(counted.reshape(3, pixel_counts.BINS)) == 0
    assert counted.reshape(3, pixel_counts.BINS)[0].tolist() == [0] * 9 + [4]


def test_nothing_counted_is_no_number() -> None:
    counts = metrics.Counts(np.zeros([0, 3, 3]), np.zeros([2, 3]), np.zeros([3, pixel_counts.BINS]))
    for name, measure in metrics.MEASURES.items():
        floor = {"iou_floor": 0.5} if name == "images_below_floor" else {}
        value = measure(counts, **floor)
        # Pixels are counted; all else is a share of them.
        assert value == 0 if name.startswith("confusion_") else math.isnan(value), name


def test_one_image_that_is_not_finite_leaves_no_number() -> None:
    images = np.stack([EXAMPLE, np.full([3, 3], np.nan), EXAMPLE])
    nans = np.full([2, 3], np.nan), np.full([3, pixel_counts.BINS], np.nan)
    for name, measure in metrics.MEASURES.items():
        floor = {"iou_floor": 0.5} if name == "images_below_floor" else {}
        assert math.isnan(measure(metrics.Counts(images, *nans), **floor)), name
