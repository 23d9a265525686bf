"""From encoded bytes to what the model sees: the one way, for training, evaluation and serving.

``preprocessing_fn`` is Transform's user code. It packs the resized pixels of an example into a byte
string each: photos as they are, masks, which shrink well, as PNG. ``unpack_image`` and
``unpack_mask`` turn them back into tensors. Every function here runs inside a graph, and the
exported model carries that graph, so training and serving cannot differ.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from pipeline import features


def decode_image(contents: tf.Tensor) -> tf.Tensor:
    """Decodes one photo.

    Args:
      contents: scalar string, an encoded JPEG, PNG, BMP or GIF. Of a GIF the first frame is taken,
        alpha is dropped, grey becomes RGB; an EXIF orientation is not applied (neither is it to the
        masks).

    Returns:
      uint8 [height, width, 3].
    """
    # `decode_image` wants a BMP to have as many channels as it is asked for.
    is_bmp = tf.equal(tf.strings.substr(contents, 0, 2), b"BM")
    pixels = tf.cond(
        is_bmp,
        lambda: _to_rgb(tf.io.decode_bmp(contents)),
        lambda: tf.io.decode_image(contents, channels=3, expand_animations=False),
    )
    return tf.ensure_shape(pixels, [None, None, 3])


def _to_rgb(pixels: tf.Tensor) -> tf.Tensor:
    return tf.cond(
        tf.shape(pixels)[-1] < 3,
        lambda: tf.repeat(pixels[..., :1], 3, axis=-1),
        lambda: pixels[..., :3],
    )


def resize_image(pixels: tf.Tensor, size: int) -> tf.Tensor:
    """Resizes a photo without keeping the aspect ratio.

    A pixel of the smaller photo is the mean of the area that it covers: free of aliases like the
    antialiased bilinear filter, and quicker. Where a side grows, the filter is bilinear.

    Takes uint8 [height, width, 3], returns uint8 [size, size, 3].
    """
    side = [size, size]
    resized = tf.cond(
        tf.reduce_min(tf.shape(pixels)[:2]) >= size,
        lambda: tf.image.resize(pixels, side, method="area"),
        lambda: tf.image.resize(pixels, side, method="bilinear", antialias=True),
    )
    return tf.cast(resized + 0.5, tf.uint8)  # rounds; means of bytes are never out of range


def decode_trimap(contents: tf.Tensor) -> tf.Tensor:
    """Decodes a trimap PNG (scalar string) into its values, uint8 [height, width, 1]."""
    return tf.io.decode_png(contents, channels=1)


def decode_mask(contents: tf.Tensor, size: int) -> tf.Tensor:
    """Decodes a trimap PNG (scalar string) into class ids, uint8 [size, size], by nearest pixel."""
    resized = tf.image.resize(decode_trimap(contents), [size, size], method="nearest")
    return tf.squeeze(resized, axis=-1) - features.TRIMAP_OFFSET


def pack_image(pixels: tf.Tensor) -> tf.Tensor:
    """Packs one photo, uint8 [size, size, 3], into a scalar string: a byte a value."""
    return tf.io.serialize_tensor(pixels)


def pack_mask(ids: tf.Tensor) -> tf.Tensor:
    """Packs one mask's class ids, uint8 [size, size], into a scalar string: a PNG."""
    return tf.io.encode_png(ids[..., None], compression=3)


def unpack_image(packed: tf.Tensor, size: int) -> tf.Tensor:
    """Turns one packed photo (scalar string) into uint8 [size, size, 3]."""
    return tf.reshape(tf.io.parse_tensor(packed, tf.uint8), [size, size, 3])


def unpack_mask(packed: tf.Tensor, size: int) -> tf.Tensor:
    """Turns one packed mask (scalar string) into class ids, uint8 [size, size]."""
    return tf.reshape(tf.io.decode_png(packed, channels=1), [size, size])


def rescale(pixels: tf.Tensor) -> tf.Tensor:
    """Maps uint8 pixels to the model's input, float32 in [0, 1]."""
    return tf.cast(pixels, tf.float32) / 255.0


def preprocessing_fn(
    inputs: dict[str, tf.Tensor], custom_config: dict[str, Any]
) -> dict[str, tf.Tensor]:
    """Transform's user code.

    Args:
      inputs: raw features, each [batch].
      custom_config: holds ``image_size``, the side of the square in pixels.

    Returns:
      Packed pixels and class ids, and the features that name the example; each string [batch].
    """
    size = custom_config["image_size"]

    def packed(contents: tf.Tensor, pack_one: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
        return tf.map_fn(pack_one, tf.reshape(contents, [-1]), fn_output_signature=tf.string)

    return {
        features.IMAGE_PIXELS: packed(
            inputs[features.IMAGE], lambda c: pack_image(resize_image(decode_image(c), size))
        ),
        features.MASK_PIXELS: packed(
            inputs[features.MASK], lambda c: pack_mask(decode_mask(c, size))
        ),
        features.ID: inputs[features.ID],
    }
