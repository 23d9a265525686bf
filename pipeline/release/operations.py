"""Changes to a serving folder: a new version, the way back, a repair, fewer versions.

Each takes the folder's lock, works in a folder of its own beside it, and ends in one rename.
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

from pipeline.core.errors import UserError
from pipeline.release import model_card, model_store, salvage
from pipeline.saved_model import contract, rewriting, smoke_test

_COMMAND = "`python -m pipeline releases"
_PROCESS = uuid.uuid4().hex[:8]  # the number of a process comes again, in containers above all


def release(
    model_path: str,
    folder: str,
    wanted: Mapping[str, Mapping[str, Any]] | None = None,
    convert: Callable[[str, dict[str, Any]], dict[str, Any]] | None = None,
    **facts: Any,
) -> int:
    """Makes a SavedModel the newest version of a serving folder.

    Does nothing if the newest version is this very model already, as it was released and with its
    whole record, and has these formats.

    Args:
      model_path: the SavedModel's folder.
      folder: the serving folder of the model.
      wanted: other formats that the version is to have: options by name.
      convert: makes them in the folder of a version, given its record; returns JSON values for the
        record. If it fails, nothing is released.
      **facts: JSON values to keep in the release record.

    Returns:
      The version that now is the newest: seconds since 1970, or one more than its predecessor.

    Raises:
      BrokenModelError: if the copy cannot be used; the folder is as it was.
    """
    with model_store.lock(folder):
        newest = max(model_store.versions(folder), default=None)
        if (
            newest
            and is_in_service(model_path, folder)
            and _has(folder, newest, wanted or {})
            and model_store.is_recorded(folder, newest)
        ):
            return newest
        # A number is taken meanwhile only on a disk that has no locks.
        while (version := _release(model_path, folder, wanted, convert, facts)) is None:
            pass
        return version


def _release(
    model_path: str,
    folder: str,
    wanted: Mapping[str, Mapping[str, Any]] | None,
    convert: Callable[[str, dict[str, Any]], dict[str, Any]] | None,
    facts: Mapping[str, Any],
) -> int | None:
    """See `release`; None if another release took the number."""
    newest = max(model_store.versions(folder), default=0)
    version = max(int(time.time()), newest + 1)
    while fileio.exists(os.path.join(folder, str(version))):  # no version, but in the way
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
    with _workplace(folder) as staging:
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
                f"the copy in {staging} changed while it was tried, or {model_path} did"
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
    """Whether a SavedModel is the one in service, in a version that is as it was released."""
    newest = max(model_store.versions(folder), default=None)
    if newest is None or model_store.damage(folder, newest):
        return False
    there = model_store.path(folder, newest)
    if contract.unservable(there) and not contract.unservable(model_path):
        return False
    return model_store.identify(there) == model_store.identify(model_path)


def _has(folder: str, version: int, wanted: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether a version has all these formats, with these options."""
    made = model_store.record(folder, version).get("formats", {})
    return all(name in made and made[name].items() >= o.items() for name, o in wanted.items())


def rollback(folder: str, version: int) -> int:
    """Puts the model of an older version back into service, as a version of its own.

    The models that were released after it are withdrawn: no run releases one again, only another
    rollback does.

    Returns:
      The new version, a copy of the old one. Its record is `incomplete` where that of the old one
      is lost, and no more than that was found.

    Raises:
      UserError: if there is no such version, or its model is in service already.
      BrokenModelError: if it cannot be used any more.
    """
    with model_store.lock(folder):
        path = _path(folder, version)
        newest = model_store.versions(folder)[-1]
        if version == newest and (fault := fault_of(folder, version)):
            advice = _other_way(folder, version)
            if salvage.find(folder, version)[0]:
                advice = f"{_COMMAND} repair {version} --serving {folder}` fixes it"
            raise UserError(f"Version {version} in {folder} is in service, but {fault}; {advice}.")
        if version == newest or is_in_service(path, folder):
            raise UserError(f"The model of version {version} in {folder} is in service already.")
        if not salvage.is_known_as(path, model_store.record(folder, version)):
            raise smoke_test.BrokenModelError(
                f"the files of version {version} are not those that were released"
            )
        source: str | None = path
        known = model_store.record(folder, version)
        if not known or known.get("incomplete"):
            source, known = salvage.find(folder, version)
            if source is None and (fault := model_store.lost_record(folder, version)):
                raise smoke_test.BrokenModelError(f"of version {version}, {fault}")
        rollback = {"to": version, "from": newest}
        return _bring_back(source or path, folder, version, known, rollback=rollback)


