"""Shared runs: TensorFlow is loaded once, and one small run of the chain serves many tests."""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from pipeline import settings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
warnings.filterwarnings("ignore", category=FutureWarning)
# On a machine that others use too, the time of one example says nothing.
hypothesis.settings.register_profile("shared", deadline=None)
hypothesis.settings.load_profile("shared")


# The tests of a file run in one worker. First come the files that take longest, so that at the end
# no worker waits for the other.
LONGEST = (
    "test_current_stack.py",
    "test_kubeflow_image.py",
    "test_clients.py",
    "test_formats.py",
    "test_run.py",
    "test_gate.py",
    "test_bad_data.py",
    "test_kubeflow_entrypoint.py",
    "test_infra_docker.py",  # waits where test_kubeflow_image.py still has the Docker daemon
    "test_builtin_run.py",
    "test_unnoted.py",
    "test_bad_candidates.py",
    "test_tuner.py",
    "test_gallery.py",
    "test_orientation.py",
    "test_repair.py",
    "test_drift.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rank = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(rank)))


def only_with_all(what: str) -> None:
    """Skips, loudly, what starts Docker, a cluster or another system, unless all is asked for."""
    if os.environ.get("TEST_ALL") != "1":
        pytest.skip(f"{what} NOT TESTED: set TEST_ALL=1, as .ci/run does")


ROOT = Path(__file__).parent.parent
REAL_SAMPLE = ROOT.parent / "shared" / "data" / "oxford-iiit-pet-sample"

# Quick, though it learns a little of each class; any model holds the bounds and is released.
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
        """What the serving folder holds now."""
        folder = self.serving_dir
        return sorted(int(path.name) for path in folder.iterdir()) if folder.exists() else []

    @property
    def serving_dir(self) -> Path:
        """Where the releases of its model go."""
        model = self.outcome.get("model_name") or settings.Model().name
        return self.output_root / "serving" / model

    def released(self) -> Path:
        return self.serving_dir / str(self.outcome["pushed_version"])

    def trained(self) -> Path:
        """The Trainer's SavedModel that its release was made from."""
        record = json.loads((self.released() / "assets.extra" / "release.json").read_text())
        return Path(record["model_uri"], "Format-Serving")

    def again(self, *overrides: str) -> Run:
        return run_locally(self.data_root, self.output_root, *overrides)


def run_locally(data_root: Path, output_root: Path, *overrides: str) -> Run:
    """Runs the pipeline in this process with the small settings and the given ones."""
    import local_runner

    arguments = ["--data-root", str(data_root), "--output-root", str(output_root)]
    for override in (*SMALL, *overrides):
        arguments += ["--set", override]
    return run_main(local_runner.main(arguments), data_root, output_root)


@pytest.fixture(scope="session", autouse=True)
def _temporary_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps what killed processes leave (TensorFlow's generated code) out of the machine's /tmp."""
    folder = str(tmp_path_factory.mktemp("temporary"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", folder)
        patch.setattr(tempfile, "tempdir", None)
        yield


@pytest.fixture(scope="session", autouse=True)
def _canary_in_this_process() -> Iterator[None]:
    """Spares each release a process and twelve megapixels; tests/test_canary.py has both."""
    from pipeline.saved_model import smoke_test

    def check(path: str) -> None:
        fault = smoke_test.fault(path)
        if fault:
            raise smoke_test.BrokenModelError(fault)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(smoke_test, "check", check)
        patch.setattr(smoke_test, "LARGE", (150, 200))
        yield


def run_main(code: int, data_root: Path, output_root: Path) -> Run:
    path = output_root / "latest_run.json"
    outcome = json.loads(path.read_text()) if path.exists() else {}
    return Run(code, data_root, output_root, outcome)


@pytest.fixture(scope="session")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty built-in photos; not to be changed by a test."""
    from pipeline.data import synthetic

    root = tmp_path_factory.mktemp("small") / "data"
    synthetic.generate(root, count=40, seed=3)
    return root


@pytest.fixture(scope="session")
def small_run(
    small_data: Path, tmp_path_factory: pytest.TempPathFactory, small_run_progress: list[str]
) -> Run:
    """A run that released a model; no test runs again in its output folder."""
    from pipeline.core import progress

    ear = logging.Handler()
    ear.emit = lambda record: small_run_progress.append(record.getMessage())  # type: ignore[method-assign]
    progress.log.addHandler(ear)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress, "SILENCE_S", 0.02)
        run = run_locally(small_data, tmp_path_factory.mktemp("run") / "output")
    progress.log.removeHandler(ear)
    return run


@pytest.fixture(scope="session")
def small_run_progress() -> list[str]:
    """What `small_run` said of how far it was, as if each moment had been half a minute."""
    return []


@pytest.fixture(scope="session")
def _playground(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_locally(small_data, tmp_path_factory.mktemp("playground") / "output")


def leave_untrained(patch: pytest.MonkeyPatch) -> None:
    """Spares a test that is about something else the training: the model stays as it was made."""
    from pipeline.training import loop

    names = ("loss", "accuracy", "mean_iou")
    row = {"epoch": 1.0, "best": 1.0, "seconds": 0.0}
    row |= {prefix + name: 0.5 for prefix in ("", "val_") for name in names}
    patch.setattr(loop.Training, "run", lambda *_: [row])


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same, for one test."""
    leave_untrained(monkeypatch)


@pytest.fixture(scope="session")
def _playground_model(_playground: Run) -> str:
    """The identity of its model, read before a test can delete the release."""
    from pipeline.release import model_store

    return model_store.identify(str(_playground.trained()))


@pytest.fixture
def playground(_playground: Run, _playground_model: str) -> Run:
    """The same small run once more, for tests that run again there, each with its own seed.

    Whatever they left, this run has just been repeated: its model is the one in service.
    """
    run = _playground.again()
    if run.outcome["status"] != "pushed":  # no better than what they left, or taken back
        from pipeline.release import model_store, operations

        folder = str(run.serving_dir)
        versions = model_store.versions(folder)
        same = [v for v in versions if model_store.model_of(folder, v) == _playground_model]
        operations.rollback(folder, same[-1])
        run = _playground.again()
    return run


SECOND = "train.seed=2"  # of the model in service of `two_releases`


@pytest.fixture(scope="module")
def _two_releases(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        leave_untrained(patch)
        run = run_locally(small_data, tmp_path_factory.mktemp("two") / "output").again(SECOND)
    shutil.copytree(run.output_root, run.output_root.with_name("kept"))
    return run


@pytest.fixture
def two_releases(_two_releases: Run) -> Run:
    """An output folder that a test may damage, with two releases of untrained models."""
    shutil.rmtree(_two_releases.output_root)
    shutil.copytree(_two_releases.output_root.with_name("kept"), _two_releases.output_root)
    return _two_releases
