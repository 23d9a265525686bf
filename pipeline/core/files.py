"""Atomic writing of files."""

from __future__ import annotations

import os
import uuid
from pathlib import Path


def write_atomically(path: Path, contents: bytes) -> None:
    """Write a file so that readers see all of it or none; create its folder if needed.

    A power cut, too, leaves the old file or all of the new one.

    Raises:
      OSError: if the file cannot be written; nothing is left behind then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Without the file's name, which may already be as long as a name can be.
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(contents)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
