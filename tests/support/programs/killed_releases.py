"""Kills a process that releases again and again, while another loads whatever version is newest.

The model is 60 files of the same content; in a whole version they agree.
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from pipeline.release import model_store, operations
from pipeline.saved_model import smoke_test
from tests.support.releases import accept_any_model

KILLS = 20
FILES = 60


class Releases:
    """A serving folder below `root`, and the model that is released into it."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "serving" / "m"
        self.staging = root / "serving" / ".staging-m"
        self._source = root / "source"
        self._stop = root / "stop"
        self._results = root / "read.json"

    def write(self, text: str) -> None:
        """Makes the model that the next release takes."""
        for i in range(FILES):
            path = self._source / f"part{i % 6}" / str(i)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text * 2000)

    def release(self) -> None:
        operations.release(str(self._source), str(self.folder))

    def release_on_and_on(self) -> None:
        for i in range(1000):
            self.write(f"{os.getpid()}-{i} ")
            self.release()
            if len(model_store.versions(str(self.folder))) > 20:
                operations.prune(str(self.folder), 20)

    def read_until_stopped(self) -> None:
        """Loads the newest version again and again; writes how often, and what was wrong."""
        loads, newest = 0, 0
        faults: list[str] = []
        while not self._stop.exists():
            version = model_store.versions(str(self.folder))[-1]
            try:
                check(str(self.folder / str(version)))
                assert model_store.record(str(self.folder), version)["version"] == version
                assert version >= newest
            except Exception as error:
                faults.append(f"{version}: {error!r}")
            loads, newest = loads + 1, version
        self._results.write_text(json.dumps({"loads": loads, "faults": faults}))

    def unfinished(self, releaser: int) -> bool:
        """Whether a process has left part of a release in the staging folder."""
        return bool(list(self.staging.glob(f"*-{releaser}-*")))

    def wait_for_copying(self, releaser: int) -> None:
        while not list(self.staging.glob(f"*-{releaser}-*/part*")):
            time.sleep(0.001)

    def stop_reading(self, reader: int) -> dict[str, object]:
        self._stop.touch()
        os.waitpid(reader, 0)
        results: dict[str, object] = json.loads(self._results.read_text())
        return results


def check(path: str) -> None:
    """The smoke test of such a model."""
    parts = [each for each in Path(path).rglob("*") if each.parent.name.startswith("part")]
    if len(parts) != FILES or len({part.read_text() for part in parts}) != 1:
        raise smoke_test.BrokenModelError("half a copy")


def fork(work: Callable[[], None]) -> int:
    """The id of a process that does the work and ends."""
    pid = os.fork()
    if pid == 0:
        work()
        os._exit(0)
    return pid


def main(arguments: Sequence[str]) -> None:
    """Takes a folder and the seed of the moments; prints the results as JSON."""
    releases, moments = Releases(Path(arguments[0])), random.Random(int(arguments[1]))
    accept_any_model(pytest.MonkeyPatch(), check)
    releases.write("first")
    releases.release()
    reader = fork(releases.read_until_stopped)
    unfinished = 0
    for _ in range(KILLS):
        releaser = fork(releases.release_on_and_on)
        if moments.random() < 0.7:  # in the middle of a release, else at any moment
            releases.wait_for_copying(releaser)
        time.sleep(moments.uniform(0.0, 0.1))
        os.kill(releaser, signal.SIGKILL)
        os.waitpid(releaser, 0)
        unfinished += releases.unfinished(releaser)
    print(json.dumps({**releases.stop_reading(reader), "unfinished": unfinished}))
