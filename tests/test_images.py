"""Colours, overlays and masks at a photo's own size."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipeline.core import features, images


def luminance(colour: NDArray[Any]) -> float:
    """Relative luminance of an sRGB colour (WCAG 2)."""
    c = colour / 255
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_every_class_has_a_colour_and_none_rests_on_hue_alone() -> None:
    assert images.COLOURS.shape == (features.NUM_CLASSES, 3)
    light = [luminance(c) for c in images.COLOURS]
    pet, background, border = light
    assert (min(pet, border) + 0.05) / (background + 0.05) > 4.5
    blue, yellow = images.COLOURS[0, 2], images.COLOURS[2, 2]  # the channel all can tell apart
    assert int(blue) - int(yellow) > 150


def test_overlay_tints_and_lets_the_border_stand_out() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    ids = (np.arange(24).reshape(4, 6) % 3).astype(np.uint8)
    before = photo.copy()
    tinted = images.overlay(photo, ids)
    opacity = images.OPACITY[ids][..., None]
    expected = photo * (1 - opacity) + images.colour_mask(ids) * opacity
    assert tinted.dtype == np.uint8
    np.testing.assert_allclose(tinted, expected, atol=0.51)
    np.testing.assert_array_equal(photo, before)
    assert images.OPACITY[2] > 0.8 > 0.6 > images.OPACITY[0]


def test_overlay_refuses_what_does_not_fit() -> None:
    photo = np.zeros((4, 6, 3), np.uint8)
    with pytest.raises(ValueError, match="shape"):
        images.overlay(photo, np.zeros((6, 4), np.uint8))
    with pytest.raises(ValueError, match="3 is not a class id"):
        images.overlay(photo, np.full((4, 6), 3, np.uint8))


def test_trimap_values() -> None:
    trimap = images.to_trimap(np.array([[0, 1, 2]], np.uint8))
    assert trimap.dtype == np.uint8
    assert trimap.tolist() == [[1, 2, 3]]
    with pytest.raises(ValueError, match="255"):
        images.to_trimap(np.array([[255]], np.uint8))


def test_mask_at_its_own_size_is_the_argmax() -> None:
    probabilities = np.random.default_rng(0).random((20, 30, 3)).astype(np.float32)
    mask = images.mask_at_size(probabilities, 20, 30)
    np.testing.assert_array_equal(mask, probabilities.argmax(axis=-1))


def test_mask_at_another_size_keeps_places_and_shape() -> None:
    probabilities = np.zeros((10, 10, 3), np.float32)
    probabilities[:, :5, 0] = 1  # left pet, right background
    probabilities[:, 5:, 1] = 1
    mask = images.mask_at_size(probabilities, 31, 44)
    assert mask.dtype == np.uint8
    assert mask.shape == (31, 44)
    assert (mask[:, :22] == 0).all()
    assert (mask[:, 22:] == 1).all()


def test_a_large_photo_is_worked_on_in_bands() -> None:
    """As floats, the whole would take twenty bytes a pixel."""
    probabilities = np.random.default_rng(0).random((20, 20, 3)).astype(np.float32)
    height, width = 3000, 4000
    tracemalloc.start()
    mask = images.mask_at_size(probabilities, height, width)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * height * width
    rows = slice(0, 900)  # within the first band
    box = (0, 0, 20, 20 * 900 / height)
    planes = [
        np.asarray(Image.fromarray(plane).resize((width, 900), Image.Resampling.BILINEAR, box))
        for plane in np.ascontiguousarray(np.moveaxis(probabilities, -1, 0))
    ]
    assert (mask[rows] == np.argmax(np.stack(planes), axis=0)).mean() > 0.9999
    photo = np.full((height, width, 3), 100, np.uint8)
    expected = images.overlay(photo[1200:1300], mask[1200:1300])
    assert np.array_equal(images.overlay(photo, mask)[1200:1300], expected)


def test_css_colour() -> None:
    assert images.hex_colour(images.COLOURS[0]) == "#56b4e9"
