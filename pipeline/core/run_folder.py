"""The output folder of runs on this machine: it is made, and used by one run at a time."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
from collections.abc import Callable
from pathlib import Path

import filelock

from pipeline.core import ownership, paths
from pipeline.core.errors import UserError

METADATA, ARTIFACTS = "metadata.sqlite", "artifacts"
OUTCOME, REPORT = "latest_run.json", "report.html"  # of the last run
_LOCK = ".lock"
_PATIENCE_S = 1  # `in_use` holds the lock for a moment
_STORE_PATIENCE_S = 5  # other tasks on a cluster write for moments


def make(path: Path) -> Path:
    """Makes the folder, with its logs/ in it, where they are missing; returns it as absolute path.

    Raises:
      UserError: if it cannot be made, the libraries would not understand its path, or a run would
        write over a file in it that a person made.
    """
    paths.check_no_pattern(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        (path / "logs").mkdir(exist_ok=True)
    except OSError as error:
        reason = "it is a file" if path.is_file() else error.strerror
        raise UserError(f"{path} cannot be the output folder: {reason}.") from None
    require_own_results(path)
    return path.resolve()


def require_own_results(path: Path) -> None:
    """Raises UserError if a run would write over a file in the folder that a person made."""
    ownership.require_own_results(path / OUTCOME, path / REPORT)


def lock(
    path: Path, advice: str = ", or give another --output-root"
) -> filelock.AcquireReturnProxy:
    """Keeps other runs out of the folder, for as long as the result is held.

    Args:
      path: the output folder.
      advice: what else than waiting helps where another run holds it.

    Raises:
      UserError: if another run holds it, or nothing can be written there.
    """
    try:
        return filelock.FileLock(path / _LOCK, timeout=_PATIENCE_S, mode=0o666).acquire()
    except filelock.Timeout:
        raise UserError(f"Another run is using {path}; wait for it{advice}.") from None
    except OSError as error:
        raise UserError(f"Cannot write to {path}: {error.strerror}.") from None


def in_use(path: Path) -> bool:
    """Whether a run holds the folder's lock."""
    try:
        filelock.FileLock(path / _LOCK, timeout=0).acquire().lock.release()
    except filelock.Timeout:
        return True
    except OSError:  # where nothing can be written no run is at work
        pass
    return False


def set_aside_unknown(path: Path, is_new: Callable[[], bool]) -> Path | None:
    """Moves artifacts aside that no metadata store speaks of, since it is new or was lost.

    A new store numbers its work from 1 again, and would meet the old folders of that number.

    Args:
      path: the output folder.
      is_new: whether no work is on record in the store; all work is before it makes a folder.

    Returns:
      Where they are now; None if there was nothing to move.
    """
    artifacts = path / ARTIFACTS
    # In this order: a folder that another run made after the first look is that of a known work.
    if not artifacts.is_dir() or not any(artifacts.iterdir()) or not is_new():
        return None
    numbers = itertools.count(1)
    aside = next(p for n in numbers if not (p := path / f"{ARTIFACTS}-{n}").exists())
    return artifacts.rename(aside)


def is_new(store: Path) -> bool:
    """Whether no work is on record in a metadata store in a file, or there is none."""
    if store.exists():
        with (
            contextlib.suppress(sqlite3.OperationalError),  # it has no tables yet
            contextlib.closing(sqlite3.connect(store)) as database,
        ):
            return database.execute("SELECT 1 FROM Execution LIMIT 1").fetchone() is None
    return True


def check_metadata(path: Path) -> None:
    """Sees whether the metadata store in an output folder can be used, if there is one.

    TFX would answer with the query that failed.

    Raises:
      UserError: if it cannot.
    """
    store = path / METADATA
    if not store.exists():
        return
    try:
        with contextlib.closing(sqlite3.connect(store, timeout=_STORE_PATIENCE_S)) as database:
            (found,) = database.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise sqlite3.DatabaseError(" ".join(found.split()))
            database.execute("BEGIN IMMEDIATE")  # as who writes
            database.rollback()
    except sqlite3.Error as error:
        said = str(error).rstrip(".")
        if "locked" in said:
            raise UserError(
                f"{store} is in use by another program ({said}); end that, and start again."
            ) from None
        if "readonly" in said or "unable to open" in said or store.is_dir():
            raise UserError(
                f"{store} cannot be opened for writing ({said}); make it a file that you may "
                "write, or give another --output-root."
            ) from None
        raise UserError(
            f"{store} is damaged ({said}); put a copy of it back, or move it away, or give another "
            "--output-root. The releases in serving/ are untouched."
        ) from None
