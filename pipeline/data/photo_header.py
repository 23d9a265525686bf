"""Reads the format and size of a photo from its header, before anything is decoded.

The limit on a photo's pixels is defined here, for validation, the command line, the page of `serve`
and the exported graph: a file of a few kilobytes can decode to gigabytes.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import PIL.Image

FORMATS = ("JPEG", "PNG", "GIF", "BMP")
MAX_MEGAPIXELS = 50  # as cameras have; 10,000 x 10,000 pixels would take 300 MB
MAX_PIXELS = MAX_MEGAPIXELS * 1_000_000
# TensorFlow decodes all frames of a GIF, one byte per pixel, so this takes as much as one photo.
MAX_GIF_PIXELS = 3 * MAX_PIXELS
_MAX_GIF_BLOCKS = 2_000_000  # more take seconds to skip; a GIF of 400 MB has fewer
# A progressive JPEG has about ten scans; a small file with thousands takes minutes to decode.
_MAX_SCANS = 200

# Offset and magic bytes of the formats that are read, and of others that people mistake for them.
_SIGNATURES = (
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"\x89PNG", "PNG"),
    (0, b"GIF8", "GIF"),
    (0, b"BM", "BMP"),
    (8, b"WEBP", "WebP"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (4, b"ftypavif", "AVIF"),
    (4, b"ftyphei", "HEIC"),
    (4, b"ftyphev", "HEIC"),
    (4, b"ftypmif1", "HEIC"),
    (4, b"ftypmsf1", "HEIC"),
    (0, b"\xff\x0a", "JPEG XL"),
    (4, b"JXL ", "JPEG XL"),
    (4, b"jP  ", "JPEG 2000"),
    (0, b"8BPS", "Photoshop"),
    (0, b"\0\0\1\0", "ICO"),
    (0, b"PK\3\4", "ZIP"),
    (0, b"%PDF", "PDF"),
)
BEGIN = 1000  # bytes of a file that `kind` needs
_SCAN, _END_OF_JPEG = b"\xff\xda", b"\xff\xd9"

# Pillow has its own limit, whose error lacks the size.
PIL.Image.MAX_IMAGE_PIXELS = None
# Pillow's warnings about headers are for developers.
warnings.filterwarnings("ignore", module=r"PIL\.")


class HeaderError(Exception):
    """A photo must not be decoded; the message is a clause that says why."""


@dataclass(frozen=True)
class Header:
    """Format and size of a photo."""

    format: str  # one of `FORMATS`
    width: int  # pixels
    height: int  # pixels

    @property
    def pixels(self) -> int:
        """Number of pixels."""
        return self.width * self.height


def read(contents: bytes) -> Header:
    """Read the header of a photo and check it against the limits.

    Args:
      contents: the whole file.

    Raises:
      HeaderError: if the file is empty, in another format or too large, or its header is damaged.
    """
    if not contents:
        raise HeaderError("the file is empty")
    format_ = kind(contents)
    if format_ not in FORMATS:
        raise HeaderError(_what_else(format_))
    try:
        with PIL.Image.open(io.BytesIO(contents), formats=[format_]) as image:
            header = Header(format_, *image.size)
    except (OSError, ValueError, SyntaxError, EOFError, KeyError, IndexError) as error:
        raise HeaderError(damage(contents)) from error
    check_size(header.width, header.height)
    if format_ == "GIF":
        _check_frames(contents)
    if format_ == "JPEG" and (scans := _scans(contents)) > _MAX_SCANS:
        raise HeaderError(f"this JPEG has {scans} scans, more than {_MAX_SCANS}; save it again")
    return header


def check_size(width: int, height: int) -> None:
    """Raise HeaderError if a photo of this size in pixels is too large."""
    if width * height > MAX_PIXELS:
        raise HeaderError(
            f"it is {width}x{height} pixels, more than {MAX_MEGAPIXELS} megapixels; make it smaller"
        )


def damage(contents: bytes) -> str:
    """Return a clause on what is wrong with a photo that cannot be decoded."""
    format_ = kind(contents)
    if format_ not in FORMATS:
        return "this file is damaged"
    cut_off = {
        "JPEG": contents.rfind(_END_OF_JPEG) < contents.rfind(_SCAN) or _SCAN not in contents,
        "PNG": b"IEND" not in contents[-64:],
        "GIF": not contents.rstrip(b"\0").endswith(b";"),
        "BMP": len(contents) < int.from_bytes(contents[2:6], "little"),
    }
    if cut_off[format_]:
        return f"this {format_} is truncated"
    return f"this {format_} is damaged"


def _scans(contents: bytes) -> int:
    """Count the scans of a JPEG, up to just above the limit, without those of its thumbnail."""
    at, scans = 2, 0
    while scans <= _MAX_SCANS:
        at = contents.find(b"\xff", at)
        if at < 0:
            break
        while contents[at + 1 : at + 2] == b"\xff":  # fill bytes
            at += 1
        marker = contents[at + 1 : at + 2]
        if not marker or marker == _END_OF_JPEG[1:]:
            break
        scans += marker == _SCAN[1:]
        at += 2
        if marker[0] not in _NO_SEGMENT:
            at += int.from_bytes(contents[at : at + 2], "big")
    return scans


# Markers without a length: escaped data, restarts, start of image.
_NO_SEGMENT = {0x00, 0x01, *range(0xD0, 0xD9)}


def kind(contents: bytes) -> str | None:
    """Return the common name of a file's format, from its first bytes; None if unknown."""
    for offset, magic, name in _SIGNATURES:
        if contents[offset : offset + len(magic)] == magic:
            return name
    begin = contents[:BEGIN].lower()
    if begin.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"<!doctype html", b"<html")):
        return "HTML"  # such as a server's error page
    return "SVG" if b"<svg" in begin else None


