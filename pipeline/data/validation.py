"""The check of one item: it passes exactly what the transform graph can decode.

Headers are read first, so that a wrong kind of file, or one that would unpack to gigabytes, is
refused unread. The pixels then go through the very functions of `pipeline.data.preprocessing`.

With `data.exif=as_stored` photos count as they are stored, here, in training and in serving, and
the mask has to fit the stored size; with `apply` they are turned upright by their EXIF orientation.
"""

from __future__ import annotations

import io
import os
import stat
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import PIL.Image
import tensorflow as tf

from pipeline.core import features
from pipeline.core.errors import first_line
from pipeline.data import appearance, conventions, orientation, photo_header, preprocessing
from pipeline.data.items import FaultyItem, Item, Row, noted
from pipeline.settings import Data

PHOTO_FORMATS = photo_header.FORMATS
MIN_SIDE = 8  # pixels; the schema says so too
MAX_MEGAPIXELS = photo_header.MAX_MEGAPIXELS


@dataclass(frozen=True)
class Checked:
    """A sound item."""

    image_file: bytes  # the photo as it is on disk
    mask_file: bytes  # the trimap PNG as it is on disk
    height: int  # pixels, as the model gets it
    width: int  # the same
    class_shares: dict[str, float]  # share of the mask's pixels, by class name
    appearance: dict[str, float]  # how the photo looks: `appearance.measure`
    notes: tuple[Row, ...]  # what a person should look at: `items.noted`


def check_item(item: Item, settings: Data | None = None) -> Checked:
    """Reads an item and checks photo and mask.

    Args:
      item: to check.
      settings: what becomes of an EXIF orientation, and of a mask that holds one class alone.

    Raises:
      FaultyItem: with the reason.
    """
    try:
        return _check(item, settings or Data())
    except FaultyItem:
        raise
    except Exception as error:  # one strange file does not end the work on all others
        raise FaultyItem(f"something unforeseen happened ({first_line(error)})") from error


def _check(item: Item, settings: Data) -> Checked:
    image_file = _read(item.image, "photo", PHOTO_FORMATS)
    try:
        photo_header.read(image_file)  # also what only the whole file tells, such as a GIF's frames
    except photo_header.HeaderError as error:
        raise FaultyItem(f"the photo cannot be decoded: {error}") from None
    mask_file = _read(item.mask, "mask", ("PNG",))
    kind = conventions.png_kind(mask_file)
    if kind != conventions.GREY:
        raise FaultyItem(conventions.wrong_kind(kind), _look(mask_file, kind))
    photo = _decode(preprocessing.decode_image, image_file, "photo")
    mask = _decode(preprocessing.decode_trimap, mask_file, "mask")[..., 0]
    turn = orientation.of_file(image_file)
    height, width = _size(photo, mask, turn, settings)
    counts = np.asarray(PIL.Image.fromarray(mask).histogram())  # quicker than np.bincount
    values = np.flatnonzero(counts).tolist()
    strange = [value for value in values if value not in conventions.VALUES]
    if strange:
        found = {"kind": kind, "values": values}
        raise FaultyItem(conventions.strange_values(strange), found)
    allowed = slice(conventions.VALUES.start, conventions.VALUES.stop)
    shares = (counts[allowed] / mask.size).tolist()
    notes = []
    if 1 in shares:
        note = f"the mask is all {features.CLASS_NAMES[shares.index(1)]}"
        if settings.one_class_masks == "set_aside":
            raise FaultyItem(note)
        notes.append(noted(item.id, note))
    if turn != 1:
        notes.append(noted(item.id, _orientation_note(turn, settings), turn))
    return Checked(
        image_file=image_file,
        mask_file=mask_file,
        height=height,
        width=width,
        class_shares=dict(zip(features.CLASS_NAMES, shares, strict=True)),
        appearance=appearance.measure(photo),
        notes=tuple(notes),
    )


def _size(photo: np.ndarray, mask: np.ndarray, turn: int, settings: Data) -> tuple[int, int]:
    """Height and width of the photo as the model gets it.

    Args:
      photo: as stored, uint8 [height, width, 3].
      mask: as stored, uint8 [height, width].
      turn: the photo's EXIF orientation.
      settings: what becomes of it.

    Raises:
      FaultyItem: the mask does not fit.
    """
    height, width = photo.shape[:2]
    stored = (height, width)
    across = (width, height) if turn in orientation.QUARTER_TURNS else stored
    applied = settings.exif == "apply"
    with_photo = preprocessing.turns_masks(settings.exif, settings.exif_masks)
    expected = across if applied and not with_photo else stored
    if mask.shape == expected:
        return across if applied else stored
    sizes = [f"{shape[1]}x{shape[0]}" for shape in (mask.shape, expected)]
    reason = f"mask is {sizes[0]}, photo is {sizes[1]}"
    if across == stored or mask.shape != expected[::-1]:
        raise FaultyItem(reason, {"kind": conventions.OTHER_SIZE})
    if not applied:
        reason += " as stored; an EXIF orientation is not applied (data.exif=apply does)"
        raise FaultyItem(reason, {"kind": conventions.TURNED})
    if with_photo:
        raise FaultyItem(f"{reason} as stored; with data.exif_masks=upright it would fit")
    raise FaultyItem(f"{reason} when upright; with data.exif_masks=as_stored it would fit")


def _orientation_note(turn: int, settings: Data) -> str:
    what = f"the photo has EXIF orientation {turn} ({orientation.WORDS[turn]})"
    if settings.exif == "as_stored":
        return f"{what}, which is not applied: its mask has to fit the pixels as stored"
    if preprocessing.turns_masks(settings.exif, settings.exif_masks):
        return f"{what}, which is applied to it and to its mask"
    return f"{what}, which is applied: its mask has to fit the upright photo"


def _look(mask_file: bytes, kind: str) -> dict[str, Any]:
    try:
        with PIL.Image.open(io.BytesIO(mask_file), formats=("PNG",)) as mask:
            return conventions.look(mask, kind)
    except (OSError, ValueError, SyntaxError):
        raise FaultyItem("the mask cannot be decoded") from None


def _read(path: str, what: str, formats: tuple[str, ...]) -> bytes:
    """The content of an image file, after a look at its header."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise FaultyItem(f"the {what} is no regular file")
        if not status.st_size:
            raise FaultyItem(f"the {what} is empty")
        with open(path, "rb") as file:
            _check_header(file, what, formats)
            file.seek(0)
            return file.read()
    except OSError:
        raise FaultyItem(f"the {what} cannot be read") from None


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
            raise FaultyItem(f"the {what} is no {named}") from None
        found = {"kind": kind} if what == "mask" else None
        raise FaultyItem(
            f"the {what} is no {named}, but {photo_header.a_file(kind)}", found
        ) from None
    except (OSError, ValueError, SyntaxError):
        raise FaultyItem(f"the {what} cannot be decoded") from None
    if width * height > photo_header.MAX_PIXELS:
        raise FaultyItem(
            f"the {what} is {width}x{height}, which is more than {MAX_MEGAPIXELS} megapixels"
        )
    if min(width, height) < MIN_SIDE:
        raise FaultyItem(f"the {what} is {width}x{height}; a side must be at least {MIN_SIDE}")


def _decode(decoder: Any, contents: bytes, what: str) -> np.ndarray:
    try:
        return decoder(tf.constant(contents)).numpy()
    except tf.errors.OpError:
        damage = photo_header.damage(contents)
        raise FaultyItem(f"the {what} cannot be decoded: {damage}") from None
