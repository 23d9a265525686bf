"""The output folder of runs on this machine: it is made, and used by one run at a time."""

from __future__ import annotations

from pathlib import Path

import filelock

from pipeline.errors import UserError

_LOCK = ".lock"
_PATIENCE_S = 1  # `in_use` holds the lock for a moment


def make(path: Path) -> Path:
    """Makes the folder, with its logs/ in it, where they are missing; returns it as absolute path.

    Raises:
      UserError: if it cannot be made, or Beam would not understand its path.
    """
    if set("*?[]") & set(str(path.absolute())):
        raise UserError(
            f"The output folder {path} has one of the characters * ? [ ] in its path, which Beam "
            "takes for a pattern; give another --output-root."
        )
    try:
        path.mkdir(parents=True, exist_ok=True)
        (path / "logs").mkdir(exist_ok=True)
    except OSError as error:
        reason = "it is a file" if path.is_file() else error.strerror
        raise UserError(f"{path} cannot be the output folder: {reason}.") from None
    return path.resolve()


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
        return filelock.FileLock(path / _LOCK, timeout=_PATIENCE_S).acquire()
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
