"""Changes to a serving folder: release, rollback, repair, prune, recover.

Each takes the folder's lock, works in its own folder beside it, and ends with one rename.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import tensorflow as tf
from tfx.dsl.io import fileio
from tfx.utils import io_utils

from pipeline.core import formatting
from pipeline.core.errors import UserError
from pipeline.release import model_card, model_store, salvage
from pipeline.saved_model import contract, rewriting, smoke_test

_COMMAND = "`python -m pipeline releases"
_PROCESS = uuid.uuid4().hex[:8]  # unlike this, process ids repeat, above all in containers

# Writes files in other formats into a version's folder, given its record; returns JSON values for
# the record.
Convert = Callable[[str, dict[str, Any]], dict[str, Any]]


def release(
    model_path: str,
    folder: str,
    wanted: Mapping[str, Mapping[str, Any]] | None = None,
    convert: Convert | None = None,
    **facts: Any,
) -> int:
    """Makes a SavedModel the newest version of a serving folder.

    Does nothing if the newest version already is this model, intact, with a complete record and
    the wanted formats.

    Args:
      model_path: the SavedModel's folder.
      folder: the model's serving folder.
      wanted: other formats that the version must have: options by format name.
      convert: makes the other formats. If it fails, nothing is released.
      **facts: JSON values for the release record.

    Returns:
      The newest version: seconds since 1970, or its predecessor plus one.

    Raises:
      BrokenModelError: if the copy fails the smoke test; the folder is unchanged.
    """
    with model_store.lock(folder):
        newest = max(model_store.versions(folder), default=None)
        if (
            newest
            and is_in_service(model_path, folder)
            and _has_formats(folder, newest, wanted or {})
            and model_store.is_recorded(folder, newest)
        ):
            return newest
        # Another process can take the number only on a disk without locks.
        while (version := _release(model_path, folder, wanted, convert, facts)) is None:
            pass
        return version


def _release(
    model_path: str,
    folder: str,
    wanted: Mapping[str, Mapping[str, Any]] | None,
    convert: Convert | None,
    facts: Mapping[str, Any],
) -> int | None:
    """See `release`; returns None if another release took the version number."""
    newest = max(model_store.versions(folder), default=0)
    version = max(int(time.time()), newest + 1)
    while fileio.exists(os.path.join(folder, str(version))):  # a stray, not a version
        version += 1
    files, model = model_store.digest(model_path), model_store.identify(model_path)
    replaced = {
        *model_store.replaced(folder),
        *([model_store.model_of(folder, newest)] if newest else []),
    }
    entry = {
        "version": version,
        "released": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "digest": files,
        "identity": model,
        "withdrawn": model_store.withdrawn(folder),
        "replaced": sorted(replaced - {model, ""}),
        **facts,
    }
    with _staging(folder) as staging:
        io_utils.copy_dir(model_path, staging)
        smoke_test.check(staging)
        if convert and wanted:
            entry["formats"] = convert(staging, entry)
        _write(os.path.join(staging, model_store.RECORD), json.dumps(entry, indent=2))
        card = model_card.markdown(entry)
        _write(os.path.join(staging, model_store.CARD), card)
        _write(os.path.join(staging, model_store.CARD_PAGE), model_card.html(card))
        if model_store.digest(staging) != files:
            raise smoke_test.BrokenModelError(
                f"the copy in {staging}, or {model_path}, changed during the smoke test"
            )
        fileio.makedirs(folder)
        target = os.path.join(folder, str(version))
        try:
            fileio.rename(staging, target)
        except (OSError, tf.errors.OpError):
            if not fileio.exists(target):
                raise
            return None
    return version


def is_in_service(model_path: str, folder: str) -> bool:
    """Whether a SavedModel is the model in service, and the version in service is intact."""
    newest = max(model_store.versions(folder), default=None)
    if newest is None or model_store.damage(folder, newest):
        return False
    path = model_store.path(folder, newest)
    if contract.unservable(path) and not contract.unservable(model_path):
        return False
    return model_store.identify(path) == model_store.identify(model_path)


def _has_formats(folder: str, version: int, wanted: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether a version has all wanted formats, with these options."""
    made = model_store.record(folder, version).get("formats", {})
    return all(
        name in made and made[name].items() >= options.items() for name, options in wanted.items()
    )