def repair(folder: str, version: int) -> int:
    """Puts the model of a version into service again that no server can run, or that is damaged.

    The former is exported anew; of the latter, what is still there of it is released again
    (`salvage.find`). Like a rollback, it withdraws the models that were released after it.

    Returns:
      The new version, with the record of the old one, or what was found of that.

    Raises:
      UserError: if there is no such version, or nothing is wrong with it, or nothing can be done.
      BrokenModelError: if it cannot be used even so.
    """
    with model_store.lock(folder):
        path = _path(folder, version)
        newest = model_store.versions(folder)[-1]
        mended = model_store.record(folder, newest).get("repaired") == version
        if mended and not fault_of(folder, newest):
            raise UserError(
                f"Version {newest} in {folder} is the repair of version {version} already."
            )
        if fault := model_store.damage(folder, version) or model_store.lost_record(folder, version):
            source, known = salvage.find(folder, version)
            if source is None:
                raise UserError(
                    f"Version {version} in {folder} cannot be repaired, since {fault}, and nothing "
                    f"else that holds its model was found; {_other_way(folder, version)}."
                )
            if version != newest and is_in_service(source, folder):
                raise UserError(f"The model of version {version} in {folder} is in service.")
            return _bring_back(source, folder, version, known, repaired=version)
        known = _known(folder, version)
        if not contract.unservable(path) and model_store.record(folder, version).get("incomplete"):
            if known.get("incomplete"):
                raise UserError(
                    f"The record of version {version} in {folder} is not complete, and no more of "
                    "it was found; a run on the same data with the same settings makes a whole one."
                )
            return _bring_back(path, folder, version, known, repaired=version)
        if not contract.unservable(path):
            raise UserError(f"Version {version} in {folder} needs no repair: servers can run it.")
        with _workplace(folder) as target:
            rewriting.rewrite(path, target)
            return _bring_back(target, folder, version, known, repaired=version)


def fault_of(folder: str, version: int) -> str | None:
    """What is wrong with a version, in one clause; None if nothing."""
    return (
        model_store.damage(folder, version)
        or contract.unservable(model_store.path(folder, version))
        or model_store.lost_record(folder, version)
    )


def _other_way(folder: str, version: int) -> str:
    """What to do about a version that cannot be repaired, in a clause."""
    for other in reversed(model_store.history(folder)):
        number = other["version"]
        if number == version or other["status"] == model_store.WITHDRAWN:
            continue
        if not fault_of(folder, number):
            return (
                f"{_COMMAND} rollback {number} --serving {folder}` puts that one back, or run again"
            )
    return "run again"


def _known(folder: str, version: int) -> dict[str, Any]:
    """The record of a version that is sound but for that, or as much of it as was found."""
    known = model_store.record(folder, version)
    whole = known and not known.get("incomplete")
    return known if whole else salvage.find(folder, version)[1]


def _path(folder: str, version: int) -> str:
    """The folder of a version; raises UserError if there is none."""
    existing = model_store.versions(folder)
    if version not in existing:
        known = ", ".join(map(str, existing)) or "none"
        raise UserError(f"There is no version {version} in {folder}; it holds: {known}.")
    return model_store.path(folder, version)


