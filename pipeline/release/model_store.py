"""The serving folder: ``<folder>/<integer version>/``, the layout TensorFlow Serving watches.

The highest version is in service. `pipeline.release.operations` makes versions: each passes a smoke
test in a fresh process, appears by one rename, and never changes afterwards. Its release record and
model card are in ``assets.extra/``, which TensorFlow Serving ignores.

People and failing disks change such folders, too. So a damaged record counts as no record, and the
files of a version decide what it contains, not its record.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import filelock
import pydantic
import tensorflow as tf
from tfx.dsl.io import fileio

from pipeline.core import locks
from pipeline.core.errors import UserError, first_line
from pipeline.saved_model import contract, identity

RECORD = os.path.join("assets.extra", "release.json")
CARD = os.path.join("assets.extra", "model_card.md")
CARD_PAGE = os.path.join("assets.extra", "model_card.html")
FORMATS = os.path.join("assets.extra", "formats")
ADDED = (RECORD, CARD, CARD_PAGE)  # files that a release adds to the model, beside FORMATS

IN_SERVICE, REPLACED, WITHDRAWN = "in service", "replaced", "withdrawn"

log = logging.getLogger(__name__)

_MAX_VERSION = 2**63 - 1  # TensorFlow Serving reads versions as int64
_LOCK_TIMEOUT_S = 3600  # a release that converts to int8 can take this long


class _Data(pydantic.BaseModel):
    splits: dict[str, int] = {}


class _Rollback(pydantic.BaseModel):
    to: int


class _Record(pydantic.BaseModel):
    """The fields of a release record that other code reads; more are allowed."""

    released: str = ""
    digest: str = ""
    identity: str = ""
    withdrawn: list[str] = []
    replaced: list[str] = []
    repaired: int = 0
    incomplete: bool = False  # most of it was lost; only a run can write a complete one
    rollback: _Rollback | None = None
    data_root: str = ""
    model_uri: str = ""
    statistics_uri: str = ""
    examples_uri: str = ""
    code: str = ""
    classes: list[str] = []
    data: _Data = _Data()
    metrics: dict[str, dict[str, Any]] = {}
    gate: list[dict[str, Any]] = []
    settings: dict[str, Any] = {}
    versions: dict[str, str] = {}
    formats: dict[str, dict[str, Any]] = {}


def versions(folder: str) -> list[int]:
    """The released versions, oldest first; empty if the folder does not exist."""
    return sorted(_names(folder))


def path(folder: str, version: int) -> str:
    """The folder of a version, which need not exist; its name may have leading zeros."""
    usual = os.path.join(folder, str(version))
    # List the whole folder only for names with leading zeros.
    name = str(version) if _is_version(usual) else _names(folder).get(version, str(version))
    return os.path.join(folder, name)


def strays(folder: str) -> list[str]:
    """Files and empty folders that are named like a version but are none."""
    return sorted(set(_numbers(folder)) - set(_names(folder).values()))


def _names(folder: str) -> dict[int, str]:
    """The folder names of all versions, by version number."""
    names: dict[int, str] = {}
    for name in _numbers(folder):
        if _is_version(os.path.join(folder, name)):
            # If both 7 and 007 exist, 7 wins, whatever the order of the listing.
            names[int(name)] = min(names.get(int(name), name), name, key=len)
    return names


def _is_version(version_path: str) -> bool:
    """Whether a folder named like a version contains any part of one."""
    parts = ("saved_model.pb", "variables", RECORD)
    return any(fileio.exists(os.path.join(version_path, part)) for part in parts)


def _numbers(folder: str) -> list[str]:
    if not fileio.exists(folder):
        return []
    names = (name.rstrip("/") for name in fileio.listdir(folder))
    return [n for n in names if n.isascii() and n.isdigit() and int(n) <= _MAX_VERSION]


def record(folder: str, version: int) -> dict[str, Any]:
    """The release record of a version; empty if it is missing or damaged."""
    return read_record(path(folder, version)) or {}


def record_is_damaged(folder: str, version: int) -> bool:
    """Whether a version has a record that cannot be read."""
    return read_record(path(folder, version)) is None


def read_record(version_path: str) -> dict[str, Any] | None:
    """The release record in a version's folder; empty if it is missing, None if damaged."""
    file_path = os.path.join(version_path, RECORD)
    if not fileio.exists(file_path):
        return {}
    try:
        with fileio.open(file_path, "rb") as file:
            values = pydantic.TypeAdapter(dict[str, Any]).validate_json(file.read())
        _Record.model_validate(values, strict=True)
    except Exception:  # a folder, another encoding, another program's file, a bad disk
        return None
    return values


