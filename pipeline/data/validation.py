"""Checks one item; passes exactly the files that the transform graph can decode.

Headers come first, so that files of a wrong kind, or files that would decode to gigabytes, are
refused before they are read. The pixels then go through the functions of
`pipeline.data.preprocessing`.

With `data.exif=as_stored`, photos are used as stored, here, in training and in serving, and masks
must fit the stored size. With `apply`, the EXIF orientation of the photos is applied.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import PIL.Image
import tensorflow as tf

from pipeline.core import features
from pipeline.core.errors import first_line
from pipeline.data import appearance, conventions, orientation, photo_header, preprocessing
from pipeline.data.items import Item, Row, UnusableItemError, noted
from pipeline.settings import Data

PHOTO_FORMATS = photo_header.FORMATS
MIN_SIDE = 8  # pixels; the same as in schemas/pets.pbtxt
MAX_MEGAPIXELS = photo_header.MAX_MEGAPIXELS

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Checked:
    """A usable item."""

    image_file: bytes  # the photo, encoded
    mask_file: bytes  # the trimap PNG, encoded
    height: int  # pixels, after the EXIF orientation if that is applied
    width: int  # likewise
    class_shares: dict[str, float]  # fraction of the mask's pixels, by class name
    appearance: dict[str, float]  # from `appearance.measure`
    notes: tuple[Row, ...]  # what to check in the item, rows from `items.noted`


def check_item(item: Item, settings: Data | None = None) -> Checked:
    """Read an item and check its photo and mask.

    Args:
      item: the item to check.
      settings: how to treat EXIF orientations and masks with a single class.

    Raises:
      UnusableItemError: if the item is unusable.
    """
    try:
        return _check(item, settings or Data())
    except UnusableItemError:
        raise
    except Exception as error:  # one strange file must not stop the work on all others
        raise UnusableItemError(f"an unexpected error occurred ({first_line(error)})") from error


def _check(item: Item, settings: Data) -> Checked:
    image_file = _read(item.image, "photo", PHOTO_FORMATS)
    try:
        photo_header.read(
            image_file
        )  # also checks what needs the whole file, such as a GIF's frames
    except photo_header.HeaderError as error:
        raise UnusableItemError(f"the photo cannot be decoded: {error}") from None
    mask_file = _read(item.mask, "mask", ("PNG",))
    kind = conventions.png_kind(mask_file)
    if kind != conventions.GREY:
        raise UnusableItemError(conventions.wrong_kind(kind), _describe(mask_file, kind))
    photo = _decode(preprocessing.decode_image, image_file, "photo")
    mask = _decode(preprocessing.decode_trimap, mask_file, "mask")[..., 0]
    exif = orientation.of_file(image_file)
    height, width = _size(photo, mask, exif, settings)
    counts = np.asarray(PIL.Image.fromarray(mask).histogram())  # faster than np.bincount
    values = np.flatnonzero(counts).tolist()
    strange = [value for value in values if value not in conventions.VALUES]
    if strange:
        raise UnusableItemError(
            conventions.strange_values(strange), {"kind": kind, "values": values}
        )
    allowed = slice(conventions.VALUES.start, conventions.VALUES.stop)
    shares = (counts[allowed] / mask.size).tolist()
    notes = []
    if 1 in shares:
        note = f"the mask contains only {features.CLASS_NAMES[shares.index(1)]}"
        if settings.one_class_masks == "set_aside":
            raise UnusableItemError(note)
        notes.append(noted(item.id, note))
    if exif != 1:
        notes.append(noted(item.id, _orientation_note(exif, settings), exif))
    return Checked(
        image_file=image_file,
        mask_file=mask_file,
        height=height,
        width=width,
        class_shares=dict(zip(features.CLASS_NAMES, shares, strict=True)),
        appearance=appearance.measure(photo),
        notes=tuple(notes),
    )


def _size(photo: Pixels, mask: Pixels, exif: int, settings: Data) -> tuple[int, int]:
    """Return height and width of the photo, after the EXIF orientation if that is applied.

    Args:
      photo: as stored, uint8 [height, width, 3].
      mask: as stored, uint8 [height, width].
      exif: the photo's EXIF orientation.
      settings: how to treat it.

    Raises:
      UnusableItemError: if the mask does not fit the photo.
    """
    height, width = photo.shape[:2]
    stored = (height, width)
    upright = (width, height) if exif in orientation.QUARTER_TURNS else stored
    applied = settings.exif == "apply"
    mask_is_stored = preprocessing.turns_masks(settings.exif, settings.exif_masks)
    expected = upright if applied and not mask_is_stored else stored
    if mask.shape == expected:
        return upright if applied else stored
    sizes = [f"{shape[1]}x{shape[0]}" for shape in (mask.shape, expected)]
    reason = f"the mask is {sizes[0]}, but the photo is {sizes[1]}"
    if upright == stored or mask.shape != expected[::-1]:
        raise UnusableItemError(reason, {"kind": conventions.OTHER_SIZE})
    if not applied:
        reason += " as stored; set data.exif=apply to apply its EXIF orientation"
        raise UnusableItemError(reason, {"kind": conventions.TURNED})
    if mask_is_stored:
        raise UnusableItemError(f"{reason} as stored; with data.exif_masks=upright it would fit")
    raise UnusableItemError(f"{reason} when upright; with data.exif_masks=as_stored it would fit")


def _orientation_note(exif: int, settings: Data) -> str:
    what = f"the photo has EXIF orientation {exif} ({orientation.WORDS[exif]})"
    if settings.exif == "as_stored":
        return f"{what}, which is not applied: its mask must fit the pixels as stored"
    if preprocessing.turns_masks(settings.exif, settings.exif_masks):
        return f"{what}, which is applied to photo and mask"
    return f"{what}, which is applied: its mask must fit the upright photo"


def _describe(mask_file: bytes, kind: str) -> dict[str, Any]:
    try:
        with PIL.Image.open(io.BytesIO(mask_file), formats=("PNG",)) as mask:
            return conventions.look(mask, kind)
    except (OSError, ValueError, SyntaxError):
        raise UnusableItemError("the mask cannot be decoded") from None


def _read(path: str, what: str, formats: tuple[str, ...]) -> bytes:
    """Check the header of an image file and return its content."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise UnusableItemError(f"the {what} is not a regular file")
        if not status.st_size:
            raise UnusableItemError(f"the {what} is empty")
        with open(path, "rb") as file:
            _check_header(file, what, formats)
            file.seek(0)
            return file.read()
    except OSError:
        raise UnusableItemError(f"the {what} cannot be read") from None


