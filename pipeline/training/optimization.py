"""Losses, optimisers and learning rate schedules.

Masks are class ids [batch, height, width]. Predictions are class probabilities [batch, height,
width, NUM_CLASSES], because the models end in a softmax.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from pipeline.core.features import NUM_CLASSES
from pipeline.settings.training import LossName, OptimizerName

# Keeps the logarithm and its gradient finite in float32. Below it a pixel has no gradient: a larger
# number would give up the pixels that are most wrong.
_MIN_PROBABILITY = 1e-37
_NO_DECAY = ["bias", "gamma", "beta"]


class SegmentationLoss(keras.losses.Loss):
    """Pixel-wise cross-entropy, optionally plus a Dice loss.

    With the target q (1 for the true class, minus smoothing) and the probability p::

        cross-entropy = mean over pixels of  w[true class] * -sum_c q[c] log p[c]
        Dice          = 1 - mean over classes of  (2 sum p q + 1) / (sum p + sum q + 1)

    The sums of Dice run over the pixels of one image, without smoothing. Both losses are means over
    images, so a batch that is split over devices gives the same gradient as a whole one. Dice
    follows Milletari, Navab, Ahmadi, "V-Net", 3DV 2016, with sums instead of sums of squares.

    Example: for one pixel of class 1 and p = (0.2, 0.7, 0.1), the cross-entropy is
    -log 0.7 = 0.357 and Dice is 1 - (1/1.2 + 2.4/2.7 + 1/1.1) / 3 = 0.123.

    Args:
      dice: weight of the Dice loss; 0 for none.
      class_weights: one factor per class for the cross-entropy, see `class_weights`; None for 1.
      label_smoothing: fraction of the target, 0 to 1, to spread evenly over all classes.
    """

    def __init__(
        self,
        dice: float = 0.0,
        class_weights: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
        name: str = "segmentation_loss",
    ):
        super().__init__(name=name)
        self._dice = dice
        self._class_weights = None if class_weights is None else list(map(float, class_weights))
        self._smoothing = label_smoothing

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The loss [batch] of class ids [batch, h, w] and probabilities [batch, h, w, classes]."""
        y_pred = ops.cast(y_pred, "float32")
        truth = ops.one_hot(ops.cast(y_true, "int32"), NUM_CLASSES, dtype="float32")
        target = truth * (1 - self._smoothing) + self._smoothing / NUM_CLASSES
        pixels = -ops.sum(target * ops.log(ops.maximum(y_pred, _MIN_PROBABILITY)), axis=-1)
        if self._class_weights is not None:
            pixels = pixels * ops.sum(truth * ops.convert_to_tensor(self._class_weights), axis=-1)
        loss = ops.mean(pixels, axis=(1, 2))
        if self._dice:
            overlap = ops.sum(truth * y_pred, axis=(1, 2))
            total = ops.sum(truth, axis=(1, 2)) + ops.sum(y_pred, axis=(1, 2))
            loss = loss + self._dice * (1 - ops.mean((2 * overlap + 1) / (total + 1), axis=-1))
        return loss


def loss(
    name: LossName,
    class_weights: Sequence[float] | None = None,
    label_smoothing: float = 0.0,
) -> SegmentationLoss:
    """Builds ``cross_entropy``, or ``dice_cross_entropy``, the sum of both losses."""
    return SegmentationLoss(
        1.0 if name == "dice_cross_entropy" else 0.0, class_weights, label_smoothing
    )


def class_weights(pixels: Sequence[float], balance: float) -> list[float]:
    """Weights that give rare classes more influence: w[c] ~ fraction[c]**-balance; mean 1.

    The mean is taken over pixels, so the balance does not change the size of the loss.

    Args:
      pixels: number (or fraction) of training pixels of each class.
      balance: 0 gives all pixels the same weight, 1 all classes.

    Returns:
      One weight per class, 0 for a class without pixels. For example, 50, 40 and 10 pixels at
      balance 1 give 2/3, 5/6 and 10/3.

    Raises:
      ValueError: if there are no pixels.
    """
    total = sum(pixels)
    if total <= 0:
        raise ValueError("Class weights need at least one training mask, but there are none.")
    shares = [count / total for count in pixels]
    raw = [share**-balance if share else 0.0 for share in shares]
    mean = sum(share * weight for share, weight in zip(shares, raw, strict=True))
    return [weight / mean for weight in raw]


def optimizer(
    name: OptimizerName,
    learning_rate: float,
    weight_decay: float = 0.0,
    clip_norm: float | None = None,
    ema: float | None = None,
) -> keras.optimizers.Optimizer:
    """Builds an optimiser.

    Args:
      name: ``rmsprop`` or ``adamw`` (Loshchilov and Hutter, ICLR 2019).
      learning_rate: peak learning rate, see `WarmupCosine`.
      weight_decay: decay of AdamW per step, times the learning rate; biases and the scales and
        offsets of normalisation do not decay.
      clip_norm: maximum global norm of the gradient; None for no limit.
      ema: momentum of an exponential moving average of the weights, such as 0.99; None for no
        average. At its end, ``fit`` copies it into the weights. The statistics of batch
        normalisation belong to the raw weights and fit the average only once the learning rate is
        small, so it does not suit short trainings.
    """
    options: dict[str, Any] = {"global_clipnorm": clip_norm}
    if ema is not None:
        options |= {"use_ema": True, "ema_momentum": ema}
    if name == "rmsprop":
        return keras.optimizers.RMSprop(learning_rate, **options)
    result = keras.optimizers.AdamW(learning_rate, weight_decay=weight_decay, **options)
    result.exclude_from_weight_decay(var_names=_NO_DECAY)
    return result


def warmup_cosine(progress: float, warmup: float) -> float:
    """The learning rate as a fraction of its peak.

    Rises linearly during the first ``warmup`` of training, then falls to 0 along half a cosine
    (Loshchilov and Hutter, "SGDR", ICLR 2017). With warmup 0.2, it is 0.5 at progress 0.1, 1 at
    0.2, 0.5 at 0.6 and 0 at 1.

    Args:
      progress: fraction of training that is done; values above 1 count as 1.
      warmup: fraction of training, from 0 to below 1.
    """
    if progress < warmup:
        return progress / warmup
    return (1 + math.cos(math.pi * min(1.0, (progress - warmup) / (1 - warmup)))) / 2


class WarmupCosine(keras.callbacks.Callback):
    """Sets the learning rate before each step, so that it reaches 0 at the end of training.

    Args:
      peak: peak learning rate.
      steps_per_epoch: steps per epoch.
      warmup: fraction of training during which the learning rate rises.
      progress: maps a number of epochs, with the fraction of the current one, to the fraction of
        training that is done after them.
    """

    def __init__(
        self,
        peak: float,
        steps_per_epoch: int,
        warmup: float,
        progress: Callable[[float], float],
    ):
        super().__init__()
        self._peak, self._steps, self._warmup = peak, steps_per_epoch, warmup
        self._progress = progress
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._epoch = epoch

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        done = self._progress(self._epoch + (batch + 1) / self._steps)
        self.model.optimizer.learning_rate = self._peak * warmup_cosine(done, self._warmup)
