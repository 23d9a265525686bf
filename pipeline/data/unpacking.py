"""Unpacks an archive that somebody else made: plain files in its folder, not without bound."""

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

_UNPACKING = ".unpacking"  # ending of the folder where an archive is unpacked
# Photos hardly shrink. What unpacks to more, or to more files, was made to fill the disk.
_MOST_GROWTH, _MOST_FILES = 10, 100_000
_MOST_HEADER = 1 << 20  # bytes of a name or another note about a file in an archive
_TOO_MUCH = "it unpacks to far more than it should"


class _Bounded(io.RawIOBase):
    """What an archive unpacks to, read forward; no piece, and not the whole, beyond a bound."""

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
    """Unpacks an archive beside its place and moves its folder there when it is whole.

    Args:
      file: a tar file, gzipped or not.
      root: where its folder goes.
      folder: that one, relative; all else in the archive is left out.

    Raises:
      UserError: one sentence, if it is no sound archive, holds something other than plain files, or
        unpacks to far more than its size allows for.
      OSError: if it cannot be written.
    """
    aside = root / f".{file.name}{_UNPACKING}"
    shutil.rmtree(aside, ignore_errors=True)
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
                    _unpack_member(file, tar, member, aside)
        if not (aside / folder).is_dir():
            raise UserError(f"{file} holds no folder {folder}/; remove it and call again.")
        (aside / folder).rename(root / folder)
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise UserError(f"{file} cannot be unpacked ({error}); remove it and call again.") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _unpack_member(
    archive: Path, tar: tarfile.TarFile, member: tarfile.TarInfo, root: Path
) -> None:
    """Writes a file below `root`. No link is ever made, so no later file can follow one outside."""
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or not (member.isfile() or member.isdir()):
        raise UserError(
            f"{archive} holds {member.name!r}, which is no plain file below its folder; nothing "
            "was unpacked, do not use this archive."
        )
    contents = tar.extractfile(member)
    if contents is None or path.name.startswith("._"):  # a folder, or macOS's attributes of a file
        return
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        raise tarfile.ReadError(f"it holds {member.name!r} twice")
    with contents, target.open("xb") as output:
        shutil.copyfileobj(contents, output)