def lost_record(folder: str, version: int) -> str | None:
    """Says in one clause that a version lost its record; None if it has one or never had one.

    Without any trace of this pipeline in the folder, somebody else put the models there, and their
    records are not missing.
    """
    version_path = path(folder, version)
    if fileio.exists(os.path.join(version_path, RECORD)):
        return None
    if not is_described(folder, version):
        return f"its record, {RECORD}, is missing, and so is {contract.FACTS}"
    records = [os.path.join(path(folder, other), RECORD) for other in versions(folder)]
    if any(map(fileio.exists, [os.path.join(version_path, contract.FACTS), *records])):
        return f"its record, {RECORD}, is missing"
    return None


def is_described(folder: str, version: int) -> bool:
    """Whether a version has its `contract.FACTS` file; True if no version of the folder has one."""
    own = os.path.join(path(folder, version), contract.FACTS)
    all_ = [os.path.join(path(folder, other), contract.FACTS) for other in versions(folder)]
    return fileio.exists(own) or not any(map(fileio.exists, all_))


def is_recorded(folder: str, version: int) -> bool:
    """Whether a version has its complete record."""
    incomplete = record(folder, version).get("incomplete")
    return not incomplete and not lost_record(folder, version)


def history(folder: str) -> list[dict[str, Any]]:
    """The records of all versions, oldest first, each with its current ``status``."""
    records = [{**record(folder, version), "version": version} for version in versions(folder)]
    withdrawn_models = set(withdrawn(folder))
    for each in records:
        model = {model_of(folder, each["version"]), each.get("digest")}
        each["status"] = WITHDRAWN if model & withdrawn_models else REPLACED
    for each in records[-1:]:
        each["status"] = IN_SERVICE
    return records


def withdrawn(folder: str) -> list[str]:
    """The models that a rollback took out of service; see `is_among`.

    Each record lists all models withdrawn before it. But a record can be lost, and somebody can add
    a version by hand, so this reads the records of all versions in order. A version without a
    record that contains the model of an older version counts as a rollback to that version.
    """
    models: set[str] = set()
    before: list[set[str]] = []
    for version in versions(folder):
        values = record(folder, version)
        model = {model_of(folder, version), values.get("digest", "")} - {""}
        models |= set(values.get("withdrawn", []))
        if not values:
            same = [i for i, other in enumerate(before) if other & model]
            models |= set().union(*before[same[-1] + 1 :]) if same else set()
        models -= model
        before.append(model)
    return sorted(models)


def replaced(folder: str) -> list[str]:
    """The models that were in service before the current one; see `is_among`."""
    existing = versions(folder)
    recorded = {
        model for version in existing for model in record(folder, version).get("replaced", [])
    }
    models = [model_of(folder, version) for version in existing]
    return sorted({*recorded, *models[:-1]} - {*models[-1:], ""})


def is_among(model_path: str, models: list[str]) -> bool:
    """Whether a SavedModel is among the models that `withdrawn` or `replaced` returned."""
    # Records of old releases have a digest of the files instead of an identity.
    return bool({identify(model_path), digest(model_path)} & set(models))


def same_model(folder: str, version: int, other: int) -> bool:
    """Whether two versions contain the same model, or the other is a repair of the first."""
    if record(folder, other).get("repaired") == version:
        return True
    return model_of(folder, version) == model_of(folder, other)


def model_of(folder: str, version: int) -> str:
    """Identity of a version's model, from its record or else from its files."""
    return record(folder, version).get("identity") or identify(path(folder, version))