def _bring_back(
    model_path: str, folder: str, version: int, known: dict[str, Any], **facts: Any
) -> int:
    """Releases the model of a version once more, and withdraws later ones.

    Args:
      model_path: the SavedModel.
      folder: the serving folder.
      version: that it is of.
      known: what the record of the version has, or had.
      **facts: of the new version alone.
    """
    later = [each for each in model_store.versions(folder) if each > version]
    taken_back = {*model_store.withdrawn(folder), *(model_store.model_of(folder, v) for v in later)}
    # Also under the names that records from before there were identities have for them.
    taken_back |= {d for v in later if (d := model_store.record(folder, v).get("digest"))}
    old = dict(known)
    taken_back -= {model_store.identify(model_path), old.get("identity"), old.get("digest"), ""}
    for own in ("version", "released", "digest", "identity", "replaced", "rollback", "repaired"):
        old.pop(own, None)
    made = old.get("formats", {})
    old["formats"] = {n: f for n, f in made.items() if model_store.has_format(model_path, f)}
    return release(model_path, folder, **{**old, "withdrawn": sorted(taken_back), **facts})


def prune(
    folder: str, keep: int, say: Callable[[str], object] = model_store.log.warning
) -> list[int]:
    """Removes the oldest versions, each at one stroke.

    Args:
      folder: the serving folder of a model.
      keep: how many of the newest to leave; the one in service is always among them.
      say: see `model_store.lock`.

    Returns:
      The versions that were removed. Where all that would be left are damaged, the newest that is
      sound is left, too.
    """
    # In this order, which nobody turns round: while it waits for an upload, others may release.
    with model_store.lock(folder, say, purpose="copying"), model_store.lock(folder, say):
        existing = model_store.versions(folder)
        removed, left = existing[: -max(keep, 1)], existing[-max(keep, 1) :]
        if removed and all(model_store.damage(folder, version) for version in left):
            sound = [version for version in removed if not model_store.damage(folder, version)]
            removed = [version for version in removed if version not in sound[-1:]]
        for version in removed:
            with _workplace(folder) as outside:
                fileio.rename(model_store.path(folder, version), outside)
        return removed


def recover(folder: str, version: int, model_path: str, source: str | None = None) -> None:
    """Makes the SavedModel that a version was released from anew, at one stroke.

    Args:
      folder: the serving folder.
      version: of the model.
      model_path: where it is to be.
      source: a SavedModel that holds it; None: the version.
    """
    with model_store.lock(folder):
        source = source or model_store.path(folder, version)
        part = f"{model_path.rstrip('/')}.part"
        _remove(part)  # what a killed run left behind
        io_utils.copy_dir(source, part)
        for name in model_store.ADDED:
            with contextlib.suppress(fileio.NotFoundError):
                fileio.remove(os.path.join(part, name))
        _remove(os.path.join(part, model_store.FORMATS))
        _remove(model_path)
        fileio.rename(part, model_path)


@contextlib.contextmanager
def _workplace(folder: str) -> Iterator[str]:
    """A path beside a serving folder for what becomes a version, or was one; gone afterwards.

    Its name says whose it is. Those of others were left by killed processes, as the lock is ours.
    """
    everyone = model_store.beside(folder, "staging")
    mine = f"{socket.gethostname()}-{os.getpid()}-{_PROCESS}"
    with model_store.lock(folder) as locked:
        fileio.makedirs(everyone)
        for name in fileio.listdir(everyone) if locked else []:
            if not name.startswith(mine):
                _remove(os.path.join(everyone, name))
        own = os.path.join(everyone, f"{mine}-{uuid.uuid4().hex[:8]}")
        try:
            yield own
        finally:
            _remove(own)
            with contextlib.suppress(OSError):  # another's is in it
                os.rmdir(everyone)


def _remove(path: str) -> None:
    with contextlib.suppress(fileio.NotFoundError):
        is_folder = fileio.isdir(path) and not os.path.islink(path)
        (fileio.rmtree if is_folder else fileio.remove)(path)


def _write(path: str, text: str) -> None:
    fileio.makedirs(os.path.dirname(path))
    with fileio.open(path, "w") as file:
        file.write(text)
