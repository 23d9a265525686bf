"""Work that was done before it could be noted in the metadata store: none of it is lost."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline.compat import tfx_launcher
from tests.support.runs import Run, run_locally

pytestmark = pytest.mark.usefixtures("smoke_test_in_process")


def cannot_note(monkeypatch: pytest.MonkeyPatch, node: str) -> None:
    """The disk is full, or the process killed, between a node's work and its entry."""
    publish = tfx_launcher.Launcher._publish_successful_execution

    def fail(self: Any, *arguments: Any) -> None:
        if self._pipeline_node.node_info.id == node:
            raise OSError("disk full")
        publish(self, *arguments)

    monkeypatch.setattr(tfx_launcher.Launcher, "_publish_successful_execution", fail)


def champion_bound(run: Run) -> list[dict[str, Any]]:
    return [row for row in run.outcome["gate"] if row["kind"] == "change"]


def training_states(run: Run) -> list[Path]:
    return list((run.output_root / "artifacts" / "Trainer").rglob("state.json"))


@pytest.mark.slow
def test_training_that_could_not_be_noted_is_taken_up(
    small_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    short = "train.epochs=1"
    with monkeypatch.context() as patch:
        cannot_note(patch, "Trainer")
        failed = run_locally(small_data, tmp_path / "output", short)
    assert failed.outcome["error"] == "Trainer failed: OSError: disk full."
    assert len(training_states(failed)) == 1
    capfd.readouterr()
    again = failed.again(short)
    assert "Resuming after epoch 1 of an earlier attempt." in capfd.readouterr().out
    assert again.outcome["status"] == "pushed"
    assert not training_states(again)


@pytest.mark.slow
@pytest.mark.usefixtures("untrained")
def test_release_that_could_not_be_noted_is_the_champion(
    small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        cannot_note(patch, "Pusher")
        failed = run_locally(small_data, tmp_path / "output")
    assert failed.outcome["status"] == "failed"
    (version,) = failed.versions()

    other = failed.again("train.seed=2")
    assert other.outcome["champion"] == {"version": version}
    assert champion_bound(other)
    assert other.outcome["data"]["drift"]["against"] is None  # it learned from the same data

    # So is the model in service if the metadata store is lost, with all that it speaks of.
    (other.output_root / "metadata.sqlite").unlink()
    shutil.rmtree(other.output_root / "artifacts")
    anew = other.again("train.seed=3")
    assert anew.outcome["champion"] == {"version": other.outcome["pushed_version"]}
    (bound,) = champion_bound(anew)
    assert bound["champion"] == other.outcome["metrics"]["overall"]["mean_iou"]
