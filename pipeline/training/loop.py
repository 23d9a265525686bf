"""Training that loses nothing: epoch after epoch, each saved whole before the next begins.

A folder that outlives the process holds the state after the last epoch: weights, optimiser, the
history so far, the best epoch. A training that was cut off, by ``kill -9`` or an evicted pod, goes
on from there. Everything random follows from the seed and the number of the epoch, so on a CPU it
ends with the weights that an uninterrupted training ends with, unless `train.max_minutes` makes the
learning rate follow the clock.
"""

from __future__ import annotations

import json
import logging
import math
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import keras
import numpy as np
from tfx.dsl.io import fileio

from pipeline import models
from pipeline.core import progress
from pipeline.settings import Train
from pipeline.training.input_pipeline import Photos

log = logging.getLogger(__name__)

_STATE = "state.json"


class TrainingError(Exception):
    """Training cannot give a usable model; the message is one sentence."""


@dataclass
class State:
    """What is known after an epoch."""

    epochs: int = 0  # done
    seconds: float = 0.0  # of training, all attempts together
    best: float | None = None  # value of the metric that picks the epoch
    best_epoch: int = 0  # counted from 1
    started_from: int | None = None  # the release whose weights training began with
    history: list[dict[str, float]] = field(default_factory=list)


class Training:
    """One training, in a folder that outlives it."""

    def __init__(
        self,
        model: keras.Model,
        settings: Train,
        folder: str,
        compile_model: Callable[[keras.Model], None],
    ):
        """Takes up the training that the folder holds, or begins.

        Args:
          model: not compiled yet.
          settings: of the training; the same for every attempt.
          folder: for the state; it exists.
          compile_model: gives the model its optimiser, loss and metrics; called again when the
            layers that learn change.
        """
        self._model, self._settings, self._folder = model, settings, folder
        self._compile = compile_model
        self._frozen: bool | None = None  # whether the encoder is, as compiled
        self._scratch = tempfile.TemporaryDirectory()
        self._diverged = False
        self._warm = False  # an epoch was trained in this process
        self.state = self._load()
        self._resumed_at = time.monotonic()
        self._earlier_seconds = self.state.seconds

    @property
    def seconds(self) -> float:
        """Seconds of training so far, all attempts together."""
        return self._earlier_seconds + time.monotonic() - self._resumed_at

    def run(
        self, train: Photos, evaluation: Photos, callbacks: Sequence[keras.callbacks.Callback] = ()
    ) -> list[dict[str, float]]:
        """Trains to the end and leaves the best epoch's weights in the model.

        Returns:
          The history, a row an epoch; ``best`` is 1 on the epoch whose weights are kept.

        Raises:
          TrainingError: no epoch had a finite loss.
        """
        judge = evaluation.in_order()
        progress.expect((self._settings.epochs - self.state.epochs) * train.steps, progress.STEPS)
        while self.state.epochs < self._settings.epochs and not self._finished():
            self._epoch(self.state.epochs, train, judge, callbacks)
        if self.state.best_epoch == 0:
            raise TrainingError(
                "no epoch ended with a finite loss; a smaller train.learning_rate may help"
            )
        self._model.load_weights(self._local("best", self.state.best_epoch))
        best = self.state.best_epoch
        return [{**row, "best": float(row["epoch"] == best)} for row in self.state.history]

    def _epoch(
        self,
        number: int,
        train: Photos,
        judge: Any,
        callbacks: Sequence[keras.callbacks.Callback],
    ) -> None:
        begin = time.monotonic()
        self._prepare(number)
        _seed_layers(self._model, self._settings.seed, number)
        fitted = self._model.fit(
            train.epoch(number, self._settings.seed, self._settings.augmentation),
            initial_epoch=number,
            epochs=number + 1,
            verbose=0,
            callbacks=[*callbacks, _Steps()],
        )
        row = {name: float(values[-1]) for name, values in fitted.history.items()}
        row["learning_rate"] = float(np.asarray(self._model.optimizer.learning_rate))
        raw = self._model.get_weights()
        if self._settings.ema:
            # Judge, and keep, the running mean of the weights; then go on from the weights.
            self._model.optimizer.finalize_variable_values(self._model.trainable_variables)
        judged = self._model.evaluate(judge, verbose=0, return_dict=True)
        row |= {f"val_{name}": float(value) for name, value in judged.items()}
        row["seconds"] = time.monotonic() - begin
        self._note(number + 1, row, raw)

    def _prepare(self, number: int) -> None:
        """Compiles the model for an epoch, numbered from 0, unless it is as the epoch needs it."""
        frozen = number < self._settings.freeze_epochs
        if frozen == self._frozen:
            return
        if self._settings.freeze_epochs:
            models.freeze_encoder(self._model, frozen)
        self._compile(self._model)
        # Now, not by the first step: TensorFlow traces a step that makes variables twice. And the
        # state of an optimiser is loaded only into one that is built.
        self._model.optimizer.build(self._model.trainable_variables)
        self._frozen = frozen

    def _note(self, epoch: int, row: dict[str, float], raw: list[Any]) -> None:
        """Keeps what an epoch gave, unless its loss is no number; then restores `raw` weights."""
        state, settings = self.state, self._settings
        if not (math.isfinite(row["loss"]) and math.isfinite(row["val_loss"])):
            self._diverged = True
            kept = (
                f"keeping epoch {state.best_epoch}" if state.best_epoch else "there is none to keep"
            )
            log.info("The loss of epoch %d is not a number; training stops, %s.", epoch, kept)
            return
        value = row[settings.best_epoch_by]
        higher_is_better = settings.best_epoch_by != "val_loss"
        better = state.best is None or (
            value > state.best if higher_is_better else value < state.best
        )
        former_best = state.best_epoch
        weights = self._weights()
        if better:
            state.best, state.best_epoch = value, epoch
            self._write(self._name("best", epoch), weights)
        if settings.ema:
            self._model.set_weights(raw)
            weights = self._weights()
        state.history.append({"epoch": epoch, **row})
        state.epochs, state.seconds = epoch, self.seconds
        self._write(self._name("last", epoch), weights)
        self._write(_STATE, json.dumps(asdict(state)).encode())
        # What the new state no longer speaks of.
        self._remove("last", epoch - 1)
        if better and former_best:
            self._remove("best", former_best)
        log.info(
            # What matters most comes first: web pages cut lines at their right edge.
            "epoch %d/%d  val_mean_iou %.3f%s  loss %.3f  val_loss %.3f  val_accuracy %.3f  %.0f s",
            epoch,
            settings.epochs,
            row["val_mean_iou"],
            self._left(row["seconds"]),
            row["loss"],
            row["val_loss"],
            row["val_accuracy"],
            row["seconds"],
        )
        self._warm = True

    def _left(self, seconds: float) -> str:
        """The time left, after an epoch of that many seconds.

        Nothing after the first one of a process, in most of which TensorFlow traces the model.
        """
        if not self._warm:
            return ""
        left = (self._settings.epochs - self.state.epochs) * seconds
        if self._settings.max_minutes is not None:
            left = min(left, self._settings.max_minutes * 60 - self.state.seconds)
        return f"  {progress.clock(left)} left"

    def _finished(self) -> bool:
        state, settings = self.state, self._settings
        if self._diverged:
            return True
        if not state.epochs:
            return False
        if settings.patience and state.epochs - state.best_epoch >= settings.patience:
            log.info("No better epoch since epoch %d; training stops.", state.best_epoch)
            return True
        if settings.max_minutes is not None:
            next_ends = state.seconds + state.history[-1]["seconds"]
            if next_ends > settings.max_minutes * 60:
                log.info("train.max_minutes is used up after epoch %d.", state.epochs)
                return True
        return False

    def _load(self) -> State:
        path = os.path.join(self._folder, _STATE)
        if not fileio.exists(path):
            return State()
        with fileio.open(path, "r") as file:
            state = State(**json.load(file))
        self._prepare(state.epochs - 1)
        self._model.load_weights(self._local("last", state.epochs))
        log.info("Going on after epoch %d of an earlier attempt.", state.epochs)
        return state

    @staticmethod
    def _name(kind: str, epoch: int) -> str:
        return f"{kind}-{epoch}.weights.h5"

    def _path(self, kind: str, epoch: int) -> str:
        return os.path.join(self._folder, self._name(kind, epoch))

    def _weights(self) -> bytes:
        """Model and optimiser as Keras saves them: HDF5, which it writes to local files alone."""
        with tempfile.TemporaryDirectory() as folder:
            local = os.path.join(folder, "x.weights.h5")
            self._model.save_weights(local)
            with open(local, "rb") as file:
                return file.read()

    def _local(self, kind: str, epoch: int) -> str:
        """A local copy of saved weights."""
        local = os.path.join(self._scratch.name, f"{kind}-{epoch}.weights.h5")
        fileio.copy(self._path(kind, epoch), local, overwrite=True)
        return local

    def _write(self, name: str, contents: bytes) -> None:
        path = os.path.join(self._folder, name)
        with fileio.open(f"{path}.tmp", "wb") as file:
            file.write(contents)
        fileio.rename(f"{path}.tmp", path, overwrite=True)

    def _remove(self, kind: str, epoch: int) -> None:
        if fileio.exists(self._path(kind, epoch)):
            fileio.remove(self._path(kind, epoch))


def _seed_layers(model: keras.Model, seed: int, epoch: int) -> None:
    """Gives the random layers (dropout) a state that follows from the epoch: none is ever saved."""
    layers = [layer for layer in model.layers if hasattr(layer, "seed_generator")]
    for number, layer in enumerate(layers):
        state = layer.seed_generator.state
        state.assign(keras.ops.cast([seed + 7919 * epoch, number], state.dtype))


class _Steps(keras.callbacks.Callback):
    """Counts the steps of a training, for whoever watches how far it is."""

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        progress.count(progress.STEPS)
