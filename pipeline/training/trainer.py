"""The Trainer's user code: train on transformed examples, and export the best epoch."""

from __future__ import annotations

import csv
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf
import tensorflow_transform as tft
from tfx.components.trainer.fn_args_utils import FnArgs
from tfx.dsl.io import fileio

from pipeline import models
from pipeline.release import model_store
from pipeline.saved_model import contract, export
from pipeline.settings.training import Model, Train
from pipeline.training import devices, loop, optimization
from pipeline.training.input_pipeline import Photos
from pipeline.training.streaming_metrics import LiveMetrics

HISTORY, FACTS = "history.csv", "training.json"

log = logging.getLogger(__name__)


def run_fn(fn_args: FnArgs) -> None:
    """Trains the model and exports the best epoch.

    Args:
      fn_args: ``custom_config`` has ``model`` and ``train`` (the settings of these sections),
        ``image_size`` (pixels), ``exif`` (the setting), ``working_dir`` (see
        `components.working_dir`) and, to start from the champion, ``serving_dir``. The Tuner's
        ``hyperparameters``, if any, override these settings. ``model_run_dir`` gets history.csv,
        training.json and TensorBoard logs; ``serving_model_dir`` gets the SavedModel.

    Raises:
      loop.TrainingError: if training gave no usable model.
    """
    config = fn_args.custom_config
    best_values = (fn_args.hyperparameters or {}).get("values", {})
    model_settings, settings = tuned(config, best_values)
    trained, history, facts = train_on(fn_args, model_settings, settings, config["working_dir"])
    _write_history(history, fn_args.model_run_dir)
    with fileio.open(os.path.join(fn_args.model_run_dir, FACTS), "w") as file:
        json.dump(facts, file)
    size: int = config["image_size"]
    exif: str = config.get("exif", contract.AS_STORED)
    # A new model: in float32 and for one device, whatever the training used.
    model = models.build(model_settings.name, size, width=model_settings.width)
    model.set_weights(trained.get_weights())
    transform_output = tft.TFTransformOutput(fn_args.transform_graph_path)
    export.save(model, transform_output, size, fn_args.serving_model_dir, exif)


def tuned(config: Mapping[str, Any], values: Mapping[str, Any]) -> tuple[Model, Train]:
    """The settings of a training, with some values replaced.

    Args:
      config: has the settings of the sections ``model`` and ``train``.
      values: values to replace, by dotted setting key.
    """
    sections = {name: dict(config[name]) for name in ("model", "train")}
    for key, value in values.items():
        section, _, name = key.partition(".")
        sections[section][name] = value
    return Model.model_validate(sections["model"]), Train.model_validate(sections["train"])


def train_on(
    fn_args: FnArgs, model: Model, settings: Train, working_dir: str
) -> tuple[keras.Model, list[dict[str, float]], dict[str, Any]]:
    """Trains on the examples of a Trainer or a Tuner.

    Args:
      fn_args: arguments of the component, see `run_fn`.
      model: settings of the model.
      settings: settings of the training.
      working_dir: an existing folder for the state, see `loop.Training`.

    Returns:
      See `fit`.
    """
    config = fn_args.custom_config
    return fit(
        lambda: models.build(model.name, config["image_size"], model.encoder_weights, model.width),
        settings,
        fn_args.train_files,
        fn_args.eval_files,
        working_dir,
        config.get("serving_dir"),
    )


def fit(
    build: Callable[[], keras.Model],
    settings: Train,
    train_files: Sequence[str],
    eval_files: Sequence[str],
    working_dir: str,
    serving_dir: str | None = None,
) -> tuple[keras.Model, list[dict[str, float]], dict[str, Any]]:
    """Trains a model on all GPUs of the machine; resumes an earlier attempt if there is one.

    Args:
      build: builds the model, whose input size is the side of the packed pixels.
      settings: settings of the training.
      train_files: glob patterns of the transformed examples of the training split.
      eval_files: glob patterns of the transformed examples that pick the best epoch.
      working_dir: folder for the state, see `loop.Training`.
      serving_dir: the serving folder whose newest version training starts from; None to start from
        scratch.

    Returns:
      The model with the weights of the best epoch; the history (see `loop.Training.run`); and
      other facts about the training, as JSON values.
    """
    keras.utils.set_random_seed(settings.seed)
    strategy = devices.strategy()
    replicas = strategy.num_replicas_in_sync
    batch_size = devices.batch_size(settings.batch_size, replicas)
    with strategy.scope(), devices.precision(settings.precision) as precision:
        model = build()
        size = model.input_shape[1]
        train = Photos(train_files, size, batch_size, replicas)
        training = loop.Training(
            model,
            settings,
            working_dir,
            lambda model: compile_model(model, settings, train.class_pixels),
        )
        if serving_dir and training.state.epochs == 0:
            training.state.started_from = _start_from_champion(model, serving_dir)
        callbacks = []
        if settings.schedule == "cosine":
            callbacks.append(
                optimization.WarmupCosine(
                    settings.learning_rate, train.steps, settings.warmup, training.progress
                )
            )
        evaluation = Photos(eval_files, size, batch_size, replicas)
        history = training.run(train, evaluation, callbacks)
    facts = {
        "batch_size": batch_size,
        "devices": replicas,
        "precision": precision,
        "started_from": training.state.started_from,
        "best_epoch": training.state.best_epoch,
        "seconds": training.state.seconds,
    }
    return model, history, facts


def _start_from_champion(model: keras.Model, serving_dir: str) -> int | None:
    """Loads the weights of the newest version; returns its number, None if that is impossible."""
    versions = model_store.versions(serving_dir)
    if not versions:
        log.info("No version is released yet; training starts from scratch.")
        return None
    initial_weights = model.get_weights()
    version = versions[-1]
    try:
        export.load_weights(model, model_store.path(serving_dir, version))
    except (OSError, ValueError, fileio.NotFoundError):
        model.set_weights(initial_weights)  # some may be overwritten already
        log.warning(
            "The weights of version %d do not fit this model; training starts from scratch.",
            version,
        )
        return None
    log.info("Training starts from the weights of version %d.", version)
    return version


def compile_model(
    model: keras.Model, settings: Train, class_pixels: Callable[[], Sequence[int]]
) -> None:
    """Compiles a model with its optimiser, its loss and `LiveMetrics`.

    Args:
      model: the model.
      settings: settings of the training.
      class_pixels: counts the training pixels of each class; called only for a class balance.
    """
    weights = None
    if settings.class_balance:
        weights = optimization.class_weights(class_pixels(), settings.class_balance)
    model.compile(
        optimizer=optimization.optimizer(
            settings.optimizer,
            settings.learning_rate,
            settings.weight_decay,
            settings.clip_norm,
            settings.ema,
        ),
        loss=optimization.loss(settings.loss, weights, settings.label_smoothing),
        metrics=[LiveMetrics()],
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
