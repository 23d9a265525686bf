"""The check of one item: it passes exactly what the transform graph can decode.

Headers are read first, so that a wrong kind of file, or one that would unpack to gigabytes, is
refused unread. The pixels then go through the very functions of `pipeline.preprocessing`.

Photos count as they are stored: an EXIF orientation is not applied, neither here nor in training
nor in serving, and the mask has to fit the stored size.
"""

from __future__ import annotations

import os
import stat
import warnings
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import PIL.Image
import tensorflow as tf

from pipeline import features, preprocessing
from pipeline.dataset import appearance
from pipeline.dataset.items import FaultyItem, Item
from pipeline.settings import OneClassMasks

PHOTO_FORMATS = ("JPEG", "PNG", "GIF", "BMP")
MIN_SIDE = 8  # pixels; the schema says so too
MAX_MEGAPIXELS = 50  # cameras reach this; 10,000 x 10,000 pixels would take 300 MB

_VALUES = range(features.TRIMAP_OFFSET, features.TRIMAP_OFFSET + features.NUM_CLASSES)

# Pillow's own bound is an error only at 179 megapixels; below that it would warn.
warnings.filterwarnings("ignore", category=PIL.Image.DecompressionBombWarning)


@dataclass(frozen=True)
class Checked:
    """A sound item."""

    image_file: bytes  # the photo as it is on disk
    mask_file: bytes  # the trimap PNG as it is on disk
    height: int  # pixels
    width: int  # pixels
    class_shares: dict[str, float]  # share of the mask's pixels, by class name
    appearance: dict[str, float]  # how the photo looks: `appearance.measure`
    note: str | None  # what a person should look at


def check_item(item: Item, one_class_masks: OneClassMasks = "keep") -> Checked:
    """Reads an item and checks photo and mask.

    Args:
      item: to check.
      one_class_masks: what becomes of an item whose mask holds one class alone.

    Raises:
      FaultyItem: with the reason.
    """
    image_file, _ = _read(item.image, "photo", PHOTO_FORMATS)
    mask_file, mode = _read(item.mask, "mask", ("PNG",))
    if mode != "L":
        raise FaultyItem(f"the mask is {mode}, not 8-bit greyscale")
    photo = _decode(preprocessing.decode_image, image_file, "photo")
    mask = _decode(preprocessing.decode_trimap, mask_file, "mask")[..., 0]
    (height, width), (mask_height, mask_width) = photo.shape[:2], mask.shape
    if (mask_height, mask_width) != (height, width):
        turned = (mask_height, mask_width) == (width, height)
        raise FaultyItem(
            f"mask is {mask_width}x{mask_height}, photo is {width}x{height}"
            + (" as stored; an EXIF orientation is not applied" if turned else "")
        )
    counts = np.asarray(PIL.Image.fromarray(mask).histogram())  # quicker than np.bincount
    strange = [int(value) for value in np.flatnonzero(counts) if value not in _VALUES]
    if strange:
        raise FaultyItem(
            f"the mask holds the value {strange[0]}, allowed are "
            f"{_VALUES.start} to {_VALUES.stop - 1}"
        )
    shares = (counts[_VALUES.start : _VALUES.stop] / mask.size).tolist()
    note = f"the mask is all {features.CLASS_NAMES[shares.index(1)]}" if 1 in shares else None
    if note and one_class_masks == "set_aside":
        raise FaultyItem(note)
    class_shares = dict(zip(features.CLASS_NAMES, shares, strict=True))
    look = appearance.measure(photo)
    return Checked(image_file, mask_file, height, width, class_shares, look, note)


def _read(path: str, what: str, formats: tuple[str, ...]) -> tuple[bytes, str]:
    """The content of an image file and its mode, after a look at its header."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise FaultyItem(f"the {what} is no regular file")
        if not status.st_size:
            raise FaultyItem(f"the {what} is empty")
        with open(path, "rb") as file:
            mode = _check_header(file, what, formats)
            file.seek(0)
            return file.read(), mode
    except OSError:
        raise FaultyItem(f"the {what} cannot be read") from None


def _check_header(file: IO[bytes], what: str, formats: tuple[str, ...]) -> str:
    try:
        with PIL.Image.open(file, formats=formats) as image:
            (width, height), mode = image.size, image.mode
    except PIL.UnidentifiedImageError:
        *others, last = formats
        named = f"{', '.join(others)} or {last}" if others else last
        raise FaultyItem(f"the {what} is no {named}") from None
    except PIL.Image.DecompressionBombError:
        raise FaultyItem(f"the {what} has more than {MAX_MEGAPIXELS} megapixels") from None
    except (OSError, ValueError, SyntaxError):
        raise FaultyItem(f"the {what} cannot be decoded") from None
    if width * height > MAX_MEGAPIXELS * 1_000_000:
        raise FaultyItem(f"the {what} has more than {MAX_MEGAPIXELS} megapixels")
    if min(width, height) < MIN_SIDE:
        raise FaultyItem(f"the {what} is {width}x{height}; a side must be at least {MIN_SIDE}")
    return mode


def _decode(decoder: Any, contents: bytes, what: str) -> np.ndarray:
    try:
        return decoder(tf.constant(contents)).numpy()
    except tf.errors.OpError:
        raise FaultyItem(f"the {what} cannot be decoded") from None
