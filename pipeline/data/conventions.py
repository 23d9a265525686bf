"""Recognises masks that other tools export in other conventions, and says how to convert them.

`look` describes one mask, `diagnose` summarises all unusable masks of a folder.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import PIL.Image

from pipeline.core import features, formatting
from pipeline.data.items import Row

VALUES = range(features.TRIMAP_OFFSET, features.TRIMAP_OFFSET + features.NUM_CLASSES)
READ_MORE = "docs/how_to/masks.md shows how"

GREY, TURNED, OTHER_SIZE = "grey", "turned", "other_size"
_COLOUR_TYPES = {0: GREY, 2: "colour", 3: "palette", 4: "grey_alpha", 6: "colour_alpha"}
# What a mask may be instead of 8-bit greyscale, singular and plural.
_WORDS = {
    "grey1": ("a 1-bit image (black and white only)", "1-bit images (black and white only)"),
    "grey2": ("a 2-bit greyscale image", "2-bit greyscale images"),
    "grey4": ("a 4-bit greyscale image", "4-bit greyscale images"),
    "grey16": ("a 16-bit greyscale image", "16-bit greyscale images"),
    "colour": ("a colour image", "colour images"),
    "palette": ("a palette image", "palette images"),
    "grey_alpha": (
        "a greyscale image with transparency",
        "greyscale images with transparency",
    ),
    "colour_alpha": ("a colour image with transparency", "colour images with transparency"),
}
Value = int | str  # a grey level or palette index, or a colour such as "#ff0000"

_MOST_VALUES = 32  # kept per mask; a mask of classes has fewer
_SHOWN = 8


def png_kind(header: bytes) -> str:
    """Return a short name for the kind of a PNG, from its first 26 bytes; masks must be `GREY`."""
    if header[12:16] != b"IHDR":  # PNGs from Xcode, which only Apple's software reads
        return "CgBI"
    depth, colour = header[24], header[25]
    name = _COLOUR_TYPES.get(colour, "colour")
    return f"{name}{depth}" if name == GREY and depth != 8 else name


def wrong_kind(kind: str) -> str:
    """Return the reason to quarantine an item whose mask is of another kind than `GREY`."""
    words = _WORDS[kind][0] if kind in _WORDS else "another kind of PNG"
    return f"the mask is {words}, not 8-bit greyscale"


def look(mask: PIL.Image.Image, kind: str) -> dict[str, Any]:
    """Describe an unusable mask for `diagnose`.

    Args:
      mask: an open PNG file, not yet decoded.
      kind: its kind, from `png_kind`.

    Returns:
      JSON values: ``kind``, and the sorted ``values``, which are numbers (palette indices for a
      palette image) or colours such as ``#ff0000``; None if there are too many.

    Raises:
      OSError, ValueError, SyntaxError: if the mask cannot be decoded.
    """
    if kind in ("colour", "colour_alpha"):
        colours = mask.convert("RGB").getcolors(_MOST_VALUES)
        names = None if colours is None else sorted(_colour(colour) for _, colour in colours)
        return {"kind": kind, "values": names}
    pixels = np.asarray(mask)
    pixels = pixels[..., 0] if pixels.ndim == 3 else pixels
    values: list[int] = np.unique(pixels).astype(int).tolist()
    # Pillow scales 2 and 4 bits to 0 to 255.
    step = {"grey2": 85, "grey4": 17}.get(kind, 1)
    few = len(values) <= _MOST_VALUES
    return {"kind": kind, "values": [value // step for value in values] if few else None}


def diagnose(quarantined: Sequence[Row]) -> list[str]:
    """Say what most unusable masks of a folder have in common, in a sentence without full stop."""
    groups: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in quarantined:
        if row.get("found"):
            groups[row["found"]["kind"]].append(row["found"])
    group = max(groups.values(), key=len, default=[])
    if len(group) < 2 or len(group) <= len(quarantined) / 2:
        return []
    kind = group[0]["kind"]
    values_of_masks = [mask.get("values") for mask in group]
    if values_of_masks.count(None) > len(group) / 2:
        return [_sentence(kind, len(group), None)]
    union = {value for values in values_of_masks for value in values or ()}
    if all(isinstance(value, str) and value[1:3] * 3 == value[1:] for value in union):
        union = {int(value[1:3], 16) for value in union}  # shades of grey
    return [_sentence(kind, len(group), union)]


def _sentence(kind: str, count: int, values: Collection[Value] | None) -> str:
    if kind == TURNED:
        return (
            f"{count} masks are rotated by 90 degrees relative to their photos as stored, so they "
            "fit the upright photos: set data.exif=apply to apply the EXIF orientation "
            '(docs/how_to/data.md, "EXIF orientation")'
        )
    if kind == OTHER_SIZE:
        return f"{count} masks differ in size from their photos: export them at the photo's size"
    if kind not in _WORDS and kind != GREY:
        lossy = "JPEG changes pixel values, so " if kind == "JPEG" else ""
        return (
            f"{count} masks are {kind} files named .png: {lossy}export them as 8-bit "
            f"greyscale PNG files with {_meaning()}"
        )
    subject = f"{count} masks" if kind == GREY else f"{count} masks are {_WORDS[kind][1]} that"
    return f"{subject} {_contents(kind, values)}; {READ_MORE}"


def _contents(kind: str, values: Collection[Value] | None) -> str:
    """Say what the masks contain, what that looks like, and what to do."""
    if values is None or len(values) > _MOST_VALUES:
        return (
            "contain too many values for classes, like photos, JPEG files and smoothed edges: "
            f"export masks that contain only {_meaning()}"
        )
    shown = _shown(sorted(values))
    numbers = {value for value in values if isinstance(value, int)}
    if len(numbers) < len(values):
        return (
            f"contain the colours {shown}, like masks from CVAT and other tools: map each colour "
            f"to an 8-bit greyscale value, {_meaning()}"
        )
    named = {"palette": "the indices", "colour": "the grey levels"}.get(kind, "the values")
    return f"contain {named} {shown}{_reading(numbers)}"


def _reading(values: set[int]) -> str:
    """Say what the values look like, and what to do."""
    allowed = set(VALUES)
    if values <= allowed:
        return ", which are correct: save them as 8-bit greyscale"
    strange = values - allowed
    if 0 in values and max(values) == features.NUM_CLASSES - 1:
        return f", which look like class ids from 0: add 1 to get {_meaning()}"
    if values in ({0, 1}, {0, 255}):
        return (
            f", which look like a two-class mask, {max(values)} for the object and 0 for the rest: "
            f"change each pixel to {_meaning()}"
        )
    if strange <= {0, 255} and values & allowed:
        verb = "mark" if len(strange) > 1 else "marks"
        return (
            f", of which {_shown(sorted(strange))} usually {verb} unlabelled pixels: label every "
            f"pixel as {_meaning()}"
        )
    if len(values) == 1:
        return f" only: label every pixel as {_meaning()}"
    if len(values) <= features.NUM_CLASSES:
        return f", which look like one grey level per class: change them to {_meaning()}"
    return f", more than there are classes: label every pixel as {_meaning()}"


def _meaning() -> str:
    """List the values of a mask with their classes."""
    names = zip(VALUES, features.CLASS_NAMES, strict=True)
    return formatting.listed([f"{value} ({name})" for value, name in names], "or")


def _shown(values: Sequence[Value]) -> str:
    """List the first few values."""
    words = [str(value) for value in values]
    if len(words) == 2:
        return formatting.listed(words)
    return ", ".join([*words[:_SHOWN], "..."] if words[_SHOWN:] else words)


def strange_values(values: Sequence[int]) -> str:
    """Return the reason to quarantine an item whose mask contains values that are not allowed."""
    noun = "values" if len(values) > 1 else "value"
    return (
        f"the mask contains the {noun} {_shown(values)}, but only {VALUES.start} to "
        f"{VALUES.stop - 1} are allowed"
    )


def _colour(colour: Any) -> str:
    return "#" + bytes(colour).hex()
