"""The output folder of runs on this machine, which one run uses at a time."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import filelock

from pipeline.core import ownership, paths
from pipeline.core.errors import UserError

METADATA, ARTIFACTS = "metadata.sqlite", "artifacts"
OUTCOME, REPORT = "latest_run.json", "report.html"  # of the last run
_LOCK = ".lock"
_PATIENCE_S = 1  # `in_use` holds the lock briefly
_STORE_PATIENCE_S = 5  # other tasks on a cluster lock the store briefly


def make(path: Path) -> Path:
    """Create the folder and its logs/ if they are missing, and return its absolute path.

    Raises:
      UserError: if it cannot be created, a library cannot handle its path, or a run would overwrite
        a user's file in it.
    """
    paths.check_no_pattern(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        (path / "logs").mkdir(exist_ok=True)
    except OSError as error:
        reason = "it is a file" if path.is_file() else error.strerror
        raise UserError(f"Cannot use {path} as the output folder: {reason}.") from None
    require_own_results(path)
    return path.resolve()


def require_own_results(path: Path) -> None:
    """Raise UserError if a run would overwrite a user's file in the folder."""
    ownership.require_own_results(path / OUTCOME, path / REPORT)


def lock(
    path: Path, advice: str = ", or choose another --output-root"
) -> AbstractContextManager[object]:
    """Lock the folder against other runs until the returned context exits.

    Args:
      path: the output folder.
      advice: an alternative to waiting for the run that holds it.

    Raises:
      UserError: if another run holds it, or the folder is not writable.
    """
    try:
        return filelock.FileLock(path / _LOCK, timeout=_PATIENCE_S, mode=0o666).acquire()
    except filelock.Timeout:
        raise UserError(f"Another run is using {path}; wait for it to end{advice}.") from None
    except OSError as error:
        raise UserError(f"Cannot write to {path}: {error.strerror}.") from None


def in_use(path: Path) -> bool:
    """Return whether a run holds the folder's lock."""
    try:
        filelock.FileLock(path / _LOCK, timeout=0).acquire().lock.release()
    except filelock.Timeout:
        return True
    except OSError:  # a folder that cannot be written has no run
        pass
    return False


def move_orphaned_artifacts(path: Path, is_new: Callable[[], bool]) -> Path | None:
    """Rename the artifacts folder if the metadata store is new and does not know its contents.

    A new store numbers executions from 1 again, and would collide with old folders of that number.

    Args:
      path: the output folder.
      is_new: returns whether the store has no execution. Executions are recorded before they create
        a folder.

    Returns:
      The new path; None if there was nothing to move.
    """
    artifacts = path / ARTIFACTS
    # Check the folder before the store: what another run adds in between has an execution.
    if not artifacts.is_dir() or not any(artifacts.iterdir()) or not is_new():
        return None
    names = (path / f"{ARTIFACTS}-{number}" for number in itertools.count(1))
    return artifacts.rename(next(name for name in names if not name.exists()))


def is_new(store: Path) -> bool:
    """Return whether a metadata store in SQLite has no execution or does not exist."""
    if store.exists():
        with (
            contextlib.suppress(sqlite3.OperationalError),  # no tables yet
            contextlib.closing(sqlite3.connect(store)) as database,
        ):
            return database.execute("SELECT 1 FROM Execution LIMIT 1").fetchone() is None
    return True


def check_metadata(path: Path) -> None:
    """Check that the metadata store in an output folder, if there is one, is usable.

    TFX would only report the query that failed.

    Raises:
      UserError: if it is not.
    """
    store = path / METADATA
    if not store.exists():
        return
    try:
        with contextlib.closing(sqlite3.connect(store, timeout=_STORE_PATIENCE_S)) as database:
            (result,) = database.execute("PRAGMA quick_check(1)").fetchone()
            if result != "ok":
                raise sqlite3.DatabaseError(" ".join(result.split()))
            database.execute("BEGIN IMMEDIATE")  # fails if the store is not writable
            database.rollback()
    except sqlite3.Error as error:
        reason = str(error).rstrip(".")
        if "locked" in reason:
            raise UserError(
                f"Another program is using {store} ({reason}); stop it and start again."
            ) from None
        if "readonly" in reason or "unable to open" in reason or store.is_dir():
            raise UserError(
                f"Cannot open {store} for writing ({reason}); make it a writable file or choose "
                "another --output-root."
            ) from None
        raise UserError(
            f"{store} is damaged ({reason}); restore a backup, move it elsewhere, or choose "
            "another --output-root. The releases in serving/ are untouched."
        ) from None
