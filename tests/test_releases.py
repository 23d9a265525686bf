"""The history of a serving folder, and the way back."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import filelock
import pytest

from pipeline.cli import releases
from pipeline.release import model_card, model_store, operations
from pipeline.saved_model import smoke_test
from tests.support.forked import Forked
from tests.support.programs import killed_releases
from tests.support.releases import make_model, visible
from tests.support.runs import ROOT

# The models here are mere files; tests/test_smoke_test.py has what a real one must do.
pytestmark = pytest.mark.usefixtures("any_model_passes")

FACTS: dict[str, Any] = {
    "data_root": "/data/pets",
    "data": {"splits": {"train": 30, "eval": 4, "test": 6}, "quarantined": 2},
    "metrics": {"overall": {"mean_iou": 0.7125, "iou": {"pet": None}}},
    "settings": {"model.name": "m", "train.epochs": 7},
    "code": "0123456789abcdef",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three releases, of the models 0, 1 and 2."""
    folder = tmp_path / "output" / "serving" / "m"
    (tmp_path / "output" / "artifacts").mkdir(parents=True)
    for name in "012":
        operations.release(make_model(tmp_path / name, name), str(folder), **FACTS)
    return folder


def call(folder: Path, *arguments: str) -> int:
    return releases.main([*arguments, "--serving", str(folder)])


def weights(folder: Path, version: int) -> str:
    return (folder / str(version) / "variables" / "variables.index").read_text()


