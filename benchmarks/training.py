"""Cost of the Trainer compared with Keras: photos per second of it and of a bare ``model.fit``.

    python -m benchmarks.training

Both train the same model with the same loss, optimiser and batches, without augmentation, and
evaluate it on a tenth of the photos after each epoch. The bare ``fit`` has its photos in memory as
float32 and counts correct pixels. The Trainer reads the examples that Transform wrote, counts the
confusion matrix for the mean IoU, and saves its state after each epoch. The first epoch, in which
TensorFlow traces the model, does not count. Each runs in its own process, in turns. Also prints
photos per second of CPU time, which other work on the machine affects less, and peak memory.
"""

from __future__ import annotations

import argparse
import datetime
import json
import logging
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from pipeline import models, settings
from pipeline.core import features
from pipeline.data import preprocessing, synthetic
from pipeline.training import trainer
from pipeline.training.input_pipeline import Photos
from tests.support.models import accuracy

CONTENDERS = ("fit", "Trainer")
DEFAULT = settings.Model().name
_TENTH = 10


def write_examples(photos: NDArray[Any], masks: NDArray[Any], path: Path) -> None:
    """Writes what Transform writes, for uint8 [count, size, size, 3] and [count, size, size]."""
    options = tf.io.TFRecordOptions(compression_type="GZIP", compression_level=0)
    with tf.io.TFRecordWriter(str(path), options) as writer:
        for photo, mask in zip(photos, masks, strict=True):
            example = tf.train.Example()
            for name, packed in (
                (features.IMAGE_PIXELS, preprocessing.pack_image(photo)),
                (features.MASK_PIXELS, preprocessing.pack_mask(mask)),
            ):
                example.features.feature[name].bytes_list.value.append(packed.numpy())
            writer.write(example.SerializeToString())


def prepare(folder: Path, count: int, size: int) -> None:
    """Puts built-in photos into a folder, as arrays and as examples."""
    synthetic.generate(folder / "data", count=count, seed=1)
    photos, masks = accuracy.load_splits(folder / "data", size, 0, 0)["train"]
    judged = len(photos) // _TENTH
    for name, part in (("eval", slice(judged)), ("train", slice(judged, None))):
        write_examples(photos[part], masks[part], folder / name)
        np.savez(folder / f"{name}.npz", photos=photos[part], masks=masks[part])


class Stopwatch(logging.Handler):
    """Notes wall and CPU time at the end of each epoch: the engine logs one line then."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[tuple[float, float]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.note()

    def note(self) -> None:
        self.times.append((time.monotonic(), time.process_time()))


def measure(
    contender: str, folder: Path, size: int, batch_size: int, epochs: int
) -> dict[str, Any]:
    """Photos per second, the same of CPU time, and peak megabytes, of one in this process."""
    watch = Stopwatch()
    chosen = settings.Train(epochs=epochs + 1, augmentation=0, batch_size=batch_size)
    if contender == "Trainer":
        engine = logging.getLogger("pipeline.training.loop")
        engine.setLevel(logging.INFO)
        engine.addHandler(watch)
        train, judged = ([str(folder / name)] for name in ("train", "eval"))
        count = Photos(train, size, batch_size).count
        with tempfile.TemporaryDirectory() as state:
            trainer.fit(lambda: models.build(DEFAULT, size), chosen, train, judged, state)
    else:
        (photos, masks), evaluation = (arrays(folder / f"{name}.npz") for name in ("train", "eval"))
        count = len(photos)
        model = models.build(DEFAULT, size)
        trainer.compile_model(model, chosen, lambda: [1] * features.NUM_CLASSES)
        model.compile(model.optimizer, model.loss, metrics=["accuracy"])
        note = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: watch.note())
        model.fit(
            photos,
            masks,
            batch_size,
            epochs + 1,
            verbose=0,
            callbacks=[note],
            validation_data=evaluation,
            validation_batch_size=batch_size,
        )
    (wall, processor), (last_wall, last_processor) = watch.times[0], watch.times[epochs]
    return {
        "contender": contender,
        "per_second": count * epochs / (last_wall - wall),
        "per_processor_second": count * epochs / (last_processor - processor),
        "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def arrays(path: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    """Photos, float32 in [0, 1], and class ids."""
    with np.load(path) as held:
        return held["photos"].astype(np.float32) / 255, held["masks"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=int, default=1280)
    parser.add_argument("--size", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=1, help="that count")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        print(json.dumps(measure(args.only, args.folder, args.size, args.batch_size, args.epochs)))
        return
    print(
        f"{datetime.date.today()}, {os.cpu_count()} cores ({platform.machine()}), load "
        f"{os.getloadavg()[0]:.1f}, tensorflow {tf.__version__}, keras {keras.__version__}; "
        f"{DEFAULT}, {args.photos} photos, {args.size} pixels, batches of {args.batch_size}"
    )
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), args.photos, args.size)
        for number in range(args.rounds):
            for contender in CONTENDERS if number % 2 == 0 else CONTENDERS[::-1]:
                command = [sys.executable, "-m", "benchmarks.training", *sys.argv[1:]]
                command += ["--only", contender, "--folder", folder]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                rows.append(json.loads(done.stdout.splitlines()[-1]))
                print("{contender:8} {per_second:6.1f}/s".format(**rows[-1]), flush=True)
    names = ("per_second", "per_processor_second", "megabytes")
    medians = {
        contender: [
            statistics.median(row[name] for row in rows if row["contender"] == contender)
            for name in names
        ]
        for contender in CONTENDERS
    }
    print("medians   photos/s  photos/CPU second  MB")
    for contender, values in medians.items():
        print(f"{contender:8} {values[0]:9.1f} {values[1]:18.1f} {values[2]:5.0f}")
    bare, ours = (medians[contender] for contender in CONTENDERS)
    print(
        f"Trainer / fit: {ours[0] / bare[0]:.3f} by the clock, {ours[1] / bare[1]:.3f} by CPU time"
    )


if __name__ == "__main__":
    main()
