"""Fetches the real data set: two archives, 811 MB.

What was fetched stays: a call that was cut off goes on where it stood, and one on a complete folder
fetches nothing. A folder of the data set appears only when it is whole. The right archive that a
person has put there is taken, and it stays; another one is not touched.

Neither a server nor an archive is trusted: no more is written than was promised, and nothing but
plain files in their folder.
"""

from __future__ import annotations

import dataclasses
import hashlib
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from pipeline.core.errors import UserError
from pipeline.data import layout
from pipeline.data.unpacking import unpack

_BLOCK = 1 << 20  # bytes
_TIMEOUT = 60  # seconds without a byte
_WAITS = (1, 4, 15)  # seconds before another attempt
_SLOWEST = 1000, 60  # bytes that must come within so many seconds
_PART = ".part"  # ending of an archive that is not whole yet


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
                theirs = file.is_file()
                if theirs and not _is_right(file, archive):
                    raise UserError(
                        f"{file} is not the archive that belongs there; move it away and call"
                        " again."
                    )
                if not theirs:
                    _fetch(f"{source.url.rstrip('/')}/{archive.name}", file, archive, console)
                unpack(file, root, archive.folder)
                if not theirs:
                    file.unlink()
        _verify_counts(root, source.counts)
    except OSError as error:
        raise UserError(
            f"Cannot write to {root}: {error.strerror or error}; mend that, or give another folder."
        ) from None


def _fetch(url: str, file: Path, archive: Archive, console: Console) -> None:
    """Fetches an archive under another name; goes on behind the last byte that is there.

    The archive appears under its own name when it is whole and the right one.
    """
    part, size = file.with_name(f".{file.name}{_PART}"), archive.size
    _receive_all(url, part, size, file.name, console)
    if not _is_right(part, archive):
        digest = _digest(part)
        part.unlink()
        raise UserError(
            f"{file.name} has the SHA-256 digest {digest}, not {archive.sha256}: it was damaged on"
            " its way or is another file; it is removed, call again to fetch it anew."
        )
    part.rename(file)


def _receive_all(url: str, part: Path, size: int, name: str, console: Console) -> None:
    with _progress(console) as progress, part.open("ab") as output:
        task = progress.add_task(name, total=size)
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
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    request = urllib.request.Request(url, headers=headers)
    try:
        with _only_http().open(request, timeout=_TIMEOUT) as response:
            offset = _first_byte(url, response, start)
            if response.length is not None and offset + response.length != size:
                raise _wrong_length(url, f"{offset + response.length:,}", size)
            pace = _Pace()
            while block := response.read1(_BLOCK):
                if offset + len(block) > size:
                    raise _wrong_length(url, f"more than {size:,}", size)
                yield offset, block
                offset += len(block)
                pace.look(len(block))
    except urllib.error.HTTPError as error:
        if error.code < http.client.INTERNAL_SERVER_ERROR:
            raise UserError(
                f"Cannot load {url}: the server answers {error.code} {_line(error.reason)}; give"
                " another --url."
            ) from None
        raise _TransferError(f"the server answers {error.code} {_line(error.reason)}") from None
    except (OSError, http.client.HTTPException) as error:
        reason = _line(getattr(error, "reason", error))
        raise _TransferError(reason or type(error).__name__) from None
    if offset < size:
        raise _TransferError(f"the transfer broke off after {offset:,} of {size:,} bytes")


class _Pace:
    """Whether a transfer is quick enough to end one day."""

    def __init__(self) -> None:
        self._begin, self._come = time.monotonic(), 0

    def look(self, come: int) -> None:
        """Counts bytes that came; raises _TransferError if too few have for too long."""
        least, window = _SLOWEST
        self._come += come
        if time.monotonic() - self._begin > window:
            if self._come < least:
                raise _TransferError(f"fewer than {least:,} bytes came in {window} seconds")
            self._begin, self._come = time.monotonic(), 0


def _first_byte(url: str, response: http.client.HTTPResponse, start: int) -> int:
    """The offset of what a server sends; raises UserError if it is not what was asked for."""
    if response.status != http.client.PARTIAL_CONTENT:
        return 0
    if not response.headers.get("Content-Range", f"bytes {start}-").startswith(f"bytes {start}-"):
        raise UserError(f"{url} comes in other parts than asked for; give another --url.")
    return start


def _wrong_length(url: str, found: str, size: int) -> UserError:
    return UserError(f"{url} is {found} bytes long, not {size:,}; give another --url.")


def _line(text: object) -> str:
    """What a server said, as one line without control characters."""
    return "".join(each if each.isprintable() else " " for each in str(text))[:200].strip()


def _only_http() -> urllib.request.OpenerDirector:
    """Opens web addresses and follows to others of that kind, but never to FTP or a file."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.UnknownHandler,
    ):
        opener.add_handler(handler())
    return opener


def _is_right(file: Path, archive: Archive) -> bool:
    return file.stat().st_size == archive.size and _digest(file) == archive.sha256


def _digest(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as contents:
        while block := contents.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _verify_counts(root: Path, counts: Mapping[str, int]) -> None:
    found = layout.count(root)
    wrong = [f"{found[what]} {what}, not {n}" for what, n in counts.items() if found[what] != n]
    if wrong:
        raise UserError(
            f"The data folder {root} holds {'; '.join(wrong)}; remove it and call again."
        )
