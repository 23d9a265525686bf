"""The metrics against a count over pixels that knows nothing of matrices."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline import metrics

MASKS = hnp.arrays(np.int64, 60, elements=st.integers(0, 2))


def confusion(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    matrix = np.zeros([3, 3])
    for t, p in zip(truth, predicted, strict=True):
        matrix[t, p] += 1
    return matrix


def test_worked_example() -> None:
    matrix = np.array([[3.0, 1, 0], [1, 4, 0], [0, 0, 1]])
    assert metrics.pixel_accuracy(matrix) == pytest.approx(8 / 10)
    assert metrics.class_iou(matrix) == pytest.approx([3 / 5, 4 / 6, 1])
    assert metrics.mean_iou(matrix) == pytest.approx((3 / 5 + 4 / 6 + 1) / 3)


@given(MASKS, MASKS)
def test_equal_sets_of_pixels(truth: np.ndarray, predicted: np.ndarray) -> None:
    matrix = confusion(truth, predicted)
    assert metrics.pixel_accuracy(matrix) == pytest.approx(np.mean(truth == predicted))
    ious = []
    for class_id in range(3):
        true, said = (
            set(np.flatnonzero(truth == class_id)),
            set(np.flatnonzero(predicted == class_id)),
        )
        if true | said:
            ious.append(len(true & said) / len(true | said))
            assert metrics.class_iou(matrix)[class_id] == pytest.approx(ious[-1])
        else:
            assert math.isnan(metrics.class_iou(matrix)[class_id])
    assert metrics.mean_iou(matrix) == pytest.approx(np.mean(ious))


def test_nothing_counted_is_no_number() -> None:
    empty = np.zeros([3, 3])
    assert math.isnan(metrics.pixel_accuracy(empty))
    assert math.isnan(metrics.mean_iou(empty))


def test_matrix_that_is_not_finite_is_no_number() -> None:
    matrix = np.full([3, 3], np.nan)
    assert math.isnan(metrics.pixel_accuracy(matrix))
    assert math.isnan(metrics.mean_iou(matrix))
    assert np.isnan(metrics.class_iou(matrix)).all()
