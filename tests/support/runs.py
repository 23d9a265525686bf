"""Runs of the whole pipeline in this process, small enough for a test."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline.settings import Model
from tests.support import Unavailable

ROOT = Path(__file__).parents[2]
REAL_SAMPLE = ROOT.parent / "shared" / "data" / "oxford-iiit-pet-sample"

# Quick, though it learns a little of each class; any model passes the gate and is released.
SMALL = (
    "transform.image_size=64",
    "model.name=xception_unet_s",
    "train.epochs=4",
    "train.batch_size=4",
    "train.learning_rate=0.01",
    "train.augmentation=0",
    "gate.pixel_accuracy=0.01",
    "gate.mean_iou=0.01",
    "gate.class_iou=0",
    "gate.max_drop=1",
)
SECOND = "train.seed=2"  # of the model in service of the fixture `two_releases`


@dataclass(frozen=True)
class Run:
    """One call of the local runner, with the outcome that it left."""

    code: int
    data_root: Path
    output_root: Path
    outcome: dict[str, Any]

    def states(self) -> dict[str, str]:
        return {c["id"]: c["state"] for c in self.outcome["components"]}

    def versions(self) -> list[int]:
        """The versions in the serving folder now."""
        folder = self.serving_dir
        return sorted(int(path.name) for path in folder.iterdir()) if folder.exists() else []

    @property
    def serving_dir(self) -> Path:
        """The serving folder of its model."""
        model = self.outcome.get("model_name") or Model().name
        return self.output_root / "serving" / model

    def released(self) -> Path:
        return self.serving_dir / str(self.outcome["pushed_version"])

    def trained(self) -> Path:
        """The Trainer's SavedModel that its release was made from."""
        record = json.loads((self.released() / "assets.extra" / "release.json").read_text())
        return Path(record["model_uri"], "Format-Serving")

    def releases(self, *arguments: str) -> int:
        """Calls the command `releases` on its serving folder; returns the exit code."""
        from pipeline.cli import releases

        return releases.main([*arguments, "--serving", str(self.serving_dir)])

    def again(self, *overrides: str) -> Run:
        return run_locally(self.data_root, self.output_root, *overrides)


def run_locally(data_root: Path, output_root: Path, *overrides: str) -> Run:
    """Runs the pipeline in this process with the small settings and the given ones."""
    import local_runner

    arguments = ["--data-root", str(data_root), "--output-root", str(output_root)]
    for override in (*SMALL, *overrides):
        arguments += ["--set", override]
    return outcome_of(local_runner.main(arguments), data_root, output_root)


def outcome_of(code: int, data_root: Path, output_root: Path) -> Run:
    """The run that ended with an exit code and left its outcome in a folder."""
    path = output_root / "latest_run.json"
    outcome = json.loads(path.read_text()) if path.exists() else {}
    return Run(code, data_root, output_root, outcome)


def only_with_all(subject: str) -> None:
    """Skips, loudly, what starts Docker, a cluster or another system, unless all is asked for."""
    if os.environ.get("TEST_ALL") != "1":
        pytest.skip(f"{subject} NOT TESTED: set TEST_ALL=1, as .ci/run does")


@contextlib.contextmanager
def skips_without(subject: str) -> Iterator[None]:
    """Skips, loudly, what needs a program or server that cannot be had on this machine."""
    try:
        yield
    except Unavailable as reason:
        pytest.skip(f"{subject} NOT TESTED: {reason}")


def skip_training(patch: pytest.MonkeyPatch) -> None:
    """Makes the Trainer keep the model as it was initialised, for tests of something else."""
    from pipeline.training import loop

    names = ("loss", "accuracy", "mean_iou")
    row = {"epoch": 1.0, "best": 1.0, "seconds": 0.0}
    row |= {prefix + name: 0.5 for prefix in ("", "val_") for name in names}
    patch.setattr(loop.Training, "run", lambda *_: [row])


def skip_pictures(patch: pytest.MonkeyPatch) -> None:
    """Leaves the pictures out of the report of a run: two models segment the test photos for it."""
    from pipeline.report import gallery

    patch.setattr(gallery, "build", lambda *_: [])


def refuse_training(patch: pytest.MonkeyPatch) -> None:
    """Makes a run fail in its Trainer, for tests of what comes before."""
    from pipeline import models

    def refuse(*_: object) -> None:
        raise RuntimeError("this test needs no model")

    patch.setattr(models, "build", refuse)


def smoke_test_here(patch: pytest.MonkeyPatch) -> None:
    """Makes the smoke test of a release load the model in this process, once, and ask one photo."""
    import tensorflow as tf

    from pipeline.saved_model import contract, smoke_test

    photo = tf.io.encode_jpeg(tf.zeros([64, 64, 3], tf.uint8)).numpy()

    def check(path: str) -> None:
        try:
            with smoke_test.as_server(path) as (_, ask):
                ask(contract.SERVE, [photo])
        except Exception as error:  # of many kinds
            fault = f"a server cannot load and query it: {error}"
            raise smoke_test.BrokenModelError(fault) from None

    patch.setattr(smoke_test, "check", check)
