"""From bytes to the model's input: formats, sizes, class ids."""

from __future__ import annotations

from typing import Any

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from pipeline.core import features
from pipeline.data import preprocessing
from tests.support.photos import encoded

COLOURS = np.zeros([6, 9, 3], np.uint8)
COLOURS[:3] = (200, 40, 90)
COLOURS[3:] = (10, 150, 60)

RGB = PIL.Image.fromarray(COLOURS)
OTHER = PIL.Image.fromarray(255 - COLOURS)


@pytest.mark.parametrize(
    "contents",
    [
        encoded(RGB, "PNG"),
        encoded(RGB.convert("RGBA"), "PNG"),
        encoded(RGB.convert("P", palette=PIL.Image.Palette.ADAPTIVE), "PNG"),
        encoded(RGB, "BMP"),
        encoded(RGB.convert("RGBA"), "BMP"),
        encoded(RGB, "GIF"),
        encoded(RGB, "GIF", save_all=True, append_images=[OTHER]),
        encoded(RGB, "JPEG", quality=100, subsampling=0),
        encoded(RGB, "JPEG", quality=100, subsampling=0, progressive=True),
    ],
    ids=[
        "png",
        "rgba-png",
        "palette-png",
        "bmp",
        "rgba-bmp",
        "gif",
        "animated-gif",
        "jpeg",
        "progressive-jpeg",
    ],
)
def test_every_format_decodes_to_the_same_rgb(contents: bytes) -> None:
    pixels = preprocessing.decode_image(tf.constant(contents)).numpy()
    assert pixels.dtype == np.uint8
    assert pixels.shape == COLOURS.shape
    assert np.abs(pixels.astype(int) - COLOURS).max() <= 10  # JPEG is lossy


@pytest.mark.parametrize(
    "contents",
    [
        encoded(RGB.convert("L"), "PNG"),
        encoded(RGB.convert("LA"), "PNG"),
        encoded(RGB.convert("L"), "BMP"),
        encoded(RGB.convert("L"), "JPEG", quality=100),
    ],
    ids=["png", "png-alpha", "bmp", "jpeg"],
)
def test_grey_becomes_rgb(contents: bytes) -> None:
    pixels = preprocessing.decode_image(tf.constant(contents)).numpy().astype(int)
    grey = np.asarray(RGB.convert("L")).astype(int)
    assert pixels.shape == COLOURS.shape
    assert np.abs(pixels - grey[..., None]).max() <= 2


@settings(deadline=None)
@given(
    hnp.arrays(
        np.uint8,
        hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40),
        elements=st.integers(1, 3),
    ),
    st.sampled_from([8, 24, 200]),
)
def test_masks_are_picked_never_mixed(trimap: NDArray[Any], size: int) -> None:
    """Each output pixel is the input pixel under its centre."""
    contents = encoded(PIL.Image.fromarray(trimap), "PNG")
    ids = preprocessing.decode_mask(tf.constant(contents), size).numpy()
    assert ids.dtype == np.uint8
    expected = tf.image.resize(trimap[..., None], [size, size], method="nearest").numpy()[..., 0]
    assert (ids == expected - 1).all()
    assert set(np.unique(ids)) <= set(np.unique(trimap) - 1)
    rows = (np.arange(size) + 0.5) * trimap.shape[0] / size
    columns = (np.arange(size) + 0.5) * trimap.shape[1] / size
    inner = np.ix_(rows % 1 > 1e-3, columns % 1 > 1e-3)  # not on the edge of two pixels
    picked = trimap[
        np.ix_(rows.astype(int) % trimap.shape[0], columns.astype(int) % trimap.shape[1])
    ]
    assert (ids[inner] == picked[inner] - 1).all()


@given(
    hnp.arrays(np.uint8, (16, 16, 3)),
    hnp.arrays(np.uint8, (16, 16), elements=st.integers(0, features.NUM_CLASSES - 1)),
)
def test_packed_pixels_come_back(pixels: NDArray[Any], ids: NDArray[Any]) -> None:
    photo = preprocessing.unpack_image(preprocessing.pack_image(tf.constant(pixels)), 16)
    mask = preprocessing.unpack_mask(preprocessing.pack_mask(tf.constant(ids)), 16)
    assert photo.dtype == mask.dtype == tf.uint8
    assert (photo.numpy() == pixels).all()
    assert (mask.numpy() == ids).all()


def test_transform_packs_what_decoding_and_resizing_give() -> None:
    trimap = PIL.Image.fromarray((np.arange(40 * 30) % 3 + 1).astype(np.uint8).reshape(40, 30))
    masks = [
        encoded(trimap, "PNG"),
        encoded(trimap.transpose(PIL.Image.Transpose.ROTATE_90), "PNG"),
    ]
    inputs = {
        features.IMAGE: tf.constant([[encoded(RGB, "PNG")], [encoded(OTHER, "PNG")]]),
        features.MASK: tf.constant([[mask] for mask in masks]),
        features.ID: tf.constant([["a"], ["b"]]),
    }
    packed = preprocessing.preprocessing_fn(inputs, {"image_size": 16})
    for index, image in enumerate((RGB, OTHER)):
        pixels = preprocessing.unpack_image(packed[features.IMAGE_PIXELS][index], 16)
        direct = preprocessing.resize_image(tf.constant(np.asarray(image)), 16)
        assert (pixels.numpy() == direct.numpy()).all()
        ids = preprocessing.unpack_mask(packed[features.MASK_PIXELS][index], 16)
        assert (ids.numpy() == preprocessing.decode_mask(masks[index], 16).numpy()).all()


def test_uniform_photo_stays_uniform_and_scales_to_one() -> None:
    white = encoded(PIL.Image.new("RGB", (31, 57), "white"), "PNG")
    pixels = preprocessing.resize_image(preprocessing.decode_image(tf.constant(white)), 200)
    model_input = preprocessing.rescale(pixels)
    assert model_input.dtype == tf.float32
    assert model_input.shape == (200, 200, 3)
    assert (model_input.numpy() == 1).all()


def test_smaller_photo_is_made_of_the_means_of_areas() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)
    resized = preprocessing.resize_image(tf.constant(photo), 8).numpy()
    assert np.abs(resized - photo.reshape(8, 2, 8, 3, 3).mean(axis=(1, 3))).max() <= 0.5


@pytest.mark.parametrize("shape", [(4, 5, 3), (4, 40, 3)])
def test_photo_that_grows_is_interpolated(shape: tuple[int, int, int]) -> None:
    """Not repeated in blocks, also if only one of its sides grows."""
    ramp = np.broadcast_to(np.linspace(0, 240, shape[0])[:, None, None], shape).astype(np.uint8)
    resized = preprocessing.resize_image(tf.constant(ramp), 16).numpy()
    assert (np.diff(resized[2:-2, :, 0].astype(int), axis=0) > 0).all()
