"""The training loop: saves its whole state after each epoch, and resumes from it.

The state is in a folder that outlives the process: weights, optimiser, history and best epoch.
After ``kill -9`` or the eviction of a pod, training resumes from there. All random numbers come
from the seed and the number of the epoch. So on a CPU, a resumed training ends with the same
weights as an uninterrupted one, unless `train.max_minutes` ties the learning rate to the clock.
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
import tensorflow as tf
from tfx.dsl.io import fileio

from pipeline import models
from pipeline.core import progress
from pipeline.settings.training import Train
from pipeline.training.input_pipeline import Photos
from pipeline.training.time_budget import TimeBudget

log = logging.getLogger(__name__)

_STATE = "state.json"


class TrainingError(Exception):
    """Training gave no usable model; the message is one clause."""


@dataclass
class State:
    """The saved state of a training, beside its weights."""

    epochs: int = 0  # completed
    seconds: float = 0.0  # training time of all attempts
    best: float | None = None  # best value of the metric `train.best_epoch_by`
    best_epoch: int = 0  # from 1; 0 for none
    started_from: int | None = None  # the released version whose weights training started with
    history: list[dict[str, float]] = field(default_factory=list)


class Training:
    """A training that can be interrupted at any time, and resumes from its folder."""

    def __init__(
        self,
        model: keras.Model,
        settings: Train,
        folder: str,
        compile_model: Callable[[keras.Model], None],
    ):
        """Loads the state in the folder, if there is one.

        Args:
          model: the model, not compiled yet.
          settings: settings of the training, which must be the same for every attempt.
          folder: an existing folder for the state.
          compile_model: compiles the model; called again if other layers become trainable.
        """
        self._model, self._settings, self._folder = model, settings, folder
        self._compile = compile_model
        self._frozen: bool | None = None  # whether the model was compiled with a frozen encoder
        self._scratch = tempfile.TemporaryDirectory()
        self._diverged = False
        self._warm = False  # whether this process has trained an epoch
        self.state = self._load()
        self._resumed_at = time.monotonic()
        self._earlier_seconds = self.state.seconds
        self._budget: TimeBudget | None = None  # while training runs

    def progress(self, epochs: float) -> float:
        """The fraction of the training that is done after so many epochs, 1 at the end of the last.

        The last epoch is that of the settings, or the last one that `train.max_minutes` allows.
        """
        return epochs / (self._budget.epochs if self._budget else self._settings.epochs)

    def _seconds(self) -> float:
        """Training time so far, earlier attempts included."""
        return self._earlier_seconds + time.monotonic() - self._resumed_at

    def run(
        self, train: Photos, evaluation: Photos, callbacks: Sequence[keras.callbacks.Callback] = ()
    ) -> list[dict[str, float]]:
        """Trains to the end, and loads the weights of the best epoch into the model.

        Returns:
          The history, one row per epoch. ``best`` is 1 for the epoch whose weights are kept.

        Raises:
          TrainingError: if no epoch had a finite loss.
        """
        eval_batches = evaluation.in_order()
        progress.expect((self._settings.epochs - self.state.epochs) * train.steps, progress.STEPS)
        history = self.state.history
        self._budget = TimeBudget(
            self._settings.epochs,
            train.steps,
            self._settings.max_minutes,
            self._seconds,
            self.state.epochs,
            history[-1]["seconds"] if history else None,
        )
        while not self._finished(self._budget.epochs):
            self._epoch(self.state.epochs, train, eval_batches, [self._budget, *callbacks])
        if self.state.best_epoch == 0:
            raise TrainingError("no epoch had a finite loss; try a smaller train.learning_rate")
        self._model.load_weights(self._local("best", self.state.best_epoch))
        best = self.state.best_epoch
        return [{**row, "best": float(row["epoch"] == best)} for row in self.state.history]

    def _epoch(
        self,
        number: int,
        train: Photos,
        eval_batches: tf.data.Dataset,
        callbacks: Sequence[keras.callbacks.Callback],
    ) -> None:
        start = time.monotonic()
        self._prepare(number)
        _seed_layers(self._model, self._settings.seed, number)
        raw = _RawWeights()
        fitted = self._model.fit(
            train.epoch(number, self._settings.seed, self._settings.augmentation),
            initial_epoch=number,
            epochs=number + 1,
            verbose=0,
            callbacks=[*callbacks, _Steps(), raw],
        )
        row = {name: float(values[-1]) for name, values in fitted.history.items()}
        row["learning_rate"] = float(np.asarray(self._model.optimizer.learning_rate))
        # With train.ema, `fit` has replaced the weights by their moving average. That is evaluated
        # and kept, but training goes on from the weights themselves.
        evaluated = self._model.evaluate(eval_batches, verbose=0, return_dict=True)
        row |= {f"val_{name}": float(value) for name, value in evaluated.items()}
        row["seconds"] = time.monotonic() - start
        self._save_epoch(number + 1, row, raw.weights)

    def _prepare(self, number: int) -> None:
        """Compiles the model for an epoch, numbered from 0, if it needs other trainable layers."""
        frozen = number < self._settings.freeze_epochs
        if frozen == self._frozen:
            return
        if self._settings.freeze_epochs:
            models.freeze_encoder(self._model, frozen)
        self._compile(self._model)
        # Build it now: TensorFlow would trace a first step that creates variables twice, and Keras
        # restores the state of an optimiser only once it is built.
        self._model.optimizer.build(self._model.trainable_variables)
        self._frozen = frozen

    def _save_epoch(self, epoch: int, row: dict[str, float], raw_weights: list[Any]) -> None:
        """Saves the result of an epoch, unless it diverged, and sets the raw weights again."""
        state, settings = self.state, self._settings
        if not (math.isfinite(row["loss"]) and math.isfinite(row["val_loss"])):
            self._diverged = True
            kept = f"and keeps epoch {state.best_epoch}" if state.best_epoch else "without a model"
            log.info("The loss of epoch %d is not finite. Training stops %s.", epoch, kept)
            return
        value = row[settings.best_epoch_by]
        higher_is_better = settings.best_epoch_by != "val_loss"
        better = state.best is None or (
            value > state.best if higher_is_better else value < state.best
        )
        previous_best = state.best_epoch
        weights = self._weights()
        if better:
            state.best, state.best_epoch = value, epoch
            self._write(self._name("best", epoch), weights)
        if settings.ema:
            self._model.set_weights(raw_weights)
            weights = self._weights()
        state.history.append({"epoch": epoch, **row})
        state.epochs, state.seconds = epoch, self._seconds()
        self._write(self._name("last", epoch), weights)
        self._write(_STATE, json.dumps(asdict(state)).encode())
        # Only now: the old state needed these files.
        self._remove("last", epoch - 1)
        if better and previous_best:
            self._remove("best", previous_best)
        log.info(
            # The most important values come first, because web pages cut long lines.
            "epoch %d/%d  val_mean_iou %.3f%s  loss %.3f  val_loss %.3f  val_accuracy %.3f  %.0f s",
            epoch,
            settings.epochs,
            row["val_mean_iou"],
            self._time_left(row["seconds"]),
            row["loss"],
            row["val_loss"],
            row["val_accuracy"],
            row["seconds"],
        )
        self._warm = True

    def _time_left(self, seconds: float) -> str:
        """The estimated time left after an epoch that took some seconds.

        Empty after the first epoch of a process, which mostly measures TensorFlow's tracing.
        """
        if not self._warm:
            return ""
        assert self._budget
        left = max(0, self._budget.epochs - self.state.epochs) * seconds
        return f"  {progress.clock(left)} left"

    def _finished(self, last_epoch: int) -> bool:
        state, settings = self.state, self._settings
        if self._diverged or state.epochs >= settings.epochs:
            return True
        if not state.epochs:
            return False
        if settings.patience and state.epochs - state.best_epoch >= settings.patience:
            log.info("No improvement since epoch %d; training stops.", state.best_epoch)
            return True
        spent = settings.max_minutes is not None and state.seconds >= settings.max_minutes * 60
        if spent or state.epochs >= last_epoch:
            log.info(
                "Training stops after epoch %d, because another epoch would exceed "
                "train.max_minutes.",
                state.epochs,
            )
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
        log.info("Resuming after epoch %d of an earlier attempt.", state.epochs)
        return state

    @staticmethod
    def _name(kind: str, epoch: int) -> str:
        return f"{kind}-{epoch}.weights.h5"

    def _path(self, kind: str, epoch: int) -> str:
        return os.path.join(self._folder, self._name(kind, epoch))

    def _weights(self) -> bytes:
        """The model and optimiser as an HDF5 file, which Keras writes only to local disks."""
        with tempfile.TemporaryDirectory() as folder:
            local = os.path.join(folder, "x.weights.h5")
            self._model.save_weights(local)
            with open(local, "rb") as file:
                return file.read()

    def _local(self, kind: str, epoch: int) -> str:
        """Copies saved weights to a local file; returns its path."""
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
    """Seeds the random layers (dropout) by epoch, because Keras does not save their state."""
    layers = [layer for layer in model.layers if hasattr(layer, "seed_generator")]
    for number, layer in enumerate(layers):
        state = layer.seed_generator.state
        state.assign(keras.ops.cast([seed + 7919 * epoch, number], state.dtype))


class _RawWeights(keras.callbacks.Callback):
    """Keeps the weights of an epoch's end. With a moving average, `fit` replaces them at its end.

    Keras: `Model.fit` calls `Optimizer.finalize_variable_values`.
    """

    weights: list[Any]

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.weights = self.model.get_weights()


class _Steps(keras.callbacks.Callback):
    """Counts training steps for the progress display."""

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        progress.count(progress.STEPS)
