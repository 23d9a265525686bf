"""A training that takes seconds.

    python -m tests.support.models.tiny_training FOLDER [SETTING=VALUE ...]

Works in FOLDER/state, so that it can be killed and started again; at its end writes FOLDER/done.npz
with all weights and FOLDER/history.json.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf

from pipeline import settings
from pipeline.core import features
from pipeline.data import preprocessing
from pipeline.models import _layers
from pipeline.training import devices, optimization, trainer

SIZE = 16
SETTINGS = (
    "train.epochs=6",
    "train.batch_size=4",
    "train.optimizer=adamw",
    "train.learning_rate=0.01",
    "train.schedule=cosine",
    "train.ema=0.9",
    "train.augmentation=0.5",
    "train.best_epoch_by=val_mean_iou",
)


def write_examples(path: Path, count: int, seed: int) -> None:
    """Photos whose bright part is pet, the rest background."""
    random = np.random.default_rng(seed)
    options = tf.io.TFRecordOptions(compression_type="GZIP", compression_level=0)
    with tf.io.TFRecordWriter(str(path), options) as writer:
        for _ in range(count):
            photo = random.integers(0, 100, [SIZE, SIZE, 3], np.uint8)
            ids = np.ones([SIZE, SIZE], np.uint8)
            top, left = random.integers(0, SIZE // 2, 2)
            ids[top : top + 8, left : left + 8] = 0
            photo[ids == 0] += 120
            feature = {
                name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[packed.numpy()]))
                for name, packed in (
                    (features.IMAGE_PIXELS, preprocessing.pack_image(photo)),
                    (features.MASK_PIXELS, preprocessing.pack_mask(ids)),
                )
            }
            example = tf.train.Example(features=tf.train.Features(feature=feature))
            writer.write(example.SerializeToString())


def tiny_model() -> keras.Model:
    """Has every kind of state that must be saved: normalisation, dropout, weights."""
    photo = keras.Input([SIZE, SIZE, 3])
    x = keras.layers.Conv2D(6, 3, padding="same")(photo)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Dropout(0.2)(keras.layers.ReLU()(x))
    x = keras.layers.Conv2D(3, 3, padding="same", activation="softmax")(x)
    return keras.Model(photo, x)


def train(
    folder: Path,
    overrides: Sequence[str] = (),
    build: Callable[[], keras.Model] = tiny_model,
) -> keras.Model:
    """Trains in a folder, or goes on there; returns the model with the best epoch's weights."""
    chosen = settings.load(overrides=[*SETTINGS, *overrides]).train
    folder.mkdir(parents=True, exist_ok=True)
    for name, count, seed in (("train", 18, 1), ("eval", 6, 2)):
        if not (folder / name).exists():
            write_examples(folder / f"{name}.part", count, seed)
            (folder / f"{name}.part").rename(folder / name)
    (folder / "state").mkdir(exist_ok=True)
    model, history, _ = trainer.fit(
        build, chosen, [str(folder / "train")], [str(folder / "eval")], str(folder / "state")
    )
    np.savez(folder / "done.npz", *model.get_weights())
    (folder / "history.json").write_text(json.dumps(history))
    return model


def smooth_model() -> keras.Model:
    """Has no random numbers, which differ by device."""
    photo = keras.Input([SIZE, SIZE, 3])
    x = keras.layers.Conv2D(6, 3, padding="same", use_bias=False)(photo)
    x = _layers.norm(x, relu=False)
    x = keras.layers.Conv2D(3, 3, padding="same", activation="softmax")(x)
    return keras.Model(photo, x)


def gradient_descent(_: str, rate: float, *__: object) -> keras.optimizers.Optimizer:
    """In place of `optimization.optimizer`."""
    return keras.optimizers.SGD(rate)


def pretend_devices(count: int) -> None:
    """Lets the trainer find so many devices in this machine's CPU."""
    (cpu,) = tf.config.list_physical_devices("CPU")
    options = [tf.config.LogicalDeviceConfiguration() for _ in range(count)]
    tf.config.set_logical_device_configuration(cpu, options)
    names = [device.name for device in tf.config.list_logical_devices("CPU")]
    devices.strategy = lambda: tf.distribute.MirroredStrategy(names)


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--devices", type=int, help="train the smooth model on so many")
    args = parser.parse_intermixed_args(argv)
    if args.devices:
        pretend_devices(args.devices)
        optimization.optimizer = gradient_descent  # type: ignore[assignment]
    train(args.folder, args.overrides, smooth_model if args.devices else tiny_model)


if __name__ == "__main__":
    main()
