"""``python -m pipeline data check``: what a run would make of a folder, without a run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.cli import data as command
from pipeline.core import features
from pipeline.data import health, layout
from pipeline.settings import Data
from tests.support.faulty_data import FAULTY, SOUND, add


def make(root: Path, count: int) -> Path:
    (root / layout.IMAGES).mkdir(parents=True)
    (root / layout.TRIMAPS).mkdir(parents=True)
    for number in range(count):
        add(root, SOUND[0], f"beagle_{number}")
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make(tmp_path / "data", 60)


def test_a_sound_folder_is_fit(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert command.main(["check", str(root)]) == 0
    output = capfd.readouterr()
    assert output.err == ""
    for word in (*features.SPLITS, *features.CLASS_NAMES, "The data is fit for training."):
        assert word in output.out
    assert "Quarantined" not in output.out


def test_a_breed_that_is_not_allowed_is_refused(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["check", str(root), "--set", "data.breeds=[beagle, Bengal]"]) == 0
    assert command.main(["check", str(root), "--set", "data.breeds=[Bengal]"]) == 2
    assert capfd.readouterr().err.startswith("Error: There are photos of beagle, but data.breeds")


def test_every_item_that_is_not_used_is_named(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (one_class,) = (kind for kind in SOUND if kind.name == "one_class_mask")
    add(root, one_class, "Bengal_1")
    for number, kind in enumerate(FAULTY, start=2):
        add(root, kind, f"Bengal_{number}")
    assert command.main(["check", str(root)]) == 2
    output = capfd.readouterr()
    assert f"Quarantined: {len(FAULTY)}" in output.out
    for number, kind in enumerate(FAULTY, start=2):
        assert kind.reason
        assert f"    Bengal_{number}: {kind.reason.format(id=f'Bengal_{number}')}\n" in output.out
    assert "Notes: 1\n    Bengal_1: the mask contains only background\n" in output.out
    assert output.err.startswith(
        f"Error: {len(FAULTY)} of {61 + len(FAULTY)} items are quarantined"
    )
    assert output.err.count("\n") == 1
    assert "Bengal" not in output.err  # each is listed already
    setting = ["--set", "data.max_quarantined=0.5"]
    assert command.main(["check", str(root), *setting]) == 0
    setting += ["--set", "data.one_class_masks=set_aside"]
    assert command.main(["check", str(root), *setting]) == 0
    assert f"Quarantined: {len(FAULTY) + 1}" in capfd.readouterr().out


def test_it_says_what_a_run_says(root: Path) -> None:
    """The same items, in the same splits, as ExampleGen takes; spans and lists included."""
    parent = root.parent / "spans"
    shutil.move(root, parent / "span-1")
    make(parent / "span-2", 3)
    (parent / "span-2" / "annotations" / "list.txt").write_text("beagle_0 1 2 1\nbeagle_1 1 2 1\n")
    settings = Data(spans=2, eval_share=0.2, test_share=0.2)
    found = health.examine(parent, settings)
    scan = layout.scan(parent, settings)
    assert {item for sound in found.sound.values() for item, _ in sound} == set(scan.items)
    assert all(item.split == split for split, s in found.sound.items() for item, _ in s)
    assert (found.spans, found.unlisted) == (["span-2", "span-1"], ["beagle_2"])


def test_a_folder_that_is_none_is_one_sentence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["check", str(tmp_path)]) == 2
    assert command.main(["check", str(tmp_path), "--set", "data.span=2"]) == 2
    assert command.main([]) == 2
    lines = capfd.readouterr().err.splitlines()
    assert "has no images/ folder" in lines[0]
    assert "did you mean 'data.spans'?" in lines[1]
    assert "COMMAND" in lines[2]
    assert len(lines) == 3
