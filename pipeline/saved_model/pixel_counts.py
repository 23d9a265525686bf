"""Counts of one photo's pixels, made inside the exported graph; `evaluation.metrics` divides them.

A few numbers a photo cross Beam instead of its pixels. The functions that count take the true and
predicted class ids of one photo, int32 [height, width].
"""

from __future__ import annotations

import math

import tensorflow as tf

from pipeline.core.features import NUM_CLASSES

BINS = 10  # of confidence, equally wide
BOUNDARY_SHARE = 0.02  # width of a boundary, as a share of the photo's diagonal


def most_probable(probabilities: tf.Tensor) -> tf.Tensor:
    """The most probable class of each pixel; of equal ones that with the lowest id.

    What `tf.argmax` gives, by comparisons, which are quicker over so few classes on a CPU.

    Takes float32 [..., 3], returns uint8 [...].
    """
    best, *others = tf.unstack(probabilities, axis=-1)
    ids = tf.zeros_like(best, tf.uint8)
    for class_id, other in enumerate(others, start=1):
        ids = tf.maximum(ids, tf.cast(other > best, tf.uint8) * class_id)
        best = tf.maximum(best, other)
    return ids


def confusion(true: tf.Tensor, predicted: tf.Tensor) -> tf.Tensor:
    """Pixels by true and predicted class, float32 [9]: row by row, a row a true class."""
    pairs = tf.reshape(true * NUM_CLASSES + predicted, [-1])
    cells = NUM_CLASSES**2
    return tf.math.bincount(pairs, minlength=cells, maxlength=cells, dtype=tf.float32)


def boundary(true: tf.Tensor, predicted: tf.Tensor) -> tf.Tensor:
    """Boundary pixels of each class that truth and prediction share, and that either has.

    A pixel of a class lies on its boundary if a pixel of another class, or the outside of the
    photo, is at most d pixels away in each direction, with d = 2 % of the diagonal, rounded, and at
    least 1. Source: Cheng et al., "Boundary IoU", CVPR 2021, and its `mask_to_boundary`.

    Returns:
      float32 [6]: the intersection of each class, then the union of each.
    """
    both = tf.concat([tf.one_hot(true, NUM_CLASSES), tf.one_hot(predicted, NUM_CLASSES)], axis=-1)
    height, width = both.shape[:2]
    edges = _on_boundary(both, max(1, round(BOUNDARY_SHARE * math.hypot(height, width))))
    of_truth, of_prediction = tf.split(edges, 2, axis=-1)
    shared = tf.reduce_sum(of_truth * of_prediction, axis=[0, 1])
    either = tf.reduce_sum(tf.maximum(of_truth, of_prediction), axis=[0, 1])
    return tf.concat([shared, either], axis=0)


def calibration(true: tf.Tensor, predicted: tf.Tensor, probabilities: tf.Tensor) -> tf.Tensor:
    """Pixels by the confidence of their prediction, in `BINS` bins; bin i is [i/10, (i+1)/10).

    Args:
      true: see above.
      predicted: see above.
      probabilities: float32 [height, width, 3].

    Returns:
      float32 [30]: the pixels of each bin, then their summed confidence, then how many are right.
    """
    confidence = tf.reshape(tf.reduce_max(probabilities, axis=-1), [-1])
    right = tf.reshape(tf.equal(true, predicted), [-1])
    rows = tf.stack([tf.ones_like(confidence), confidence, tf.cast(right, tf.float32)], axis=-1)
    bins = tf.clip_by_value(tf.cast(confidence * BINS, tf.int32), 0, BINS - 1)
    # In float32 a sum over millions of pixels would lose the small ones.
    sums = tf.math.unsorted_segment_sum(tf.cast(rows, tf.float64), bins, BINS)
    return tf.reshape(tf.cast(tf.transpose(sums), tf.float32), [-1])


def _on_boundary(masks: tf.Tensor, distance: int) -> tf.Tensor:
    """Erodes masks, float32 [height, width, n] of 0 and 1, and returns what that took away."""
    side = 2 * distance + 1
    around = [[0, 0], [distance, distance], [distance, distance], [0, 0]]
    others = tf.pad(1 - masks[None], around, constant_values=1)
    # A square's maximum is the maximum over its columns of those over its rows.
    near = tf.nn.max_pool2d(others, [1, side], 1, "VALID")
    near = tf.nn.max_pool2d(near, [side, 1], 1, "VALID")[0]
    return masks * near
