"""The copy of the serving folder on any filesystem that Beam knows: setting ``release.copy_to``.

It has the layout of the serving folder, ``<copy_to>/<model>/<version>/``, and receives the version
that is in service here. Its highest number is the newest version; nothing else marks it, so nothing
else has to follow. What a reader of the copy sees while a version comes, or after it was cut off:

- Files are first written to ``<copy_to>/.copying-<model>-<whose>/``, which no server takes for a
  version. A copy that is cut off here shows nothing.
- Where the filesystem has folders (a plain path, ``hdfs://``) the version then appears by one
  rename: there is no moment in which it is half there.
- An object store (``gs://``, ``s3://``, ``azfs://``) can only rename file after file;
  ``saved_model.pb`` goes last. Who takes the highest number that has one, as `pipeline.cli.predict`
  does, never sees half a version. TensorFlow Serving tries the highest number as soon as a file of
  it is there: meanwhile its load fails, the version before stays in service, and it tries again
  each minute, five times. If the copy is cut off in these seconds and not completed within those
  minutes, it takes the version when it is started anew.

A version that is there is never touched again, and none is removed.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import shutil
import uuid
from collections.abc import Sequence

from apache_beam.io.filesystem import BeamIOError, CompressionTypes, FileSystem
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions
from tfx.dsl.io import fileio

from pipeline.core import errors, progress
from pipeline.core.errors import CopyError, UserError
from pipeline.release import model_store

NODE = "Copier"  # id of the component that copies; the pipeline has it where it is asked for
SETTING = "release.copy_to"

_GRAPH = "saved_model.pb"  # the last file of a version to appear: a version that has it is whole
_CHUNK = 2**24  # bytes
# By scheme: what Beam's file system imports, and the extra of apache-beam that has it.
_PACKAGES = {
    "gs": ("google.cloud.storage", "gcp"),
    "hdfs": ("hdfs", "hadoop"),
    "s3": ("boto3", "aws"),
    "azfs": ("azure.storage.blob", "azure"),
}


def check(copy_to: str, beam_args: Sequence[str] = ()) -> None:
    """Checks that Beam can work with a folder's filesystem here; nothing is looked up in it.

    Args:
      copy_to: value of the setting.
      beam_args: further options of Beam, ``--name=value`` each; hdfs:// needs some.

    Raises:
      UserError: if Beam does not know the scheme, or lacks a package or an option for it.
    """
    scheme = FileSystems.get_scheme(copy_to)
    found = f"Setting {SETTING!r} is {copy_to!r}"
    module, extra = _PACKAGES.get(scheme, ("", ""))
    if module and not _importable(module):
        raise UserError(
            f"{found}, but Beam cannot use {scheme}:// here; install apache-beam[{extra}]."
        )
    known = {system.scheme() for system in FileSystem.get_all_subclasses()}
    if scheme not in known:
        listed = ", ".join(sorted(f"{each}://" for each in known if each))
        raise UserError(f"{found}; Beam knows {listed} and plain paths, but not {scheme}://.")
    # Beam keeps them for the process, as its own pipelines do.
    FileSystems.set_options(PipelineOptions(list(beam_args)))
    try:
        FileSystems.get_filesystem(copy_to)
    except (ValueError, BeamIOError) as error:
        raise UserError(
            f"{found}, but Beam cannot use {scheme}:// so ({errors.first_line(error)}); "
            "beam.args takes its options, --name=value each."
        ) from error


def place(copy_to: str, folder: str, version: int) -> str:
    """Where the copy of a version is, or will be.

    Args:
      copy_to: value of the setting.
      folder: the serving folder of the model, which has the model's name.
      version: of the model.
    """
    return f"{copy_to.rstrip('/')}/{_model(folder)}/{version}"


def copy(folder: str, copy_to: str, beam_args: Sequence[str] = ()) -> str | None:
    """Copies the version in service, unless the copy has it already.

    Whatever a copy that was cut off has left is completed or replaced.

    Args:
      folder: the serving folder of a model.
      copy_to: value of the setting.
      beam_args: see `check`.

    Returns:
      Where the copy of the version in service is; None if no version is in service.

    Raises:
      UserError: see `check`.
      CopyError: if it failed, or the copy has another version of that number. The serving folder
        is as it was, and so is each version that the copy had.
    """
    check(copy_to, beam_args)
    # A lock of its own: the way back to an older model does not wait for an upload.
    with model_store.lock(folder, purpose="copying"):
        version = max(model_store.versions(folder), default=None)
        return None if version is None else _copy(folder, version, copy_to)


def _copy(folder: str, version: int, copy_to: str) -> str:
    source, target = model_store.path(folder, version), place(copy_to, folder, version)
    say = logging.getLogger(__name__).info
    try:
        if _is_there(folder, version, target):
            say("%s has this version already.", target)
            return target
        if fault := model_store.damage(folder, version):
            raise CopyError(fault)
        names = _names(source)
        staging = f"{copy_to.rstrip('/')}/.copying-{_model(folder)}-{_whose(folder)}"
        if FileSystems.exists(staging):  # left behind; in an object store it is overwritten
            FileSystems.delete([staging])
        _write(source, staging, names)
        _move(staging, target, names)
    except Exception as error:  # each filesystem has its own
        raise CopyError(
            f"version {version} is in service in {folder}, but was not copied to {target} "
            f"({_reason(error)}); the next run tries again, and so does "
            "`python -m pipeline releases copy`"
        ) from error
    say("Copied version %d to %s.", version, target)
    return target


def _whose(folder: str) -> str:
    """Tells a serving folder from others that are copied to the same place, on any machine."""
    path = model_store.beside(folder, "copying-as")
    if not fileio.exists(path):
        with fileio.open(path, "w") as file:
            file.write(uuid.uuid4().hex[:8])
    with fileio.open(path, "r") as file:
        return file.read().strip()


def _is_there(folder: str, version: int, target: str) -> bool:
    if not FileSystems.exists(f"{target}/{_GRAPH}"):
        return False
    path, there = f"{target}/{model_store.RECORD}", {}
    if FileSystems.exists(path):
        with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
            there = json.loads(file.read())
    if model_store.record_is_damaged(folder, version):
        raise CopyError(f"its record, {model_store.RECORD}, is damaged")
    if there != model_store.record(folder, version):
        raise CopyError("another model has this number there")
    return True


def _names(source: str) -> list[str]:
    """The files of a version, relative to it; the one that makes it whole comes last."""
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
    if FileSystems.exists(target):  # some systems would move into it
        raise CopyError(f"there is a folder of that name, without a {_GRAPH}")
    parent = target.rpartition("/")[0]
    if not FileSystems.exists(parent):
        FileSystems.mkdirs(parent)
    FileSystems.rename([staging], [target])


def _model(folder: str) -> str:
    return os.path.basename(folder.rstrip("/"))


def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the package that it would be in
        return False


def _reason(error: Exception) -> str:
    if isinstance(error, CopyError):
        return str(error)
    details = error.exception_details if isinstance(error, BeamIOError) else None
    first = next(iter(details.values()), error) if isinstance(details, dict) else error
    return errors.first_line(first)
