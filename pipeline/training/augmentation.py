"""Mask-safe augmentation of training batches: flip, crop and scale, rotation, colour.

All random numbers come from the caller's seed (stateless ops), so the same seed and step give the
same photos whatever ran before. One affine map moves a photo and its mask. The photo is
interpolated bilinearly and the mask by nearest neighbour, so no new class ids appear. Pixels from
outside the photo are its mirror image, and so are those of the mask. `benchmarks/augmentation.py`
measures the speed.
"""

from __future__ import annotations

import math

import tensorflow as tf

# Ranges at strength 1, in both directions unless there are two values. Strength scales them.
_ROTATION = math.radians(20)
_ZOOM_IN, _ZOOM_OUT = math.log(1.8), math.log(1.15)  # log of the scale
_STRETCH = math.log(1.15)  # log of the aspect ratio
_SHIFT = 0.1  # of the side, in addition to the room that zooming in gives
_BRIGHTNESS = 0.15  # of the white level
_CONTRAST, _SATURATION = math.log(1.4), math.log(1.6)  # log of the factor
_HUE = math.radians(18)

# NTSC's YIQ: luma and two colour axes, in which a change of hue is a rotation.
_YIQ = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))


def augmented_batches(
    data: tf.data.Dataset, batch_size: int, strength: float, seed: int, first_photo: int = 0
) -> tf.data.Dataset:
    """Batches the photos of a data set and augments each batch differently.

    Args:
      data: elements (photo uint8 [size, size, 3], class ids uint8 [size, size]).
      batch_size: photos per batch; the last batch may be smaller.
      strength: 0 leaves the photos unchanged, 1 is the full range. At any strength above 0, half of
        the photos are flipped.
      seed: seed of the random numbers, not negative.
      first_photo: number of the first photo since the start of training, not 0 in a training that
        resumes or that builds its data again for each epoch.

    Returns:
      Batches (photos uint8 [batch, size, size, 3], class ids uint8 [batch, size, size]).

    Raises:
      ValueError: if the strength is negative, above 1 or NaN.
    """
    if not 0 <= strength <= 1:
        raise ValueError(f"The strength of augmentation is {strength}. Set it between 0 and 1.")
    if strength == 0:
        return data.batch(batch_size)

    def augment(
        position: tf.Tensor, batch: tuple[tf.Tensor, tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        photos, ids = batch
        return augment_batch(
            photos, ids, tf.stack([tf.cast(seed, tf.int64), position[0]]), strength
        )

    # Number photos, not batches. tf.distribute must find the call of `batch` to split batches for
    # the devices; otherwise it batches again with fewer photos, which changes the random numbers.
    numbered = data.enumerate(first_photo).batch(batch_size)
    return numbered.map(augment, num_parallel_calls=tf.data.AUTOTUNE)


def augment_batch(
    photos: tf.Tensor, ids: tf.Tensor, seed: tf.Tensor, strength: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """Moves and recolours one batch.

    Args:
      photos: uint8 [batch, size, size, 3].
      ids: class ids, uint8 [batch, size, size].
      seed: int [2].
      strength: 0 to 1; 0 returns the batch unchanged.

    Returns:
      Photos and class ids with the same shapes and dtypes.
    """
    if strength == 0:
        return photos, ids
    photos, ids = move(photos, ids, seed, strength)
    return recolour(photos, seed, strength), ids


def move(
    photos: tf.Tensor, ids: tf.Tensor, seed: tf.Tensor, strength: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """Flips, rotates, scales and shifts each photo and its mask by one affine map.

    Arguments and results are those of `augment_batch`.
    """
    size = tf.shape(photos)[1:3]
    transforms = _affine(tf.shape(photos)[0], size, seed, strength)

    def warp(pixels: tf.Tensor, interpolation: str) -> tf.Tensor:
        return tf.raw_ops.ImageProjectiveTransformV3(
            images=pixels,
            transforms=transforms,
            output_shape=size,
            interpolation=interpolation,
            fill_mode="REFLECT",
            fill_value=0.0,
        )

    moved, moved_ids = warp(photos, "BILINEAR"), warp(ids[..., None], "NEAREST")[..., 0]
    return tf.ensure_shape(moved, photos.shape), tf.ensure_shape(moved_ids, ids.shape)


def recolour(photos: tf.Tensor, seed: tf.Tensor, strength: float) -> tf.Tensor:
    """Changes brightness, contrast, saturation and hue of each photo.

    All four are linear in the pixel, so each photo gets one 3x3 matrix and an offset.

    Args:
      photos: uint8 [batch, height, width, 3].
      seed: int [2].
      strength: 0 to 1.

    Returns:
      uint8 [batch, height, width, 3].
    """
    shape = tf.shape(photos)
    brightness, contrast, saturation, hue = _uniform(shape[0], 4, seed, 1, strength)
    contrast, saturation = tf.exp(_CONTRAST * contrast), tf.exp(_SATURATION * saturation)
    cos, sin = tf.cos(_HUE * hue), tf.sin(_HUE * hue)
    one, zero = tf.ones_like(hue), tf.zeros_like(hue)
    rotation = tf.stack(
        [
            tf.stack([one, zero, zero], -1),
            tf.stack([zero, saturation * cos, -saturation * sin], -1),
            tf.stack([zero, saturation * sin, saturation * cos], -1),
        ],
        axis=-2,
    )
    to_yiq = tf.constant(_YIQ)
    matrix = contrast[:, None, None] * (tf.linalg.inv(to_yiq) @ rotation @ to_yiq)

    pixels = tf.cast(tf.reshape(photos, [shape[0], -1, 3]), tf.float32)
    grey = tf.reduce_mean(pixels, axis=[1, 2])
    offset = (1 - contrast) * grey + 255 * _BRIGHTNESS * brightness
    pixels = tf.matmul(pixels, matrix, transpose_b=True) + offset[:, None, None]
    pixels = tf.cast(tf.clip_by_value(pixels + 0.5, 0, 255), tf.uint8)
    return tf.ensure_shape(tf.reshape(pixels, shape), photos.shape)


def _affine(batch: tf.Tensor, size: tf.Tensor, seed: tf.Tensor, strength: float) -> tf.Tensor:
    """Maps from output to input pixels for ImageProjectiveTransformV3, float32 [batch, 8].

    With the centre c, an output pixel p comes from A (p - c) + c + shift, where A is flip, then
    scale, then rotation.
    """
    angle, stretch, right, down = _uniform(batch, 4, seed, 2, strength)
    unit = tf.random.stateless_uniform([2, batch], _sub_seed(seed, 3))
    zoom = strength * (unit[0] * (_ZOOM_IN + _ZOOM_OUT) - _ZOOM_OUT)
    flip = tf.where(unit[1] < 0.5, -1.0, 1.0)
    scale_x = flip * tf.exp(-zoom + _STRETCH / 2 * stretch)
    scale_y = tf.exp(-zoom - _STRETCH / 2 * stretch)
    cos, sin = tf.cos(_ROTATION * angle), tf.sin(_ROTATION * angle)
    a, b, d, e = cos * scale_x, -sin * scale_y, sin * scale_x, cos * scale_y

    height, width = tf.unstack(tf.cast(size, tf.float32))
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    # A zoomed-in window may be anywhere in the photo.
    free_x, free_y = tf.maximum(0.0, 1 - tf.abs(scale_x)) / 2, tf.maximum(0.0, 1 - scale_y) / 2
    shift_x = width * (right * free_x + strength * _SHIFT * right)
    shift_y = height * (down * free_y + strength * _SHIFT * down)
    c = centre_x + shift_x - a * centre_x - b * centre_y
    f = centre_y + shift_y - d * centre_x - e * centre_y
    zero = tf.zeros_like(a)
    return tf.stack([a, b, c, d, e, f, zero, zero], axis=-1)


def _uniform(
    batch: tf.Tensor, count: int, seed: tf.Tensor, salt: int, strength: float
) -> list[tf.Tensor]:
    """``count`` tensors [batch] of random numbers from -strength to strength."""
    numbers = tf.random.stateless_uniform(
        [count, batch], _sub_seed(seed, salt), minval=-strength, maxval=strength
    )
    return list(tf.unstack(numbers))


def _sub_seed(seed: tf.Tensor, salt: int) -> tf.Tensor:
    return tf.random.experimental.stateless_fold_in(tf.cast(seed, tf.int64), salt)
