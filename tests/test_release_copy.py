"""The copy of a release on another filesystem: Beam's own interface, over a folder of the test."""

from __future__ import annotations

import importlib.util
import json
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from apache_beam.io.filesystem import FileMetadata
from apache_beam.io.localfilesystem import LocalFileSystem

from pipeline import settings
from pipeline.cli import releases
from pipeline.core.errors import CopyError, UserError
from pipeline.inference import segmenter
from pipeline.release import mirror, model_store, operations
from tests.support.releases import accept_any_model, make_model
from tests.support.runs import Run

BUCKET = "store://bucket/models"


class Store(LocalFileSystem):
    """``store://`` over a local folder: an object store, or with ``folders`` one that has folders.

    It breaks down after so many changes, a file then being half written, and lets somebody look
    at what is there before each.
    """

    root: ClassVar[Path]
    folders: ClassVar[bool]
    left: ClassVar[float]  # changes until it breaks down
    changes: ClassVar[int]
    look: ClassVar[Callable[[], None]]

    @classmethod
    def scheme(cls) -> str:
        return "store"

    def has_dirs(self) -> bool:
        return self.folders

    def _real(self, path: str) -> str:
        assert path.startswith("store://"), path
        return str(self.root / path.removeprefix("store://"))

    def _change(self) -> None:
        Store.look()
        if Store.left <= 0:
            raise OSError("the store is away")
        Store.left -= 1
        Store.changes += 1

    def mkdirs(self, path: str) -> None:
        self._change()
        super().mkdirs(self._real(path))

    def exists(self, path: str) -> bool:
        real = self._real(path)
        return os.path.isfile(real) or (self.folders and os.path.isdir(real))

    def metadata(self, path: str) -> FileMetadata:
        return FileMetadata(path, os.path.getsize(self._real(path)))

    def create(self, path: str, *args: Any, **kwargs: Any) -> Any:
        file = super().create(self._real(path), *args, **kwargs)
        file.write(b"half")
        file.flush()
        self._change()
        file.seek(0)
        file.truncate()
        return file

    def open(self, path: str, *args: Any, **kwargs: Any) -> Any:
        return super().open(self._real(path), *args, **kwargs)

    def rename(self, sources: list[str], targets: list[str]) -> None:
        for source, target in zip(map(self._real, sources), map(self._real, targets), strict=True):
            self._change()
            if not self.folders:
                assert os.path.isfile(source), "an object store has no folders"
                os.makedirs(os.path.dirname(target), exist_ok=True)
            super().rename([source], [target])

    def delete(self, paths: list[str]) -> None:
        self._change()
        LocalFileSystem(None).delete([self._real(path) for path in paths])


