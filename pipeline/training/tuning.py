"""The Tuner's user code: search for the best settings with short trainings.

The search draws settings at random, seeded by the seed of the training, from the ranges in section
`tune`. The first trial uses the settings of the run, so the result is never worse than these. Each
trial is a training of `training.trainer` from scratch. Its score is the best mean IoU on the split
eval.

A search that was interrupted starts again with the same trials. Completed trials take their score
from their folder, and the interrupted one resumes.
"""

from __future__ import annotations

import logging
import os
from typing import Any

import keras
import keras_tuner
from keras_tuner.engine import base_tuner
from keras_tuner.engine.trial import Trial, TrialStatus
from tfx.components.trainer.fn_args_utils import FnArgs
from tfx.components.tuner.component import TunerFnResult
from tfx.dsl.io import fileio

from pipeline import models
from pipeline.settings.training import Model, Train, Tune
from pipeline.training import loop, trainer

SCORE = "val_mean_iou"
RATE, STRENGTH, WIDTH = "train.learning_rate", "train.augmentation", "model.width"

log = logging.getLogger(__name__)


def tuner_fn(fn_args: FnArgs) -> TunerFnResult:
    """Builds the search that TFX's Tuner runs.

    Args:
      fn_args: ``custom_config`` has ``model``, ``train`` and ``tune`` (the settings of these
        sections), ``image_size`` (pixels) and ``working_dir`` (see `components.working_dir`). Its
        own ``working_dir`` is for keras-tuner's files.
    """
    return TunerFnResult(tuner=Search(fn_args), fit_kwargs={})


class Search(base_tuner.BaseTuner):
    """Runs the trials one by one."""

    def __init__(self, fn_args: FnArgs):
        """Sets up the search; ``fn_args`` as in `tuner_fn`."""
        config = fn_args.custom_config
        self._fn_args = fn_args
        super().__init__(
            _Oracle(
                Model.model_validate(config["model"]),
                Train.model_validate(config["train"]),
                Tune.model_validate(config["tune"]),
            ),
            directory=fn_args.working_dir,
            overwrite=True,
        )

    def search(self) -> None:
        """Runs the trials; unlike keras-tuner's method, it lets errors stop the search."""
        while (trial := self.oracle.create_trial(self.tuner_id)).status != TrialStatus.STOPPED:
            self.oracle.update_trial(trial.trial_id, {SCORE: self._score(trial)})
            trial.status = TrialStatus.COMPLETED
            self.oracle.end_trial(trial)

    def _score(self, trial: Trial) -> float:
        config, values = self._fn_args.custom_config, trial.hyperparameters.values
        folder = os.path.join(config["working_dir"], f"trial-{trial.trial_id}")
        fileio.makedirs(folder)
        keras.backend.clear_session()  # free the previous trial's model
        try:
            _, history, _ = trainer.train_on(self._fn_args, *trainer.tuned(config, values), folder)
            score = max(row[SCORE] for row in history)
        except loop.TrainingError:
            score = 0.0  # the trial gave no model
        log.info(
            "trial %d/%d  %s  %s %.3f",
            int(trial.trial_id) + 1,
            self.oracle.max_trials,
            "  ".join(f"{name} {value:.3g}" for name, value in values.items()),
            SCORE,
            score,
        )
        return score


class _Oracle(keras_tuner.oracles.RandomSearchOracle):
    """Draws the settings of each trial."""

    def __init__(self, model: Model, train: Train, tune: Tune):
        self._initial: dict[str, Any] = {RATE: train.learning_rate, STRENGTH: train.augmentation}
        space = keras_tuner.HyperParameters()
        space.Float(RATE, *tune.learning_rates, sampling="log")
        space.Float(STRENGTH, *tune.augmentations)
        if models.scalable(model.name):
            self._initial[WIDTH] = model.width
            space.Choice(WIDTH, list(tune.widths))
        super().__init__(
            keras_tuner.Objective(SCORE, "max"),
            max_trials=tune.trials,
            seed=train.seed + 1,  # keras-tuner takes 0 for no seed
            hyperparameters=space,
        )

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """The settings of the next trial, in keras-tuner's format."""
        if not self.trials:
            return {"status": TrialStatus.RUNNING, "values": dict(self._initial)}
        trial: dict[str, Any] = super().populate_space(trial_id)
        return trial
