"""Two processes release into one serving folder, as two schedules on a cluster do."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path

import filelock
import pytest

from pipeline.release import model_store, operations
from pipeline.saved_model import contract, smoke_test
from tests.support.releases import make_model, visible
from tests.support.runs import ROOT

# Its smoke test takes as long as the other process wants.
RELEASE = """
import pathlib, sys, time
from pipeline.release import operations
from pipeline.saved_model import smoke_test, contract
model, folder, ready, go_on = map(pathlib.Path, sys.argv[1:])
contract.misfit = contract.unservable = lambda path: None

def check(path):
    ready.touch()
    while not go_on.exists():
        time.sleep(0.01)

smoke_test.check = check
print(operations.release(str(model), str(folder)))
"""


@pytest.fixture(autouse=True)
def any_model_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, look in ((smoke_test, "check"), (contract, "misfit"), (contract, "unservable")):
        monkeypatch.setattr(module, look, lambda path: None)


@pytest.mark.parametrize("locks", [True, False])
def test_two_releases_at_once_are_both_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locks: bool
) -> None:
    """Also where the disk has no locks."""
    folder, ready, go_on = (tmp_path / name for name in ("serving/m", "ready", "go_on"))
    program = RELEASE
    if not locks:

        def fail(*_: object, **__: object) -> None:
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr(filelock.FileLock, "acquire", fail)
        program = f"""
import errno, filelock
def fail(*_, **__):
    raise OSError(errno.ENOLCK, "No locks available")
filelock.FileLock.acquire = fail
{program}"""
    first = make_model(tmp_path / "1", "first")
    slow = subprocess.Popen(
        [sys.executable, "-c", program, *map(str, (first, folder, ready, go_on))],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    while not ready.exists():
        assert slow.poll() is None

    def let_go(_: str = "") -> None:
        go_on.touch()

    second = make_model(tmp_path / "2", "second")
    if locks:
        with model_store.lock(str(folder), say=let_go):  # this one has to wait for the other
            operations.release(second, str(folder))
    else:
        operations.release(second, str(folder))
        let_go()
    assert slow.wait(60) == 0
    assert visible(folder.parent) == ["m"]
    for version in model_store.versions(str(folder)):
        assert model_store.damage(str(folder), version) is None
    made = {path.read_text() for path in folder.rglob("variables.index")}
    assert made == {"first", "second"}


def test_a_copy_that_is_not_what_was_to_be_released_is_not_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose_a_file(path: str) -> None:
        (Path(path) / "variables" / "variables.index").unlink()

    monkeypatch.setattr(smoke_test, "check", lose_a_file)
    with pytest.raises(smoke_test.BrokenModelError, match="changed while it was tried"):
        operations.release(make_model(tmp_path / "1"), str(tmp_path / "m"))
    assert model_store.versions(str(tmp_path / "m")) == []
    assert visible(tmp_path) == ["1"]


def test_what_a_killed_release_left_goes_and_what_goes_on_stays(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    left = tmp_path / ".staging-m"
    (left / "elsewhere-1-1234-5678").mkdir(parents=True)
    (left / "saved_model.pb").touch()  # from before each release had its own folder
    with model_store.lock(str(folder)):
        operations.release(make_model(tmp_path / "1"), str(folder))
    assert not left.exists()
    record = json.loads(next(folder.glob("*/assets.extra/release.json")).read_text())
    assert record["identity"]
