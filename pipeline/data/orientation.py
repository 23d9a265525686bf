"""EXIF orientation: how a photo has to be turned to stand upright.

Cameras store the pixels as the sensor lies and note the turn; TensorFlow's decoders ignore the
note. Everything here runs inside a graph, so that training, the check of a file and servers read
one photo alike. JPEG has the note in its first APP1 segment that begins with "Exif", PNG in its
chunk eXIf; the other formats that are read have none.

Sources: JEITA CP-3451, "Exchangeable image file format", section 4.5; Adobe, "TIFF Revision 6.0",
section 2 and the tag Orientation; W3C, "Portable Network Graphics", third edition, 11.3.4.5.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import tensorflow as tf

# What the pixels need to stand upright, by orientation, for people.
WORDS = {
    2: "mirrored",
    3: "turned by 180 degrees",
    4: "mirrored and turned by 180 degrees",
    5: "mirrored and turned by 90 degrees",
    6: "turned by 90 degrees",
    7: "mirrored and turned by 90 degrees",
    8: "turned by 90 degrees",
}
QUARTER_TURNS = (5, 6, 7, 8)  # height and width change places

_MOST_PARTS = 10_000  # segments or chunks that are looked through; a sound file has a few dozen
_TAG, _SHORT, _LONG = 0x0112, 3, 4
_EXIF = b"Exif\0\0"
_NOTHING = b""

# Looks at the part of a file at a place: what it says, if it is the one, and the next one's place.
_Step = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


def of(contents: tf.Tensor) -> tf.Tensor:
    """The EXIF orientation of an encoded photo.

    Args:
      contents: scalar string; anything will do.

    Returns:
      int32 scalar, 1 to 8; also 1 where there is none, or none that can be read.
    """
    is_jpeg = tf.equal(_text(contents, 0, 2), b"\xff\xd8")
    is_png = tf.equal(_text(contents, 0, 8), b"\x89PNG\r\n\x1a\n")
    exif = tf.cond(
        is_jpeg,
        lambda: _search(contents, 2, lambda at: _jpeg_segment(contents, at)),
        lambda: tf.cond(
            is_png,
            lambda: _search(contents, 8, lambda at: _png_chunk(contents, at)),
            lambda: tf.constant(_NOTHING),
        ),
    )
    return _of_exif(exif)


def of_file(contents: bytes) -> int:
    """The same outside a graph."""
    return int(_eager()(tf.constant(contents)))


@cache
def _eager() -> tf.types.experimental.PolymorphicFunction:
    return tf.function(of, [tf.TensorSpec([], tf.string)], autograph=False)


def upright(pixels: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turns and mirrors pixels, [height, width, channels], as an orientation says."""
    channels = pixels.shape[-1]
    for orientations, change in (
        (QUARTER_TURNS, lambda stored: tf.transpose(stored, [1, 0, 2])),
        ((2, 3, 6, 7), lambda stored: tf.reverse(stored, [1])),
        ((3, 4, 7, 8), lambda stored: tf.reverse(stored, [0])),
    ):
        pixels = _change_if(tf.reduce_any(tf.equal(orientation, orientations)), change, pixels)
    return tf.ensure_shape(pixels, [None, None, channels])


def _change_if(
    wanted: tf.Tensor, change: Callable[[tf.Tensor], tf.Tensor], pixels: tf.Tensor
) -> tf.Tensor:
    return tf.cond(wanted, lambda: change(pixels), lambda: pixels)


