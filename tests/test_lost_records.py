"""Versions that lost their record, or more: said, mended as far as that goes, and released anew."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.core import errors
from pipeline.release import model_store, operations
from pipeline.report import history
from pipeline.saved_model import contract
from tests.support.releases import listed
from tests.support.runs import SECOND, Run

pytestmark = pytest.mark.usefixtures("untrained")

MISSING = f"its record, {model_store.RECORD}, is missing"


def record(run: Run, version: int) -> dict[str, Any]:
    return model_store.record(str(run.serving_dir), version)


def remove_variables(version: Path) -> None:
    shutil.rmtree(version / "variables")


def test_an_older_version_stands_in_for_a_champion_that_is_lost(
    two_releases: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    run = two_releases
    first, second = run.versions()
    shutil.rmtree(run.trained())
    remove_variables(run.released())
    again = run.again("train.seed=3")
    fault = "its folder variables/ is missing"
    assert again.outcome["status"] == "pushed"
    assert again.outcome["champion"]["version"] == second
    note = again.outcome["champion"]["note"]
    assert note == (
        f"Version {second} could not be used for the comparison, because {fault}. The candidate "
        f"was compared with version {first} instead, the newest intact version before it."
    )
    (bound,) = [row for row in again.outcome["gate"] if row["kind"] == "change"]
    assert bound["champion"] == record(run, first)["metrics"]["overall"]["mean_iou"]
    assert again.outcome["replaced"] == {"version": second, "fault": fault}
    replaces = f"It replaces version {second}, which was broken: {fault}."
    assert replaces in capfd.readouterr().out
    assert replaces in (run.output_root / "report.html").read_text()


def test_a_lost_record_is_reported_and_repaired(
    two_releases: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    run = two_releases
    first, second = run.versions()
    trained = run.trained()
    shutil.rmtree(run.released() / "assets.extra")
    found = {each["version"]: each for each in listed(run, capsys)}
    assert found[first]["fault"] is None
    assert found[second]["fault"] == f"{MISSING}, and so is {contract.FACTS}"
    assert found[second]["repairable"]
    assert run.releases("list") == 0
    assert f"{MISSING}, and so is" in capsys.readouterr().out
    assert run.releases("show", str(second)) == 0
    assert "in service, broken" in capsys.readouterr().out
    assert run.releases("rollback", str(second)) == 2
    said = capsys.readouterr().err
    assert "is in service, but its record" in said
    assert f"repair {second}" in said

    assert run.releases("repair", str(second)) == 0
    assert "run the pipeline again with the same data" in capsys.readouterr().out
    *_, mended = run.versions()
    known = record(run, mended)
    assert known["model_uri"] == str(trained.parent)
    assert known["classes"] == ["pet", "background", "border"]
    assert (run.serving_dir / str(mended) / contract.FACTS).exists()
    assert listed(run, capsys)[-1]["fault"] is None
    assert run.releases("list") == 0
    assert f"Version {mended}: most of its record was lost" in capsys.readouterr().out
    assert run.releases("repair", str(mended)) == 2

    again = run.again(SECOND)
    assert again.outcome["new_version"]
    assert again.outcome["replaced"] == {"version": mended, "fault": "its record is incomplete"}
    whole = record(run, again.outcome["pushed_version"])
    assert "incomplete" not in whole
    assert whole["metrics"]
    assert again.again(SECOND).versions() == again.versions()


def test_the_record_of_a_rollback_stands_in_for_a_lost_one(two_releases: Run) -> None:
    folder = str(two_releases.serving_dir)
    first, _ = two_releases.versions()
    back = operations.rollback(folder, first)
    shutil.rmtree(two_releases.serving_dir / str(back) / "assets.extra")
    assert two_releases.releases("repair", str(back)) == 0
    *_, mended = two_releases.versions()
    ours, theirs = record(two_releases, mended), record(two_releases, first)
    for key in ("metrics", "settings", "data", "model_uri", "identity"):
        assert ours[key] == theirs[key]
    assert "incomplete" not in ours


def test_a_rollback_says_that_the_record_is_lost(
    two_releases: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    first, _ = two_releases.versions()
    (two_releases.serving_dir / str(first) / model_store.RECORD).write_text("[]")
    assert two_releases.releases("list") == 0
    assert f"releases repair {first}" in capsys.readouterr().out
    assert two_releases.releases("rollback", str(first), "--json") == 0
    assert json.loads(capsys.readouterr().out)["incomplete"]
    *_, back = two_releases.versions()
    assert record(two_releases, back)["model_uri"]


def test_what_cannot_be_repaired_says_what_can_be_done(
    two_releases: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = two_releases.versions()
    shutil.rmtree(two_releases.trained())
    remove_variables(two_releases.released())
    assert not listed(two_releases, capsys)[-1]["repairable"]
    for command in ("repair", "rollback"):
        assert two_releases.releases(command, str(second)) == 2
        said = capsys.readouterr().err
        assert "its folder variables/ is missing" in said
        assert f"rollback {first} --serving {two_releases.serving_dir}`" in said


@pytest.mark.parametrize("stop", [errors.Stopped, KeyboardInterrupt])
def test_a_stopped_run_is_reported_as_stopped(
    two_releases: Run,
    stop: type[BaseException],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from tfx.orchestration import metadata

    from pipeline.training import loop

    def stopped(*_: object) -> None:
        time.sleep(1)
        raise stop

    monkeypatch.setattr(loop.Training, "run", stopped)
    run = two_releases.again("train.seed=4")
    sentence = "; run the same command again to resume."
    assert run.outcome["status"] == "failed"
    assert run.outcome["error"].endswith(sentence)
    assert "killed" not in run.outcome["error"]
    assert sentence in (run.output_root / "report.html").read_text()
    store = metadata.sqlite_metadata_connection_config(str(run.output_root / "metadata.sqlite"))
    last, *_ = history.past_runs(store)
    assert last.verdict == "interrupted in Trainer"
    assert not last.interrupted
    assert last.seconds > 1
