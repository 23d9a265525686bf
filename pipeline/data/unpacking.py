"""Unpacks an untrusted archive: only regular files below its folder, up to a limit."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import tarfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO, cast

from pipeline.core.errors import UserError

_UNPACKING = ".unpacking"  # suffix of the temporary folder
# Photos hardly compress. An archive that unpacks to more was made to fill the disk.
_MOST_GROWTH, _MOST_FILES = 10, 100_000
_MOST_HEADER = 1 << 20  # bytes of one header or read; names in an archive can be any length
_TOO_MUCH = "it unpacks to far more data than it should"


class _Bounded(io.RawIOBase):
    """A decompressed stream that refuses large reads, and reads beyond a limit."""

    def __init__(self, stream: IO[bytes] | gzip.GzipFile, most: int) -> None:
        self._stream, self._most = stream, most

    def tell(self) -> int:
        return self._stream.tell()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if offset > self._most:
            raise tarfile.ReadError(_TOO_MUCH)
        return self._stream.seek(offset, whence)

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MOST_HEADER or self._stream.tell() + size > self._most:
            raise tarfile.ReadError(_TOO_MUCH)
        return self._stream.read(size)


def unpack(file: Path, root: Path, folder: Path) -> None:
    """Unpack an archive into a temporary folder, then move the wanted folder to its place.

    Args:
      file: a tar file, gzipped or not.
      root: where the folder goes.
      folder: the wanted folder, relative; the rest of the archive is dropped.

    Raises:
      UserError: if the archive is damaged, contains anything but regular files, or unpacks to far
        more data than its size suggests.
      OSError: if the files cannot be written.
    """
    temporary = root / f".{file.name}{_UNPACKING}"
    shutil.rmtree(temporary, ignore_errors=True)
    most = _MOST_GROWTH * file.stat().st_size + _MOST_HEADER
    try:
        with file.open("rb") as packed:
            zipped = packed.read(2) == b"\x1f\x8b"
            packed.seek(0)
            stream = _Bounded(gzip.GzipFile(fileobj=packed) if zipped else packed, most)
            with tarfile.open(fileobj=cast(IO[bytes], stream), mode="r:") as tar:
                left = most
                for number, member in enumerate(tar, start=1):
                    left -= member.size
                    if left < 0 or number > _MOST_FILES:
                        raise tarfile.ReadError(_TOO_MUCH)
                    _unpack_member(file, tar, member, temporary)
        if not (temporary / folder).is_dir():
            raise UserError(
                f"{file} contains no folder {folder}/; remove it and run the command again."
            )
        (temporary / folder).rename(root / folder)
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise UserError(
            f"Cannot unpack {file} ({error}); remove it and run the command again."
        ) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _unpack_member(
    archive: Path, tar: tarfile.TarFile, member: tarfile.TarInfo, root: Path
) -> None:
    """Write a file below `root`. Links are refused, so no later file can follow one outside."""
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or not (member.isfile() or member.isdir()):
        raise UserError(
            f"{archive} contains {member.name!r}, which is not a regular file below its folder. "
            "Nothing was unpacked; do not use this archive."
        )
    contents = tar.extractfile(member)
    if contents is None or path.name.startswith("._"):  # a folder, or macOS metadata
        return
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        raise tarfile.ReadError(f"it contains {member.name!r} twice")
    with contents, target.open("xb") as output:
        shutil.copyfileobj(contents, output)