@pytest.fixture(params=["objects", "folders"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[type[Store]]:
    Store.root, Store.folders = tmp_path / "store", request.param == "folders"
    Store.left, Store.changes, Store.look = math.inf, 0, lambda: None
    yield Store
    Store.look = lambda: None


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A serving folder with one release, below an output folder whose last run copied."""
    accept_any_model(monkeypatch)
    folder = tmp_path / "output" / "serving" / "m"
    operations.release(make_model(tmp_path / "1", "first"), str(folder))
    chosen = settings.load(overrides=[f"release.copy_to={BUCKET}"]).flat()
    (tmp_path / "output" / "latest_run.json").write_text(json.dumps({"settings": chosen}))
    return folder


def content(version: Path) -> dict[str, bytes]:
    files = [path for path in version.rglob("*") if path.is_file()]
    return {str(path.relative_to(version)): path.read_bytes() for path in files}


def read(store: type[Store]) -> Path:
    """What a reader of the copy takes: TensorFlow Serving's rule with folders, else predict's."""
    copies = store.root / "bucket" / "models" / "m"
    if store.folders:
        return max(copies.iterdir(), key=lambda path: int(path.name))
    return segmenter.find_saved_model(copies)


def newest(folder: Path) -> Path:
    return folder / str(model_store.versions(str(folder))[-1])


def test_a_copy_cut_off_anywhere_is_completed(
    store: type[Store], folder: Path, tmp_path: Path
) -> None:
    first = content(newest(folder))
    mirror.copy(str(folder), BUCKET)
    assert content(read(store)) == first
    cut_off = looks = 0
    failure: CopyError | None = CopyError()
    while failure:
        before = content(newest(folder))
        operations.release(make_model(tmp_path / "next", f"weights {cut_off}"), str(folder))
        after = content(newest(folder))

        def look(before: dict[str, bytes] = before) -> None:
            nonlocal looks
            assert content(read(store)) == before
            looks += 1

        store.look, store.left, failure = look, cut_off, None
        try:
            mirror.copy(str(folder), BUCKET)
        except CopyError as error:
            failure = error
        if failure:
            cut_off += 1
            assert str(failure).count("the store is away") == 1
            assert f"version {newest(folder).name} is in service in {folder}" in str(failure)
            assert content(newest(folder)) == after  # the release itself stands
            assert content(read(store)) == before
            store.left = math.inf
            place = mirror.copy(str(folder), BUCKET)
            assert place == f"{BUCKET}/m/{newest(folder).name}"
        store.look = lambda: None
        assert content(read(store)) == after
        changes = store.changes
        assert mirror.copy(str(folder), BUCKET)
        assert store.changes == changes  # there was nothing left to do
    assert cut_off > 5
    assert looks > cut_off
    left_behind = (store.root / "bucket" / "models").glob(".copying-*")
    assert [content(each) for each in left_behind if content(each)] == []


def test_serving_folders_of_one_name_never_share_a_staging_folder(
    store: type[Store], folder: Path, tmp_path: Path
) -> None:
    """Even if each was killed while it wrote its id, which left an empty file."""
    other = tmp_path / "elsewhere" / "serving" / "m"
    operations.release(make_model(tmp_path / "2", "second"), str(other))
    for each in (folder, other):
        each.with_name(".copying-as-m").write_text("")
    for each in (folder, other):
        store.left = 1
        with pytest.raises(CopyError, match="the store is away"):
            mirror.copy(str(each), BUCKET)
    used = {path.name for path in (store.root / "bucket" / "models").glob(".copying-*")}
    ids = {each.with_name(".copying-as-m").read_text() for each in (folder, other)}
    assert used == {f".copying-m-{each}" for each in ids}
    assert len(used) == 2


def test_a_plain_path_is_a_filesystem_too(folder: Path, tmp_path: Path) -> None:
    copies = tmp_path / "nfs"
    place = mirror.copy(str(folder), str(copies))
    assert place == str(copies / "m" / newest(folder).name)
    assert content(Path(place)) == content(newest(folder))
    assert [path.name for path in copies.iterdir()] == ["m"]
    (Path(place) / "saved_model.pb").unlink()  # nothing of ours
    with pytest.raises(CopyError, match=r"that folder already exists, without a saved_model\.pb"):
        mirror.copy(str(folder), str(copies))


def test_another_model_of_the_same_number_is_left_alone(
    store: type[Store], folder: Path, tmp_path: Path
) -> None:
    mirror.copy(str(folder), BUCKET)
    other = tmp_path / "elsewhere" / "serving" / "m"
    other.mkdir(parents=True)
    newest(folder).rename(other / newest(folder).name)
    record = other / newest(other).name / "assets.extra" / "release.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "digest": "another"}))
    before = content(read(store))
    with pytest.raises(CopyError, match="the copy has a different model under this number"):
        mirror.copy(str(other), BUCKET)
    assert content(read(store)) == before


def test_nothing_in_service_nothing_to_copy(store: type[Store], tmp_path: Path) -> None:
    assert mirror.copy(str(tmp_path / "none"), BUCKET) is None
    assert store.changes == 0


def test_a_missing_filesystem_package_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    has_hdfs = importlib.util.find_spec("hdfs") is not None  # the compatible stack's Beam brings it
    no_host = "(ValueError: hdfs_host is not set). Set them in beam.args"
    for copy_to, sentence in (
        ("s3://bucket/models", "Install apache-beam[aws]."),
        ("ftp://host/models", "Beam does not support ftp://."),
        ("hdfs://models", no_host if has_hdfs else "Install apache-beam[hadoop]."),
    ):
        monkeypatch.setitem(mirror._PACKAGES, "s3", ("not_installed.at_all", "aws"))
        with pytest.raises(UserError) as found:
            mirror.check(copy_to)
        assert str(found.value).startswith(f"Setting 'release.copy_to' is '{copy_to}'")
        assert sentence in str(found.value)
    mirror.check("gs://bucket/models")  # TFX itself needs that package
    if has_hdfs:
        mirror.check("hdfs://models", ["--hdfs_host=h", "--hdfs_port=1", "--hdfs_user=u"])


@pytest.mark.parametrize("value", ["models", "gs://bucket/*", "./models"])
def test_a_folder_that_depends_on_where_one_stands_is_refused(value: str) -> None:
    with pytest.raises(UserError, match=r"Setting 'release\.copy_to' is .* must"):
        settings.load(overrides=[f"release.copy_to={value}"])


def test_rollback_is_copied_at_once_or_says_that_it_was_not(
    store: type[Store], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def call(*arguments: str) -> int:
        return releases.main([*arguments, "--serving", str(folder)])

    first = content(newest(folder))["variables/variables.index"]
    operations.release(make_model(tmp_path / "2", "second"), str(folder))
    mirror.copy(str(folder), BUCKET)
    versions = model_store.versions(str(folder))
    assert call("rollback", str(versions[0])) == 0
    assert f"Copy: {BUCKET}/m/{newest(folder).name}\n" in capsys.readouterr().out
    assert content(read(store))["variables/variables.index"] == first
    there = read(store)

    store.left = 1
    assert call("rollback", str(versions[1])) == 1
    error = capsys.readouterr().err
    assert f"Version {newest(folder).name} is in service in {folder}, but was not copied" in error
    assert error.count("\n") == 1
    assert read(store) == there != newest(folder)
    store.left = math.inf
    assert call("copy") == 0
    assert read(store).name == newest(folder).name
    assert call("prune", "--keep", "1") == 0
    assert len(list(read(store).parent.iterdir())) == 3  # what is copied stays

    (tmp_path / "output" / "latest_run.json").unlink()
    assert call("copy") == 2
    assert "Nothing to copy: " in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("store", ["objects"], indirect=True)
def test_a_run_completes_an_unfinished_copy(
    fresh_run: Run, store: type[Store], capfd: pytest.CaptureFixture[str]
) -> None:
    import local_runner

    def again() -> Run:
        return fresh_run.again(f"release.copy_to={BUCKET}")

    store.left = 3
    failed = again()
    assert (failed.code, failed.outcome["status"]) == (1, "failed")
    assert failed.outcome["error"].startswith("Copier failed: CopyError: version ")
    assert failed.outcome["copied_to"] is None
    assert failed.outcome["in_service"] == fresh_run.outcome["pushed_version"]
    assert failed.released().is_dir()
    capfd.readouterr()
    local_runner.main(["--history", "--output-root", str(fresh_run.output_root)])
    assert ", not copied" in capfd.readouterr().out

    store.left = math.inf
    completed = again()
    assert completed.code == 0
    assert completed.states()["Pusher"] == "cached"
    assert completed.states()["Copier"] == "executed"
    place = f"{BUCKET}/{fresh_run.serving_dir.name}/{completed.outcome['pushed_version']}"
    assert completed.outcome["copied_to"] == place
    assert content(store.root / place.removeprefix("store://")) == content(completed.released())
    report = (completed.output_root / "report.html").read_text()
    assert place in report
    assert "Nothing has changed since the run that released it." in report

    changes = store.changes
    assert again().outcome["copied_to"] == place
    assert store.changes == changes