def _check_header(file: IO[bytes], what: str, formats: tuple[str, ...]) -> None:
    begin = file.read(photo_header.BEGIN)
    file.seek(0)
    try:
        with PIL.Image.open(file, formats=formats) as image:
            width, height = image.size
    except PIL.UnidentifiedImageError:
        *others, last = formats
        named = f"{', '.join(others)} or {last}" if others else last
        kind = photo_header.kind(begin)
        if kind in formats or kind is None:
            raise UnusableItemError(f"the {what} is not a {named} file") from None
        raise UnusableItemError(
            f"the {what} is {photo_header.a_file(kind)}, not {named}",
            {"kind": kind} if what == "mask" else None,
        ) from None
    except (OSError, ValueError, SyntaxError):
        raise UnusableItemError(f"the {what} cannot be decoded") from None
    if width * height > photo_header.MAX_PIXELS:
        raise UnusableItemError(
            f"the {what} is {width}x{height} pixels, more than {MAX_MEGAPIXELS} megapixels"
        )
    if min(width, height) < MIN_SIDE:
        raise UnusableItemError(
            f"the {what} is {width}x{height} pixels; each side must be at least {MIN_SIDE}"
        )


def _decode(decoder: Callable[[tf.Tensor], tf.Tensor], contents: bytes, what: str) -> Pixels:
    try:
        pixels: Pixels = decoder(tf.constant(contents)).numpy()
        return pixels
    except tf.errors.OpError:
        damage = photo_header.damage(contents)
        raise UnusableItemError(f"the {what} cannot be decoded: {damage}") from None
