"""What the first bytes of a photo say: its format and size, read before anything is decoded.

The one bound on a photo's pixels lives here. The check of the data, the command line, the page and
the graph of a release all have it: a file of some kilobytes can unpack to gigabytes.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import PIL.Image

FORMATS = ("JPEG", "PNG", "GIF", "BMP")
MAX_MEGAPIXELS = 50  # cameras reach this; 10,000 x 10,000 pixels would take 300 MB
MAX_PIXELS = MAX_MEGAPIXELS * 1_000_000
# TensorFlow unpacks all frames of a GIF, a byte a pixel, to take the first: as much as one photo.
MAX_GIF_PIXELS = 3 * MAX_PIXELS
_MAX_GIF_BLOCKS = 2_000_000  # walking over more takes seconds; a GIF of 400 MB has fewer
# A progressive JPEG comes in ten scans or so; a small file with thousands takes minutes.
_MAX_SCANS = 200

# First bytes (or others, by their offset) of files: of those that are read, and of what people take
# for a photo or a mask.
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
BEGIN = 1000  # bytes of a file that tell its kind
_SCAN, _END_OF_JPEG = b"\xff\xda", b"\xff\xd9"

# Pillow's own bound is another one, and its error does not tell the size.
PIL.Image.MAX_IMAGE_PIXELS = None
# What Pillow thinks of a header is for developers.
warnings.filterwarnings("ignore", module=r"PIL\.")


class HeaderError(Exception):
    """A photo that must not be decoded; the message says why, in one clause."""


@dataclass(frozen=True)
class Header:
    """What a photo says of itself."""

    format: str  # one of `FORMATS`
    width: int  # pixels
    height: int  # pixels

    @property
    def pixels(self) -> int:
        """How many it unpacks to."""
        return self.width * self.height


def read(contents: bytes) -> Header:
    """Reads the header of a photo and holds it to the bounds.

    Args:
      contents: the whole file.

    Raises:
      HeaderError: if it is empty, of another format, damaged there, or too large.
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
        raise HeaderError(f"this JPEG has {scans} scans, more than {_MAX_SCANS}; save it anew")
    return header


def check_size(width: int, height: int) -> None:
    """Raises HeaderError if a photo of this size, pixels, is too large."""
    if width * height > MAX_PIXELS:
        raise HeaderError(
            f"it is {width}x{height} pixels, more than {MAX_MEGAPIXELS} megapixels; make it smaller"
        )


def damage(contents: bytes) -> str:
    """What is wrong with a photo that cannot be decoded, in one clause."""
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
        return f"this {format_} is damaged, its end is missing"
    return f"this {format_} is damaged"


def _scans(contents: bytes) -> int:
    """Number of scans of a JPEG, as far as the bound needs it; not those of a thumbnail in it."""
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


# After these no length stands: a byte of data, restarts, the begin.
_NO_SEGMENT = {0x00, 0x01, *range(0xD0, 0xD9)}


def kind(contents: bytes) -> str | None:
    """The kind of file that begins so, as people name it; None if it is none that is known."""
    for offset, magic, name in _SIGNATURES:
        if contents[offset : offset + len(magic)] == magic:
            return name
    begin = contents[:BEGIN].lower()
    if begin.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"<!doctype html", b"<html")):
        return "HTML"  # a server's error page, say
    return "SVG" if b"<svg" in begin else None


def a_file(kind: str) -> str:
    """How a sentence names a file of a kind."""
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
                " all; keep its first frame alone"
            )


def _gif_frames(contents: bytes) -> Iterator[tuple[int, int]]:
    """Width and height of each frame, pixels; as far as they are there (GIF89a, section 20)."""
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
                raise HeaderError("this GIF is in too many pieces; save it anew")
        at += 1


def _colours(flags: bytes) -> int:
    """Bytes of the colour table that follows."""
    return 3 << ((flags[0] & 7) + 1) if flags and flags[0] & 0x80 else 0
