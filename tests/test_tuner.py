"""The Tuner: trials of other settings, of which the best go to the Trainer."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from tfx.components.trainer.fn_args_utils import FnArgs

from pipeline import models, settings
from pipeline.release import model_store
from pipeline.training import loop, tuning
from tests.support.models import tiny_training
from tests.support.runs import Run


class Cut(Exception):
    """In place of what ends a process."""


class Builds:
    """Stands for `models.build`: a convolution; notes widths and epochs, and may cut one off."""

    def __init__(self) -> None:
        self.widths: list[float] = []
        self.epochs = 0
        self.cut_at: int | None = None

    def __call__(
        self, name: str, size: int, encoder_weights: str | None = None, width: float = 1
    ) -> keras.Model:
        self.widths.append(width)
        photo = keras.Input([size, size, 3])
        x = keras.layers.Conv2D(round(8 * width), 3, padding="same", activation="relu")(photo)
        x = keras.layers.Conv2D(3, 3, padding="same", activation="softmax")(x)
        model = keras.Model(photo, x)
        fit = model.fit

        def watch(*args: Any, **options: Any) -> Any:
            if self.epochs == self.cut_at:
                raise Cut
            self.epochs += 1
            return fit(*args, **options)

        model.fit = watch
        return model


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> Builds:
    builds = Builds()
    monkeypatch.setattr(models, "build", builds)
    return builds


TRIALS = ("tune.trials=2", "tune.learning_rates=[0.001, 0.1]", "tune.widths=[0.5, 2]")


def search(folder: Path, *overrides: str) -> list[dict[str, Any]]:
    """Searches in a folder, or goes on there; the trials with their scores."""
    folder.mkdir(exist_ok=True)
    chosen = settings.load(overrides=[*tiny_training.SETTINGS, *TRIALS, *overrides])
    for name, count, seed in (("train", 18, 1), ("eval", 6, 2)):
        if not (folder / name).exists():
            tiny_training.write_examples(folder / name, count, seed)
    config = {name: getattr(chosen, name).model_dump() for name in ("model", "train", "tune")}
    found = tuning.tuner_fn(
        FnArgs(
            working_dir=str(folder / "tuner"),
            train_files=[str(folder / "train")],
            eval_files=[str(folder / "eval")],
            custom_config={**config, "image_size": 16, "working_dir": str(folder / "state")},
        )
    ).tuner
    found.search()
    trials = found.oracle.get_best_trials(2)
    assert found.get_best_hyperparameters()[0].values == trials[0].hyperparameters.values
    ordered = sorted(trials, key=lambda trial: trial.trial_id)
    return [{"score": trial.score, **trial.hyperparameters.values} for trial in ordered]


def test_a_search_that_was_cut_off_ends_as_one_that_was_not(builds: Builds, tmp_path: Path) -> None:
    whole = search(tmp_path / "whole", "train.epochs=2")
    assert builds.epochs == 4
    first, other = whole
    own = {"train.learning_rate": 0.01, "train.augmentation": 0.5, "model.width": 1}
    assert {key: first[key] for key in own} == own
    assert 0.001 <= other["train.learning_rate"] <= 0.1
    assert 0 <= other["train.augmentation"] <= 1
    assert other["model.width"] in (0.5, 2)
    assert builds.widths == [trial["model.width"] for trial in whole]
    assert first["score"] != other["score"]

    builds.epochs, builds.cut_at = 0, 3  # in the second epoch of the second trial
    with pytest.raises(Cut):
        search(tmp_path / "cut", "train.epochs=2")
    builds.cut_at = None
    assert search(tmp_path / "cut", "train.epochs=2") == whole
    assert builds.epochs == 4  # none was trained again


def test_a_trial_without_a_model_has_the_score_0(
    builds: Builds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(model: keras.Model, seed: int, epoch: int) -> None:
        if builds.widths[-1] == 1:
            model.set_weights([np.full_like(w, np.nan) for w in model.get_weights()])

    monkeypatch.setattr(loop, "_seed_layers", spoil)
    first, other = search(tmp_path, "train.epochs=1")
    assert first["score"] == 0 < other["score"]


def test_the_best_settings_go_to_trainer_release_and_report(builds: Builds, fresh_run: Run) -> None:
    run = fresh_run.again(
        *(
            "tune.trials=2",
            "tune.trial_epochs=1",
            "tune.widths=[0.5]",
            "tune.learning_rates=[0.03, 0.03]",
        ),
        *("train.epochs=1", "train.seed=21", "train.schedule=constant", "train.learning_rate=1e-6"),
    )
    assert run.outcome["status"] == "pushed"
    assert run.states()["Tuner"] == run.states()["Trainer"] == "executed"
    tuned = run.outcome["tuning"]
    worst, best = tuned["trials"]
    assert (worst["trial"], best["trial"]) == (1, 2)
    assert worst["score"] < best["score"]
    assert tuned["best"] == {k: best[k] for k in best if k not in ("trial", "score")}
    assert builds.widths == [1, 0.5, 0.5, 0.5]
    (row,) = csv.DictReader(newest(run.output_root, "history.csv").open())
    assert float(row["learning_rate"]) == pytest.approx(tuned["best"]["train.learning_rate"])
    released = model_store.record(str(run.serving_dir), run.outcome["pushed_version"])
    assert tuned["best"].items() <= released["settings"].items()
    assert "Mean IoU on eval" in (run.output_root / "report.html").read_text()

    assert "Tuner" not in fresh_run.states()
    assert fresh_run.outcome["tuning"] == {}


def newest(folder: Path, name: str) -> Path:
    return max(folder.rglob(name), key=lambda path: path.stat().st_mtime)
