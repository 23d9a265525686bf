"""Turns encoded photos and masks into the model's input, for training, evaluation and serving.

``preprocessing_fn`` is Transform's user code. It packs the resized pixels of each example into two
byte strings: photos uncompressed, masks, which compress well, as PNG. ``unpack_image`` and
``unpack_mask`` turn them back into tensors. All functions run inside a graph that is exported with
the model, so training and serving cannot differ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from pipeline.core import features
from pipeline.data import orientation, photo_header


def decode_image(contents: tf.Tensor) -> tf.Tensor:
    """Decode one photo.

    Uses the first frame of a GIF, drops alpha, and turns grey into RGB. Ignores the EXIF
    orientation; see `decode_upright`. Refuses a photo with more than `photo_header.MAX_PIXELS` in
    its header without decoding it, so that this holds on any server.

    Args:
      contents: scalar string, an encoded JPEG, PNG, BMP or GIF.

    Returns:
      uint8 [height, width, 3].
    """
    small = tf.debugging.Assert(
        _header_pixels(contents) <= photo_header.MAX_PIXELS,
        [f"This photo has more than {photo_header.MAX_MEGAPIXELS} megapixels; make it smaller."],
    )
    with tf.control_dependencies([small]):
        contents = tf.identity(contents)
    # `decode_image` fails on a BMP that does not have the requested number of channels.
    is_bmp = tf.equal(tf.strings.substr(contents, 0, 2), b"BM")
    pixels = tf.cond(
        is_bmp,
        lambda: _to_rgb(tf.io.decode_bmp(contents)),
        lambda: tf.io.decode_image(contents, channels=3, expand_animations=False),
    )
    return tf.ensure_shape(pixels, [None, None, 3])


def _header_pixels(contents: tf.Tensor) -> tf.Tensor:
    """Return the number of pixels in a photo's header, int64; 0 for a BMP, which is uncompressed.

    For a GIF, the pixels of its largest frame, or a third of those of all frames if that is more,
    in line with the limits in `photo_header`.
    """

    def jpeg() -> tf.Tensor:
        return tf.io.extract_jpeg_shape(contents, tf.int64)[:2]

    def png() -> tf.Tensor:
        size = tf.io.decode_raw(tf.strings.substr(contents, 16, 8), tf.int32, little_endian=False)
        return tf.cast(size, tf.int64)

    def gif() -> tf.Tensor:
        return tf.stack([_gif_pixels(contents), tf.ones([], tf.int64)])

    kinds = ((b"\xff\xd8\xff", jpeg), (b"\x89PN", png), (b"GIF", gif))
    magic = tf.strings.substr(contents, 0, 3)
    return tf.reduce_prod(
        tf.case(
            [(tf.equal(magic, start), size) for start, size in kinds],
            default=lambda: tf.zeros([2], tf.int64),
        )
    )


def _gif_pixels(contents: tf.Tensor) -> tf.Tensor:
    """See `_header_pixels`; TensorFlow decodes all frames of a GIF (GIF89a, section 20)."""
    data = tf.cast(tf.io.decode_raw(contents, tf.uint8), tf.int64)
    size = tf.size(data, tf.int64)

    def at(position: tf.Tensor, length: int = 1) -> tf.Tensor:
        """Read a little-endian number; bytes after the end count as 0."""
        places = position + tf.range(length, dtype=tf.int64)
        digits = tf.gather(data, tf.minimum(places, size - 1))
        weights = tf.constant([256**i for i in range(length)], tf.int64)
        return tf.reduce_sum(tf.where(places < size, digits, 0) * weights)

    def colours(flags: tf.Tensor) -> tf.Tensor:
        """Return the size in bytes of the colour table that follows."""
        table = tf.bitwise.left_shift(tf.constant(6, tf.int64), tf.bitwise.bitwise_and(flags, 7))
        return tf.where(flags >= 128, table, 0)

    def step(
        position: tf.Tensor, inside: tf.Tensor, most: tf.Tensor, total: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        kind = at(position)
        frame = tf.logical_and(~inside, kind == 0x2C)
        pixels = tf.where(frame, at(position + 5, 2) * at(position + 7, 2), 0)
        block = position + 1 + kind  # in a frame or extension, `kind` is the size of a data block
        begin = tf.where(frame, position + 11 + colours(at(position + 9)), position + 2)
        known = frame | (kind == 0x21)
        after = tf.where(inside, block, tf.where(known, begin, size))
        return after, tf.where(inside, kind > 0, known), tf.maximum(most, pixels), total + pixels

    zero = tf.zeros([], tf.int64)
    _, _, most, total = tf.while_loop(
        lambda position, inside, most, total: position < size,
        step,
        (13 + colours(at(tf.constant(10, tf.int64))), tf.constant(False), zero, zero),
        parallel_iterations=1,
    )
    share = photo_header.MAX_GIF_PIXELS // photo_header.MAX_PIXELS
    return tf.maximum(tf.maximum(most, total // share), at(zero + 6, 2) * at(zero + 8, 2))


def decode_upright(contents: tf.Tensor, exif: str) -> tf.Tensor:
    """Decode one photo as `decode_image`, and apply its EXIF orientation if `exif` is "apply"."""
    return _oriented(decode_image(contents), contents, exif == "apply")


def _oriented(pixels: tf.Tensor, photo: tf.Tensor, apply: bool) -> tf.Tensor:
    """Apply the EXIF orientation of an encoded photo to pixels [height, width, channels]."""
    return orientation.upright(pixels, orientation.of(photo)) if apply else pixels


def _to_rgb(pixels: tf.Tensor) -> tf.Tensor:
    return tf.cond(
        tf.shape(pixels)[-1] < 3,
        lambda: tf.repeat(pixels[..., :1], 3, axis=-1),
        lambda: pixels[..., :3],
    )


def resize_image(pixels: tf.Tensor, size: int) -> tf.Tensor:
    """Resize a photo, uint8 [height, width, 3], to uint8 [size, size, 3].

    Does not keep the aspect ratio. Shrinks by area averaging, which avoids aliasing like the
    antialiased bilinear filter and is faster. Uses the bilinear filter if a side grows.
    """
    side = [size, size]
    resized = tf.cond(
        tf.reduce_min(tf.shape(pixels)[:2]) >= size,
        lambda: tf.image.resize(pixels, side, method="area"),
        lambda: tf.image.resize(pixels, side, method="bilinear", antialias=True),
    )
    return tf.cast(resized + 0.5, tf.uint8)  # round; means of bytes stay in range


def decode_trimap(contents: tf.Tensor) -> tf.Tensor:
    """Decode a trimap PNG (scalar string) into its values, uint8 [height, width, 1]."""
    return tf.io.decode_png(contents, channels=1)


def decode_mask(contents: tf.Tensor, size: int) -> tf.Tensor:
    """Decode a trimap PNG (scalar string) into class ids, uint8 [size, size], by nearest pixel."""
    resized = tf.image.resize(decode_trimap(contents), [size, size], method="nearest")
    return tf.squeeze(resized, axis=-1) - features.TRIMAP_OFFSET


def photo_at_size(contents: tf.Tensor, size: int, exif: str = "as_stored") -> tf.Tensor:
    """Decode and resize an encoded photo (scalar string) for the model: uint8 [size, size, 3]."""
    # Rotating after resizing is faster and gives the same result.
    return _oriented(resize_image(decode_image(contents), size), contents, exif == "apply")


def mask_at_size(
    trimap: tf.Tensor,
    photo: tf.Tensor,
    size: int,
    exif: str = "as_stored",
    exif_masks: str = "upright",
) -> tf.Tensor:
    """Decode and resize a trimap PNG to match `photo_at_size`.

    Args:
      trimap: scalar string.
      photo: scalar string, the encoded photo, whose EXIF orientation may apply to the mask too.
      size: side of the result in pixels.
      exif: the setting data.exif.
      exif_masks: the setting data.exif_masks.

    Returns:
      class ids, uint8 [size, size].
    """
    ids = decode_mask(trimap, size)
    if not turns_masks(exif, exif_masks):
        return ids
    return _oriented(ids[..., None], photo, True)[..., 0]


def turns_masks(exif: str, exif_masks: str) -> bool:
    """Return whether the EXIF orientation is applied to masks as well."""
    return exif == "apply" and exif_masks == "as_stored"


def pack_image(pixels: tf.Tensor) -> tf.Tensor:
    """Pack one photo, uint8 [size, size, 3], into a scalar string, one byte per value."""
    return tf.io.serialize_tensor(pixels)


def pack_mask(ids: tf.Tensor) -> tf.Tensor:
    """Pack one mask's class ids, uint8 [size, size], into a scalar string, a PNG."""
    return tf.io.encode_png(ids[..., None], compression=3)


