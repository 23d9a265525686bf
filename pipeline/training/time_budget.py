"""How many epochs a limited time allows, so that a schedule can end with the last one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras

_SETTLING = 0.1  # share of an epoch whose first steps say too little about its length
_EVALUATION = 0.1  # of an epoch's steps: what follows them in the first epoch, as long as unknown


class TimeBudget(keras.callbacks.Callback):
    """Predicts the last epoch that ends within the budget, from the speed of the steps so far.

    A slower machine lowers `epochs` at any time, a faster one raises it only at the beginning of
    an epoch. So the last epoch is known before it is over.

    Args:
      most_epochs: maximum number of epochs, whatever the time.
      steps: steps per epoch.
      max_minutes: the budget; None for no limit.
      seconds: returns the training time so far, earlier attempts included.
      epochs_done: epochs that earlier attempts completed.
      epoch_seconds: how long the last one of these took.
    """

    def __init__(
        self,
        most_epochs: int,
        steps: int,
        max_minutes: float | None,
        seconds: Callable[[], float],
        epochs_done: int = 0,
        epoch_seconds: float | None = None,
    ):
        super().__init__()
        self.epochs = most_epochs  # that fit; at least one
        self._most, self._steps, self._seconds = most_epochs, steps, seconds
        self._budget = math.inf if max_minutes is None else max_minutes * 60
        self._epoch = epochs_done
        self._began: float | None = None  # the epoch
        self._second_epoch = 0  # of this process
        self._first_step: float | None = None  # its end, since when no step traces the model
        self._last_step = 0.0  # its end
        self._afterwards: float | None = None  # from an epoch's last step to the next epoch
        if epoch_seconds is not None:
            self.epochs = self._fitting(epochs_done, seconds(), epoch_seconds)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        now = self._seconds()
        self._epoch = epoch
        if self._began is not None:
            if epoch > self._second_epoch:  # the first evaluation was traced
                self._afterwards = now - self._last_step
            self.epochs = max(epoch + 1, self._fitting(epoch, now, now - self._began))
        else:
            self._second_epoch = epoch + 1
        self._began, self._first_step = now, None

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        now = self._last_step = self._seconds()
        if self._first_step is None:
            self._first_step = now
            return
        step = (now - self._first_step) / batch
        afterwards = self._afterwards
        if afterwards is None:
            afterwards = _EVALUATION * self._steps * step
        ends = now + (self._steps - batch - 1) * step + afterwards
        fitting = self._fitting(self._epoch + 1, ends, self._steps * step + afterwards)
        settling = batch <= max(1, _SETTLING * self._steps)
        self.epochs = fitting if settling else min(self.epochs, fitting)

    def _fitting(self, epochs: int, seconds: float, epoch_seconds: float) -> int:
        """The number of epochs in all, if so many take so long and each other one so long."""
        if math.isinf(self._budget):
            return self._most
        more = (self._budget - seconds) / max(epoch_seconds, 1e-9)
        return min(self._most, max(1, epochs + max(0, math.floor(more))))
