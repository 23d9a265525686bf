"""The serving folder: ``<folder>/<integer version>/``, the layout TensorFlow Serving watches.

A version appears by one rename and is never changed afterwards. Each carries a release record in
``assets.extra/``, which TensorFlow Serving leaves alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterator
from typing import Any

from tfx.dsl.io import fileio
from tfx.utils import io_utils

_RECORD = os.path.join("assets.extra", "release.json")


def versions(folder: str) -> list[int]:
    """The released versions, oldest first; empty if the folder does not exist."""
    if not fileio.exists(folder):
        return []
    names = (name.rstrip("/") for name in fileio.listdir(folder))
    return sorted(int(name) for name in names if name.isdecimal())


def record(folder: str, version: int) -> dict[str, Any]:
    """The release record of a version; empty for one that was not released by this pipeline."""
    path = os.path.join(folder, str(version), _RECORD)
    if not fileio.exists(path):
        return {}
    with fileio.open(path, "r") as file:
        return json.load(file)


def release(model_path: str, folder: str, **facts: Any) -> int:
    """Makes a SavedModel the newest version of a serving folder.

    Does nothing if the newest version is this very model already, file by file.

    Args:
      model_path: the SavedModel's folder.
      folder: the serving folder of the model.
      **facts: JSON values to keep in the release record.

    Returns:
      The version that now is the newest: seconds since 1970, or one more than its predecessor.
    """
    digest = _digest(model_path)
    existing = versions(folder)
    if existing and record(folder, existing[-1]).get("digest") == digest:
        return existing[-1]
    version = max(int(time.time()), existing[-1] + 1 if existing else 0)
    # Beside the watched folder, so that no server takes it for a version; on the same disk, so that
    # it can be renamed.
    parent, name = os.path.split(folder.rstrip("/"))
    staging = os.path.join(parent, f".staging-{name}")
    with contextlib.suppress(fileio.NotFoundError):
        fileio.rmtree(staging)  # what a killed run left behind
    io_utils.copy_dir(model_path, staging)
    fileio.makedirs(os.path.join(staging, os.path.dirname(_RECORD)))
    with fileio.open(os.path.join(staging, _RECORD), "w") as file:
        json.dump({"version": version, "digest": digest, **facts}, file, indent=2)
    fileio.makedirs(folder)
    fileio.rename(staging, os.path.join(folder, str(version)))
    return version


def recover(version_path: str, model_path: str) -> None:
    """Makes the SavedModel that a version was released from anew, at one stroke."""
    part = f"{model_path.rstrip('/')}.part"
    with contextlib.suppress(fileio.NotFoundError):
        fileio.rmtree(part)  # what a killed run left behind
    io_utils.copy_dir(version_path, part)
    fileio.remove(os.path.join(part, _RECORD))
    fileio.rename(part, model_path)


def _digest(model_path: str) -> str:
    total = hashlib.sha256()
    for path in sorted(_files(model_path)):
        with fileio.open(path, "rb") as file:
            content = hashlib.sha256(file.read()).hexdigest()
        total.update(f"{os.path.relpath(path, model_path)} {content}\n".encode())
    return total.hexdigest()


def _files(folder: str) -> Iterator[str]:
    for directory, _, names in fileio.walk(folder):
        yield from (os.path.join(directory, name) for name in names)