def unpack_image(packed: tf.Tensor, size: int) -> tf.Tensor:
    """Unpack one photo (scalar string) into uint8 [size, size, 3]."""
    return tf.reshape(tf.io.parse_tensor(packed, tf.uint8), [size, size, 3])


def unpack_mask(packed: tf.Tensor, size: int) -> tf.Tensor:
    """Unpack one mask (scalar string) into class ids, uint8 [size, size]."""
    return tf.reshape(tf.io.decode_png(packed, channels=1), [size, size])


def rescale(pixels: tf.Tensor) -> tf.Tensor:
    """Map uint8 pixels to the model's input, float32 in [0, 1]."""
    return tf.cast(pixels, tf.float32) / 255.0


def encode_masks(ids: tf.Tensor, valid: tf.Tensor) -> tf.Tensor:
    """Encode masks as grey PNG files whose pixel values are class ids.

    Args:
      ids: uint8 [batch, size, size].
      valid: bool [batch], the masks to encode.

    Returns:
      string [batch], empty for masks that are not `valid`.
    """
    return tf.map_fn(
        lambda each: tf.cond(each[1], lambda: pack_mask(each[0]), lambda: tf.constant(b"")),
        (ids, valid),
        fn_output_signature=tf.string,
    )


def attempt_each(
    do: Callable[[tf.Tensor], tf.Tensor], contents: tf.Tensor, shape: Sequence[int]
) -> tuple[tf.Tensor, tf.Tensor]:
    """Apply a function that may fail to each input, in a graph.

    A graph cannot catch errors, but a tf.data pipeline inside it can skip elements that fail.

    Args:
      do: maps one input, a scalar string, to uint8 of `shape`.
      contents: string [batch].
      shape: the shape of one result.

    Returns:
      The results, uint8 [batch, *shape], zeros where `do` failed; and bool [batch], true where it
      succeeded.
    """
    size = tf.shape(contents, tf.int64)[0]
    done = tf.data.Dataset.from_tensor_slices(contents).enumerate()
    done = done.map(lambda place, each: (place, do(each)), num_parallel_calls=4)
    done = done.ignore_errors().batch(tf.maximum(size, 1))
    # Take the only batch, or an empty one if all inputs failed; ten times as fast as `reduce`.
    empty = tf.data.Dataset.from_tensors((tf.zeros([0], tf.int64), tf.zeros([0, *shape], tf.uint8)))
    places, results = done.concatenate(empty).take(1).with_options(_lean()).get_single_element()
    valid = tf.scatter_nd(places[:, None], tf.ones_like(places, tf.bool), size[None])
    whole = tf.concat([size[None], tf.constant(shape, tf.int64)], axis=0)
    return tf.scatter_nd(places[:, None], results, whole), valid


