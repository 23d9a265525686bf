"""The serving folder: versions appear whole, once each, in order."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tfx.dsl.io import fileio

from pipeline.release import model_store, operations
from tests.support.releases import make_model, visible

# The models here are mere files; tests/test_smoke_test.py has what a real one must do.
pytestmark = pytest.mark.usefixtures("any_model_passes")


def test_release_copies_the_model_and_records_it(tmp_path: Path) -> None:
    folder = tmp_path / "serving" / "m"
    version = operations.release(make_model(tmp_path / "a"), str(folder), model_uri="somewhere")
    assert model_store.versions(str(folder)) == [version]
    released = folder / str(version)
    assert (released / "saved_model.pb").read_text() == "graph"
    assert (released / "variables" / "variables.index").read_text() == "w"
    record = json.loads((released / "assets.extra" / "release.json").read_text())
    assert record["version"] == version
    assert record["model_uri"] == "somewhere"
    assert model_store.record(str(folder), version) == record


def test_same_model_is_not_released_twice(tmp_path: Path) -> None:
    folder = str(tmp_path / "m")
    first = operations.release(make_model(tmp_path / "a"), folder)
    assert operations.release(make_model(tmp_path / "copy"), folder) == first
    assert model_store.versions(folder) == [first]


def test_versions_always_increase(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    make_model(folder / "99999999999")
    first = operations.release(make_model(tmp_path / "a", "1"), str(folder))
    second = operations.release(make_model(tmp_path / "b", "2"), str(folder))
    assert (first, second) == (100000000000, 100000000001)
    # A model that was in service before comes back as a version of its own.
    third = operations.release(make_model(tmp_path / "a", "1"), str(folder))
    assert third == second + 1


def test_a_killed_release_leaves_no_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "serving" / "m"
    model = make_model(tmp_path / "a")
    with monkeypatch.context() as patch:

        def die(*args: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(fileio, "rename", die)
        with pytest.raises(KeyboardInterrupt):
            operations.release(model, str(folder))
    assert model_store.versions(str(folder)) == []
    assert list(folder.iterdir()) == []
    version = operations.release(model, str(folder))
    assert model_store.versions(str(folder)) == [version]
    assert visible(folder.parent) == ["m"]


def test_no_folder_no_versions(tmp_path: Path) -> None:
    assert model_store.versions(str(tmp_path / "none")) == []
    (tmp_path / "12").mkdir()
    assert model_store.record(str(tmp_path), 12) == {}


def test_recovered_model_is_the_one_that_was_released(tmp_path: Path) -> None:
    folder = tmp_path / "serving" / "m"
    version = operations.release(make_model(tmp_path / "a"), str(folder))
    (tmp_path / "back.part").mkdir()  # what a killed attempt left
    (tmp_path / "back.part" / "half").touch()
    operations.recover(str(folder), version, str(tmp_path / "back"))
    assert not (tmp_path / "back.part").exists()
    assert not (tmp_path / "back" / "half").exists()
    # The same model, file by file: it is not released again.
    assert operations.release(str(tmp_path / "back"), str(folder)) == version
