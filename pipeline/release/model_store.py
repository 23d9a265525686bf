"""The serving folder: ``<folder>/<integer version>/``, the layout TensorFlow Serving watches.

The highest version is the one in service. A version appears by one rename, after a fresh process
has used it, and is never changed afterwards; `pipeline.release.operations` makes them. Each
carries its release record and model card in ``assets.extra/``, which TensorFlow Serving leaves
alone.

People and failing disks change such folders, too. So a damaged record is as good as none, and what
a version holds is looked up in its files, not in its record.
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
ADDED = (RECORD, CARD, CARD_PAGE)  # to the model, when it becomes a version; so is FORMATS

IN_SERVICE, REPLACED, WITHDRAWN = "in service", "replaced", "withdrawn"

log = logging.getLogger(__name__)

_HIGHEST = 2**63 - 1  # that TensorFlow Serving can read
_PATIENCE_S = 3600  # a release can take as long: it may convert to 8 bits


class _Data(pydantic.BaseModel):
    splits: dict[str, int] = {}


class _Rollback(pydantic.BaseModel):
    to: int


class _Record(pydantic.BaseModel):
    """What the rest of the code relies on in a record; what a field means says who writes it."""

    released: str = ""
    digest: str = ""
    identity: str = ""
    withdrawn: list[str] = []
    replaced: list[str] = []
    repaired: int = 0
    incomplete: bool = False  # most of it was lost, and only a run makes a whole one
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
    """The folder of a version, whose name may have zeros in front; it need not exist."""
    usual = os.path.join(folder, str(version))
    # Not the whole folder for each of its versions.
    name = str(version) if _is_version(usual) else _names(folder).get(version, str(version))
    return os.path.join(folder, name)


def strays(folder: str) -> list[str]:
    """What has a number for a name, as versions have, and is none: files and empty folders."""
    return sorted(set(_numbers(folder)) - set(_names(folder).values()))


def _names(folder: str) -> dict[int, str]:
    """The names of the folders that hold a version, by its number."""
    found: dict[int, str] = {}
    for name in _numbers(folder):
        if _is_version(os.path.join(folder, name)):
            # Of 7 and 007 the shorter one, whatever the order.
            found[int(name)] = min(found.get(int(name), name), name, key=len)
    return found


def _is_version(there: str) -> bool:
    """Whether a folder with a number for a name holds anything of a version."""
    marks = ("saved_model.pb", "variables", RECORD)
    return any(fileio.exists(os.path.join(there, mark)) for mark in marks)


def _numbers(folder: str) -> list[str]:
    if not fileio.exists(folder):
        return []
    names = (name.rstrip("/") for name in fileio.listdir(folder))
    return [n for n in names if n.isascii() and n.isdigit() and int(n) <= _HIGHEST]


def record(folder: str, version: int) -> dict[str, Any]:
    """The release record of a version; empty if it has none, or a damaged one."""
    return read_record(path(folder, version)) or {}


def record_is_damaged(folder: str, version: int) -> bool:
    """Whether a version has a record that cannot be read."""
    return read_record(path(folder, version)) is None


def read_record(version_path: str) -> dict[str, Any] | None:
    """The release record in a version's folder; empty without one, None if it is damaged."""
    file_path = os.path.join(version_path, RECORD)
    if not fileio.exists(file_path):
        return {}
    try:
        with fileio.open(file_path, "rb") as file:
            found = pydantic.TypeAdapter(dict[str, Any]).validate_json(file.read())
        _Record.model_validate(found, strict=True)
    except Exception:  # a folder, another encoding, another program's file, a bad disk
        return None
    return found


def lost_record(folder: str, version: int) -> str | None:
    """That a version lost its record, in one clause; None if it has one, or none in the folder has.

    A folder in which nothing is of this pipeline holds models that somebody put there.
    """
    there = path(folder, version)
    if fileio.exists(os.path.join(there, RECORD)):
        return None
    if not is_described(folder, version):
        return f"its record, {RECORD}, is missing, and so is {contract.FACTS}"
    marks = [os.path.join(path(folder, other), RECORD) for other in versions(folder)]
    if any(map(fileio.exists, [os.path.join(there, contract.FACTS), *marks])):
        return f"its record, {RECORD}, is missing"
    return None


def is_described(folder: str, version: int) -> bool:
    """Whether a version says what its signatures do not (`contract.FACTS`), where others do."""
    own = os.path.join(path(folder, version), contract.FACTS)
    all_ = [os.path.join(path(folder, other), contract.FACTS) for other in versions(folder)]
    return fileio.exists(own) or not any(map(fileio.exists, all_))


def is_recorded(folder: str, version: int) -> bool:
    """Whether a version has its whole record, as far as the folder tells."""
    incomplete = record(folder, version).get("incomplete")
    return not incomplete and not lost_record(folder, version)


def history(folder: str) -> list[dict[str, Any]]:
    """The records of all versions, oldest first, each with its ``status`` now."""
    records = [{**record(folder, version), "version": version} for version in versions(folder)]
    taken_back = set(withdrawn(folder))
    for each in records:
        model = {model_of(folder, each["version"]), each.get("digest")}
        each["status"] = WITHDRAWN if model & taken_back else REPLACED
    for each in records[-1:]:
        each["status"] = IN_SERVICE
    return records


