"""Atomic writing: readers see all of a file or none, whatever its name and whatever happens."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.core import files

pytestmark = pytest.mark.once

LONGEST = 255  # bytes of a name on Linux


def test_a_write_leaves_no_debris(tmp_path: Path) -> None:
    target = tmp_path / "new" / "file.png"
    for contents in (b"one", b"two"):
        files.write_atomically(target, contents)
        assert target.read_bytes() == contents
    assert list(target.parent.iterdir()) == [target]
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        files.write_atomically(tmp_path / "taken", b"x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "taken"]


@pytest.mark.parametrize("letter", ["a", "猫", "😀"])
def test_every_name_that_a_file_may_have_can_be_written(letter: str, tmp_path: Path) -> None:
    end = "_mask.png"
    size = LONGEST - len(end)
    name = letter * (size // len(letter.encode())) + end
    files.write_atomically(tmp_path / name, b"x")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_the_contents_are_on_the_disk_before_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a power cut leaves an empty file under the name."""
    done = []
    sync, replace = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        sync(descriptor)
        done.append(f"{os.fstat(descriptor).st_size} bytes synced")

    def replaced(source: Path, target: Path) -> None:
        replace(source, target)
        done.append("named")

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    files.write_atomically(tmp_path / "file", b"12345")
    assert done == ["5 bytes synced", "named"]
