"""Trainer's user code: from transformed examples to an exported model."""

from __future__ import annotations

import csv
import os
import subprocess
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf
import tensorflow_transform as tft
from tfx.components.trainer.fn_args_utils import FnArgs
from tfx.dsl.io import fileio

from pipeline import engine, export, models, optimisation
from pipeline.features import NUM_CLASSES
from pipeline.inputs import Photos
from pipeline.settings import Train

HISTORY = "history.csv"
_LARGE_GPU_MB = 15_000  # what a "16 GB" card really offers


def run_fn(fn_args: FnArgs) -> None:
    """Trains the model and exports the best epoch.

    Args:
      fn_args: ``custom_config`` holds ``model`` (name), ``image_size`` (pixels), ``train`` (the
        settings of that section) and ``working_dir`` (see `components.trainer`).
        ``model_run_dir`` receives history.csv and TensorBoard logs, ``serving_model_dir`` the
        SavedModel.

    Raises:
      engine.TrainingError: training gave no usable model.
    """
    config = fn_args.custom_config
    settings = Train.model_validate(config["train"])
    size: int = config["image_size"]
    _grow_gpu_memory()
    keras.utils.set_random_seed(settings.seed)
    batch_size = settings.batch_size if settings.batch_size != "auto" else auto_batch_size()
    train = Photos(fn_args.train_files, size, batch_size)
    evaluation = Photos(fn_args.eval_files, size, batch_size)
    model = models.build(config["model"], size)
    compile_model(model, settings, train.class_pixels)
    training = engine.Training(model, settings, config["working_dir"])
    callbacks = []
    if settings.schedule == "cosine":
        callbacks.append(
            optimisation.WarmupCosine(
                settings.learning_rate,
                settings.epochs,
                train.steps,
                settings.warmup,
                settings.max_minutes,
                lambda: training.seconds,
            )
        )
    history = training.run(train, evaluation, callbacks)
    _write_history(history, fn_args.model_run_dir)
    export.save(
        model,
        tft.TFTransformOutput(fn_args.transform_graph_path),
        size,
        fn_args.serving_model_dir,
    )


def compile_model(
    model: keras.Model, settings: Train, class_pixels: Callable[[], Sequence[int]]
) -> None:
    """Gives a model its optimiser, loss and metrics (`accuracy` and `mean_iou`, both streaming).

    Args:
      class_pixels: counts the training pixels of each class; called where the loss weighs classes.
    """
    weights = None
    if settings.class_balance:
        weights = optimisation.class_weights(class_pixels(), settings.class_balance)
    model.compile(
        optimizer=optimisation.optimizer(
            settings.optimizer,
            settings.learning_rate,
            settings.weight_decay,
            settings.clip_norm,
            settings.ema,
        ),
        loss=optimisation.loss(settings.loss, weights, settings.label_smoothing),
        metrics=[
            keras.metrics.SparseCategoricalAccuracy(name="accuracy"),
            keras.metrics.MeanIoU(NUM_CLASSES, sparse_y_pred=False, name="mean_iou"),
        ],
    )


def _write_history(history: list[dict[str, float]], folder: str) -> None:
    fileio.makedirs(folder)
    with fileio.open(os.path.join(folder, HISTORY), "w") as file:
        writer = csv.DictWriter(file, list(history[0]))
        writer.writeheader()
        writer.writerows(history)
    for part, prefix in (("train", ""), ("validation", "val_")):
        with tf.summary.create_file_writer(os.path.join(folder, "tensorboard", part)).as_default():
            for row in history:
                for name in ("loss", "accuracy", "mean_iou"):
                    tf.summary.scalar(f"epoch_{name}", row[prefix + name], step=int(row["epoch"]))


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
        smallest = min(map(int, output.split()))
    except (OSError, subprocess.CalledProcessError, ValueError):  # "[N/A]": memory is shared
        return 16
    return 64 if smallest >= _LARGE_GPU_MB else 16
