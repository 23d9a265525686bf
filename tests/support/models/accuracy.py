"""Trains a model for a number of epochs or minutes and judges it after each epoch.

For `benchmarks.accuracy`, which has the command line, and its test. The splits are those of the
pipeline, without its Transform: whole in memory.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from pipeline import models, settings
from pipeline.core import features
from pipeline.data import layout, preprocessing
from pipeline.data.items import Item
from pipeline.evaluation import metrics
from pipeline.training import augmentation, devices, optimization, trainer

SCORES = ("accuracy", "mean_iou", *features.CLASS_NAMES)
CLOCKS: dict[str, Callable[[], float]] = {
    "wall": time.monotonic,
    # On a machine with other work: the CPU time used, spread over all cores.
    "cpu": lambda: time.process_time() / (os.cpu_count() or 1),
}

MOST_EPOCHS = 10_000  # where the minutes decide

Split = tuple[NDArray[Any], NDArray[Any]]  # photos uint8 [n, s, s, 3], class ids uint8 [n, s, s]


CONFIGS = {"reference": [settings.CONFIGS / "reference.yaml"], "default": []}


def load(items: list[Item], size: int) -> Split:
    """Decodes and resizes as the pipeline's Transform does."""
    photos = np.empty((len(items), size, size, 3), np.uint8)
    masks = np.empty((len(items), size, size), np.uint8)
    for index, item in enumerate(items):
        photo = preprocessing.decode_image(tf.io.read_file(item.image))
        photos[index] = preprocessing.resize_image(photo, size).numpy()
        masks[index] = preprocessing.decode_mask(tf.io.read_file(item.mask), size).numpy()
    return photos, masks


def load_splits(root: Path, size: int, eval_share: float, test_share: float) -> dict[str, Split]:
    """The splits that have items, by name."""
    # Not validated: here either share may be 0.
    shares = settings.Data.model_construct(eval_share=eval_share, test_share=test_share)
    items = layout.scan(root, shares).items
    by_split = {split: [i for i in items if i.split == split] for split in features.SPLITS}
    return {split: load(chosen, size) for split, chosen in by_split.items() if chosen}


def training_batches(data: Split, batch_size: int, chosen: settings.Train) -> tf.data.Dataset:
    """Endless batches (photos float32 in [0, 1], class ids uint8), shuffled anew each epoch."""
    photos, masks = data
    tensors = tf.constant(photos), tf.constant(masks)
    data_set = (
        tf.data.Dataset.range(len(photos))
        .shuffle(len(photos), seed=chosen.seed)
        .take(len(photos) // batch_size * batch_size)
        .repeat()
        .map(lambda index: tuple(tensor[index] for tensor in tensors))
    )
    return (
        augmentation.augmented_batches(data_set, batch_size, chosen.augmentation, chosen.seed)
        .map(lambda photo, mask: (preprocessing.rescale(photo), mask))
        .prefetch(2)
    )


def score(model: keras.Model, data: Split, batch_size: int = 16) -> dict[str, float]:
    """Judges a model by one confusion matrix over all pixels of a split."""
    confusion = np.zeros((features.NUM_CLASSES,) * 2, np.int64)
    for start in range(0, len(data[0]), batch_size):
        photos, masks = (array[start : start + batch_size] for array in data)
        found = np.asarray(model(photos.astype(np.float32) / 255, training=False)).argmax(-1)
        confusion += metrics.confusion_of(masks, found)
    iou = metrics.class_iou(confusion)
    figures = [metrics.pixel_accuracy(confusion), metrics.mean_iou(confusion), *iou.tolist()]
    return dict(zip(SCORES, figures, strict=True))


class Judge(keras.callbacks.Callback):
    """Owns the clock: judges after each epoch off the clock, and ends training when time is up."""

    def __init__(
        self, splits: dict[str, Split], minutes: float, clock: Callable[[], float]
    ) -> None:
        super().__init__()
        self._splits = {name: data for name, data in splits.items() if name != features.TRAIN}
        self._budget, self._clock = minutes * 60, clock
        self._used, self._since = 0.0, clock()
        self.rows: list[dict[str, Any]] = []

    def seconds(self) -> float:
        """Seconds of training so far."""
        return self._used + self._clock() - self._since

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._since = self._clock()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if self.seconds() >= self._budget:
            self.model.stop_training = True  # ends the epoch here, too

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._used = self.seconds()
        row: dict[str, Any] = {"epoch": epoch + 1, "minute": self._used / 60, **(logs or {})}
        for name, data in self._splits.items():
            row[name] = score(self.model, data)
        self.rows.append(row)
        print(line(row), flush=True)
        self._since = self._clock()


def train(
    chosen: settings.Settings,
    splits: dict[str, Split],
    minutes: float | None = None,
    clock: str = "wall",
) -> list[dict[str, Any]]:
    """Trains one model as the settings say, or `minutes` whatever the epochs; a row an epoch."""
    training = chosen.train
    keras.utils.set_random_seed(training.seed)
    data = splits[features.TRAIN]
    model = models.build(chosen.model.name, data[0].shape[1], width=chosen.model.width)
    trainer.compile_model(model, training, lambda: class_pixels(data))
    batch_size = devices.batch_size(training.batch_size)
    steps = len(data[0]) // batch_size
    epochs = training.epochs if minutes is None else MOST_EPOCHS
    limit = math.inf if minutes is None else minutes
    judge = Judge(splits, limit, CLOCKS[clock])
    callbacks: list[keras.callbacks.Callback] = []
    if training.schedule == "cosine":
        callbacks.append(
            optimization.WarmupCosine(
                training.learning_rate,
                steps,
                training.warmup,
                lambda done: max(done / epochs, judge.seconds() / (60 * limit)),
            )
        )
    if training.ema is not None:
        callbacks.append(keras.callbacks.SwapEMAWeights(swap_on_epoch=True))
    model.fit(
        training_batches(data, batch_size, training),
        steps_per_epoch=steps,
        epochs=epochs,
        verbose=0,
        callbacks=[*callbacks, judge],
    )
    return judge.rows


def class_pixels(data: Split) -> list[int]:
    """Pixels of each class in a split."""
    counts: list[int] = np.bincount(data[1].ravel(), minlength=features.NUM_CLASSES).tolist()
    return counts


def line(row: dict[str, Any]) -> str:
    judged = "  ".join(
        f"{name} " + " ".join(f"{row[name][key]:.4f}" for key in SCORES)
        for name in features.SPLITS
        if name in row
    )
    return f"{row['epoch']:5d}  {row['minute']:6.2f}  {row['loss']:.4f}  {judged}"
