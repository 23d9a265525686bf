"""Atomic writing of files."""

from __future__ import annotations

import os
import uuid
from pathlib import Path


def write_atomically(path: Path, contents: bytes) -> None:
    """Write a file so that readers see all of it or none; create its folder if needed.

    Raises:
      OSError: if the file cannot be written; nothing is left behind then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name[-100:]}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        temporary.write_bytes(contents)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
