"""The serving folder: ``<folder>/<integer version>/``, the layout TensorFlow Serving watches.

The highest version is the one in service. A version appears by one rename, after a fresh process
has used it, and is never changed afterwards. Each carries its release record and model card in
``assets.extra/``, which TensorFlow Serving leaves alone.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import os
import time
from collections.abc import Iterator
from typing import Any

from tfx.dsl.io import fileio
from tfx.utils import io_utils

from pipeline import canary, model_card
from pipeline.errors import UserError

RECORD = os.path.join("assets.extra", "release.json")
_CARD = os.path.join("assets.extra", "model_card.md")
_CARD_PAGE = os.path.join("assets.extra", "model_card.html")
_ADDED = (RECORD, _CARD, _CARD_PAGE)  # to the model, when it becomes a version

IN_SERVICE, REPLACED, WITHDRAWN = "in service", "replaced", "withdrawn"


def versions(folder: str) -> list[int]:
    """The released versions, oldest first; empty if the folder does not exist."""
    if not fileio.exists(folder):
        return []
    names = (name.rstrip("/") for name in fileio.listdir(folder))
    return sorted(int(name) for name in names if name.isdecimal())


def record(folder: str, version: int) -> dict[str, Any]:
    """The release record of a version; empty for one that was not released by this pipeline."""
    path = os.path.join(folder, str(version), RECORD)
    if not fileio.exists(path):
        return {}
    with fileio.open(path, "r") as file:
        return json.load(file)


def history(folder: str) -> list[dict[str, Any]]:
    """The records of all versions, oldest first, each with its ``status`` now."""
    records = [{"version": version, **record(folder, version)} for version in versions(folder)]
    taken_back = records[-1].get("withdrawn", []) if records else []
    for each in records:
        each["status"] = WITHDRAWN if each.get("digest") in taken_back else REPLACED
    for each in records[-1:]:
        each["status"] = IN_SERVICE
    return records


def withdrawn(folder: str) -> list[str]:
    """Digests of the models that a rollback took out of service; the newest record has them all."""
    existing = versions(folder)
    return record(folder, existing[-1]).get("withdrawn", []) if existing else []


def digest(model_path: str) -> str:
    """Hex digest of a SavedModel, file by file; that of a version is the one of its model."""
    total = hashlib.sha256()
    for path in sorted(_files(model_path)):
        name = os.path.relpath(path, model_path)
        if name not in _ADDED:
            with fileio.open(path, "rb") as file:
                content = hashlib.sha256(file.read()).hexdigest()
            total.update(f"{name} {content}\n".encode())
    return total.hexdigest()


def release(model_path: str, folder: str, **facts: Any) -> int:
    """Makes a SavedModel the newest version of a serving folder.

    Does nothing if the newest version is this very model already, file by file.

    Args:
      model_path: the SavedModel's folder.
      folder: the serving folder of the model.
      **facts: JSON values to keep in the release record.

    Returns:
      The version that now is the newest: seconds since 1970, or one more than its predecessor.

    Raises:
      BrokenModelError: if the copy cannot be used; the folder is as it was.
    """
    added = digest(model_path)
    existing = versions(folder)
    if existing and record(folder, existing[-1]).get("digest") == added:
        return existing[-1]
    version = max(int(time.time()), existing[-1] + 1 if existing else 0)
    entry = {
        "version": version,
        "released": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "digest": added,
        "withdrawn": withdrawn(folder),
        **facts,
    }
    staging = _beside(folder, "staging")
    _remove(staging)  # what a killed run left behind
    io_utils.copy_dir(model_path, staging)
    try:
        canary.check(staging)
    except Exception:
        _remove(staging)
        raise
    fileio.makedirs(os.path.join(staging, os.path.dirname(RECORD)))
    _write(os.path.join(staging, RECORD), json.dumps(entry, indent=2))
    card = model_card.markdown(entry)
    _write(os.path.join(staging, _CARD), card)
    _write(os.path.join(staging, _CARD_PAGE), model_card.html(card))
    fileio.makedirs(folder)
    fileio.rename(staging, os.path.join(folder, str(version)))
    return version


def rollback(folder: str, version: int) -> int:
    """Puts the model of an older version back into service, as a version of its own.

    The models that were released after it are withdrawn: no run releases one again, only another
    rollback does.

    Returns:
      The new version, a copy of the old one.

    Raises:
      UserError: if there is no such version, or its model is in service already.
      BrokenModelError: if it cannot be used any more.
    """
    existing = versions(folder)
    if version not in existing:
        known = ", ".join(map(str, existing)) or "none"
        raise UserError(f"There is no version {version} in {folder}; it holds: {known}.")
    path = os.path.join(folder, str(version))
    back = digest(path)
    later = [os.path.join(folder, str(each)) for each in existing if each > version]
    if not later or digest(later[-1]) == back:
        raise UserError(f"The model of version {version} in {folder} is in service already.")
    taken_back = {*withdrawn(folder), *map(digest, later)} - {back}
    facts = {
        **record(folder, version),
        "withdrawn": sorted(taken_back),
        "rollback": {"to": version, "from": existing[-1]},
    }
    for own in ("version", "released", "digest"):
        facts.pop(own, None)
    return release(path, folder, **facts)


def prune(folder: str, keep: int) -> list[int]:
    """Removes the oldest versions, each at one stroke.

    Args:
      folder: the serving folder of a model.
      keep: how many of the newest to leave; the one in service is always among them.

    Returns:
      The versions that were removed.
    """
    removed = versions(folder)[: -max(keep, 1)]
    outside = _beside(folder, "pruned")
    for version in removed:
        _remove(outside)
        fileio.rename(os.path.join(folder, str(version)), outside)
    _remove(outside)
    return removed


def recover(version_path: str, model_path: str) -> None:
    """Makes the SavedModel that a version was released from anew, at one stroke."""
    part = f"{model_path.rstrip('/')}.part"
    _remove(part)  # what a killed run left behind
    io_utils.copy_dir(version_path, part)
    for name in _ADDED:
        with contextlib.suppress(fileio.NotFoundError):
            fileio.remove(os.path.join(part, name))
    fileio.rename(part, model_path)


def _beside(folder: str, purpose: str) -> str:
    """A folder that no server takes for a version, on the same disk, so that it can be renamed."""
    parent, name = os.path.split(folder.rstrip("/"))
    return os.path.join(parent, f".{purpose}-{name}")


def _remove(folder: str) -> None:
    with contextlib.suppress(fileio.NotFoundError):
        fileio.rmtree(folder)


def _write(path: str, text: str) -> None:
    with fileio.open(path, "w") as file:
        file.write(text)


def _files(folder: str) -> Iterator[str]:
    for directory, _, names in fileio.walk(folder):
        yield from (os.path.join(directory, name) for name in names)
