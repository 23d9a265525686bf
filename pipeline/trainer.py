"""Trainer's user code: from transformed examples to an exported model."""

from __future__ import annotations

import logging
import os
import subprocess
import time
from typing import Any

import keras
import tensorflow as tf
import tensorflow_transform as tft
from tfx.components.trainer.fn_args_utils import FnArgs

from pipeline import export, features, models, preprocessing
from pipeline.settings import Train

HISTORY = "history.csv"
_BEST = "best.weights.h5"
_LARGE_GPU_MB = 15_000  # what a "16 GB" card really offers
_SHUFFLE_BYTES = 512 * 2**20

log = logging.getLogger(__name__)


def run_fn(fn_args: FnArgs) -> None:
    """Trains the model and exports the epoch with the least validation loss.

    Args:
      fn_args: ``custom_config`` holds ``model`` (name), ``image_size`` (pixels), ``train`` (the
        settings of that section) and ``working_dir`` (see `components.trainer`).
        ``model_run_dir`` receives history.csv and TensorBoard logs, ``serving_model_dir`` the
        SavedModel.
    """
    config = fn_args.custom_config
    settings = Train.model_validate(config["train"])
    size: int = config["image_size"]
    _grow_gpu_memory()
    keras.utils.set_random_seed(settings.seed)

    batch_size = settings.batch_size if settings.batch_size != "auto" else auto_batch_size()
    model = models.build(config["model"], size)
    model.compile(
        optimizer=keras.optimizers.RMSprop(settings.learning_rate),
        loss=keras.losses.SparseCategoricalCrossentropy(),
        metrics=["accuracy"],
    )
    train = dataset(fn_args.train_files, size, batch_size, shuffle_seed=settings.seed)
    evaluation = dataset(fn_args.eval_files, size, batch_size)

    os.makedirs(fn_args.model_run_dir, exist_ok=True)
    best = os.path.join(fn_args.model_run_dir, _BEST)
    model.fit(
        train,
        validation_data=evaluation,
        epochs=settings.epochs,
        verbose=0,
        callbacks=[
            Progress(settings.epochs, settings.max_minutes),
            keras.callbacks.ModelCheckpoint(
                best, monitor="val_loss", save_best_only=True, save_weights_only=True
            ),
            keras.callbacks.CSVLogger(os.path.join(fn_args.model_run_dir, HISTORY)),
            keras.callbacks.TensorBoard(os.path.join(fn_args.model_run_dir, "tensorboard")),
        ],
    )
    # No file means that no epoch had a validation loss: the weights are not finite, which the gate
    # will see.
    if os.path.exists(best):
        model.load_weights(best)
    export.save(
        model,
        tft.TFTransformOutput(fn_args.transform_graph_path),
        size,
        fn_args.serving_model_dir,
    )


def dataset(
    files: list[str], size: int, batch_size: int, shuffle_seed: int | None = None
) -> tf.data.Dataset:
    """Reads transformed examples.

    Args:
      files: patterns of gzipped TFRecord files.
      size: side of the packed pixels.
      batch_size: photos a batch.
      shuffle_seed: shuffles anew each epoch, reproducibly; None keeps the order of the files.

    Returns:
      Batches of (image float32 [batch, size, size, 3] in [0, 1], class ids uint8 [batch, size,
      size]).
    """
    spec = {
        features.IMAGE_PIXELS: tf.io.FixedLenFeature([], tf.string),
        features.MASK_PIXELS: tf.io.FixedLenFeature([], tf.string),
    }

    def unpack(serialized: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        example = tf.io.parse_single_example(serialized, spec)
        return (
            preprocessing.rescale(preprocessing.unpack_image(example[features.IMAGE_PIXELS], size)),
            preprocessing.unpack_mask(example[features.MASK_PIXELS], size),
        )

    names = sorted(name for pattern in files for name in tf.io.gfile.glob(pattern))
    data = tf.data.TFRecordDataset(names, compression_type="GZIP")
    if shuffle_seed is not None:
        bytes_an_example = size * size * 4
        data = data.shuffle(max(1, _SHUFFLE_BYTES // bytes_an_example), seed=shuffle_seed)
    return (
        data.map(unpack, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(batch_size)
        .prefetch(tf.data.AUTOTUNE)
    )


class Progress(keras.callbacks.Callback):
    """Logs one line an epoch with the time left, and ends training within the time budget."""

    def __init__(self, epochs: int, max_minutes: float | None):
        super().__init__()
        self._epochs = epochs
        self._budget = float("inf") if max_minutes is None else max_minutes * 60

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._begin = self._epoch_begin = time.monotonic()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._epoch_begin = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = logs if logs is not None else {}
        now = time.monotonic()
        logs["seconds"] = now - self._epoch_begin
        done, spent = epoch + 1, now - self._begin
        left = min((self._epochs - done) * spent / done, self._budget - spent)
        log.info(
            "epoch %d/%d  loss %.3f  val_loss %.3f  val_accuracy %.3f  %.0f s  %s left",
            done,
            self._epochs,
            logs["loss"],
            logs["val_loss"],
            logs["val_accuracy"],
            logs["seconds"],
            _clock(left),
        )
        if done < self._epochs and spent + logs["seconds"] > self._budget:
            log.info("train.max_minutes is used up after epoch %d", done)
            self.model.stop_training = True


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(max(0, round(seconds)), 60)
    return f"{minutes}:{seconds:02d}"


def _grow_gpu_memory() -> None:
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)


def auto_batch_size() -> int:
    """64 where every GPU has 16 GB or more, else 16."""
    if not tf.config.list_physical_devices("GPU"):
        return 16
    try:
        query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
        output = subprocess.run(query, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return 16
    return 64 if min(map(int, output.split())) >= _LARGE_GPU_MB else 16
