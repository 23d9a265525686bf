"""What masks look like that other tools wrote, and what has to be done with them.

`look` says what one faulty mask is, `diagnose` what a whole folder of them looks like, once.
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
# What a mask may be instead of 8-bit greyscale: one, and several.
_WORDS = {
    "grey1": ("a 1-bit image (black and white alone)", "1-bit images (black and white alone)"),
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
_MOST_VALUES = 32  # that are kept; no mask of classes has more
_SHOWN = 8


def png_kind(header: bytes) -> str:
    """A short name of what a PNG file is, by its first 26 bytes; masks have to be `GREY`."""
    if header[12:16] != b"IHDR":  # as Xcode writes PNGs, which only Apple reads
        return "CgBI"
    depth, colour = header[24], header[25]
    name = _COLOUR_TYPES.get(colour, "colour")
    return f"{name}{depth}" if name == GREY and depth != 8 else name


def wrong_kind(kind: str) -> str:
    """The reason that sets an item aside whose mask is of another kind than `GREY`."""
    words = _WORDS[kind][0] if kind in _WORDS else "another kind of PNG"
    return f"the mask is {words}, not 8-bit greyscale"


def look(mask: PIL.Image.Image, kind: str) -> dict[str, Any]:
    """What `diagnose` needs to know of a faulty mask.

    Args:
      mask: an open PNG file, not yet decoded.
      kind: the short name that `png_kind` gives it.

    Returns:
      JSON values: ``kind`` and ``values``, sorted: numbers, of a palette the indices, or colours
      such as ``#ff0000``; None where there are too many.

    Raises:
      OSError, ValueError, SyntaxError: it cannot be decoded.
    """
    values: list[Any] | None
    if kind in ("colour", "colour_alpha"):
        colours = mask.convert("RGB").getcolors(_MOST_VALUES)
        values = None if colours is None else sorted(_colour(colour) for _, colour in colours)
    else:
        pixels = np.asarray(mask)
        pixels = pixels[..., 0] if pixels.ndim == 3 else pixels
        values = np.unique(pixels).astype(int).tolist()
        # Pillow spreads few bits over 0 to 255.
        step = {"grey2": 85, "grey4": 17}.get(kind, 1)
        values = [value // step for value in values] if len(values) <= _MOST_VALUES else None
    return {"kind": kind, "values": values}


def diagnose(quarantined: Sequence[Row]) -> list[str]:
    """What most faulty masks of a folder have in common: a sentence, without its full stop."""
    groups: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in quarantined:
        if row.get("found"):
            groups[row["found"]["kind"]].append(row["found"])
    most = max(groups.values(), key=len, default=[])
    if len(most) < 2 or len(most) <= len(quarantined) / 2:
        return []
    kind = most[0]["kind"]
    every = [found.get("values") for found in most]
    if every.count(None) > len(most) / 2:
        return [_sentence(kind, len(most), None)]
    union = {value for values in every for value in values or ()}
    if all(isinstance(value, str) and value[1:3] * 3 == value[1:] for value in union):
        union = {int(value[1:3], 16) for value in union}  # shades of grey
    return [_sentence(kind, len(most), union)]


def _sentence(kind: str, count: int, values: Collection[Any] | None) -> str:
    if kind == TURNED:
        return (
            f"{count} masks are turned by 90 degrees against their photos as stored, so they fit "
            "the upright photos: set data.exif=apply to turn the photos as their EXIF orientation "
            'says (docs/how_to/data.md, "EXIF orientation")'
        )
    if kind == OTHER_SIZE:
        return f"{count} masks have another size than their photos: export them at that size"
    if kind not in _WORDS and kind != GREY:
        blurred = "JPEG changes the values of pixels; " if kind == "JPEG" else ""
        return (
            f"{count} masks are {kind} files that are named .png: {blurred}export them as 8-bit "
            f"greyscale PNG files with {_meaning()}"
        )
    subject = f"{count} masks" if kind == GREY else f"{count} masks are {_WORDS[kind][1]} that"
    return f"{subject} {_holding(kind, values)}; {READ_MORE}"


def _holding(kind: str, values: Collection[Any] | None) -> str:
    """What the masks hold, what that looks like, and what has to become of it."""
    if values is None or len(values) > _MOST_VALUES:
        return (
            "hold too many values for classes, as photos, JPEG files and smoothed edges do: export "
            f"masks that hold nothing but {_meaning()}"
        )
    shown = _shown(sorted(values))
    if any(isinstance(value, str) for value in values):
        return (
            f"hold the colours {shown}, as CVAT and other tools export masks: each colour has to "
            f"become a value of 8-bit greyscale, {_meaning()}"
        )
    named = {"palette": "the indices", "colour": "the grey levels"}.get(kind, "the values")
    return f"hold {named} {shown}{_reading(set(values))}"


def _reading(values: set[int]) -> str:
    allowed = set(VALUES)
    if values <= allowed:
        return ", the right ones: save them as 8-bit greyscale"
    strange = values - allowed
    if 0 in values and max(values) == features.NUM_CLASSES - 1:
        return f", which look like class ids from 0 and need 1 added, to be {_meaning()}"
    if values in ({0, 1}, {0, 255}):
        return (
            f", which look like a mask of two classes, {max(values)} for what is shown and 0 for "
            f"the rest: each pixel has to become {_meaning()}"
        )
    if strange <= {0, 255} and values & allowed:
        marks = _shown(sorted(strange))
        return (
            f", of which {marks} usually marks pixels without a class: each pixel has to be "
            f"{_meaning()}"
        )
    if len(values) == 1:
        return f" alone: each pixel has to be {_meaning()}"
    if len(values) <= features.NUM_CLASSES:
        return f", which look like a grey level for each class: they have to become {_meaning()}"
    return f", more than there are classes: each pixel has to be {_meaning()}"


def _meaning() -> str:
    """The values of a mask and what they mean."""
    names = zip(VALUES, features.CLASS_NAMES, strict=True)
    return formatting.listed([f"{value} ({name})" for value, name in names], "or")


def _shown(values: Sequence[Any]) -> str:
    """The first few values."""
    words = [str(value) for value in values]
    if len(words) == 2:
        return formatting.listed(words)
    return ", ".join([*words[:_SHOWN], "..."] if words[_SHOWN:] else words)


def strange_values(values: Sequence[int]) -> str:
    """The reason that sets an item aside whose mask holds values that mean nothing."""
    what = f"value{'s' if len(values) > 1 else ''} {_shown(values)}"
    return f"the mask holds the {what}, allowed are {VALUES.start} to {VALUES.stop - 1}"


def _colour(colour: Any) -> str:
    return "#" + bytes(colour).hex()