def rollback(folder: str, version: int) -> int:
    """Puts the model of an older version back into service, as a new version.

    Withdraws the models released after it: no run releases them again, only another rollback does.

    Returns:
      The new version. Its record is ``incomplete`` if the record of the old version is lost and
      cannot be recovered in full.

    Raises:
      UserError: if the version does not exist, or its model is already in service.
      BrokenModelError: if the old model can no longer be used.
    """
    with model_store.lock(folder):
        path = _path(folder, version)
        newest = model_store.versions(folder)[-1]
        if version == newest and (fault := fault_of(folder, version)):
            advice = _alternative(folder, version)
            if salvage.find(folder, version)[0]:
                advice = f"Run {_COMMAND} repair {version} --serving {folder}`"
            raise UserError(f"Version {version} in {folder} is in service, but {fault}. {advice}.")
        if version == newest or is_in_service(path, folder):
            raise _in_service_already(folder, version)
        record = model_store.record(folder, version)
        if not salvage.matches_record(path, record):
            raise smoke_test.BrokenModelError(
                f"the files of version {version} changed after the release"
            )
        source: str | None = path
        if not record or record.get("incomplete"):
            source, record = salvage.find(folder, version)
            if source is None and (fault := model_store.lost_record(folder, version)):
                raise smoke_test.BrokenModelError(
                    f"version {version} cannot be identified, because {fault}"
                )
        rollback = {"to": version, "from": newest}
        return _release_again(source or path, folder, version, record, rollback=rollback)


def repair(folder: str, version: int) -> int:
    """Puts the model of a broken version back into service, as a new version.

    If no server can run the version, its model is exported again. If the version is damaged, an
    intact copy of its model (`salvage.find`) is released. Like a rollback, this withdraws the
    models released after it.

    Returns:
      The new version, with the readable part of the old version's record.

    Raises:
      UserError: if the version does not exist, needs no repair or cannot be repaired.
      BrokenModelError: if the repaired model fails the smoke test.
    """
    with model_store.lock(folder):
        path = _path(folder, version)
        newest = model_store.versions(folder)[-1]
        repaired = model_store.record(folder, newest).get("repaired") == version
        if repaired and not fault_of(folder, newest):
            raise UserError(
                f"Version {version} in {folder} needs no repair: version {newest} is the "
                "repaired copy."
            )
        if fault := model_store.damage(folder, version) or model_store.lost_record(folder, version):
            source, record = salvage.find(folder, version)
            if source is None:
                raise UserError(
                    f"Version {version} in {folder} cannot be repaired: {fault}, and no other copy "
                    f"of its model exists. {_alternative(folder, version)}."
                )
            if version != newest and is_in_service(source, folder):
                raise _in_service_already(folder, version)
            return _release_again(source, folder, version, record, repaired=version)
        incomplete = model_store.record(folder, version).get("incomplete")
        record = _best_record(folder, version)
        if not contract.unservable(path):
            if not incomplete:
                raise UserError(
                    f"Version {version} in {folder} needs no repair: servers can run it."
                )
            if record.get("incomplete"):
                raise UserError(
                    f"The record of version {version} in {folder} is incomplete, and the rest of "
                    "it is lost. Run the pipeline on the same data with the same settings to "
                    "release the model with a complete record."
                )
            return _release_again(path, folder, version, record, repaired=version)
        with _staging(folder) as target:
            rewriting.rewrite(path, target)
            return _release_again(target, folder, version, record, repaired=version)


def fault_of(folder: str, version: int) -> str | None:
    """What is wrong with a version, in one clause; None if nothing is."""
    return (
        model_store.damage(folder, version)
        or contract.unservable(model_store.path(folder, version))
        or model_store.lost_record(folder, version)
    )


def _in_service_already(folder: str, version: int) -> UserError:
    return UserError(f"The model of version {version} in {folder} is already in service.")


def _alternative(folder: str, version: int) -> str:
    """Advice for a version that cannot be repaired, without a full stop."""
    for other in reversed(model_store.history(folder)):
        number = other["version"]
        if number == version or other["status"] == model_store.WITHDRAWN:
            continue
        if not fault_of(folder, number):
            return (
                f"Roll back with {_COMMAND} rollback {number} --serving {folder}`, or run the "
                "pipeline again"
            )
    return "Run the pipeline again"


def _best_record(folder: str, version: int) -> dict[str, Any]:
    """The record of an undamaged version, or the readable part of it if it is incomplete."""
    record = model_store.record(folder, version)
    complete = record and not record.get("incomplete")
    return record if complete else salvage.find(folder, version)[1]


