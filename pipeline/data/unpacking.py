"""Unpacks an untrusted archive: only regular files below its folder, up to a limit."""

from __future__ import annotations

import gzip
import io
import os
import platform
import shutil
import tarfile
import zlib
from collections.abc import Iterator
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
    if not hasattr(tarfile, "data_filter"):
        raise UserError(
            f"Python {platform.python_version()} cannot unpack {file} safely; use its newest patch "
            "release, or unpack the archive yourself."
        )
    temporary = root / f".{file.name}{_UNPACKING}"
    shutil.rmtree(temporary, ignore_errors=True)
    most = _MOST_GROWTH * file.stat().st_size + _MOST_HEADER
    try:
        with file.open("rb") as packed:
            zipped = packed.read(2) == b"\x1f\x8b"
            packed.seek(0)
            stream = _Bounded(gzip.GzipFile(fileobj=packed) if zipped else packed, most)
            with tarfile.open(fileobj=cast(IO[bytes], stream), mode="r:") as tar:
                tar.extractall(temporary, _bounded(tar, most), filter=_plain_file)
        if not (temporary / folder).is_dir():
            raise UserError(
                f"{file} contains no folder {folder}/; remove it and run the command again."
            )
        (temporary / folder).rename(root / folder)
    except tarfile.FilterError as error:
        raise UserError(
            f"{file} contains {error.tarinfo.name!r}, which is not a regular file below its "
            "folder. Nothing was unpacked; do not use this archive."
        ) from None
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise UserError(
            f"Cannot unpack {file} ({error}); remove it and run the command again."
        ) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _bounded(tar: tarfile.TarFile, limit: int) -> Iterator[tarfile.TarInfo]:
    """The members of an archive, as long as their number and their sizes stay within the limits."""
    for number, member in enumerate(tar, start=1):
        limit -= member.size
        if limit < 0 or number > _MOST_FILES:
            raise tarfile.ReadError(_TOO_MUCH)
        yield member


def _plain_file(member: tarfile.TarInfo, root: str) -> tarfile.TarInfo | None:
    """tarfile's own filter for data, less what it lets through: links and a file given twice."""
    if not (member.isreg() or member.isdir()):
        raise tarfile.SpecialFileError(member)
    if PurePosixPath(member.name).name.startswith("._"):  # macOS's attributes of a file
        return None
    member = tarfile.data_filter(member, root)
    if member.isreg() and os.path.lexists(os.path.join(root, member.name)):
        raise tarfile.ReadError(f"{member.name!r} occurs twice")
    return member
