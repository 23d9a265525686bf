"""What the clients need beside Python, kept in a folder outside the project."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import filelock

from tests.support import Unavailable

_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
STORE = Path(os.environ.get("CLIENTS_STORE") or _CACHE / "segmentation-pipeline" / "clients")
_LONGEST = 900  # seconds for one step, on a slow line


def kept(name: str, sources: Iterable[Path], make: Callable[[Path], object]) -> Path:
    """A folder that is made once for each content of some files.

    Args:
      name: the folder's name begins with it.
      sources: the files that decide what is in it.
      make: fills an empty folder; who comes meanwhile waits.
    """
    digest = hashlib.sha256()
    for source in sources:
        content = source.read_bytes()
        digest.update(f"{source.name} {len(content)} ".encode() + content)
    folder = STORE / f"{name}-{digest.hexdigest()[:16]}"
    STORE.mkdir(parents=True, exist_ok=True)
    # One lock for all: neither Maven nor npm likes a second one in its own store.
    with filelock.FileLock(STORE / "lock", timeout=2 * _LONGEST):
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=STORE) as parent:
                making = Path(parent, "making")
                making.mkdir()
                make(making)
                making.rename(folder)  # a folder that exists is a whole one
    return folder


def get(command: Sequence[str], wanted: str, folder: Path | None = None) -> None:
    """Has a package manager get something.

    Raises:
      Unavailable: it cannot.
    """
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_LONGEST)
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{command[0]} did not get {wanted} in {_LONGEST} seconds") from None
    if done.returncode:
        said = " ".join((done.stdout + done.stderr).split())
        raise Unavailable(f"{command[0]} did not get {wanted}: {said[:600]}")


def run(command: Sequence[str | Path], timeout: float = _LONGEST) -> str:
    """What a program prints.

    Raises:
      RuntimeError: it failed.
    """
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    if done.returncode:
        raise RuntimeError(f"{Path(command[0]).name} failed: {done.stderr[-2000:]}")
    return done.stdout
