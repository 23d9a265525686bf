"""Serving folders as people and failing disks leave them: what is broken is said, and mended."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tfx.utils import io_utils

import local_runner
from pipeline.release import model_store, operations
from tests.support.runs import SECOND, Run

# Files and records of releases are the same on both stacks.
pytestmark = [pytest.mark.once, pytest.mark.usefixtures("untrained")]


@pytest.fixture
def run(two_releases: Run) -> Run:
    """An output folder that a test may damage, with two releases."""
    return two_releases


def remove_weights(version: Path) -> None:
    next(version.glob("variables/*.data*")).unlink()


def remove_graph(version: Path) -> None:
    (version / "saved_model.pb").unlink()


def cut_weights_short(version: Path) -> None:
    data = next(version.glob("variables/*.data*"))
    data.write_bytes(data.read_bytes()[:1000])


def change_a_file_beside(version: Path) -> None:
    (version / "assets.extra" / "model.weights.h5").write_bytes(b"another")


def damage_the_record(version: Path) -> None:
    (version / model_store.RECORD).write_text("[]")


def lose_a_format(version: Path) -> None:
    path = version / model_store.RECORD
    record = json.loads(path.read_text())
    record["formats"] = {"onnx": {"files": {"model.onnx": "0"}}}
    path.write_text(json.dumps(record))


def link_to_nowhere(version: Path) -> None:
    (version / "assets.extra" / "elsewhere").symlink_to("nowhere")


DAMAGES = [link_to_nowhere, remove_weights, remove_graph, cut_weights_short]
DAMAGES += [change_a_file_beside, damage_the_record, lose_a_format]


def test_every_damage_is_seen(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    folder, trained = str(run.serving_dir), str(run.trained())
    version = run.outcome["pushed_version"]
    assert model_store.damage(folder, version) is None
    assert operations.is_in_service(trained, folder)
    kept = shutil.copytree(run.released(), run.output_root / "sound")
    for damage in DAMAGES:
        damage(run.released())
        assert model_store.damage(folder, version), damage
        assert not operations.is_in_service(trained, folder)
        assert run.releases("list") == 0
        assert "broken" in capsys.readouterr().out
        shutil.rmtree(run.released())
        shutil.copytree(kept, run.released())


def remove_all_beside(version: Path) -> None:
    shutil.rmtree(version / "assets.extra")


@pytest.mark.parametrize("damage", [remove_graph, damage_the_record, remove_all_beside])
def test_a_broken_version_in_service_is_released_again(
    run: Run, damage: Callable[[Path], None]
) -> None:
    damage(run.released())
    again = run.again(SECOND)
    assert again.code == 0
    assert again.outcome["new_version"]
    assert again.outcome["replaced"]["version"] == run.outcome["pushed_version"]
    assert model_store.RECORD in again.outcome["replaced"]["fault"] or damage is remove_graph
    assert again.states()["Trainer"] == "cached"
    assert model_store.damage(str(run.serving_dir), again.outcome["pushed_version"]) is None
    assert again.again(SECOND).versions() == again.versions()


def test_a_broken_version_that_stays_in_service_fails_the_run(
    run: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    version = run.outcome["pushed_version"]
    remove_weights(run.released())
    refused = run.again("train.seed=3", "gate.mean_iou=1")
    assert refused.code == 1
    assert refused.outcome["status"] == "failed"
    # It was compared with the Trainer's output, which is still there.
    assert refused.outcome["champion"]["version"] == version
    assert {row["kind"] for row in refused.outcome["gate"]} == {"at_least", "change"}
    error = " ".join(capfd.readouterr().err.split())
    assert f"Version {version} in {run.serving_dir} is in service and broken" in error
    # `releases repair` mends it from there.
    assert run.releases("repair", str(version)) == 0
    mended = run.again("train.seed=3", "gate.mean_iou=1").outcome
    assert mended["status"] == "not_blessed"
    assert model_store.damage(str(run.serving_dir), mended["in_service"]) is None


def test_a_version_without_a_record_is_repaired(run: Run) -> None:
    version = run.outcome["pushed_version"]
    damage_the_record(run.released())
    shutil.rmtree(run.output_root / "artifacts" / "Trainer")
    assert run.releases("repair", str(version)) == 0
    folder = str(run.serving_dir)
    newest = model_store.versions(folder)[-1]
    assert model_store.damage(folder, newest) is None
    assert model_store.model_of(folder, newest) == model_store.model_of(folder, version)


def forget(version: Path) -> None:
    (version / model_store.RECORD).unlink()


@pytest.mark.parametrize("lose", [damage_the_record, forget])
def test_a_withdrawn_model_is_known_without_the_newest_record(
    run: Run, lose: Callable[[Path], None]
) -> None:
    folder = str(run.serving_dir)
    first, second = run.versions()
    back = operations.rollback(folder, first)
    lose(run.serving_dir / str(back))
    assert model_store.is_among(model_store.path(folder, second), model_store.withdrawn(folder))
    # Somebody puts the first one there once more, by hand.
    shutil.copytree(model_store.path(folder, first), run.serving_dir / str(back + 1))
    assert model_store.is_among(model_store.path(folder, second), model_store.withdrawn(folder))
    assert not model_store.is_among(model_store.path(folder, first), model_store.withdrawn(folder))
    status = {each["version"]: each["status"] for each in model_store.history(folder)}
    assert status[second] == model_store.WITHDRAWN


def test_prune_leaves_a_sound_version(run: Run) -> None:
    first, second = run.versions()
    remove_weights(run.released())
    assert run.releases("prune", "--keep", "1") == 0
    assert run.versions() == [first, second]


RECORDS = (
    '{"version": 1, "dig',
    "[]",
    '{"withdrawn": 7, "metrics": [], "data": "x", "released": {}}',
    '{"data": {"splits": [1]}, "metrics": {"overall": 3}, "rollback": 5}',
    "[" * 100_000,
    "\udcff\udcfe\x00",
    "",
)


def test_every_command_works_beside_damaged_records(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    before, after = run.versions()
    for record in RECORDS:
        for version in (before, after):
            path = run.serving_dir / str(version) / model_store.RECORD
            path.write_bytes(record.encode(errors="surrogateescape"))
        for command in (["list"], ["list", "--json"], ["show", str(after)]):
            capsys.readouterr()
            assert run.releases(*command) == 0, record[:50]
            assert "Traceback" not in capsys.readouterr().err
    assert run.releases("rollback", str(before)) == 0
    folder = str(run.serving_dir)
    back = model_store.versions(folder)[-1]
    assert model_store.model_of(folder, back) == model_store.identify(
        model_store.path(folder, before)
    )
    assert local_runner.main(["--history", "--output-root", str(run.output_root)]) == 0
    assert run.releases("prune", "--keep", "1") == 0
    assert model_store.versions(folder) == [back]


def test_what_only_looks_like_a_version_is_none(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    before = run.versions()
    (run.serving_dir / "99999999999").mkdir()
    (run.serving_dir / "99999999998").touch()
    (run.serving_dir / ("9" * 30)).mkdir()
    (run.serving_dir / "\N{ARABIC-INDIC DIGIT ONE}").mkdir()
    assert model_store.versions(str(run.serving_dir)) == before
    assert run.releases("list") == 0
    assert "Not a version" in capsys.readouterr().out
    assert run.releases("rollback", str(before[0])) == 0
    assert before[-1] < model_store.versions(str(run.serving_dir))[-1] < 99999999998


def test_a_version_with_zeros_in_front_is_one_like_others(run: Run) -> None:
    run.released().rename(run.serving_dir / "09999999999")
    refused = run.again("train.seed=3", "gate.mean_iou=1")
    assert refused.outcome["champion"]["version"] == 9999999999
    assert run.releases("rollback", str(model_store.versions(str(run.serving_dir))[0])) == 0
    assert run.releases("rollback", "9999999999") == 0
    assert run.releases("prune", "--keep", "1") == 0
    assert [path.name for path in run.serving_dir.iterdir()] == ["10000000001"]


def test_a_rollback_on_a_full_disk_changes_nothing(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(source: str, target: str) -> None:
        Path(target).mkdir()
        raise OSError(28, "No space left on device", target)

    before = run.versions()
    monkeypatch.setattr(io_utils, "copy_dir", full)
    assert run.releases("rollback", str(before[0])) == 1
    error = capsys.readouterr().err
    assert error.startswith("Error: No space left on the disk that holds ")
    assert error.count("\n") == 1
    assert run.versions() == before
    assert not list(run.serving_dir.parent.glob(".staging*"))


def test_a_rollback_works_beside_a_damaged_outcome(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    for text in ("", "[]", '{"settings": 3}', "{"):
        (run.output_root / "latest_run.json").write_text(text)
        capsys.readouterr()
        assert run.releases("copy") == 2
        assert "is damaged, so its setting" in capsys.readouterr().err
    assert run.releases("rollback", str(run.versions()[0])) == 1
    error = capsys.readouterr().err
    assert "is in service in" in error
    assert "but was not copied" in error
    assert error.count("\n") == 1


def test_history_keeps_what_was_pruned(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    before = run.versions()
    assert run.releases("prune", "--keep", "1") == 0
    run.again(SECOND)
    capsys.readouterr()
    assert local_runner.main(["--history", "--output-root", str(run.output_root)]) == 0
    table = capsys.readouterr().out
    assert f"pushed: {before[0]}, removed since" in table
    assert "interrupted" not in table


def garbage(path: Path) -> None:
    path.write_bytes(b"no database" * 1000)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [garbage, cut_short, folder])
def test_a_damaged_metadata_store_fails_the_run(
    run: Run, damage: Callable[[Path], None], capfd: pytest.CaptureFixture[str]
) -> None:
    store = run.output_root / "metadata.sqlite"
    damage(store)
    again = run.again()
    assert again.code == 2
    error = capfd.readouterr().err
    assert f"{store} is damaged" in error or f"Cannot open {store}" in error
    assert "--output-root" in error
    assert again.outcome["status"] == "failed"
    assert str(store) in again.outcome["error"]
    assert local_runner.main(["--history", "--output-root", str(run.output_root)]) == 2
    assert str(store) in capfd.readouterr().err


def test_a_locked_metadata_store_is_named(
    run: Run, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import sqlite3

    from pipeline.core import run_folder

    monkeypatch.setattr(run_folder, "_STORE_PATIENCE_S", 0.1)
    with sqlite3.connect(run.output_root / "metadata.sqlite") as other:
        other.execute("BEGIN EXCLUSIVE")
        assert run.again().code == 2
    assert "Another program is using" in capfd.readouterr().err


@pytest.mark.parametrize("name", ["latest_run.json", "report.html"])
def test_a_folder_in_the_place_of_an_outcome_is_named(
    run: Run, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    (run.output_root / name).unlink()
    (run.output_root / name).mkdir()
    arguments = ["--data-root", str(run.data_root), "--output-root", str(run.output_root)]
    assert local_runner.main(arguments) == 2
    assert f"{run.output_root / name} is a folder" in capfd.readouterr().err


def test_models_trained_anew_are_not_released_anew(run: Run) -> None:
    """Their files differ from those in service."""
    before = run.versions()
    for lost in ("Trainer", "Transform", "Evaluator"):
        shutil.rmtree(run.output_root / "artifacts" / lost)
    (run.output_root / "metadata.sqlite").unlink()
    again = run.again(SECOND)
    assert again.states()["Trainer"] == "executed"
    assert again.outcome["status"] == "pushed"
    assert again.outcome["pushed_version"] == before[-1]
    assert again.versions() == before


@pytest.mark.parametrize("empty", [True, False])
def test_a_lost_store_meets_none_of_its_old_artifacts(
    run: Run, empty: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    before = run.versions()
    (run.output_root / "metadata.sqlite").unlink()
    if empty:
        (run.output_root / "metadata.sqlite").touch()
    again = run.again(SECOND)
    assert again.code == 0
    assert again.outcome["pushed_version"] == before[-1]
    assert again.versions() == before
    assert "are now in" in capfd.readouterr().out
    assert (run.output_root / "artifacts-1" / "Trainer").is_dir()


def test_a_withdrawn_model_trained_anew_stays_away(run: Run) -> None:
    assert run.releases("rollback", str(run.versions()[0])) == 0
    back = run.versions()
    shutil.rmtree(run.output_root / "artifacts" / "Trainer" / "model")
    anew = run.again(SECOND)
    assert anew.states()["Trainer"] == "executed"
    assert anew.outcome["status"] == "not_blessed"
    assert "This model was withdrawn by a rollback" in anew.outcome["refused"]
    assert anew.versions() == back


def test_an_older_candidate_comes_back_only_if_it_is_better(run: Run) -> None:
    back = run.again()
    if back.outcome["status"] == "pushed":  # it is; so the other is not
        back = run.again(SECOND)
    assert back.outcome["status"] == "not_blessed"
    assert "does not beat the" in back.outcome["refused"]
    assert all(row["held"] for row in back.outcome["gate"])


def test_a_candidate_does_not_replace_a_champion_it_was_not_compared_with(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another run, or a rollback, releases between this one's verdict and its release."""
    from components import pusher

    refusal = pusher._refusal

    def meanwhile(path: str, folder: str, inputs: Any) -> str | None:
        operations.rollback(folder, run.versions()[0])
        return refusal(path, folder, inputs)

    with monkeypatch.context() as patch:
        patch.setattr(pusher, "_refusal", meanwhile)
        refused = run.again("train.seed=3")
    assert refused.outcome["status"] == "not_blessed"
    assert "was released during this run" in refused.outcome["refused"]
    assert run.again("train.seed=3").outcome["status"] == "pushed"