def _search(contents: tf.Tensor, begin: int, step: _Step) -> tf.Tensor:
    """What the first part says that says something."""
    end = _length(contents)

    def look(at: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        found, onward = step(at)
        return onward, found

    _, found = tf.while_loop(
        lambda at, found: tf.logical_and(at < end, tf.equal(found, _NOTHING)),
        look,
        (tf.constant(begin, tf.int64), tf.constant(_NOTHING)),
        maximum_iterations=_MOST_PARTS,
    )
    return found


def _jpeg_segment(contents: tf.Tensor, at: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    head = _bytes(contents, at, 4)
    marker, size = head[1], _number(head[2:], False)
    begin, after = at + 4 + len(_EXIF), at + 2 + tf.maximum(size, 2)
    ours = tf.logical_and(marker == 0xE1, tf.equal(_text(contents, at + 4, len(_EXIF)), _EXIF))
    found = _text(contents, begin, tf.where(ours, after - begin, 0))
    # Any number of bytes 0xFF may stand before a marker, and some markers stand alone.
    alone = tf.logical_or(marker == 0x01, tf.logical_and(marker >= 0xD0, marker <= 0xD8))
    onward = tf.where(marker == 0xFF, at + 1, tf.where(alone, at + 2, after))
    # At the picture itself, and at what is no marker, the search ends.
    over = tf.reduce_any([head[0] != 0xFF, marker == 0xDA, marker == 0xD9])
    return found, tf.where(over, tf.int64.max, onward)


def _png_chunk(contents: tf.Tensor, at: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    size = _number(_bytes(contents, at, 4), False)
    ours = tf.equal(_text(contents, at + 4, 4), b"eXIf")
    return _text(contents, at + 8, tf.where(ours, size, 0)), at + 12 + size


def _of_exif(exif: tf.Tensor) -> tf.Tensor:
    """The orientation in a TIFF header and the directory that it points to."""
    head = _bytes(exif, 0, 8)
    little = tf.reduce_all(tf.equal(head[:2], list(b"II")))
    big = tf.reduce_all(tf.equal(head[:2], list(b"MM")))
    known = tf.logical_and(tf.logical_or(little, big), _number(head[2:4], little) == 42)
    directory = _number(head[4:], little)
    count = _number(_bytes(exif, directory, 2), little)
    # As many entries of twelve bytes as are there: tag, type, count, value.
    count = tf.clip_by_value(count, 0, (_length(exif) - directory - 2) // 12)
    count = tf.where(known, tf.maximum(count, 0), 0)
    entries = tf.io.decode_raw(_text(exif, directory + 2, 12 * count), tf.uint8)
    entries = tf.cast(tf.reshape(entries, [-1, 12]), tf.int64)
    kind, short, long = (
        _number(entries[:, begin:end], little) for begin, end in ((2, 4), (8, 10), (8, 12))
    )
    value = tf.where(kind == _SHORT, short, tf.where(kind == _LONG, long, 0))
    found = tf.boolean_mask(value, _number(entries[:, :2], little) == _TAG)
    first = tf.concat([found, [1]], axis=0)[0]
    return tf.cast(tf.where(tf.logical_and(first >= 1, first <= 8), first, 1), tf.int32)


def _length(contents: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.strings.length(contents), tf.int64)


def _text(contents: tf.Tensor, at: tf.Tensor | int, count: tf.Tensor | int) -> tf.Tensor:
    """Up to so many bytes from a place on; fewer, or none, where the string ends before."""
    at = tf.minimum(tf.cast(at, tf.int64), _length(contents))
    return tf.strings.substr(contents, at, tf.cast(count, tf.int64))


def _bytes(contents: tf.Tensor, at: tf.Tensor | int, count: int) -> tf.Tensor:
    """That many bytes from a place on, int64 [count]; zeros where the string ends before."""
    text = _text(contents, at, count)
    return tf.cast(tf.io.decode_raw(text, tf.uint8, fixed_length=count), tf.int64)


def _number(digits: tf.Tensor, little: tf.Tensor | bool) -> tf.Tensor:
    """The number of some bytes, int64 [..., count], the lowest first or last: int64 [...]."""
    places = 256 ** tf.range(digits.shape[-1], dtype=tf.int64)
    places = tf.where(little, places, places[::-1])
    return tf.reduce_sum(digits * places, axis=-1)
