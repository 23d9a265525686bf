"""Bad data and bad arguments: set aside with a reason, or one sentence and exit code 2."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import PIL.Image
import pytest
import tensorflow as tf

import local_runner
from pipeline.cli import data as command
from pipeline.core.errors import DataError
from pipeline.data import layout
from pipeline.orchestration import pipeline
from pipeline.settings import Data
from tests.support.faulty_data import FAULTY, add
from tests.support.runs import SECOND, Run, run_locally

pytestmark = pytest.mark.usefixtures("smoke_test_in_process")


@pytest.fixture
def data(small_data: Path, tmp_path: Path) -> Path:
    """A copy of the small data to spoil."""
    return Path(shutil.copytree(small_data, tmp_path / "data"))


def photos(data: Path) -> list[Path]:
    return sorted((data / "images").iterdir())


def mask_of(photo: Path) -> Path:
    return photo.parent.parent / "annotations" / "trimaps" / f"{photo.stem}.png"


def transformed(run: Run) -> dict[str, dict[str, dict[str, str]]]:
    """What Transform made for each split: its examples by id, each by feature."""
    (newest,) = (run.output_root / "artifacts" / "Transform" / "transformed_examples").iterdir()
    return {
        split.name: {
            str(features["id"]): features
            for file in split.iterdir()
            for record in tf.data.TFRecordDataset(str(file), "GZIP").as_numpy_iterator()
            if (features := features_of(record))
        }
        for split in newest.iterdir()
    }


def features_of(record: bytes) -> dict[str, str]:
    features = tf.train.Example.FromString(record).features.feature
    return {name: str(features[name]) for name in features}


@pytest.mark.slow
@pytest.mark.usefixtures("untrained")
def test_quarantined_items_do_not_change_the_model(
    data: Path, two_releases: Run, tmp_path: Path
) -> None:
    """One item of each faulty kind, and a test photo under a second name in trainval.txt."""
    lists = {name: data / "annotations" / f"{name}.txt" for name in ("list", "trainval", "test")}
    judged = next(photo for photo in photos(data) if photo.stem in lists["test"].read_text())
    kinds = {f"Bengal_{number}": kind for number, kind in enumerate(FAULTY, start=900)}
    for id_, kind in kinds.items():
        add(data, kind, id_)
    shutil.copy(judged, judged.with_name("copy_1.jpg"))
    shutil.copy(mask_of(judged), mask_of(judged.with_name("copy_1.jpg")))
    for name in ("list", "trainval"):
        with lists[name].open("a") as file:
            file.writelines(f"{id_} 1 1 1\n" for id_ in [*kinds, "copy_1", judged.stem])

    run = run_locally(data, tmp_path / "output", "data.max_quarantined=0.5", SECOND)
    assert run.outcome["status"] == "pushed"
    found = run.outcome["data"]
    expected = {id_: (kind.reason or "").format(id=id_) for id_, kind in kinds.items()}
    expected["copy_1"] = f"the same photo as {judged.stem}, which is in the test split"
    assert {row["id"]: row["reason"] for row in found["quarantined"]} == expected
    assert [row["id"] for row in found["notes"]] == [judged.stem]
    assert found["splits"] == two_releases.outcome["data"]["splits"]
    assert transformed(run) == transformed(two_releases)
    assert run.outcome["metrics"] == two_releases.outcome["metrics"]
    page = (run.output_root / "report.html").read_text()
    for id_ in expected:
        assert id_ in page


@pytest.mark.slow
@pytest.mark.usefixtures("no_training")
def test_one_quarantined_item_is_tolerated_and_two_of_forty_are_not(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first, second, *_ = photos(data)
    aside = second.rename(tmp_path / second.name)
    shutil.copy2(aside, second)
    first.write_bytes(b"")
    assert run_locally(data, tmp_path / "output").states()["Transform"] == "executed"
    second.write_bytes(b"")
    capfd.readouterr()
    run = run_locally(data, tmp_path / "output")
    assert run.code == 2
    assert run.outcome["status"] == "failed"
    assert run.states()["DataGate"] == "failed"
    assert "Trainer" not in run.states()
    error = capfd.readouterr().err.strip()
    assert error == f"Error: {run.outcome['error']}"
    assert "2 of 40 items are quarantined, more than data.max_quarantined = 0.01 allows" in error
    assert f"{first.stem}: the photo is empty" in error
    # Mended, the data is that of the first run again.
    aside.replace(second)
    assert run_locally(data, tmp_path / "output").states()["DataGate"] == "cached"


def without_border(masks: Iterable[Path]) -> None:
    for path in masks:
        with PIL.Image.open(path) as mask:
            mask.point(lambda value: min(value, 2)).save(path)


@pytest.mark.slow
@pytest.mark.usefixtures("untrained")
def test_a_class_in_no_test_mask_stops_the_run_if_the_gate_needs_it(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    listed = (data / "annotations" / "test.txt").read_text()
    without_border(mask_of(photo) for photo in photos(data) if photo.stem in listed)
    run = run_locally(data, tmp_path / "output", "gate.class_iou=0.1")
    assert (run.code, run.states()["DataGate"]) == (2, "failed")
    assert "Trainer" not in run.states()
    said = "No mask in the test split contains the class border, so the gate cannot judge it"
    error = capfd.readouterr().err
    assert error.startswith(f"Error: {said}, but gate.class_iou = 0.1 applies")
    assert command.main(["check", str(data), "--set", "gate.class_iou=0.1"]) == 2
    assert said in capfd.readouterr().err
    # Answered from the cache up to DataGate, which looks again.
    run = run_locally(data, tmp_path / "output", "gate.class_iou=0")
    assert (run.states()["ExampleGen"], run.outcome["status"]) == ("cached", "pushed")
    assert run.outcome["data"]["hints"] == [said]
    (row,) = [row for row in run.outcome["gate"] if row["metric"] == "iou_border"]
    assert row["held"]
    assert row["reason"].startswith("no test mask contains the class border")
    assert f"Note: {said}." in capfd.readouterr().out
    assert "no test mask contains the class border" in (run.output_root / "report.html").read_text()


def test_empty_split_is_refused_with_a_sentence(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (data / "annotations" / "test.txt").write_text("")
    (data / "annotations" / "trainval.txt").write_text("\n".join(p.stem for p in photos(data)))
    run = run_locally(data, tmp_path / "output")
    assert run.code == 2
    assert (
        "The test split has no usable items (40 in all splits together)" in capfd.readouterr().err
    )


@pytest.mark.usefixtures("untrained")
def test_data_that_does_not_fit_the_schema_is_refused(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    schema = Path(pipeline.SCHEMA_DIR, "pets.pbtxt").read_text()
    (tmp_path / "pets.pbtxt").write_text(schema.replace("min: 8", "min: 300"))
    monkeypatch.setattr(pipeline, "SCHEMA_DIR", str(tmp_path))
    run = run_locally(data, tmp_path / "output")
    assert run.code == 2
    assert run.states()["ExampleValidator"] == "executed"
    assert run.states()["DataGate"] == "failed"
    assert "does not match the schema: height: " in capfd.readouterr().err


def test_items_on_no_list_are_left_out_and_named(data: Path, tmp_path: Path) -> None:
    extra, faulty = photos(data)[:2]
    shutil.copy(extra, extra.with_name("Extra_1.jpg"))
    shutil.copy(mask_of(extra), mask_of(extra.with_name("Extra_1.jpg")))
    faulty.write_bytes(b"")  # ends the run before it trains
    run = run_locally(data, tmp_path / "output", "data.max_quarantined=0")
    assert run.code == 2  # none may be faulty
    assert run.outcome["data"]["unlisted"] == ["Extra_1"]
    assert [row["id"] for row in run.outcome["data"]["quarantined"]] == [faulty.stem]
    assert sum(run.outcome["data"]["splits"].values()) == 39


def test_every_change_of_the_files_is_noticed(data: Path) -> None:
    """Also those that leave count, sizes and seconds alone."""
    seen = [layout.fingerprint(data)]
    first, second = photos(data)[:2]
    one, other = mask_of(first), mask_of(second)

    def swap() -> None:
        one.rename(data / "aside")
        other.rename(one)
        (data / "aside").rename(other)

    for change in (
        lambda: one.rename(one.with_name("Other_1.png")),
        lambda: one.with_name("Other_1.png").rename(one.with_name("Other_2.png")),
        lambda: one.with_name("Other_2.png").rename(one),
        swap,
        lambda: os.utime(first, ns=(0, first.stat().st_mtime_ns + 1000)),
        lambda: (data / "annotations" / "test.txt").unlink(),
    ):
        change()
        seen.append(layout.fingerprint(data))
    # Named back, the folder is what it was.
    assert seen[3] == seen[0]
    assert len(set(seen)) == len(seen) - 1


@pytest.mark.slow
def test_renaming_a_mask_repairs_its_item(data: Path, tmp_path: Path) -> None:
    victim, faulty = photos(data)[:2]
    faulty.write_bytes(b"")  # ends the runs before they train
    mask_of(victim).rename(mask_of(victim).with_name("wrong.png"))
    run = run_locally(data, tmp_path / "output", "data.max_quarantined=0")
    assert victim.stem in {row["id"] for row in run.outcome["data"]["quarantined"]}
    mask_of(victim).with_name("wrong.png").rename(mask_of(victim))
    mended = run.again("data.max_quarantined=0")
    assert mended.states()["ExampleGen"] == "executed"
    assert [row["id"] for row in mended.outcome["data"]["quarantined"]] == [faulty.stem]


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda root: None, "There is no data folder"),
        (lambda root: root.mkdir(), "has no images/ folder with photos"),
        (lambda root: (root / "images").mkdir(parents=True), "has no annotations/trimaps/ folder"),
    ],
    ids=["missing", "empty", "only-images"],
)
def test_folder_that_is_no_data_set_is_one_sentence(
    make: object, sentence: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path / "data")  # type: ignore[operator]
    assert run_locally(tmp_path / "data", tmp_path / "output").code == 2
    error = capfd.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
    assert not (tmp_path / "output" / "latest_run.json").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--nonsense"], "Unrecognized arguments: --nonsense"),
        (["--set"], "Argument --set: expected one argument"),
        (["--set", "train.epoch=1"], "did you mean 'train.epochs'?"),
        (["--config", "none.yaml"], "Cannot read the settings file none.yaml"),
        (
            ["--output-root", "/dev/null/output"],
            "Cannot use /dev/null/output as the output folder: Not a directory.",
        ),
        (["--output-root", "out[1]"], "out[1] contains one of the characters * ? [ ] \\, which"),
    ],
)
def test_bad_arguments_are_one_sentence(
    arguments: list[str], sentence: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert local_runner.main(arguments) == 2
    error = capfd.readouterr().err
    assert error.startswith("Error: ")
    assert sentence in error
    assert error.count("\n") == 1


def test_help_lists_arguments_and_fits_a_screen(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        local_runner.main(["--help"])
    assert caught.value.code == 0
    output = capfd.readouterr().out
    for word in ("--data-root", "--output-root", "--config", "--help-settings"):
        assert word in output
    assert output.count("\n") <= 32


@pytest.mark.parametrize(
    ("section", "there", "not_there"),
    [
        ([], ["train:", "train.max_minutes", "gate.class_iou"], []),
        (["gate"], ["gate:", "gate.class_iou"], ["train:", "train.max_minutes"]),
    ],
)
def test_settings_are_listed_by_section(
    section: list[str], there: list[str], not_there: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        local_runner.main(["--help-settings", *section])
    assert caught.value.code == 0
    output = capfd.readouterr().out
    assert all(word in output for word in there)
    assert not any(word in output for word in not_there)


def test_an_unknown_section_is_one_sentence(capfd: pytest.CaptureFixture[str]) -> None:
    assert local_runner.main(["--help-settings", "trian"]) == 2
    assert capfd.readouterr().err == (
        "Error: There is no settings section 'trian'; the sections are data, transform, model, "
        "tune, train, gate, release, beam.\n"
    )


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("beam.runner=Foo", "'beam.runner' is 'Foo', which is not a Beam runner"),
        ("release.copy_to=s3://x/y", "s3://x/y"),
        ("release.infra_validation=kubernetes", "kubernetes"),
    ],
)
def test_impossible_settings_are_reported_before_data_is_made(
    tmp_path: Path, setting: str, sentence: str, capfd: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "output"
    assert local_runner.main(["--output-root", str(output), "--set", setting]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert sentence in line
    assert not output.exists()


def test_unknown_beam_argument_is_one_sentence(
    fresh_run: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    capfd.readouterr()
    wrong = 'beam.args=["--direct_running_mode=multiprocessing"]'
    assert fresh_run.again(wrong).code == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("Error: Setting 'beam.args' is invalid: argument ")
    assert "multi_processing" in line  # what it could be


def test_missing_encoder_weights_are_reported_at_once(
    small_data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    wrong = ("model.name=mobilenet_unet", f"model.encoder_weights={tmp_path / 'typo.h5'}")
    assert run_locally(small_data, tmp_path / "output", *wrong).code == 2
    assert f"is {tmp_path / 'typo.h5'}, but there is no such file." in capfd.readouterr().err
    assert not (tmp_path / "output").exists()


def test_list_that_cannot_be_read_is_one_sentence(data: Path) -> None:
    """By nobody, root included."""
    (data / "annotations" / "list.txt").unlink()
    (data / "annotations" / "list.txt").symlink_to("/proc/self/mem")
    with pytest.raises(DataError, match=r"Cannot read .* in the data folder: Input/output error"):
        layout.scan(data, Data())


def test_outcome_of_a_refused_run_is_valid_json_without_nan(fresh_run: Run) -> None:
    run = fresh_run.again("gate.mean_iou=1")
    text = (run.output_root / "latest_run.json").read_text()
    assert json.loads(text, parse_constant=lambda name: pytest.fail(name))["status"] == (
        "not_blessed"
    )
