"""Recognises files that this program wrote, so that it never overwrites a user's file.

Masks, overlays and converted models end in a signature: a few words and the SHA-256 of everything
before it. A file with the same name from elsewhere has none, and the signature of a mask that
somebody corrected no longer matches.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import zlib
from collections.abc import Iterable
from pathlib import Path

from pipeline.core import files
from pipeline.core.errors import UserError

_WORDS = b"made by segmentation-pipeline, SHA-256 of what stands before: "
_DIGITS = 64
_HEAD, _TAIL = 1024, 512  # bytes to read at the start and the end of a file
_END_OF_PNG = 12  # bytes of the last chunk
# How the files that every run writes begin; the last pattern is that of older reports.
_OUTCOME = re.compile(rb"\s*\Z|\{\s*\"status\"")
_REPORT = re.compile(
    rb"\s*\Z|(?s:.*)(<meta name=\"generator\" content=\"segmentation-pipeline\">"
    rb"|style-src 'unsafe-inline'\">\n<link rel=\"icon\" href=\"data:,\">\n)"
)
_COMMENTS = {".xml": (b"<!-- ", b" -->\n")}


def sign(contents: bytes, suffix: str) -> bytes:
    """Add the signature to a file's contents, where readers of the format ignore it.

    Args:
      contents: of a PNG, ONNX or XML file, or of a binary file that may have trailing bytes.
      suffix: the suffix of the file's name.
    """
    if suffix == ".png":  # a tEXt chunk before the last one (PNG specification, 11.3.3.2)
        text = b"tEXt" + b"Comment\0" + _WORDS
        length = len(text) - 4 + _DIGITS
        signed = _with_digest(contents[:-_END_OF_PNG] + length.to_bytes(4, "big") + text)
        chunk = signed[-len(text) - _DIGITS :]
        return signed + zlib.crc32(chunk).to_bytes(4, "big") + contents[-_END_OF_PNG:]
    if suffix == ".onnx":  # the description, a protobuf field, which may be last
        return _with_digest(contents + b"\x32" + bytes([len(_WORDS) + _DIGITS]) + _WORDS)
    before, after = _COMMENTS.get(suffix, (b"\n", b"\n"))
    return _with_digest(contents + before + _WORDS) + after


def is_ours(path: Path) -> bool:
    """Return whether this program made a file and nobody has changed it since."""
    try:
        if path.is_symlink():
            return False
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL))
            _, words, after = file.read().rpartition(_WORDS)
            if not words:
                return False
            digest, position, end = hashlib.sha256(), 0, size - len(after)
            file.seek(position)
            while position < end:
                block = file.read(min(1 << 20, end - position))
                digest.update(block)
                position += len(block)
            return digest.hexdigest().encode() == after[:_DIGITS]
    except OSError:
        return False


def require_ours(paths: Iterable[Path], advice: str) -> None:
    """Refuse to start work that would overwrite a file that is not ours.

    Args:
      paths: the files that will be written.
      advice: an alternative to moving the file, such as "choose another --output-dir".

    Raises:
      UserError: if one of them exists and this program did not make it.
    """
    foreign = [path for path in paths if os.path.lexists(path) and not is_ours(path)]
    if foreign:
        more = f" (and {len(foreign) - 1} more)" if foreign[1:] else ""
        raise UserError(
            f"{foreign[0]}{more} was not created by this program or has been modified since; "
            f"move it elsewhere or {advice}."
        )


def require_own_results(outcome: Path, report: Path) -> None:
    """Refuse to start a run that would overwrite a user's file.

    Looks only at how the two files begin, since every run replaces them and nobody edits them.

    Args:
      outcome: ``latest_run.json``; a damaged one of ours may be replaced.
      report: ``report.html``.

    Raises:
      UserError: if one of them exists and this program did not make it.
    """
    for path, begin in ((outcome, _OUTCOME), (report, _REPORT)):
        try:
            with path.open("rb") as file:
                ours = begin.match(file.read(_HEAD)) is not None
        except OSError:  # missing, or a folder, which is reported when the file is written
            continue
        if not ours:
            raise UserError(
                f"{path} was not created by this program; move it elsewhere or choose another "
                "--output-root."
            )


def write(path: Path, contents: bytes) -> None:
    """Sign a file and write it atomically, unless that would overwrite a file that is not ours.

    Raises:
      OSError: if it cannot be written, or would overwrite a file that this program did not make.
    """
    if os.path.lexists(path) and not is_ours(path):
        raise FileExistsError(errno.EEXIST, f"{path} was not created by this program", str(path))
    files.write_atomically(path, sign(contents, path.suffix))


def _with_digest(contents: bytes) -> bytes:
    return contents + hashlib.sha256(contents).hexdigest().encode()