def _path(folder: str, version: int) -> str:
    """The folder of a version; raises UserError if there is none."""
    existing = model_store.versions(folder)
    if version not in existing:
        if not existing:
            raise UserError(f"{folder} has no version {version}; it has no versions at all.")
        names = formatting.listed([str(each) for each in existing])
        plural = "s" if len(existing) > 1 else ""
        raise UserError(f"{folder} has no version {version}; it has version{plural} {names}.")
    return model_store.path(folder, version)


def _release_again(
    model_path: str, folder: str, version: int, record: Mapping[str, Any], **facts: Any
) -> int:
    """Releases the model of a version again, and withdraws the models of later versions.

    Args:
      model_path: the SavedModel.
      folder: the serving folder.
      version: the version to release again.
      record: its record, or the readable part of it.
      **facts: values for the record of the new version only.
    """
    later = [each for each in model_store.versions(folder) if each > version]
    withdrawn = {*model_store.withdrawn(folder), *(model_store.model_of(folder, v) for v in later)}
    # Records of old releases have a digest of the files instead of an identity.
    withdrawn |= {d for v in later if (d := model_store.record(folder, v).get("digest"))}
    withdrawn -= {model_store.identify(model_path), record.get("identity"), record.get("digest")}
    old = dict(record)
    for own in ("version", "released", "digest", "identity", "replaced", "rollback", "repaired"):
        old.pop(own, None)
    made = old.get("formats", {})
    old["formats"] = {n: f for n, f in made.items() if model_store.has_format(model_path, f)}
    return release(model_path, folder, **{**old, "withdrawn": sorted(withdrawn - {""}), **facts})


def prune(
    folder: str, keep: int, say: Callable[[str], object] = model_store.log.warning
) -> list[int]:
    """Removes the oldest versions, each with one rename.

    Args:
      folder: a model's serving folder.
      keep: number of newest versions to keep, at least 1.
      say: see `model_store.lock`.

    Returns:
      The removed versions. If all kept versions are damaged, the newest intact version is kept,
      too.
    """
    # Keep this order: while this process waits for an upload, others can still release.
    with model_store.lock(folder, say, purpose="copying"), model_store.lock(folder, say):
        existing = model_store.versions(folder)
        removed, kept = existing[: -max(keep, 1)], existing[-max(keep, 1) :]
        if removed and all(model_store.damage(folder, version) for version in kept):
            intact = [version for version in removed if not model_store.damage(folder, version)]
            removed = [version for version in removed if version not in intact[-1:]]
        for version in removed:
            with _staging(folder) as outside:
                fileio.rename(model_store.path(folder, version), outside)
        return removed


def recover(folder: str, version: int, model_path: str, source: str | None = None) -> None:
    """Restores the SavedModel that a version was released from, with one rename.

    Args:
      folder: the serving folder.
      version: the released version.
      model_path: the path to restore.
      source: a SavedModel with the model; None for the version itself.
    """
    with model_store.lock(folder):
        source = source or model_store.path(folder, version)
        part = f"{model_path.rstrip('/')}.part"
        _remove(part)  # a killed run leaves it behind
        io_utils.copy_dir(source, part)
        for name in model_store.ADDED:
            with contextlib.suppress(fileio.NotFoundError):
                fileio.remove(os.path.join(part, name))
        _remove(os.path.join(part, model_store.FORMATS))
        _remove(model_path)
        fileio.rename(part, model_path)


@contextlib.contextmanager
def _staging(folder: str) -> Iterator[str]:
    """A path beside the serving folder for a version to add or remove; deleted on exit.

    The name identifies the process. Under the lock, paths of other processes are leftovers of
    killed ones, so they are deleted, too.
    """
    parent = model_store.beside(folder, "staging")
    process = f"{socket.gethostname()}-{os.getpid()}-{_PROCESS}"
    with model_store.lock(folder) as locked:
        fileio.makedirs(parent)
        for name in fileio.listdir(parent) if locked else []:
            if not name.startswith(process):
                _remove(os.path.join(parent, name))
        own = os.path.join(parent, f"{process}-{uuid.uuid4().hex[:8]}")
        try:
            yield own
        finally:
            _remove(own)
            with contextlib.suppress(OSError):  # not empty: another process works in it
                os.rmdir(parent)


def _remove(path: str) -> None:
    with contextlib.suppress(fileio.NotFoundError):
        is_folder = fileio.isdir(path) and not os.path.islink(path)
        (fileio.rmtree if is_folder else fileio.remove)(path)


def _write(path: str, text: str) -> None:
    fileio.makedirs(os.path.dirname(path))
    with fileio.open(path, "w") as file:
        file.write(text)
