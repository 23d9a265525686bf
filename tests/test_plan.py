"""What a run would do: said before it does it, and kept."""

from __future__ import annotations

import sqlite3
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

import local_runner
from pipeline.cli.local_run import LocalRun
from pipeline.core import run_folder
from pipeline.data import synthetic
from tests.support.runs import SMALL, Run

pytestmark = pytest.mark.usefixtures("smoke_test_in_process")


def plan(run: Run, capfd: pytest.CaptureFixture[str], *overrides: str) -> dict[str, str]:
    """What would become of each component."""
    arguments = ["--data-root", str(run.data_root), "--output-root", str(run.output_root)]
    for override in (*SMALL, *overrides):
        arguments += ["--set", override]
    capfd.readouterr()
    assert local_runner.main([*arguments, "--plan"]) == 0
    lines = [line.split(maxsplit=1) for line in capfd.readouterr().out.splitlines()]
    return {name: what for name, what in lines if name != "Nothing"}


def everything(folder: Path) -> dict[Path, bytes | None]:
    """All files with their content, and all folders."""
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def test_a_plan_says_what_runs_and_why_and_changes_nothing(
    small_run: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    before = everything(small_run.output_root)
    assert set(plan(small_run, capfd).values()) == {"cached"}
    trained = plan(small_run, capfd, "train.epochs=9", "train.seed=3")
    assert trained["Transform"] == "cached"
    assert trained["Trainer"] == "runs     changed: train.epochs (4 to 9), train.seed (1 to 3)"
    assert trained["Evaluator"] == "runs     depends on Champion and Trainer"
    assert trained["Pusher"].startswith("runs     depends on ")
    gate = plan(small_run, capfd, "gate.mean_iou=0.02")
    assert gate["Trainer"] == "cached"
    assert gate["Evaluator"] == "runs     changed: gate settings"
    assert everything(small_run.output_root) == before


def test_a_plan_removes_what_it_made_even_if_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """And nothing else: not what a run made that ended while the plan waited for the lock."""
    data, output = tmp_path / "data", tmp_path / "output"
    synthetic.generate(data, count=16, seed=3)
    system = output / run_folder.ARTIFACTS / "Trainer" / ".system"
    system.mkdir(parents=True)
    sqlite3.connect(output / run_folder.METADATA).close()
    lock = run_folder.lock

    def locked(folder: Path) -> AbstractContextManager[object]:
        (system / "executor_execution" / "1").mkdir(parents=True)
        return lock(folder)

    def fails(self: LocalRun) -> None:
        (system / "executor_execution" / "2").mkdir()
        (system / "locks").mkdir()
        (system / "locks" / "key").touch()
        raise OSError("no more files")

    monkeypatch.setattr(run_folder, "lock", locked)
    monkeypatch.setattr(LocalRun, "plan", fails)
    arguments = ["--plan", "--data-root", str(data), "--output-root", str(output)]
    assert local_runner.main(arguments) == 1
    assert capfd.readouterr().err == "Error: The run failed: OSError: no more files.\n"
    left = sorted(str(path.relative_to(system)) for path in system.glob("*/*"))
    assert left == ["executor_execution/1", "locks/key"]


@pytest.mark.slow
@pytest.mark.usefixtures("untrained")
def test_new_photos_are_counted(
    small_run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from tests.support.runs import run_locally

    synthetic.generate(tmp_path / "data", count=40, seed=3)
    run = run_locally(tmp_path / "data", tmp_path / "output")
    synthetic.generate(tmp_path / "data", count=44, seed=3)
    assert plan(run, capfd)["ExampleGen"] == "runs     44 photos, previously 40"
    # The run does what the plan said, and then there is nothing to do.
    assert run.again().states()["ExampleGen"] == "executed"
    assert set(plan(run, capfd).values()) == {"cached"}


def test_without_a_run_everything_runs(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert local_runner.main(["--plan", "--output-root", str(tmp_path)]) == 0
    assert "has no runs yet" in capfd.readouterr().out
    assert list(tmp_path.iterdir()) == []
