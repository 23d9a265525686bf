"""Class colours and overlays, shared by prediction and the report."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from PIL import Image

from pipeline.core import features

Pixels = npt.NDArray[np.uint8]

# One colour per class, in the order of `features.CLASS_NAMES`. Colour-blind readers can tell blue
# from orange (Okabe and Ito), and slate is darker than both. Blue stands out on fur.
COLOURS = np.array([(86, 180, 233), (38, 42, 58), (255, 176, 0)], np.uint8)
# Opacity of the class colours in an overlay: the border covers the photo, the others tint it.
OPACITY = np.array([0.35, 0.55, 0.9], np.float32)
# Floats and Pillow's copies take 20 bytes per pixel, so large photos are processed in bands.
_BAND = 4_000_000  # pixels
WRONG = np.array([204, 0, 102], np.uint8)  # colour of wrong pixels, unlike that of any class


def hex_colour(colour: Pixels) -> str:
    """Format a colour, uint8 [3], for CSS, such as ``#56b4e9``."""
    return "#" + bytes(colour.tolist()).hex()


def colour_mask(ids: Pixels) -> Pixels:
    """Paint class ids, uint8 [h, w], in their colours, uint8 [h, w, 3].

    Raises:
      ValueError: if a value is not a class id.
    """
    return COLOURS[_check_ids(ids)]


def overlay(photo: Pixels, ids: Pixels) -> Pixels:
    """Tint a photo by class, with the border clearly visible.

    Args:
      photo: uint8 [h, w, 3].
      ids: class ids, uint8 [h, w], of the same height and width.

    Returns:
      uint8 [h, w, 3].

    Raises:
      ValueError: if the sizes differ or a value is not a class id.
    """
    if photo.shape != (*ids.shape, 3):
        raise ValueError(f"mask of shape {ids.shape} does not fit photo of shape {photo.shape}")
    _check_ids(ids)
    result = np.empty_like(photo)
    for rows in _bands(*ids.shape):
        picture = Image.fromarray(photo[rows])
        band = picture.copy()
        # Lookup tables of bytes: as floats, a 40-megapixel photo would take gigabytes.
        for class_id in np.unique(ids[rows]):
            colour, opacity = COLOURS[class_id, :, None], OPACITY[class_id]
            table = np.rint(opacity * colour + (1 - opacity) * np.arange(256)).astype(int)
            where = Image.fromarray((ids[rows] == class_id).astype(np.uint8) * np.uint8(255))
            band.paste(picture.point(table.ravel().tolist()), mask=where)
        result[rows] = np.asarray(band)
    return result


def difference(photo: Pixels, truth: Pixels, prediction: Pixels) -> Pixels:
    """Mark the wrongly predicted pixels on a pale grey photo.

    Args:
      photo: uint8 [h, w, 3].
      truth: class ids, uint8 [h, w].
      prediction: class ids, uint8 [h, w].

    Returns:
      uint8 [h, w, 3].
    """
    pale = 128 + photo.mean(axis=-1, keepdims=True) / 2
    return np.where((truth != prediction)[..., None], WRONG, pale).astype(np.uint8)


def to_trimap(ids: Pixels) -> Pixels:
    """Turn class ids into trimap values (1 pet, 2 background, 3 border), both uint8 [h, w].

    Raises:
      ValueError: if a value is not a class id.
    """
    trimap: Pixels = _check_ids(ids) + np.uint8(features.TRIMAP_OFFSET)
    return trimap


def mask_at_size(probabilities: npt.NDArray[np.float32], height: int, width: int) -> Pixels:
    """Resize class probabilities and take the most probable class, for smooth edges at any size.

    Args:
      probabilities: float32 [h, w, classes]; resized bilinearly, with antialiasing when shrunk.
      height: of the result, pixels.
      width: of the result, pixels.

    Returns:
      class ids, uint8 [height, width]; the lowest id wins a tie.
    """
    best = np.zeros((height, width), np.uint8)
    planes = [
        Image.fromarray(np.ascontiguousarray(probabilities[..., class_id], np.float32))
        for class_id in range(probabilities.shape[-1])
    ]
    small_height, small_width = probabilities.shape[:2]
    for rows in _bands(height, width):
        box = (
            0,
            rows.start * small_height / height,
            small_width,
            rows.stop * small_height / height,
        )
        size = (width, rows.stop - rows.start)
        highest = np.full(size[::-1], -np.inf, np.float32)
        for class_id, plane in enumerate(planes):
            resized = np.asarray(plane.resize(size, Image.Resampling.BILINEAR, box))
            higher = resized > highest
            best[rows][higher] = class_id
            np.copyto(highest, resized, where=higher)
    return best


def _bands(height: int, width: int) -> Iterator[slice]:
    """Split the rows of an image into bands of at most `_BAND` pixels."""
    step = max(1, _BAND // max(1, width))
    for start in range(0, height, step):
        yield slice(start, min(start + step, height))


def encode(pixels: Pixels, image_format: str = "PNG", **options: object) -> bytes:
    """Encode uint8 [h, w] (grey) or [h, w, 3] (RGB) in a Pillow format, with Pillow's options."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, image_format, **options)
    return buffer.getvalue()


def data_uri(pixels: Pixels, image_format: str, **options: object) -> str:
    """Encode an image with `encode` as a data URI for a web page."""
    encoded = base64.b64encode(encode(pixels, image_format, **options)).decode("ascii")
    return f"data:image/{image_format.lower()};base64,{encoded}"


def _check_ids(ids: Pixels) -> Pixels:
    if ids.size and int(ids.max()) >= features.NUM_CLASSES:
        raise ValueError(
            f"{int(ids.max())} is not a class id; class ids are 0 to {features.NUM_CLASSES - 1}"
        )
    return ids
