"""Losses, optimisers and the learning rate's course, built from plain settings.

Masks are class ids [batch, height, width], predictions class probabilities [batch, height, width,
NUM_CLASSES]: the models end in a softmax.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from pipeline.core.features import NUM_CLASSES
from pipeline.settings import LossName, OptimizerName

_LEAST = 1e-7  # probability, so that the logarithm stays finite
_NO_DECAY = ["bias", "gamma", "beta"]


class SegmentationLoss(keras.losses.Loss):
    """Cross-entropy of the pixels, and the Dice loss of the classes where asked for.

    With target q (1 for the true class, less smoothing) and probability p::

        cross-entropy = mean over pixels of  w[true class] * -sum_c q[c] log p[c]
        Dice          = 1 - mean over classes of  (2 sum p q + 1) / (sum p + sum q + 1)

    The sums of Dice run over the pixels of one image, without smoothing. Both are means over
    images, so that a batch split over devices gives the same gradient as in one piece. Dice follows
    Milletari, Navab, Ahmadi, "V-Net", 3DV 2016, with sums instead of sums of squares.

    Example: one pixel of class 1, p = (0.2, 0.7, 0.1): cross-entropy -log 0.7 = 0.357. Dice is
    1 - (1/1.2 + 2.4/2.7 + 1/1.1) / 3 = 0.123.

    Args:
      dice: weight of Dice beside the cross-entropy; 0 leaves it out.
      class_weights: one factor a class for the cross-entropy, see `class_weights`; None: all 1.
      label_smoothing: share of the target, 0 to 1, that is spread evenly over all classes.
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
        """From class ids [batch, h, w] and probabilities [batch, h, w, classes] to loss [batch]."""
        y_pred = ops.cast(y_pred, "float32")
        truth = ops.one_hot(ops.cast(y_true, "int32"), NUM_CLASSES, dtype="float32")
        target = truth * (1 - self._smoothing) + self._smoothing / NUM_CLASSES
        pixels = -ops.sum(target * ops.log(ops.maximum(y_pred, _LEAST)), axis=-1)
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
    """The loss of a name: ``cross_entropy``, or ``dice_cross_entropy``, their plain sum."""
    return SegmentationLoss(
        1.0 if name == "dice_cross_entropy" else 0.0, class_weights, label_smoothing
    )


def class_weights(pixels: Sequence[float], balance: float) -> list[float]:
    """Weights that make rare classes count more: w[c] = f[c]**-balance, with a mean of 1.

    The mean is taken over pixels, so that the loss keeps its size whatever the balance.

    Args:
      pixels: number (or share) of the training pixels of each class.
      balance: 0 weighs every pixel alike, 1 every class.

    Returns:
      One weight a class; 0 for a class without pixels. For example 50, 40 and 10 pixels have at
      balance 1 the weights 2/3, 5/6 and 10/3.

    Raises:
      ValueError: there is no pixel at all.
    """
    total = sum(pixels)
    if total <= 0:
        raise ValueError("Class weights need the pixels of at least one mask, but there are none.")
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
      name: ``rmsprop`` (the reference's) or ``adamw`` (Loshchilov and Hutter, ICLR 2019).
      learning_rate: step size at its peak, see `WarmupCosine`.
      weight_decay: of AdamW, times the learning rate and a step; biases and the scales and offsets
        of normalisation have none.
      clip_norm: longest gradient, over all weights together; None: any.
      ema: momentum of a running mean of the weights, such as 0.99 (kept beside them:
        ``finalize_variable_values`` puts it in place); None: no mean. The running means of
        batch normalisation belong to the weights themselves and fit their mean only late, when the
        learning rate is small: not for trainings of a few epochs.
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
    """The learning rate as a share of its peak.

    Rises in a straight line during the share `warmup` of training, then falls to 0 along half a
    cosine (Loshchilov and Hutter, "SGDR", ICLR 2017). With warmup 0.2: 0.5 at progress 0.1, 1 at
    0.2, 0.5 at 0.6, 0 at 1.

    Args:
      progress: share of training that is over; beyond 1 counts as 1.
      warmup: 0 up to, but not including, 1.
    """
    if progress < warmup:
        return progress / warmup
    return (1 + math.cos(math.pi * min(1.0, (progress - warmup) / (1 - warmup)))) / 2


class WarmupCosine(keras.callbacks.Callback):
    """Sets the learning rate before each step, so that it has fallen to 0 when training ends.

    Training ends after `epochs`, or with the time budget where that is sooner: whichever is nearer
    to its end says how far training is.

    Args:
      peak: highest learning rate.
      epochs: most epochs.
      steps_per_epoch: steps of an epoch.
      warmup: share of training during which the rate rises.
      max_minutes: time budget; None: no limit, and then the course depends on the step alone.
      seconds: says how long training has run, resumed parts together; None: since `fit` began.
    """

    def __init__(
        self,
        peak: float,
        epochs: int,
        steps_per_epoch: int,
        warmup: float = 0.05,
        max_minutes: float | None = None,
        seconds: Callable[[], float] | None = None,
    ):
        super().__init__()
        self._peak, self._warmup = peak, warmup
        self._epochs, self._steps = epochs, steps_per_epoch
        self._budget = math.inf if max_minutes is None else max_minutes * 60
        self._seconds = seconds
        self._begin = 0.0
        self._epoch = 0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._begin = time.monotonic()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._epoch = epoch

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        seconds = self._seconds() if self._seconds else time.monotonic() - self._begin
        by_steps = (self._epoch + (batch + 1) / self._steps) / self._epochs
        rate = warmup_cosine(max(by_steps, seconds / self._budget), self._warmup)
        self.model.optimizer.learning_rate = self._peak * rate
