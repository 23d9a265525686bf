"""The metrics that Keras reports during training: pixel accuracy and mean IoU, both streaming."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from pipeline.core.features import NUM_CLASSES
from pipeline.saved_model import pixel_counts


class LiveMetrics(keras.metrics.Metric):
    """Pixel accuracy and mean IoU of all pixels since the last reset: ``accuracy``, ``mean_iou``.

    Both come from one confusion matrix, so this computes the predicted class of a pixel once;
    Keras's two metrics would compute it twice. The mean skips classes that are neither in the
    ground truth nor predicted.

    Example: for four pixels with the ground truth 0 0 1 1 and the prediction 0 1 1 1, accuracy is
    3/4. The IoU is 1/2 for class 0 and 2/3 for class 1, so mean IoU is 7/12.
    """

    def __init__(self, name: str = "live"):
        super().__init__(name=name)
        self._pixels = self.add_weight(
            shape=(NUM_CLASSES, NUM_CLASSES), initializer="zeros", dtype="float32", name="pixels"
        )

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch of class ids [batch, h, w] and probabilities [batch, h, w, classes]."""
        del sample_weight  # all pixels have the same weight
        true = tf.one_hot(tf.cast(tf.reshape(y_true, [-1]), tf.int32), NUM_CLASSES)
        best = pixel_counts.most_probable(tf.reshape(y_pred, [-1, NUM_CLASSES]))
        # XLA cannot compile `tf.math.bincount`.
        self._pixels.assign_add(tf.matmul(true, tf.one_hot(best, NUM_CLASSES), transpose_a=True))

    def result(self) -> dict[str, tf.Tensor]:
        """The metrics by name, float32 scalars."""
        pixels = tf.convert_to_tensor(self._pixels)
        correct = tf.linalg.diag_part(pixels)
        union = tf.reduce_sum(pixels, axis=0) + tf.reduce_sum(pixels, axis=1) - correct
        occurs = tf.cast(union > 0, tf.float32)
        return {
            "accuracy": tf.math.divide_no_nan(tf.reduce_sum(correct), tf.reduce_sum(pixels)),
            "mean_iou": tf.math.divide_no_nan(
                tf.reduce_sum(tf.math.divide_no_nan(correct, union)), tf.reduce_sum(occurs)
            ),
        }
