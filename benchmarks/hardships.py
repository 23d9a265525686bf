"""Crash recovery: twenty kills, ten damaged metadata stores, ten damaged serving folders.

    python -m benchmarks.hardships

Uses one output folder and small settings. A run is killed at a random moment, twenty times. A store
or a serving folder is damaged, and a run, a list, a history and a rollback follow. Prints how each
ended. Ends with an error if a version was ever partly visible, a failed run was reported as
successful, anything that had been released was lost, or a traceback was shown.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import local_runner
from pipeline.cli import releases
from pipeline.data import synthetic
from pipeline.release import model_store

KILLS = 20
SETTINGS = (
    "transform.image_size=64",
    "model.name=xception_unet_s",
    "train.epochs=3",
    "train.augmentation=0",
    "gate.pixel_accuracy=0",
    "gate.mean_iou=0",
    "gate.class_iou=0",
    "gate.max_drop=1",
)


class Bench:
    """An output folder with a second model in service, and what is expected of it."""

    def __init__(self, root: Path) -> None:
        self.data, self.output = root / "data", root / "output"
        self.serving = self.output / "serving" / "xception_unet_s"
        synthetic.generate(self.data, count=40, seed=3)
        self.faults: list[str] = []

    def arguments(self, seed: int) -> list[str]:
        found = ["--data-root", str(self.data), "--output-root", str(self.output)]
        for setting in (*SETTINGS, f"train.seed={seed}"):
            found += ["--set", setting]
        return found

    def run(self, seed: int) -> tuple[int, str]:
        """Exit code and what was said on standard error."""
        return said(lambda: local_runner.main(self.arguments(seed)))

    def outcome(self) -> dict[str, object]:
        path = self.output / "latest_run.json"
        return json.loads(path.read_text()) if path.is_file() else {}

    def versions(self) -> list[int]:
        return model_store.versions(str(self.serving))

    def check(self, what: str, held: bool) -> None:
        if not held:
            self.faults.append(what)
            print(f"| FAULT | {what} |")


def said(main: Callable[[], int]) -> tuple[int, str]:
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
        code = main()
    return code, errors.getvalue()


def start(bench: Bench, seed: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "local_runner.py", *bench.arguments(seed)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def kill(bench: Bench) -> None:
    """Kills runs at random moments; what is visible is whole, and what ended is told."""
    begin = time.monotonic()
    if start(bench, 1).wait():
        raise SystemExit("The run before the kills failed.")
    whole = time.monotonic() - begin
    moments = random.Random(7)
    ended = 0
    for number in range(KILLS):
        before, last = bench.versions(), bench.outcome()
        run = start(bench, 2 + number)  # work that is new
        with contextlib.suppress(subprocess.TimeoutExpired):
            run.wait(moments.uniform(0.3, 1.0) * whole)
        done = run.poll() is not None
        ended += done
        if not done:
            os.kill(run.pid, signal.SIGKILL)
            run.wait()
        for version in bench.versions():
            fault = model_store.damage(str(bench.serving), version)
            bench.check(f"after kill {number}, version {version}: {fault}", fault is None)
        bench.check(f"kill {number} lost a version", set(before) <= set(bench.versions()))
        told = bench.outcome()
        # Before it announces itself it has not begun, and the outcome is the last run's; once it
        # has told of a release it has ended, but for the report.
        released = told.get("pushed_version") in bench.versions()[-1:]
        held = done or told == last or told["status"] == "failed" or released
        bench.check(f"kill {number} left status {told.get('status')}", held)
    code, error = bench.run(9)
    bench.check(f"the run after the kills ended with {code}: {error}", code == 0)
    left = list(bench.serving.parent.glob(".staging*"))
    bench.check(f"left behind: {left}", not left)
    print(f"| {KILLS} kills at random moments of {whole:.0f} s ({ended} came too late) | ")


def garbage(store: Path) -> None:
    store.write_bytes(b"garbage" * 5000)


def cut_to(share: float) -> Callable[[Path], None]:
    def cut(store: Path) -> None:
        store.write_bytes(store.read_bytes()[: int(store.stat().st_size * share)])

    cut.__name__ = f"cut to {share:.0%}"
    return cut


def zeros_within(store: Path) -> None:
    content = bytearray(store.read_bytes())
    content[8192:16384] = bytes(8192)
    store.write_bytes(content)


def empty(store: Path) -> None:
    store.write_bytes(b"")


def missing(store: Path) -> None:
    store.unlink()


def folder(store: Path) -> None:
    store.unlink()
    store.mkdir()


def another_program(store: Path) -> None:
    store.unlink()
    with contextlib.closing(sqlite3.connect(store)) as database, database:
        database.execute("CREATE TABLE Artifact (name TEXT)")


def locked(store: Path) -> None:
    lock = sqlite3.connect(store)
    lock.execute("BEGIN EXCLUSIVE")
    LOCKS.append(lock)


LOCKS: list[sqlite3.Connection] = []
STORES = [garbage, cut_to(0.1), cut_to(0.5), cut_to(0.95), zeros_within, empty, missing, folder]
STORES += [another_program, locked]


def damage_store(bench: Bench, harm: Callable[[Path], None]) -> None:
    store = bench.output / "metadata.sqlite"
    kept = shutil.copy(store, bench.output.with_name("kept.sqlite"))
    before = bench.versions()
    harm(store)
    code, error = bench.run(9)
    told = bench.outcome()["status"]
    name = harm.__name__.replace("_", " ")
    agrees = (told == "pushed") == (code == 0) == (error == "")
    bench.check(f"{name}: status {told}, exit code {code}: {error}", agrees)
    bench.check(f"{name}: {error}", error.count("\n") <= 1)
    bench.check(f"{name}: versions {bench.versions()}", bench.versions() == before)
    said(lambda: local_runner.main(["--history", "--output-root", str(bench.output)]))
    print(f"| store: {name} | {code}: {error.strip() or 'pushed, no new version'} |")
    while LOCKS:
        LOCKS.pop().close()
    shutil.rmtree(store) if store.is_dir() else store.unlink(missing_ok=True)
    shutil.move(kept, store)


def remove(pattern: str) -> Callable[[Path], None]:
    def harm(version: Path) -> None:
        for path in version.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    harm.__name__ = f"without {pattern}"
    return harm


def write(name: str, text: str) -> Callable[[Path], None]:
    def harm(version: Path) -> None:
        (version / name).write_text(text)

    harm.__name__ = f"{text[:12]!r} as {name}"
    return harm


def half_of_the_weights(version: Path) -> None:
    data = next(version.glob("variables/*.data*"))
    data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])


def a_bit_of_the_weights(version: Path) -> None:
    data = next(version.glob("variables/*.data*"))
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)


def numbers_beside(version: Path) -> None:
    (version.parent / "99999999999").mkdir()
    (version.parent / "99999999998").touch()
    (version / "saved_model.pb").unlink()


RECORD = model_store.RECORD
FOLDERS = [
    *map(remove, ("variables/*.data*", "saved_model.pb", "assets.extra", "variables")),
    *(write(RECORD, text) for text in ("", "[]", '{"withdrawn": 7, "metrics": []}')),
    half_of_the_weights,
    a_bit_of_the_weights,
    numbers_beside,
]


def damage_folder(bench: Bench, harm: Callable[[Path], None]) -> None:
    kept = bench.output.with_name("kept")
    shutil.copytree(bench.output, kept)
    newest, oldest = bench.versions()[-1], bench.versions()[0]
    harm(Path(model_store.path(str(bench.serving), newest)))
    results = {}
    where = ["--serving", str(bench.serving)]
    results["list"] = said(lambda: releases.main(["list", *where]))
    code, error = results["run"] = bench.run(9)
    in_service = bench.versions()[-1]
    fault = model_store.damage(str(bench.serving), in_service)
    bench.check(f"{harm.__name__}: in service {fault}", fault is None)
    healed = code == 0 and in_service > newest
    bench.check(f"{harm.__name__}: the run ended with {code} {error}", healed)
    results["rollback"] = said(lambda: releases.main(["rollback", str(oldest), *where]))
    for name, (code, error) in results.items():
        held = code == 0 and "Traceback" not in error
        bench.check(f"{harm.__name__}: {name} {code} {error}", held)
    what = harm.__name__.replace("_", " ")
    print(f"| in service: {what} | released again; list and rollback work |")
    shutil.rmtree(bench.output)
    kept.rename(bench.output)


def main() -> int:
    with tempfile.TemporaryDirectory() as root:
        bench = Bench(Path(root))
        kill(bench)
        for store in STORES:
            damage_store(bench, store)
        for each in FOLDERS:
            damage_folder(bench, each)
    print(f"{len(bench.faults)} faults")
    return bool(bench.faults)


if __name__ == "__main__":
    sys.exit(main())
