"""Fetches the real data set: two archives, 811 MB.

What was fetched stays: a call that was cut off goes on where it stood, and one on a complete folder
fetches nothing. A folder of the data set appears only when it is whole.
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import http.client
import shutil
import tarfile
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from pipeline.dataset import layout
from pipeline.errors import UserError

_BLOCK = 1 << 20  # bytes
_TIMEOUT = 60  # seconds without a byte
_WAITS = (1, 4, 15)  # seconds before another attempt
_UNPACKING = ".unpacking"  # where an archive is unpacked, in the data folder


@dataclass(frozen=True)
class Archive:
    """A tar file, named after the folder that it holds."""

    folder: Path  # below the data folder
    size: int  # bytes
    sha256: str

    @property
    def name(self) -> str:
        return f"{self.folder}.tar.gz"


@dataclass(frozen=True)
class Source:
    """Where a data set can be fetched, and how it is known to be complete."""

    url: str  # folder of the archives
    archives: tuple[Archive, ...]
    counts: Mapping[str, int]  # as `layout.count`

    def at(self, url: str) -> Source:
        """The same archives in another place; raises UserError if that is no HTTP address."""
        if not url.startswith(("https://", "http://")):
            raise UserError(f"--url is {url!r}; it must begin with https:// or http://.")
        return dataclasses.replace(self, url=url)


# Sizes and digests as TensorFlow Datasets' checksums.tsv has them; torchvision's MD5s,
# 5c4f3ee8e5d25df40f4fd59a7f44e54c and 95a8c909bbe2e81eed6a22bccdf3f68f, are of the same files.
PETS = Source(
    url="https://thor.robots.ox.ac.uk/pets",
    archives=(
        Archive(
            layout.ANNOTATIONS,
            19_173_078,
            "52425fb6de5c424942b7626b428656fcbd798db970a937df61750c0f1d358e91",
        ),
        Archive(
            layout.IMAGES,
            791_918_971,
            "67195c5e1c01f1ab5f9b6a5d22b8c27a580d896ece458917e61d459337fa318d",
        ),
    ),
    # 41 photos are on no list.
    counts={
        "photos": 7390,
        "pairs on list.txt": 7349,
        "pairs on trainval.txt": 3680,
        "pairs on test.txt": 3669,
    },
)


class _TransferError(Exception):
    """An attempt failed, the next may succeed; the message is a clause."""


def download(root: Path, source: Source, console: Console) -> None:
    """Makes a data folder of a source's archives.

    Args:
      root: the data folder; an archive lies in it until its folder is there.
      source: what to fetch.
      console: shows how far it is.

    Raises:
      UserError: one sentence, if an archive cannot be had, is not what it should be, or cannot be
        written.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        for archive in source.archives:
            if not (root / archive.folder).exists():
                file = root / archive.name
                _fetch(f"{source.url.rstrip('/')}/{archive.name}", file, archive.size, console)
                _verify(file, archive)
                _unpack(file, root, archive.folder)
                file.unlink()
        _verify_counts(root, source.counts)
    except OSError as error:
        raise UserError(
            f"Cannot write to {root}: {error.strerror or error}; mend that, or give another folder."
        ) from None


def _fetch(url: str, file: Path, size: int, console: Console) -> None:
    """Completes a file; each attempt goes on behind the last byte that is there."""
    with _progress(console) as progress, file.open("ab") as output:
        task = progress.add_task(file.name, total=size)
        for wait in (*_WAITS, None):
            try:
                for offset, block in _receive(url, output.tell(), size):
                    output.seek(offset)
                    output.truncate()
                    output.write(block)
                    progress.update(task, completed=output.tell())
                return
            except _TransferError as error:
                if wait is None:
                    raise UserError(
                        f"Cannot load {url}: {error}; call again to go on where it stopped."
                    ) from None
                time.sleep(wait)


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
    )


def _receive(url: str, start: int, size: int) -> Iterator[tuple[int, bytes]]:
    """Blocks of a file with their offsets: from `start`, or from 0 if the server knows no ranges.

    Raises:
      _TransferError: the file did not come to its end.
      UserError: it never will.
    """
    if start >= size:
        return
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
            offset = start if response.status == http.client.PARTIAL_CONTENT else 0
            if response.length is not None and offset + response.length != size:
                length = offset + response.length
                raise UserError(
                    f"{url} is {length:,} bytes long, not {size:,}; give another --url."
                )
            while block := response.read(_BLOCK):
                yield offset, block
                offset += len(block)
    except urllib.error.HTTPError as error:
        if error.code < http.client.INTERNAL_SERVER_ERROR:
            raise UserError(
                f"Cannot load {url}: the server answers {error.code} {error.reason}; give another "
                "--url."
            ) from None
        raise _TransferError(f"the server answers {error.code} {error.reason}") from None
    except (OSError, http.client.HTTPException) as error:
        raise _TransferError(str(getattr(error, "reason", error) or type(error).__name__)) from None
    if offset < size:
        raise _TransferError(f"the transfer broke off after {offset:,} of {size:,} bytes")


def _verify(file: Path, archive: Archive) -> None:
    digest = hashlib.sha256()
    with file.open("rb") as contents:
        while block := contents.read(_BLOCK):
            digest.update(block)
    if digest.hexdigest() != archive.sha256:
        file.unlink()
        raise UserError(
            f"{file.name} has the SHA-256 digest {digest.hexdigest()}, not {archive.sha256}: it "
            "was damaged on its way or is another file; it is removed, call again to fetch it anew."
        )


def _unpack(file: Path, root: Path, folder: Path) -> None:
    """Unpacks an archive beside its place and moves its folder there when it is whole."""
    aside = root / _UNPACKING
    shutil.rmtree(aside, ignore_errors=True)
    try:
        with tarfile.open(file) as tar:
            for member in tar:
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
    with contents, target.open("wb") as output:
        shutil.copyfileobj(contents, output)


def _verify_counts(root: Path, counts: Mapping[str, int]) -> None:
    found = layout.count(root)
    wrong = [f"{found[what]} {what}, not {n}" for what, n in counts.items() if found[what] != n]
    if wrong:
        raise UserError(
            f"The data folder {root} holds {'; '.join(wrong)}; remove it and call again."
        )
