"""Accuracy by training minute: the reference and the default model, one after the other.

    python -m benchmarks.accuracy --minutes 30

Trains each for the same minutes on the train split of ``../shared/data/oxford-iiit-pet-128``
(photos brought from 128 to 200 pixels), the split by the hash of the id as in the pipeline
(`pipeline.data.scan`, no test share). After each epoch the model is judged on the whole eval
split; that does not count as training time. The eval split also picks the best epoch, so its figure
flatters a little; the last epoch's does not. With ``--test-share 0.1`` a third split, which nothing
is picked by, is judged too.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import platform
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

DATA = Path(__file__).parents[2] / "shared" / "data" / "oxford-iiit-pet-128"
SCORES = ("accuracy", "mean_iou", *features.CLASS_NAMES)
CLOCKS: dict[str, Callable[[], float]] = {
    "wall": time.monotonic,
    # On a machine with other work: the processor time used, spread over all cores.
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
        print(_line(row), flush=True)
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
    judge = Judge(splits, math.inf if minutes is None else minutes, CLOCKS[clock])
    callbacks: list[keras.callbacks.Callback] = []
    if training.schedule == "cosine":
        callbacks.append(
            optimization.WarmupCosine(
                training.learning_rate,
                epochs,
                steps,
                training.warmup,
                minutes,
                judge.seconds,
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


def _line(row: dict[str, Any]) -> str:
    judged = "  ".join(
        f"{name} " + " ".join(f"{row[name][key]:.4f}" for key in SCORES)
        for name in features.SPLITS
        if name in row
    )
    return f"{row['epoch']:5d}  {row['minute']:6.2f}  {row['loss']:.4f}  {judged}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30, help="of training, for each model")
    parser.add_argument("--data-root", type=Path, default=DATA)
    parser.add_argument("--image-size", type=int, default=200)
    parser.add_argument("--eval-share", type=float, default=0.1)
    parser.add_argument("--test-share", type=float, default=0.0)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    parser.add_argument("--only", choices=CONFIGS)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--output", type=Path, help="JSON file for the curves")
    args = parser.parse_args()

    splits = load_splits(args.data_root, args.image_size, args.eval_share, args.test_share)
    print(
        f"{datetime.date.today()}, {os.cpu_count()} cores ({platform.machine()}), load "
        f"{os.getloadavg()[0]:.1f}, tensorflow {tf.__version__}, keras {keras.__version__}; "
        f"{ {name: len(photos) for name, (photos, _) in splits.items()} } photos, "
        f"{args.image_size} pixels, {args.minutes:g} minutes by the {args.clock} clock"
    )
    curves = {}
    for name, files in CONFIGS.items():
        if args.only in (None, name):
            chosen = settings.load(files, args.overrides)
            print(f"{name}: {chosen.model.name}, {chosen.train}")
            print(f"epoch  minute  loss    split {' '.join(SCORES)}", flush=True)
            curves[name] = train(chosen, splits, args.minutes, args.clock)
            best = max(curves[name], key=lambda row: row[features.EVAL]["mean_iou"])
            print(f"best epoch by eval mean IoU:\n{_line(best)}", flush=True)
    if args.output:
        args.output.write_text(json.dumps(curves, indent=1))


if __name__ == "__main__":
    main()
