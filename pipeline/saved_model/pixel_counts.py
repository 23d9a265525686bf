"""Count the pixels of one photo inside the exported graph; `evaluation.metrics` uses the counts.

So Beam moves a few numbers per photo instead of its pixels. The counting functions take the true
and predicted class ids of one photo, both int32 [height, width].
"""

from __future__ import annotations

import math

import tensorflow as tf

from pipeline.core.features import NUM_CLASSES

BINS = 10  # of confidence, equally wide
BOUNDARY_SHARE = 0.02  # width of a boundary, as a fraction of the photo's diagonal


def most_probable(probabilities: tf.Tensor) -> tf.Tensor:
    """The most probable class of each pixel, the lowest class id in a tie.

    Equals `tf.argmax`, but comparisons are faster on a CPU for so few classes.

    Args:
      probabilities: float32 [..., 3].

    Returns:
      uint8 [...].
    """
    best, *others = tf.unstack(probabilities, axis=-1)
    ids = tf.zeros_like(best, tf.uint8)
    for class_id, other in enumerate(others, start=1):
        ids = tf.maximum(ids, tf.cast(other > best, tf.uint8) * class_id)
        best = tf.maximum(best, other)
    return ids


def confusion(true: tf.Tensor, predicted: tf.Tensor) -> tf.Tensor:
    """Pixels by true and predicted class: float32 [9], a row per true class, flattened."""
    pairs = tf.reshape(true * NUM_CLASSES + predicted, [-1])
    cells = NUM_CLASSES**2
    return tf.math.bincount(pairs, minlength=cells, maxlength=cells, dtype=tf.float32)


def boundary(true: tf.Tensor, predicted: tf.Tensor) -> tf.Tensor:
    """Intersection and union of the true and predicted boundary pixels of each class.

    A pixel is on the boundary of its class if the square of d pixels to each side around it
    contains another class or leaves the photo. d is 2 % of the diagonal, rounded, and at least 1.
    Source: Cheng et al., "Boundary IoU", CVPR 2021, and its `mask_to_boundary`.

    Returns:
      float32 [6]: the intersection of each class, then the union of each class.
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
      true: class ids, see above.
      predicted: class ids, see above.
      probabilities: float32 [height, width, 3].

    Returns:
      float32 [30]: the pixels in each bin, then the sums of their confidence, then the number of
      correct ones.
    """
    confidence = tf.reshape(tf.reduce_max(probabilities, axis=-1), [-1])
    correct = tf.reshape(tf.equal(true, predicted), [-1])
    rows = tf.stack([tf.ones_like(confidence), confidence, tf.cast(correct, tf.float32)], axis=-1)
    bins = tf.clip_by_value(tf.cast(confidence * BINS, tf.int32), 0, BINS - 1)
    # A float32 sum over millions of pixels would lose small addends.
    sums = tf.math.unsorted_segment_sum(tf.cast(rows, tf.float64), bins, BINS)
    return tf.reshape(tf.cast(tf.transpose(sums), tf.float32), [-1])


def _on_boundary(masks: tf.Tensor, distance: int) -> tf.Tensor:
    """The pixels that an erosion removes from masks, float32 [height, width, n] of 0 and 1."""
    side = 2 * distance + 1
    padding = [[0, 0], [distance, distance], [distance, distance], [0, 0]]
    others = tf.pad(1 - masks[None], padding, constant_values=1)
    # The maximum over a square is separable into rows and columns.
    near = tf.nn.max_pool2d(others, [1, side], 1, "VALID")
    near = tf.nn.max_pool2d(near, [side, 1], 1, "VALID")[0]
    return masks * near
