"""One item of each kind that arrives in a folder: sound ones, and faulty ones with their reason."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

WIDTH, HEIGHT = 60, 40


def photo(seed: int = 0, width: int = WIDTH, height: int = HEIGHT) -> PIL.Image.Image:
    """A photo that no other seed gives."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), np.uint8)
    return PIL.Image.fromarray(small).resize((width, height), PIL.Image.Resampling.BICUBIC)


def trimap(width: int = WIDTH, height: int = HEIGHT) -> PIL.Image.Image:
    """A mask with all three classes."""
    values = np.full((height, width), 2, np.uint8)
    values[height // 4 : -height // 4, width // 4 : -width // 4] = 3
    values[height // 3 : -height // 3, width // 3 : -width // 3] = 1
    return PIL.Image.fromarray(values)


Make = Callable[[Path, Path], object]


@dataclass(frozen=True)
class Kind:
    """A kind of item: how a sound pair (photo, mask) is turned into it, and what becomes of it."""

    name: str
    make: Make
    reason: str | None = None  # why it is set aside; None: it is used
    note: str | None = None  # what is reported though it is used


def _save(image: PIL.Image.Image, image_format: str, **options: Any) -> Make:
    return lambda p, m: image.save(p, image_format, **options)


def _save_mask(make: Callable[[PIL.Image.Image], PIL.Image.Image], fmt: str = "PNG") -> Make:
    return lambda p, m: make(trimap()).save(m, fmt)


def _size_in_header(width: int, height: int) -> Make:
    """A PNG of a few bytes that says it is huge."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    contents = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    )
    return lambda p, m: p.write_bytes(contents)


def _both(width: int, height: int) -> Make:
    def make(p: Path, m: Path) -> None:
        photo(1, width, height).save(p, "PNG")
        PIL.Image.new("L", (width, height), 2).save(m)

    return make


def _cut(path: Path, share: float) -> None:
    contents = path.read_bytes()
    path.write_bytes(contents[: int(len(contents) * share)])


def _value(value: int) -> Callable[[PIL.Image.Image], PIL.Image.Image]:
    def change(mask: PIL.Image.Image) -> PIL.Image.Image:
        mask.putpixel((3, 3), value)
        return mask

    return change


def _replace(make: Callable[[Path], object]) -> Make:
    def change(p: Path, m: Path) -> None:
        p.unlink()
        make(p)

    return change


def _exif(orientation: int, turn_mask: bool) -> Make:
    def make(p: Path, m: Path) -> None:
        exif = PIL.Image.Exif()
        exif[0x0112] = orientation
        photo(2).save(p, "JPEG", exif=exif)
        if turn_mask:
            trimap().transpose(PIL.Image.Transpose.ROTATE_270).save(m)

    return make


GREY16 = PIL.Image.fromarray(np.arange(WIDTH * HEIGHT, dtype=np.uint16).reshape(HEIGHT, WIDTH) * 27)
SIZE = f"{WIDTH}x{HEIGHT}"
OTHER = "not JPEG, PNG, GIF or BMP"
NO_IMAGE = "the photo is not a JPEG, PNG, GIF or BMP file"
DAMAGED, CUT_OFF = "the photo cannot be decoded", "is truncated"
STRANGE = "the mask contains the value {}, but only 1 to 3 are allowed"
TOO_LARGE = "the photo is {0}x{0} pixels, more than 50 megapixels"

SOUND = (
    Kind("jpeg", lambda p, m: None),
    Kind("progressive_jpeg", _save(photo(3), "JPEG", progressive=True)),
    Kind("cmyk_jpeg", _save(photo(4).convert("CMYK"), "JPEG")),
    Kind("grey_jpeg", _save(photo(5).convert("L"), "JPEG")),
    Kind("png_named_jpg", _save(photo(6), "PNG")),
    Kind("16_bit_png", _save(GREY16, "PNG")),
    Kind("1_bit_png", _save(photo(7).convert("1"), "PNG")),
    Kind("palette_png", _save(photo(8).convert("P"), "PNG")),
    Kind("rgba_png", _save(photo(9).convert("RGBA"), "PNG")),
    Kind("gif", _save(photo(10), "GIF")),
    Kind("animated_gif", _save(photo(11), "GIF", save_all=True, append_images=[photo(12)])),
    Kind("bmp", _save(photo(13), "BMP")),
    Kind(
        "exif_rotation",
        _exif(6, turn_mask=False),
        note="the photo has EXIF orientation 6 (rotated by 90 degrees), which is not applied:"
        " its mask must fit the pixels as stored",
    ),
    Kind("trailing_bytes", lambda p, m: p.write_bytes(p.read_bytes() + b"more")),
    Kind("link", lambda p, m: p.symlink_to(p.rename(p.with_suffix(".real")))),
    Kind(
        "one_class_mask",
        _save_mask(lambda mask: PIL.Image.new("L", mask.size, 2)),
        note="the mask contains only background",
    ),
)

FAULTY = (
    Kind("zero_bytes", lambda p, m: p.write_bytes(b""), "the photo is empty"),
    Kind("truncated_jpeg", lambda p, m: _cut(p, 0.7), f"{DAMAGED}: this JPEG {CUT_OFF}"),
    Kind("truncated_header", lambda p, m: p.write_bytes(p.read_bytes()[:2]), NO_IMAGE),
    Kind("text_named_jpg", lambda p, m: p.write_text("no picture"), NO_IMAGE),
    Kind(
        "web_page_named_jpg",
        lambda p, m: p.write_text("<html>404</html>"),
        f"the photo is an HTML file, {OTHER}",
    ),
    Kind(
        "webp_named_jpg",
        _save(photo(20), "WEBP"),
        "the photo is a WebP file, not JPEG, PNG, GIF or BMP",
    ),
    Kind(
        "tiff_named_jpg",
        _save(photo(21), "TIFF"),
        "the photo is a TIFF file, not JPEG, PNG, GIF or BMP",
    ),
    Kind("1x1", _both(1, 1), "the photo is 1x1 pixels; each side must be at least 8"),
    Kind("decompression_bomb", _size_in_header(10_000, 10_000), TOO_LARGE.format(10_000)),
    Kind("larger_bomb", _size_in_header(60_000, 60_000), TOO_LARGE.format(60_000)),
    Kind("folder_named_jpg", _replace(Path.mkdir), "the photo is not a regular file"),
    Kind("pipe_named_jpg", _replace(lambda p: os.mkfifo(p)), "the photo is not a regular file"),
    Kind("link_to_itself", _replace(lambda p: p.symlink_to(p)), "the photo cannot be read"),
    Kind("dangling_link", _replace(lambda p: p.symlink_to("none")), "the photo cannot be read"),
    Kind("mask_empty", lambda p, m: m.write_bytes(b""), "the mask is empty"),
    Kind(
        "mask_truncated",
        lambda p, m: _cut(m, 0.8),
        f"the mask cannot be decoded: this PNG {CUT_OFF}",
    ),
    Kind("mask_text", lambda p, m: m.write_text("no picture"), "the mask is not a PNG file"),
    Kind(
        "mask_jpeg",
        _save_mask(lambda mask: mask, "JPEG"),
        "the mask is a JPEG file, not PNG",
    ),
    Kind(
        "mask_rgb",
        _save_mask(lambda mask: mask.convert("RGB")),
        "the mask is a colour image, not 8-bit greyscale",
    ),
    Kind(
        "mask_palette",
        _save_mask(lambda mask: mask.convert("P")),
        "the mask is a palette image, not 8-bit greyscale",
    ),
    Kind(
        "mask_16_bit",
        _save_mask(lambda mask: PIL.Image.fromarray(np.asarray(mask).astype(np.uint16))),
        "the mask is a 16-bit greyscale image, not 8-bit greyscale",
    ),
    Kind(
        "mask_alpha",
        _save_mask(lambda mask: mask.convert("LA")),
        "the mask is a greyscale image with transparency, not 8-bit greyscale",
    ),
    Kind(
        "mask_other_size",
        lambda p, m: trimap(30, 20).save(m),
        f"the mask is 30x20, but the photo is {SIZE}",
    ),
    Kind(
        "mask_turned_as_exif_says",
        _exif(6, turn_mask=True),
        f"the mask is {HEIGHT}x{WIDTH}, but the photo is {SIZE} as stored; set data.exif=apply to"
        " apply its EXIF orientation",
    ),
    Kind("mask_zero", _save_mask(_value(0)), STRANGE.format(0)),
    Kind("mask_four", _save_mask(_value(4)), STRANGE.format(4)),
    Kind("mask_255", _save_mask(_value(255)), STRANGE.format(255)),
    Kind(
        "no_mask",
        lambda p, m: m.unlink(),
        "the photo has no mask annotations/trimaps/{id}.png",
    ),
    Kind("no_photo", lambda p, m: p.unlink(), "the mask has no photo in images/"),
    Kind(
        "two_photos",
        lambda p, m: photo(22).save(p.with_suffix(".png")),
        "several photos have this id: {id}.jpg, {id}.png",
    ),
)


def add(root: Path, kind: Kind, id_: str) -> None:
    """Adds an item of a kind to a data folder that has images/ and annotations/trimaps/."""
    image = root / "images" / f"{id_}.jpg"
    mask = root / "annotations" / "trimaps" / f"{id_}.png"
    photo(zlib.crc32(id_.encode())).save(image, "JPEG")
    trimap().save(mask)
    kind.make(image, mask)
