"""EXIF orientation: how a photo must be rotated and mirrored to be upright.

Cameras store pixels in the sensor's orientation and record the rotation, which TensorFlow's
decoders ignore. The code runs inside a graph, so that validation, training and servers agree on
every photo. JPEG has the orientation in its first APP1 segment that begins with "Exif", PNG in its
eXIf chunk; the other formats that are read have none.

Sources: JEITA CP-3451, "Exchangeable image file format", section 4.5; Adobe, "TIFF Revision 6.0",
section 2 and the tag Orientation; W3C, "Portable Network Graphics", third edition, 11.3.4.5.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import tensorflow as tf

# By orientation, how the stored pixels must change to be upright.
WORDS = {
    2: "mirrored",
    3: "rotated by 180 degrees",
    4: "mirrored and rotated by 180 degrees",
    5: "mirrored and rotated by 90 degrees",
    6: "rotated by 90 degrees",
    7: "mirrored and rotated by 90 degrees",
    8: "rotated by 90 degrees",
}
QUARTER_TURNS = (5, 6, 7, 8)  # these swap height and width

_MOST_PARTS = 10_000  # segments or chunks to search; normal files have a few dozen
_TAG, _SHORT, _LONG = 0x0112, 3, 4
_EXIF = b"Exif\0\0"
_NOTHING = b""

# From the offset of a segment or chunk to its EXIF data, empty if it has none, and the next offset.
_Step = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


def of(contents: tf.Tensor) -> tf.Tensor:
    """Return the EXIF orientation of an encoded photo.

    Args:
      contents: scalar string; any bytes.

    Returns:
      int32 scalar, 1 to 8; 1 if there is no readable orientation.
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
    """Return the EXIF orientation of an encoded photo, outside a graph."""
    return int(_eager()(tf.constant(contents)))


@cache
def _eager() -> tf.types.experimental.PolymorphicFunction:
    return tf.function(of, [tf.TensorSpec([], tf.string)], autograph=False)


def upright(pixels: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Rotate and mirror pixels, [height, width, channels], by an orientation."""
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
    """Return the EXIF data of the first segment or chunk that has any."""
    end = _length(contents)

    def advance(at: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        exif, following = step(at)
        return following, exif

    _, exif = tf.while_loop(
        lambda at, exif: tf.logical_and(at < end, tf.equal(exif, _NOTHING)),
        advance,
        (tf.constant(begin, tf.int64), tf.constant(_NOTHING)),
        maximum_iterations=_MOST_PARTS,
    )
    return exif


def _jpeg_segment(contents: tf.Tensor, at: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    head = _bytes(contents, at, 4)
    marker, size = head[1], _number(head[2:], False)
    begin, after = at + 4 + len(_EXIF), at + 2 + tf.maximum(size, 2)
    is_exif = tf.logical_and(marker == 0xE1, tf.equal(_text(contents, at + 4, len(_EXIF)), _EXIF))
    exif = _text(contents, begin, tf.where(is_exif, after - begin, 0))
    # Fill bytes 0xFF may precede a marker, and some markers have no segment.
    alone = tf.logical_or(marker == 0x01, tf.logical_and(marker >= 0xD0, marker <= 0xD8))
    following = tf.where(marker == 0xFF, at + 1, tf.where(alone, at + 2, after))
    # The search ends at the image data, and where there is no marker.
    over = tf.reduce_any([head[0] != 0xFF, marker == 0xDA, marker == 0xD9])
    return exif, tf.where(over, tf.int64.max, following)


def _png_chunk(contents: tf.Tensor, at: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    size = _number(_bytes(contents, at, 4), False)
    is_exif = tf.equal(_text(contents, at + 4, 4), b"eXIf")
    return _text(contents, at + 8, tf.where(is_exif, size, 0)), at + 12 + size


def _of_exif(exif: tf.Tensor) -> tf.Tensor:
    """Return the orientation from EXIF data: a TIFF header and its directory."""
    head = _bytes(exif, 0, 8)
    little = tf.reduce_all(tf.equal(head[:2], list(b"II")))
    big = tf.reduce_all(tf.equal(head[:2], list(b"MM")))
    is_tiff = tf.logical_and(tf.logical_or(little, big), _number(head[2:4], little) == 42)
    directory = _number(head[4:], little)
    count = _number(_bytes(exif, directory, 2), little)
    # An entry has 12 bytes: tag, type, count, value. Entries that are cut off do not count.
    count = tf.clip_by_value(count, 0, (_length(exif) - directory - 2) // 12)
    count = tf.where(is_tiff, tf.maximum(count, 0), 0)
    entries = tf.io.decode_raw(_text(exif, directory + 2, 12 * count), tf.uint8)
    entries = tf.cast(tf.reshape(entries, [-1, 12]), tf.int64)
    kind, short, long = (
        _number(entries[:, begin:end], little) for begin, end in ((2, 4), (8, 10), (8, 12))
    )
    value = tf.where(kind == _SHORT, short, tf.where(kind == _LONG, long, 0))
    orientations = tf.boolean_mask(value, _number(entries[:, :2], little) == _TAG)
    first = tf.concat([orientations, [1]], axis=0)[0]
    return tf.cast(tf.where(tf.logical_and(first >= 1, first <= 8), first, 1), tf.int32)


def _length(contents: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.strings.length(contents), tf.int64)


def _text(contents: tf.Tensor, at: tf.Tensor | int, count: tf.Tensor | int) -> tf.Tensor:
    """Return up to `count` bytes from an offset; fewer if the string ends before."""
    at = tf.minimum(tf.cast(at, tf.int64), _length(contents))
    return tf.strings.substr(contents, at, tf.cast(count, tf.int64))


def _bytes(contents: tf.Tensor, at: tf.Tensor | int, count: int) -> tf.Tensor:
    """Return `count` bytes from an offset, int64 [count]; zeros after the end of the string."""
    text = _text(contents, at, count)
    return tf.cast(tf.io.decode_raw(text, tf.uint8, fixed_length=count), tf.int64)


def _number(digits: tf.Tensor, little: tf.Tensor | bool) -> tf.Tensor:
    """Turn bytes, int64 [..., count], into numbers, int64 [...], little- or big-endian."""
    places = 256 ** tf.range(digits.shape[-1], dtype=tf.int64)
    places = tf.where(little, places, places[::-1])
    return tf.reduce_sum(digits * places, axis=-1)
