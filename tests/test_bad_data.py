"""Bad data and bad arguments: set aside with a reason, or one sentence and exit code 2."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from conftest import Run, run_locally

import local_runner
from pipeline import dataset


@pytest.fixture
def data(small_data: Path, tmp_path: Path) -> Path:
    """A copy of the small data to spoil."""
    return Path(shutil.copytree(small_data, tmp_path / "data"))


def photos(data: Path) -> list[Path]:
    return sorted((data / "images").iterdir())


def mask_of(photo: Path) -> Path:
    return photo.parent.parent / "annotations" / "trimaps" / f"{photo.stem}.png"


def test_faulty_pairs_are_set_aside_and_the_rest_trains(data: Path, tmp_path: Path) -> None:
    no_mask, corrupt, other_size, strange_value, empty, text, *_ = photos(data)
    mask_of(no_mask).unlink()
    corrupt.write_bytes(corrupt.read_bytes()[:-2000])
    mask = PIL.Image.open(mask_of(other_size))
    mask.resize((30, 20), PIL.Image.Resampling.NEAREST).save(mask_of(other_size))
    pixels = np.array(PIL.Image.open(mask_of(strange_value)))
    pixels[0, 0] = 7
    PIL.Image.fromarray(pixels).save(mask_of(strange_value))
    empty.write_bytes(b"")
    text.write_text("no picture")
    with PIL.Image.open(other_size) as photo:
        width, height = photo.size

    run = run_locally(data, tmp_path / "output", "data.max_quarantined=0.2")
    assert run.code == 0
    assert run.outcome["status"] == "pushed"
    assert {row["id"]: row["reason"] for row in run.outcome["data"]["quarantined"]} == {
        no_mask.stem: f"the photo has no mask annotations/trimaps/{no_mask.stem}.png",
        corrupt.stem: "the photo cannot be decoded",
        other_size.stem: f"mask is 30x20, photo is {width}x{height}",
        strange_value.stem: "the mask holds the value 7, allowed are 1 to 3",
        empty.stem: "the photo is empty",
        text.stem: "the photo cannot be decoded",
    }
    assert sum(run.outcome["data"]["splits"].values()) == 40 - 6
    assert no_mask.stem in (run.output_root / "report.html").read_text()


def test_one_faulty_item_is_always_tolerated_and_two_of_forty_are_not(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first, second, *_ = photos(data)
    first.write_bytes(b"")
    assert run_locally(data, tmp_path / "output").code == 0
    second.write_bytes(b"")
    capfd.readouterr()
    run = run_locally(data, tmp_path / "output")
    assert run.code == 2
    assert run.outcome["status"] == "failed"
    assert run.states()["DataGate"] == "failed"
    assert "Trainer" not in run.states()
    error = capfd.readouterr().err.strip()
    assert error == f"Error: {run.outcome['error']}"
    assert "2 of 40 items are faulty, more than data.max_quarantined = 0.01 allows" in error
    assert f"{first.stem}: the photo is empty" in error
    # Mended, the same command goes on.
    for photo in (first, second):
        shutil.copy(photos(data)[5], photo)
        shutil.copy(mask_of(photos(data)[5]), mask_of(photo))
    assert run_locally(data, tmp_path / "output").outcome["status"] == "pushed"


def test_empty_split_is_refused_with_a_sentence(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (data / "annotations" / "test.txt").write_text("")
    (data / "annotations" / "trainval.txt").write_text("\n".join(p.stem for p in photos(data)))
    run = run_locally(data, tmp_path / "output")
    assert run.code == 2
    assert "The split 'test' has no usable items (40 in all)" in capfd.readouterr().err


def test_data_that_does_not_fit_the_schema_is_refused(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A photo of 4x4 pixels is no photo: the schema wants a side of at least 8."""
    photo = photos(data)[0]
    PIL.Image.new("RGB", (4, 4)).save(photo)
    PIL.Image.new("L", (4, 4), 2).save(mask_of(photo))
    run = run_locally(data, tmp_path / "output")
    assert run.code == 2
    assert run.states()["ExampleValidator"] == "executed"
    assert run.states()["DataGate"] == "failed"
    assert "does not fit the schema: height: " in capfd.readouterr().err


def test_items_on_no_list_are_left_out_and_named(data: Path, tmp_path: Path) -> None:
    extra = photos(data)[0]
    shutil.copy(extra, extra.with_name("Extra_1.jpg"))
    shutil.copy(mask_of(extra), mask_of(extra.with_name("Extra_1.jpg")))
    run = run_locally(data, tmp_path / "output")
    assert run.outcome["data"]["unlisted"] == ["Extra_1"]
    assert run.outcome["data"]["quarantined"] == []
    assert sum(run.outcome["data"]["splits"].values()) == 40


def test_every_change_of_the_files_is_noticed(data: Path) -> None:
    """Also those that leave count, sizes and seconds alone."""
    seen = [dataset.fingerprint(data)]
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
        seen.append(dataset.fingerprint(data))
    # Named back, the folder is what it was.
    assert seen[3] == seen[0]
    assert len(set(seen)) == len(seen) - 1


def test_mask_that_is_named_right_mends_the_item(data: Path, tmp_path: Path) -> None:
    victim = photos(data)[0]
    mask_of(victim).rename(mask_of(victim).with_name("wrong.png"))
    run = run_locally(data, tmp_path / "output", "data.max_quarantined=0.1")
    assert victim.stem in {row["id"] for row in run.outcome["data"]["quarantined"]}
    mask_of(victim).with_name("wrong.png").rename(mask_of(victim))
    mended = run.again("data.max_quarantined=0.1")
    assert mended.states()["ExampleGen"] == "executed"
    assert mended.outcome["data"]["quarantined"] == []
    assert mended.outcome["champion"] == {"version": run.outcome["pushed_version"]}


def test_no_faulty_item_is_tolerated_where_none_may_be(data: Path, tmp_path: Path) -> None:
    photos(data)[0].write_bytes(b"")
    assert run_locally(data, tmp_path / "output", "data.max_quarantined=0").code == 2


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
        (["--output-root", "/dev/null/output"], "Cannot make the output folder /dev/null/output"),
        (["--output-root", "out[1]"], "has one of the characters * ? [ ] in its path"),
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


def test_help_lists_arguments_and_settings(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        local_runner.main(["--help"])
    assert caught.value.code == 0
    output = capfd.readouterr().out
    for word in ("--data-root", "--output-root", "--config", "train.max_minutes", "gate.class_iou"):
        assert word in output


def test_unknown_beam_runner_is_one_sentence(
    playground: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    capfd.readouterr()
    assert playground.again("beam.runner=Foo").code == 2
    assert "'beam.runner' is 'Foo', which Beam does not know" in capfd.readouterr().err


def test_outcome_of_a_refused_run_is_valid_json_without_nan(playground: Run) -> None:
    run = playground.again("gate.mean_iou=1")
    text = (run.output_root / "latest_run.json").read_text()
    assert json.loads(text, parse_constant=lambda name: pytest.fail(name))["status"] == (
        "not_blessed"
    )
