"""Augmentation: photo and mask stay one picture, and the seed decides everything."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from pipeline.training import augmentation

Batch = tuple[NDArray[np.uint8], NDArray[np.uint8]]  # photos, class ids
Seed = tuple[int, int]

seeds = st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1))
strengths = st.floats(0.01, 1)
few = settings(max_examples=25, deadline=None)


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """(photos, class ids) of up to three pictures of any size, any pixels."""
    shape = draw(st.tuples(st.integers(1, 3), st.integers(2, 33), st.integers(2, 33)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    photos = rng.integers(0, 256, (*shape, 3), np.uint8)
    ids = draw(hnp.arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 2])))
    return photos, ids


def augment_batch(batch: Batch, seed: Seed, strength: float) -> Batch:
    photos, ids = batch
    moved = augmentation.augment_batch(
        tf.constant(photos), tf.constant(ids), tf.constant(seed, tf.int64), strength
    )
    return moved[0].numpy(), moved[1].numpy()


def scene(size: int = 64) -> tuple[NDArray[Any], NDArray[Any]]:
    """A photo that is white where the class id is 1 and black where it is 0: a disc off centre."""
    y, x = np.mgrid[:size, :size]
    ids = ((y - size / 3) ** 2 + (x - size / 2.5) ** 2 < (size / 4) ** 2).astype(np.uint8)
    return np.repeat(ids[..., None] * np.uint8(255), 3, -1), ids


@few
@given(batches(), seeds, strengths)
def test_shape_type_and_class_ids_are_kept(batch: Batch, seed: Seed, strength: float) -> None:
    photos, ids = augment_batch(batch, seed, strength)
    assert photos.shape == batch[0].shape
    assert ids.shape == batch[1].shape
    assert photos.dtype == ids.dtype == np.uint8
    for before, after in zip(batch[1], ids, strict=True):
        assert set(np.unique(after)) <= set(np.unique(before))


@few
@given(seeds, strengths)
def test_photo_and_mask_move_together(seed: Seed, strength: float) -> None:
    """Where bilinear interpolation saw one class only, nearest neighbour found that class."""
    photo, ids = scene()
    moved, moved_ids = augmentation.move(
        tf.constant(photo[None]), tf.constant(ids[None]), tf.constant(seed, tf.int64), strength
    )
    grey, moved_ids = moved.numpy()[..., 0], moved_ids.numpy()
    assert (moved_ids[grey == 255] == 1).all()
    assert (moved_ids[grey == 0] == 0).all()
    assert ((grey == 0) | (grey == 255)).mean() > 0.8


@few
@given(batches(), seeds)
def test_strength_0_changes_nothing(batch: Batch, seed: Seed) -> None:
    photos, ids = augment_batch(batch, seed, 0.0)
    np.testing.assert_array_equal(photos, batch[0])
    np.testing.assert_array_equal(ids, batch[1])


@few
@given(batches(), seeds, strengths)
def test_the_seed_decides(batch: Batch, seed: Seed, strength: float) -> None:
    first, again = (augment_batch(batch, seed, strength) for _ in range(2))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])


@few
@given(seeds, strengths)
def test_grey_stays_grey_and_black_and_white_keep_their_order(seed: Seed, strength: float) -> None:
    """A change of colour is linear: hue and saturation leave grey pixels without a tint."""
    steps = np.repeat(np.arange(0, 256, 15, dtype=np.uint8)[None, :, None], 3, -1)[None]
    result = augmentation.recolour(tf.constant(steps), tf.constant(seed, tf.int64), strength)
    result = result.numpy()[0, 0].astype(int)
    assert (np.ptp(result, axis=-1) <= 1).all()
    assert (np.diff(result[:, 0]) >= 0).all()


def test_photos_of_a_batch_differ_and_half_are_mirrored() -> None:
    """At next to no strength only the flip is left."""
    photo, ids = scene()
    count = 200
    photos, moved = augment_batch(
        (np.repeat(photo[None], count, 0), np.repeat(ids[None], count, 0)), (1, 2), 1e-6
    )
    plain = (moved == ids).all(axis=(1, 2))
    mirrored = (moved == ids[:, ::-1]).all(axis=(1, 2))
    assert (plain ^ mirrored).all()
    assert 70 <= mirrored.sum() <= 130
    difference = photos.astype(int) - photo
    difference[mirrored] = photos[mirrored].astype(int) - photo[:, ::-1]
    assert abs(difference).max() <= 1


def data_set(count: int = 12) -> tf.data.Dataset:
    photo, ids = scene(16)
    return tf.data.Dataset.from_tensors((photo, ids)).repeat(count)


def as_arrays(data: tf.data.Dataset) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    return list(data.as_numpy_iterator())


def test_a_data_set_is_reproducible_and_differs_by_step_and_seed() -> None:
    first = as_arrays(augmentation.augmented_batches(data_set(), 4, 1.0, seed=5))
    again = as_arrays(augmentation.augmented_batches(data_set(), 4, 1.0, seed=5))
    other = as_arrays(augmentation.augmented_batches(data_set(), 4, 1.0, seed=6))
    for (photos, ids), (photos_again, ids_again) in zip(first, again, strict=True):
        np.testing.assert_array_equal(photos, photos_again)
        np.testing.assert_array_equal(ids, ids_again)
    assert not np.array_equal(first[0][0], first[1][0])
    assert not np.array_equal(first[0][0], other[0][0])


def test_a_resumed_training_sees_what_it_would_have_seen() -> None:
    whole = as_arrays(augmentation.augmented_batches(data_set(12), 4, 1.0, seed=5))
    rest = as_arrays(augmentation.augmented_batches(data_set(4), 4, 1.0, seed=5, first_photo=8))
    np.testing.assert_array_equal(whole[2][0], rest[0][0])
    np.testing.assert_array_equal(whole[2][1], rest[0][1])


def test_strength_0_leaves_the_photos_alone() -> None:
    ((batch, ids),) = as_arrays(augmentation.augmented_batches(data_set(4), 4, 0, seed=1))
    photo, true_ids = scene(16)
    np.testing.assert_array_equal(batch, [photo] * 4)
    np.testing.assert_array_equal(ids, [true_ids] * 4)


@pytest.mark.parametrize("strength", [-0.1, 1.01, float("nan")])
def test_a_bad_strength_is_refused(strength: float) -> None:
    with pytest.raises(ValueError, match=r"strength .* between 0 and 1"):
        augmentation.augmented_batches(data_set(), 4, strength, seed=1)