def a_file(kind: str) -> str:
    """Return the kind of a file with its article: "a JPEG file"."""
    return f"{'an' if kind[0] in 'AIS' or kind == 'HTML' else 'a'} {kind} file"


def _what_else(kind: str | None) -> str:
    *others, last = FORMATS
    known = f"{', '.join(others)} or {last}"
    if kind is None:
        return f"not a {known} image, or a damaged one"
    return f"this is {a_file(kind)}; save it as {known}"


def _check_frames(contents: bytes) -> None:
    total = 0
    for width, height in _gif_frames(contents):
        check_size(width, height)
        total += width * height
        if total > MAX_GIF_PIXELS:
            raise HeaderError(
                f"the frames of this GIF have more than {MAX_GIF_PIXELS // 10**6} megapixels in"
                " total; keep only the first frame"
            )


def _gif_frames(contents: bytes) -> Iterator[tuple[int, int]]:
    """Yield width and height of each frame in pixels, up to the end or damage (GIF89a, 20)."""
    at, blocks = 13 + _colours(contents[10:11]), 0
    while at < len(contents):
        if contents[at] == 0x2C:  # a frame
            descriptor = contents[at + 1 : at + 10]
            if len(descriptor) < 9:
                return
            width, height = (int.from_bytes(descriptor[i : i + 2], "little") for i in (4, 6))
            yield width, height
            at += 11 + _colours(descriptor[8:])
        elif contents[at] == 0x21:  # an extension
            at += 2
        else:  # the end
            return
        while at < len(contents) and contents[at]:
            at += contents[at] + 1
            blocks += 1
            if blocks > _MAX_GIF_BLOCKS:
                raise HeaderError("this GIF has too many blocks; save it again")
        at += 1


def _colours(flags: bytes) -> int:
    """Return the size in bytes of the colour table that follows."""
    return 3 << ((flags[0] & 7) + 1) if flags and flags[0] & 0x80 else 0