def withdrawn(folder: str) -> list[str]:
    """The models that a rollback took out of service; see `is_among`.

    A record has all from before it, but it may be lost, and a version may have been put there by
    hand. So all are read, one after the other. A version without a record that holds the model of
    an older one counts as a rollback to that.
    """
    found: set[str] = set()
    before: list[set[str]] = []
    for version in versions(folder):
        known = record(folder, version)
        model = {model_of(folder, version), known.get("digest", "")} - {""}
        found |= set(known.get("withdrawn", []))
        if not known:
            same = [i for i, other in enumerate(before) if other & model]
            found |= set().union(*before[same[-1] + 1 :]) if same else set()
        found -= model
        before.append(model)
    return sorted(found)


def replaced(folder: str) -> list[str]:
    """The models that were in service before the one that is; see `is_among`."""
    existing = versions(folder)
    found = {model for version in existing for model in record(folder, version).get("replaced", [])}
    models = [model_of(folder, version) for version in existing]
    return sorted({*found, *models[:-1]} - {*models[-1:], ""})


def is_among(model_path: str, models: list[str]) -> bool:
    """Whether a SavedModel is one of those that `withdrawn` or `replaced` gives."""
    # Records from before there were identities have digests of files.
    return bool({identify(model_path), digest(model_path)} & set(models))


def same_model(folder: str, version: int, other: int) -> bool:
    """Whether two versions hold the same model, or the other is a repair of the first."""
    if record(folder, other).get("repaired") == version:
        return True
    return model_of(folder, version) == model_of(folder, other)


def model_of(folder: str, version: int) -> str:
    """Identity of a version's model, also where only its record still knows that."""
    return record(folder, version).get("identity") or identify(path(folder, version))


def identify(model_path: str) -> str:
    """What tells a SavedModel from others: its identity; of what is no SavedModel, its digest.

    Empty if there is none, or it cannot be read.
    """
    try:
        return identity.of_model(model_path)
    except Exception:  # TensorFlow raises many kinds for a damaged file
        with contextlib.suppress(OSError, tf.errors.OpError):
            return digest(model_path)
    return ""


def digest(model_path: str) -> str:
    """Hex digest of a SavedModel, file by file; that of a version is the one of its model.

    Empty if there is none.
    """
    total, there = hashlib.sha256(), sorted(_files(model_path))
    for file_path in there:
        name = os.path.relpath(file_path, model_path)
        if name not in ADDED and not name.startswith(FORMATS):
            total.update(f"{name} {file_digest(file_path)}\n".encode())
    return total.hexdigest() if there else ""


def damage(folder: str, version: int) -> str | None:
    """Why a version is not as it was released, in one clause; None if it is."""
    there = path(folder, version)
    if fault := contract.misfit(there):
        return fault
    known = read_record(there)
    if known is None:
        return f"its record, {RECORD}, is damaged"
    try:
        if known.get("digest", "") not in ("", digest(there)):
            return "its files are not those that were released"
        for name, facts in known.get("formats", {}).items():
            if not has_format(there, facts):
                return f"its files of the format {name} are missing or others"
    except (OSError, tf.errors.OpError) as error:  # a link to nowhere, a file of somebody else's
        return f"its files cannot be read ({first_line(error)})"
    return None


def has_format(version_path: str, facts: Mapping[str, Any]) -> bool:
    """Whether a version holds the files of a format, given what its record has on that."""
    for name, expected in facts.get("files", {}).items():
        file_path = os.path.join(version_path, FORMATS, name)
        if not fileio.exists(file_path) or file_digest(file_path) != expected:
            return False
    return True


@contextlib.contextmanager
def lock(
    folder: str, say: Callable[[str], object] = log.warning, purpose: str = "lock"
) -> Iterator[bool]:
    """Keeps other processes, on any machine that shares the disk, from changing a serving folder.

    Whoever holds it may take it again. The kernel frees it when its holder dies.

    Args:
      folder: of a model; it need not exist.
      say: what to tell people with who wait.
      purpose: another name for another lock, which keeps out nobody but who takes it.

    Yields:
      Whether others are kept out: some disks have no locks.

    Raises:
      UserError: if the folder beside it cannot be written to, or another one holds it for an hour.
    """
    held = locks.of(beside(folder, purpose))
    try:
        fileio.makedirs(os.path.dirname(held.lock_file))
        try:
            held.acquire(timeout=1)
        except filelock.Timeout:
            say(f"Another release is at work in {folder}; waiting for it.")
            held.acquire(timeout=_PATIENCE_S)
    except filelock.Timeout:
        raise UserError(f"Another release has been at work in {folder} for an hour.") from None
    except (OSError, NotImplementedError, tf.errors.OpError) as error:
        if not locks.are_missing(error):
            raise UserError(f"Cannot write beside {folder}: {first_line(error)}.") from None
        say(f"The disk of {folder} keeps no locks; see to it that nothing else releases there.")
    try:
        yield held.is_locked
    finally:
        held.release()


def beside(folder: str, purpose: str) -> str:
    """A place that no server takes for a version, on the same disk, so that it can be renamed."""
    there = folder.rstrip("/") if "://" in folder else os.path.realpath(folder)
    parent, name = os.path.split(there)
    return os.path.join(parent, f".{purpose}-{name}")


def file_digest(file_path: str) -> str:
    """Hex digest of a file."""
    with fileio.open(file_path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def _files(folder: str) -> Iterator[str]:
    for directory, _, names in fileio.walk(folder):
        yield from (os.path.join(directory, name) for name in names)
