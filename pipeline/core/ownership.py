"""Files that this program made, which a later call may replace; all others are left alone.

A mask, an overlay or a converted model ends in a signature: a few words and the SHA-256 of all that
stands before it. So a file that a person made under the same name is told apart, and one that was
made here and that a person has corrected since.
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
_HEAD, _TAIL = 1024, 512  # bytes at the two ends of a file that tell whose it is
_END_OF_PNG = 12  # bytes of its last chunk
# How the two files begin that every run writes; the last is a report from before it said so.
_OUTCOME = re.compile(rb"\s*\Z|\{\s*\"status\"")
_REPORT = re.compile(
    rb"\s*\Z|(?s:.*)(<meta name=\"generator\" content=\"segmentation-pipeline\">"
    rb"|style-src 'unsafe-inline'\">\n<link rel=\"icon\" href=\"data:,\">\n)"
)
_COMMENTS = {".xml": (b"<!-- ", b" -->\n")}


def sign(contents: bytes, suffix: str) -> bytes:
    """Adds the signature to a file's contents, in a place where its readers do not mind.

    Args:
      contents: of a PNG, an ONNX, an XML, or another binary file that may have more at its end.
      suffix: of its name.
    """
    if suffix == ".png":  # a tEXt chunk before the last one (PNG specification, 11.3.3.2)
        text = b"tEXt" + b"Comment\0" + _WORDS
        length = len(text) - 4 + _DIGITS
        signed = _summed(contents[:-_END_OF_PNG] + length.to_bytes(4, "big") + text)
        chunk = signed[-len(text) - _DIGITS :]
        return signed + zlib.crc32(chunk).to_bytes(4, "big") + contents[-_END_OF_PNG:]
    if suffix == ".onnx":  # the model's description, a field that may stand anywhere
        return _summed(contents + b"\x32" + bytes([len(_WORDS) + _DIGITS]) + _WORDS)
    before, after = _COMMENTS.get(suffix, (b"\n", b"\n"))
    return _summed(contents + before + _WORDS) + after


def is_ours(path: Path) -> bool:
    """Whether this program made a file and nobody has changed it since."""
    try:
        if path.is_symlink():
            return False
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            start = file.seek(max(0, size - _TAIL))
            _, words, after = file.read().rpartition(_WORDS)
            if not words:
                return False
            digest, left = hashlib.sha256(), size - len(after)
            file.seek(start := 0)
            while start < left:
                block = file.read(min(1 << 20, left - start))
                digest.update(block)
                start += len(block)
            return digest.hexdigest().encode() == after[:_DIGITS]
    except OSError:
        return False


def require_ours(paths: Iterable[Path], advice: str) -> None:
    """Refuses to begin what would write over a file that is not ours.

    Args:
      paths: of the files that will be written.
      advice: what to do instead of moving it, such as "give another --output-dir".

    Raises:
      UserError: if one is there that this program did not make.
    """
    foreign = [path for path in paths if os.path.lexists(path) and not is_ours(path)]
    if foreign:
        more = f" (and {len(foreign) - 1} more)" if foreign[1:] else ""
        raise UserError(
            f"{foreign[0]}{more} was not made by this program, or was changed since; move it away,"
            f" or {advice}."
        )


def require_own_results(outcome: Path, report: Path) -> None:
    """Refuses to begin a run that would write over a person's file.

    These two are known by how they begin: they are replaced by every run, and nobody edits them.

    Args:
      outcome: ``latest_run.json``; a damaged one of ours may be replaced.
      report: ``report.html``.

    Raises:
      UserError: one of them is there and was made by something else.
    """
    for path, begin in ((outcome, _OUTCOME), (report, _REPORT)):
        try:
            with path.open("rb") as file:
                ours = begin.match(file.read(_HEAD)) is not None
        except OSError:  # not there, or a folder, which is told where it is written
            continue
        if not ours:
            raise UserError(
                f"{path} was not made by this program; move it away, or give another --output-root."
            )


def write(path: Path, contents: bytes) -> None:
    """Signs and writes a file, as `files.write_atomically` does, unless one is there to keep.

    Raises:
      OSError: if it cannot be written, or would replace a file that this program did not make.
    """
    if os.path.lexists(path) and not is_ours(path):
        raise FileExistsError(errno.EEXIST, f"{path} was not made by this program", str(path))
    files.write_atomically(path, sign(contents, path.suffix))


def _summed(contents: bytes) -> bytes:
    return contents + hashlib.sha256(contents).hexdigest().encode()
