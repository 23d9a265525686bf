"""Copy the version in service to any filesystem that Beam supports: setting ``release.copy_to``.

The copy has the layout of the serving folder, ``<copy_to>/<model>/<version>/``. The highest number
is the newest version; no other file marks it. Readers of the copy are safe at every moment:

- Files go first to ``<copy_to>/.copying-<model>-<owner>/``, which no server takes for a version. A
  copy that is killed at this point is invisible.
- On a filesystem with folders (a plain path, ``hdfs://``), one rename then makes the version
  appear, so nobody sees half of it.
- An object store (``gs://``, ``s3://``, ``azfs://``) can only rename one file at a time, and
  ``saved_model.pb`` is the last. A reader that takes the highest number with that file, as
  `pipeline.cli.predict` does, never sees half a version. TensorFlow Serving tries the highest
  number as soon as it has any file. Until the copy is complete, the load fails, the previous
  version stays in service, and TensorFlow Serving retries five times, a minute apart. If the copy
  is killed in these seconds and not completed within those minutes, TensorFlow Serving loads the
  version only after a restart.

A complete version is never changed, and none is removed.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path

from apache_beam.io.filesystem import BeamIOError, CompressionTypes, FileSystem
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions
from tfx.dsl.io import fileio

from pipeline.core import errors, files, progress
from pipeline.core.errors import CopyError, UserError
from pipeline.release import model_store

NODE = "Copier"  # component id; the pipeline has the component only if the setting is on
SETTING = "release.copy_to"

_GRAPH = "saved_model.pb"  # copied last: a version that has it is complete
_CHUNK = 2**24  # bytes
# By scheme: the module that Beam's filesystem imports, and the apache-beam extra that installs it.
_PACKAGES = {
    "gs": ("google.cloud.storage", "gcp"),
    "hdfs": ("hdfs", "hadoop"),
    "s3": ("boto3", "aws"),
    "azfs": ("azure.storage.blob", "azure"),
}


def check(copy_to: str, beam_args: Sequence[str] = ()) -> None:
    """Checks that Beam can use a folder's filesystem; does not access the folder.

    Args:
      copy_to: value of the setting.
      beam_args: extra Beam options, each ``--name=value``; hdfs:// needs some.

    Raises:
      UserError: if Beam does not support the scheme, or lacks a package or an option for it.
    """
    scheme = FileSystems.get_scheme(copy_to)
    setting = f"Setting {SETTING!r} is {copy_to!r}"
    module, extra = _PACKAGES.get(scheme, ("", ""))
    if module and not _importable(module):
        raise UserError(
            f"{setting}, but a package that Beam needs for {scheme}:// is missing. "
            f"Install apache-beam[{extra}]."
        )
    schemes = {system.scheme() for system in FileSystem.get_all_subclasses()}
    if scheme not in schemes:
        listed = ", ".join(sorted(f"{each}://" for each in schemes if each))
        raise UserError(
            f"{setting}, but Beam does not support {scheme}://. Use {listed} or a plain path."
        )
    # Beam keeps these options for the whole process, as it does for its own pipelines.
    FileSystems.set_options(PipelineOptions(list(beam_args)))
    try:
        FileSystems.get_filesystem(copy_to)
    except (ValueError, BeamIOError) as error:
        raise UserError(
            f"{setting}, but Beam cannot use {scheme}:// with these options "
            f"({errors.first_line(error)}). Set them in beam.args, each as --name=value."
        ) from error


def place(copy_to: str, folder: str, version: int) -> str:
    """The path of a version's copy, which need not exist.

    Args:
      copy_to: value of the setting.
      folder: the model's serving folder; its last part is the model's name.
      version: number of the version.
    """
    return f"{copy_to.rstrip('/')}/{_model(folder)}/{version}"


def copy(folder: str, copy_to: str, beam_args: Sequence[str] = ()) -> str | None:
    """Copies the version in service, unless it is already copied.

    Completes or replaces whatever an interrupted copy left behind.

    Args:
      folder: a model's serving folder.
      copy_to: value of the setting.
      beam_args: see `check`.

    Returns:
      The path of the copy; None if no version is in service.

    Raises:
      UserError: see `check`.
      CopyError: if copying fails, or the copy has a different model under that number. The serving
        folder and the versions already copied are unchanged.
    """
    check(copy_to, beam_args)
    # A separate lock, so that a rollback does not wait for an upload.
    with model_store.lock(folder, purpose="copying"):
        version = max(model_store.versions(folder), default=None)
        return None if version is None else _copy(folder, version, copy_to)


def _copy(folder: str, version: int, copy_to: str) -> str:
    source, target = model_store.path(folder, version), place(copy_to, folder, version)
    log = logging.getLogger(__name__)
    try:
        if _is_copied(folder, version, target):
            log.info("Version %d is already copied to %s.", version, target)
            return target
        if fault := model_store.damage(folder, version):
            raise CopyError(fault)
        names = _file_names(source)
        staging = f"{copy_to.rstrip('/')}/.copying-{_model(folder)}-{_owner(folder)}"
        if FileSystems.exists(staging):  # an object store reports False, and overwrites the files
            FileSystems.delete([staging])
        _write(source, staging, names)
        _move(staging, target, names)
    except Exception as error:  # every filesystem raises its own errors
        raise CopyError(
            f"version {version} is in service in {folder}, but was not copied to {target} "
            f"({_reason(error)}); start another run or call `python -m pipeline releases copy` to "
            "try again"
        ) from error
    log.info("Copied version %d to %s.", version, target)
    return target


def _owner(folder: str) -> str:
    """An id of this serving folder, distinct from any other that is copied to the same place."""
    path = Path(model_store.beside(folder, "copying-as"))
    owner = path.read_text().strip() if path.exists() else ""
    if not owner:  # also where a program that was killed left an empty file
        owner = uuid.uuid4().hex[:8]
        files.write_atomically(path, owner.encode())
    return owner


def _is_copied(folder: str, version: int, target: str) -> bool:
    if not FileSystems.exists(f"{target}/{_GRAPH}"):
        return False
    path, copied = f"{target}/{model_store.RECORD}", {}
    if FileSystems.exists(path):
        with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
            copied = json.loads(file.read())
    if model_store.record_is_damaged(folder, version):
        raise CopyError(f"its record, {model_store.RECORD}, is damaged")
    if copied != model_store.record(folder, version):
        raise CopyError("the copy has a different model under this number")
    return True


def _file_names(source: str) -> list[str]:
    """The files of a version, relative to its folder; the one that marks it complete is last."""
    names = (
        os.path.relpath(os.path.join(directory, name), source)
        for directory, _, files in fileio.walk(source)
        for name in files
    )
    return sorted(names, key=lambda name: (name == _GRAPH, name))


def _write(source: str, staging: str, names: Sequence[str]) -> None:
    progress.expect(len(names), progress.FILES)
    for name in names:
        with (
            fileio.open(os.path.join(source, name), "rb") as content,
            FileSystems.create(
                f"{staging}/{name}", compression_type=CompressionTypes.UNCOMPRESSED
            ) as file,
        ):
            shutil.copyfileobj(content, file, _CHUNK)
        progress.count(progress.FILES)


def _move(staging: str, target: str, names: Sequence[str]) -> None:
    if not FileSystems.get_filesystem(target).has_dirs():
        for part in (names[:-1], names[-1:]):
            FileSystems.rename(
                [f"{staging}/{name}" for name in part], [f"{target}/{name}" for name in part]
            )
        return
    if FileSystems.exists(target):  # some filesystems would move the staging folder into it
        raise CopyError(f"that folder already exists, without a {_GRAPH}")
    parent = target.rpartition("/")[0]
    if not FileSystems.exists(parent):
        FileSystems.mkdirs(parent)
    FileSystems.rename([staging], [target])


def _model(folder: str) -> str:
    return os.path.basename(folder.rstrip("/"))


def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # its parent package is missing
        return False


def _reason(error: Exception) -> str:
    if isinstance(error, CopyError):
        return str(error)
    details = error.exception_details if isinstance(error, BeamIOError) else None
    first = next(iter(details.values()), error) if isinstance(details, dict) else error
    return errors.first_line(first)
