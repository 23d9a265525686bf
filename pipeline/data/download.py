"""Downloads the real data set: two archives, 811 MB.

An interrupted download resumes, and a complete folder needs no download. The folders of the data
set appear only when they are complete. An archive that the user put there is used and kept if it is
the right one, and never touched otherwise.

Neither server nor archive is trusted: no more bytes are written than expected, and only regular
files below their folder.
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
_WAITS = (1, 4, 15)  # seconds before each retry
_SLOWEST = 1000, 60  # minimum bytes within this many seconds
_PART = ".part"  # suffix of an incomplete archive


@dataclass(frozen=True)
class Archive:
    """A tar file, named after the folder it contains."""

    folder: Path  # below the data folder
    size: int  # bytes
    sha256: str

    @property
    def name(self) -> str:
        return f"{self.folder}.tar.gz"


@dataclass(frozen=True)
class Source:
    """Where to download a data set, and what a complete one contains."""

    url: str  # of the folder with the archives
    archives: tuple[Archive, ...]
    counts: Mapping[str, int]  # as from `layout.count`

    def at(self, url: str) -> Source:
        """Return the same archives at another URL; raise UserError if that is not HTTP."""
        if not url.startswith(("https://", "http://")):
            raise UserError(f"--url is {url!r}; it must start with https:// or http://.")
        return dataclasses.replace(self, url=url)


# Sizes and digests are those in TensorFlow Datasets' checksums.tsv. torchvision has the MD5s of the
# same files: 5c4f3ee8e5d25df40f4fd59a7f44e54c and 95a8c909bbe2e81eed6a22bccdf3f68f.
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
    # 41 photos are not on any list.
    counts={
        "photos": 7390,
        "pairs on list.txt": 7349,
        "pairs on trainval.txt": 3680,
        "pairs on test.txt": 3669,
    },
)


class _TransferError(Exception):
    """An attempt failed, but a retry may succeed; the message is a clause."""


def download(root: Path, source: Source, console: Console) -> None:
    """Download and unpack the archives of a source into a data folder.

    Args:
      root: the data folder, which also holds the archives until they are unpacked.
      source: what to download.
      console: shows the progress.

    Raises:
      UserError: if an archive cannot be downloaded or written, or has the wrong content.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        for archive in source.archives:
            if not (root / archive.folder).exists():
                file = root / archive.name
                is_users = file.is_file()
                if is_users and not _is_right(file, archive):
                    raise UserError(
                        f"{file} is not the expected archive; move it elsewhere and run the command"
                        " again."
                    )
                if not is_users:
                    _fetch(f"{source.url.rstrip('/')}/{archive.name}", file, archive, console)
                unpack(file, root, archive.folder)
                if not is_users:
                    file.unlink()
        _verify_counts(root, source.counts)
    except OSError as error:
        raise UserError(
            f"Cannot write to {root}: {error.strerror or error}; fix the problem or choose another "
            "folder."
        ) from None


def _fetch(url: str, file: Path, archive: Archive, console: Console) -> None:
    """Download an archive under a temporary name; resumes after the last byte that is there.

    The archive gets its own name when it is complete and its digest is right.
    """
    part, size = file.with_name(f".{file.name}{_PART}"), archive.size
    _receive_all(url, part, size, file.name, console)
    if not _is_right(part, archive):
        digest = _digest(part)
        part.unlink()
        raise UserError(
            f"{file.name} has the SHA-256 digest {digest}, not {archive.sha256}, so it is damaged"
            " or another file. It was deleted; run the command again to download it again."
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
                        f"Cannot download {url}: {error}; run the command again to resume."
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
    """Yield blocks with their offsets: from `start`, or from 0 if the server ignores ranges.

    Raises:
      _TransferError: if the transfer broke off; a retry may succeed.
      UserError: if a retry cannot succeed.
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
                pace.add(len(block))
    except urllib.error.HTTPError as error:
        if error.code < http.client.INTERNAL_SERVER_ERROR:
            raise UserError(
                f"Cannot download {url}: the server responded with {error.code}"
                f" {_line(error.reason)}; choose another --url."
            ) from None
        reason = f"the server responded with {error.code} {_line(error.reason)}"
        raise _TransferError(reason) from None
    except (OSError, http.client.HTTPException) as error:
        reason = _line(getattr(error, "reason", error))
        raise _TransferError(reason or type(error).__name__) from None
    if offset < size:
        raise _TransferError(f"the transfer broke off after {offset:,} of {size:,} bytes")


class _Pace:
    """Checks that a transfer is not too slow to ever finish."""

    def __init__(self) -> None:
        self._begin, self._received = time.monotonic(), 0

    def add(self, received: int) -> None:
        """Count received bytes; raise _TransferError if there were too few for too long."""
        minimum, window = _SLOWEST
        self._received += received
        if time.monotonic() - self._begin > window:
            if self._received < minimum:
                raise _TransferError(f"fewer than {minimum:,} bytes arrived in {window} seconds")
            self._begin, self._received = time.monotonic(), 0


def _first_byte(url: str, response: http.client.HTTPResponse, start: int) -> int:
    """Return the offset of the response; raise UserError if it is not the requested one."""
    if response.status != http.client.PARTIAL_CONTENT:
        return 0
    if not response.headers.get("Content-Range", f"bytes {start}-").startswith(f"bytes {start}-"):
        raise UserError(f"The server sent the wrong part of {url}; choose another --url.")
    return start


def _wrong_length(url: str, length: str, size: int) -> UserError:
    return UserError(f"{url} is {length} bytes long, not {size:,}; choose another --url.")


def _line(text: object) -> str:
    """Return a server's text as one line without control characters."""
    return "".join(each if each.isprintable() else " " for each in str(text))[:200].strip()


def _only_http() -> urllib.request.OpenerDirector:
    """Return an opener that follows redirects to HTTP and HTTPS, but never to FTP or a file."""
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
    actual = layout.count(root)
    wrong = [f"{actual[what]} {what}, not {n}" for what, n in counts.items() if actual[what] != n]
    if wrong:
        raise UserError(
            f"The data folder {root} has {'; '.join(wrong)}; remove it and run the command again."
        )