def _lean() -> tf.data.Options:
    """Return options without autotuning, which does not pay off for a single batch."""
    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False
    return options


def preprocessing_fn(
    inputs: dict[str, tf.Tensor], custom_config: dict[str, Any]
) -> dict[str, tf.Tensor]:
    """Transform's user code.

    Args:
      inputs: raw features, each [batch].
      custom_config: ``image_size``, the side of the square in pixels, and the settings ``exif`` and
        ``exif_masks``.

    Returns:
      Packed pixels, packed class ids, and the id of the example; each string [batch].
    """
    size = custom_config["image_size"]
    exif: str = custom_config.get("exif", "as_stored")
    exif_masks: str = custom_config.get("exif_masks", "upright")

    def packed(contents: Any, pack_one: Callable[[Any], tf.Tensor]) -> tf.Tensor:
        flat = tf.nest.map_structure(lambda c: tf.reshape(c, [-1]), contents)
        return tf.map_fn(pack_one, flat, fn_output_signature=tf.string)

    photos, masks = inputs[features.IMAGE], inputs[features.MASK]
    # Masks depend on photos only if needed, since serving has no masks.
    if turns_masks(exif, exif_masks):
        mask_pixels = packed(
            (masks, photos), lambda c: pack_mask(mask_at_size(c[0], c[1], size, exif, exif_masks))
        )
    else:
        mask_pixels = packed(masks, lambda c: pack_mask(decode_mask(c, size)))
    return {
        features.IMAGE_PIXELS: packed(photos, lambda c: pack_image(photo_at_size(c, size, exif))),
        features.MASK_PIXELS: mask_pixels,
        features.ID: inputs[features.ID],
    }
