"""What a training says of itself while it runs: pixel accuracy and mean IoU, both streaming."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from pipeline.core.features import NUM_CLASSES
from pipeline.saved_model import pixel_counts


class LiveMetrics(keras.metrics.Metric):
    """Pixel accuracy and mean IoU over all pixels since the last reset, as `accuracy`, `mean_iou`.

    Both come from one confusion matrix, so that the class of a pixel is found once; Keras's own two
    metrics look for it twice. A class that neither truth nor prediction has is left out of the
    mean. Measured on a CPU only.

    Example: of four pixels, truth 0 0 1 1 and prediction 0 1 1 1: accuracy 3/4; the IoU of class 0
    is 1/2, of class 1 it is 2/3, and the mean IoU of these two 7/12.
    """

    def __init__(self, name: str = "live"):
        super().__init__(name=name)
        self._pixels = self.add_weight(
            shape=(NUM_CLASSES, NUM_CLASSES), initializer="zeros", dtype="float32", name="pixels"
        )

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Counts a batch: class ids [batch, h, w], probabilities [batch, h, w, classes]."""
        del sample_weight  # every pixel counts alike
        true = tf.one_hot(tf.cast(tf.reshape(y_true, [-1]), tf.int32), NUM_CLASSES)
        best = pixel_counts.most_probable(tf.reshape(y_pred, [-1, NUM_CLASSES]))
        # Not `tf.math.bincount`: XLA cannot compile it.
        self._pixels.assign_add(tf.matmul(true, tf.one_hot(best, NUM_CLASSES), transpose_a=True))

    def result(self) -> dict[str, tf.Tensor]:
        """float32 scalars by name."""
        pixels = tf.convert_to_tensor(self._pixels)
        right = tf.linalg.diag_part(pixels)
        union = tf.reduce_sum(pixels, axis=0) + tf.reduce_sum(pixels, axis=1) - right
        known = tf.cast(union > 0, tf.float32)
        return {
            "accuracy": tf.math.divide_no_nan(tf.reduce_sum(right), tf.reduce_sum(pixels)),
            "mean_iou": tf.math.divide_no_nan(
                tf.reduce_sum(tf.math.divide_no_nan(right, union)), tf.reduce_sum(known)
            ),
        }