def identify(model_path: str) -> str:
    """Identity of a SavedModel; the digest of the files if it is not a loadable SavedModel.

    Empty if nothing is there or it cannot be read.
    """
    try:
        return identity.of_model(model_path)
    except Exception:  # TensorFlow raises many kinds of errors for a damaged file
        with contextlib.suppress(OSError, tf.errors.OpError):
            return digest(model_path)
    return ""


def digest(model_path: str) -> str:
    """Hex digest of the files of a SavedModel, without those that a release adds.

    Empty if there are no files.
    """
    total, file_paths = hashlib.sha256(), sorted(_files(model_path))
    for file_path in file_paths:
        name = os.path.relpath(file_path, model_path)
        if name not in ADDED and not name.startswith(FORMATS):
            total.update(f"{name} {file_digest(file_path)}\n".encode())
    return total.hexdigest() if file_paths else ""


def damage(folder: str, version: int) -> str | None:
    """How a version differs from what was released, in one clause; None if it does not."""
    version_path = path(folder, version)
    if fault := contract.incompatibility(version_path):
        return fault
    values = read_record(version_path)
    if values is None:
        return f"its record, {RECORD}, is damaged"
    try:
        if values.get("digest", "") not in ("", digest(version_path)):
            return "its files changed after the release"
        for name, facts in values.get("formats", {}).items():
            if not has_format(version_path, facts):
                return f"its {name} files are missing or changed after the release"
    except (OSError, tf.errors.OpError) as error:  # a dangling link, another user's file
        return f"its files cannot be read ({first_line(error)})"
    return None


def has_format(version_path: str, facts: Mapping[str, Any]) -> bool:
    """Whether a version has the files of a format, unchanged.

    Args:
      version_path: the version's folder.
      facts: the entry of the format in the version's record.
    """
    for name, expected in facts.get("files", {}).items():
        file_path = os.path.join(version_path, FORMATS, name)
        if not fileio.exists(file_path) or file_digest(file_path) != expected:
            return False
    return True


@contextlib.contextmanager
def lock(
    folder: str, say: Callable[[str], object] = log.warning, purpose: str = "lock"
) -> Iterator[bool]:
    """Locks a serving folder against other processes, on any machine that shares the disk.

    A process may take a lock that it already holds. The kernel frees the lock of a dead process.

    Args:
      folder: a model's serving folder, which need not exist.
      say: prints a message for users, for example while this process waits.
      purpose: name of the lock; locks with different names do not block each other.

    Yields:
      Whether the folder is locked; some disks do not support locks.

    Raises:
      UserError: if the parent folder is not writable, or another process keeps the lock for an
        hour.
    """
    file_lock = locks.of(beside(folder, purpose))
    try:
        fileio.makedirs(os.path.dirname(file_lock.lock_file))
        try:
            file_lock.acquire(timeout=1)
        except filelock.Timeout:
            say(f"Another process is releasing to {folder}; waiting for it to finish.")
            file_lock.acquire(timeout=_LOCK_TIMEOUT_S)
    except filelock.Timeout:
        raise UserError(
            f"Another process has been releasing to {folder} for an hour; wait for it to finish, "
            "or stop it."
        ) from None
    except (OSError, NotImplementedError, tf.errors.OpError) as error:
        if not locks.are_missing(error):
            raise UserError(
                f"The parent folder of {folder} is not writable ({first_line(error)}); make it "
                "writable."
            ) from None
        say(
            f"The file system of {folder} does not support locks; make sure that nothing else "
            "releases there at the same time."
        )
    try:
        yield file_lock.is_locked
    finally:
        file_lock.release()


def beside(folder: str, purpose: str) -> str:
    """A path beside the serving folder that no server takes for a version, on the same disk."""
    resolved = folder.rstrip("/") if "://" in folder else os.path.realpath(folder)
    parent, name = os.path.split(resolved)
    return os.path.join(parent, f".{purpose}-{name}")


def file_digest(file_path: str) -> str:
    """Hex digest of a file."""
    with fileio.open(file_path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def _files(folder: str) -> Iterator[str]:
    for directory, _, names in fileio.walk(folder):
        yield from (os.path.join(directory, name) for name in names)
