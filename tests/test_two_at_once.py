"""Two processes release into one serving folder, as two schedules on a cluster do."""

from __future__ import annotations

import json
from pathlib import Path

import filelock
import pytest

from pipeline.release import model_store, operations
from pipeline.saved_model import smoke_test
from tests.support.forked import Forked
from tests.support.programs import slow_release
from tests.support.releases import make_model, visible

# The models here are mere files; tests/test_smoke_test.py has what a real one must do.
pytestmark = pytest.mark.usefixtures("any_model_passes")


@pytest.mark.parametrize("locks", [True, False])
def test_two_releases_at_once_are_both_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locks: bool
) -> None:
    """Also where the disk has no locks."""
    folder, ready, go_on = (tmp_path / name for name in ("serving/m", "ready", "go_on"))
    options = [f"--ready={ready}", f"--go-on={go_on}"]
    if not locks:
        monkeypatch.setattr(filelock.FileLock, "acquire", slow_release.refuse_locks)
        options.append("--no-locks")
    first = make_model(tmp_path / "1", "first")
    slow = Forked(slow_release.main, [first, str(folder), *options], tmp_path / "log")
    slow.wait_for(ready.exists)

    def let_go(_: str = "") -> None:
        go_on.touch()

    second = make_model(tmp_path / "2", "second")
    if locks:
        with model_store.lock(str(folder), say=let_go):  # this one has to wait for the other
            operations.release(second, str(folder))
    else:
        operations.release(second, str(folder))
        let_go()
    code, output = slow.wait(60)
    assert code == 0, output
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
    with pytest.raises(smoke_test.BrokenModelError, match="changed during the smoke test"):
        operations.release(make_model(tmp_path / "1"), str(tmp_path / "m"))
    assert model_store.versions(str(tmp_path / "m")) == []
    assert visible(tmp_path) == ["1"]


def test_leftovers_of_killed_releases_are_removed(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    left = tmp_path / ".staging-m"
    (left / "elsewhere-1-1234-5678").mkdir(parents=True)
    (left / "saved_model.pb").touch()  # from before each release had its own folder
    with model_store.lock(str(folder)):
        operations.release(make_model(tmp_path / "1"), str(folder))
    assert not left.exists()
    record = json.loads(next(folder.glob("*/assets.extra/release.json")).read_text())
    assert record["identity"]