def test_history_tells_what_was_released(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(folder, "list", "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert [record["status"] for record in listed] == ["replaced", "replaced", "in service"]
    assert all(FACTS.items() <= record.items() for record in listed)
    assert call(folder, "list") == 0
    table = capsys.readouterr().out
    assert table.count("0.713") == table.count("30 / 4 / 6") == table.count("/data/pets") == 3
    version = listed[1]["version"]
    assert call(folder, "show", str(version), "--json") == 0
    assert json.loads(capsys.readouterr().out) == listed[1]
    assert call(folder, "show", str(version)) == 0
    assert "train.epochs" in capsys.readouterr().out


def test_rollback_is_a_release_of_the_old_model(folder: Path) -> None:
    first, second, third = model_store.versions(str(folder))
    assert call(folder, "rollback", str(first)) == 0
    back = model_store.versions(str(folder))[-1]
    assert back > third
    assert weights(folder, back) == "0"
    assert model_store.digest(str(folder / str(back))) == model_store.digest(
        str(folder / str(first))
    )
    record = model_store.record(str(folder), back)
    assert record["rollback"] == {"to": first, "from": third}
    assert record["metrics"] == FACTS["metrics"]
    status = {record["version"]: record["status"] for record in model_store.history(str(folder))}
    assert status == {
        first: "replaced",
        second: "withdrawn",
        third: "withdrawn",
        back: "in service",
    }


def test_withdrawn_models_outlive_their_versions(folder: Path, tmp_path: Path) -> None:
    first, _, third = model_store.versions(str(folder))
    digest = model_store.digest(str(folder / str(third)))
    call(folder, "rollback", str(first))
    operations.release(make_model(tmp_path / "3", "3"), str(folder))
    call(folder, "prune", "--keep", "1")
    assert digest in model_store.withdrawn(str(folder))


def test_rollback_forward_lifts_the_withdrawal(folder: Path) -> None:
    first, _, third = model_store.versions(str(folder))
    call(folder, "rollback", str(first))
    assert call(folder, "rollback", str(third)) == 0
    assert weights(folder, model_store.versions(str(folder))[-1]) == "2"
    assert model_store.digest(str(folder / str(third))) not in model_store.withdrawn(str(folder))


def test_prune_leaves_the_newest_and_always_the_one_in_service(folder: Path) -> None:
    before = model_store.versions(str(folder))
    assert call(folder, "prune", "--keep", "2") == 0
    assert model_store.versions(str(folder)) == before[1:]
    assert operations.prune(str(folder), 0) == before[1:2]
    assert model_store.versions(str(folder)) == before[2:]
    assert visible(folder.parent) == ["m"]


def test_mistakes_get_one_sentence(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    newest = str(model_store.versions(str(folder))[-1])
    for arguments, sentence in (
        (["show", "7"], "has no version 7"),
        (["rollback", "7"], "has no version 7; it has versions"),
        (["rollback", newest], "is already in service"),
        (["rollback", "abc"], "Argument VERSION: 'abc' is not a version number; `list` shows"),
        (["prune", "--keep", "0"], "must be at least 1"),
        (
            ["list", "--serving", str(tmp_path / "none")],
            "does not exist; specify one with --serving",
        ),
    ):
        assert releases.main([*arguments[:1], "--serving", str(folder), *arguments[1:]]) == 2
        error = capsys.readouterr().err
        assert sentence in error
        assert error.count("\n") == 1


def test_rollback_waits_for_no_run(folder: Path) -> None:
    """A training can take hours; a bad model in service must go at once."""
    first = model_store.versions(str(folder))[0]
    with filelock.FileLock(folder.parent.parent / ".lock"):
        assert call(folder, "rollback", str(first)) == 0


def test_rollback_waits_for_a_release(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    first = model_store.versions(str(folder))[0]
    with model_store.lock(str(folder)):
        command = [sys.executable, "-m", "pipeline", "releases", "prune", "--keep", "1"]
        command += ["--serving", str(folder)]
        waiting = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        assert waiting.stderr is not None
        sentence = f"Another process is releasing to {folder}; waiting for it to finish.\n"
        assert sentence in iter(waiting.stderr.readline, "")
        assert first in model_store.versions(str(folder))
    assert waiting.wait(60) == 0
    assert len(model_store.versions(str(folder))) == 1


def test_rollback_to_a_model_that_broke_changes_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def check(path: str) -> None:
        raise smoke_test.BrokenModelError("it is broken")

    monkeypatch.setattr(smoke_test, "check", check)
    before = model_store.history(str(folder))
    assert call(folder, "rollback", str(before[0]["version"])) == 1
    assert "Nothing was changed: it is broken." in capsys.readouterr().err
    assert model_store.history(str(folder)) == before
    assert visible(folder.parent) == ["m"]


def test_model_card_lies_in_the_version(folder: Path) -> None:
    version = model_store.versions(str(folder))[-1]
    extra = folder / str(version) / "assets.extra"
    card = (extra / "model_card.md").read_text()
    assert card.startswith(f"# Model card: m, version {version}\n")
    for text in ("train 30, eval 4, test 6", "| overall | 0.713 | none |", "/data/pets"):
        assert text in card
    page = (extra / "model_card.html").read_text()
    assert page.count("<table>") == 2
    assert f"<title>Model card: m, version {version}</title>" in page


def test_model_card_shows_markup_and_does_not_obey_it() -> None:
    evil = "<script>alert(1)</script> | `x`"
    record = {"version": 1, "digest": "d", "metrics": {f"breed={evil}": {"mean_iou": 0.5}}}
    card = model_card.markdown(record)
    page = model_card.html(card)
    assert "<script" not in page
    assert "<td>breed=&lt;script&gt;alert(1)&lt;/script&gt; | `x`</td>" in page


def test_release_killed_at_20_random_moments_is_never_seen_half(tmp_path: Path) -> None:
    seed = random.randrange(1000)
    killed = Forked(killed_releases.main, [str(tmp_path), str(seed)], tmp_path / "log")
    code, output = killed.wait()
    assert code == 0, output
    results = json.loads(output.splitlines()[-1])
    assert results["faults"] == [], seed
    assert results["loads"] >= 20
    assert results["unfinished"] >= 3, "too few releases were cut off to show anything"
