"""Fixtures of several files. TensorFlow is loaded once, and one small run serves many tests."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.support.releases import accept_any_model
from tests.support.runs import (
    SECOND,
    Run,
    refuse_training,
    run_locally,
    skip_pictures,
    skip_training,
    smoke_test_here,
)

pytest_plugins = ["tests.support.durations", "tests.support.selection"]

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
warnings.filterwarnings("ignore", category=FutureWarning)
# On a machine that others use too, the time of one example says nothing.
hypothesis.settings.register_profile("shared", deadline=None)
hypothesis.settings.load_profile("shared")


@pytest.fixture(scope="session", autouse=True)
def _temporary_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps what killed processes leave (TensorFlow's generated code) out of the machine's /tmp."""
    folder = str(tmp_path_factory.mktemp("temporary"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", folder)
        patch.setattr(tempfile, "tempdir", None)
        yield


@pytest.fixture
def smoke_test_in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spares each release of a test a process of its own, and all but one photo.

    tests/test_smoke_test.py has the whole smoke test.
    """
    smoke_test_here(monkeypatch)


@pytest.fixture
def any_model_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a test release mere files, which neither check of a model looks at."""
    accept_any_model(monkeypatch)


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spares a test the training, and the pictures of what came out of it."""
    skip_training(monkeypatch)
    skip_pictures(monkeypatch)


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ends the runs of a test in their Trainer, which fails."""
    refuse_training(monkeypatch)


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
    """A run that released a model; a test that changes it takes `fresh_run`."""
    from pipeline.core import progress

    handler = logging.Handler()
    handler.emit = lambda record: small_run_progress.append(record.getMessage())  # type: ignore[method-assign]
    progress.log.addHandler(handler)
    with pytest.MonkeyPatch.context() as patch:
        smoke_test_here(patch)
        patch.setattr(progress, "SILENCE_S", 0.02)
        run = run_locally(small_data, tmp_path_factory.mktemp("run") / "output")
    progress.log.removeHandler(handler)
    return run


@pytest.fixture(scope="session")
def small_run_progress() -> list[str]:
    """The messages of progress of `small_run`, as if each moment had been half a minute."""
    return []


@pytest.fixture(scope="session")
def _small_run_copy(small_run: Run) -> Path:
    return _copy(small_run)


@pytest.fixture
def fresh_run(
    small_run: Run,
    _small_run_copy: Path,
    smoke_test_in_process: None,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Run]:
    """The small run, for a test that changes its folder or runs there again (without pictures).

    It has to stay at its path, under which the metadata store knows its artifacts; so the folder is
    put back as it was after the test.
    """
    skip_pictures(monkeypatch)
    yield small_run
    _restore(small_run, _small_run_copy)


@pytest.fixture(scope="session")
def _two_releases(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path]:
    with pytest.MonkeyPatch.context() as patch:
        skip_training(patch)
        skip_pictures(patch)
        smoke_test_here(patch)
        run = run_locally(small_data, tmp_path_factory.mktemp("two") / "output").again(SECOND)
    return run, _copy(run)


@pytest.fixture
def two_releases(
    _two_releases: tuple[Run, Path],
    smoke_test_in_process: None,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Run]:
    """An output folder that a test may damage, with two releases of untrained models."""
    skip_pictures(monkeypatch)
    run, copy = _two_releases
    yield run
    _restore(run, copy)


def _copy(run: Run) -> Path:
    return Path(shutil.copytree(run.output_root, run.output_root.with_name("copy"), symlinks=True))


def _restore(run: Run, copy: Path) -> None:
    shutil.rmtree(run.output_root)
    shutil.copytree(copy, run.output_root, symlinks=True)
