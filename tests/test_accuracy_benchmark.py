"""benchmarks/accuracy.py on a few photos: the figures, the clock and the course of training."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from pipeline import settings
from pipeline.core import features
from tests.support.models import accuracy

SIZE = 32
Splits = dict[str, accuracy.Split]


def chosen(*overrides: str) -> settings.Settings:
    """The reference, with a few settings changed."""
    return settings.load(accuracy.CONFIGS["reference"], overrides)


@pytest.fixture(scope="module")
def splits(small_data: Path) -> Splits:
    return accuracy.load_splits(small_data, SIZE, eval_share=0.2, test_share=0.1)


def test_splits_are_those_of_the_pipeline(splits: Splits) -> None:
    assert set(splits) == set(features.SPLITS)
    assert sum(len(photos) for photos, _ in splits.values()) == 40
    for photos, masks in splits.values():
        assert photos.shape[1:] == (SIZE, SIZE, 3)
        assert photos.dtype == masks.dtype == np.uint8
        assert set(np.unique(masks)) <= {0, 1, 2}


def test_scores_come_from_the_pixels_of_the_whole_split() -> None:
    """The model says "pet" where the photo is white and "background" elsewhere."""
    photo = keras.Input((2, 2, 3))
    kernel = np.array([[[[9, 0, -9], [0, 0, 0], [0, 0, 0]]]], np.float32)  # red decides
    layer = keras.layers.Conv2D(3, 1, activation="softmax")
    model = keras.Model(photo, layer(photo))
    layer.set_weights([kernel, np.array([-4, 0, -9], np.float32)])

    photos = np.zeros((3, 2, 2, 3), np.uint8)
    photos[:, 0] = 255
    masks = np.array([[[0, 0], [1, 1]], [[0, 0], [1, 1]], [[0, 1], [1, 2]]], np.uint8)
    found = accuracy.score(model, (photos, masks), batch_size=2)
    assert found == pytest.approx(
        {
            "accuracy": 10 / 12,
            "mean_iou": (5 / 6 + 5 / 7 + 0) / 3,
            "pet": 5 / 6,
            "background": 5 / 7,
            "border": 0,
        }
    )


def test_training_ends_with_the_epochs_and_judges_each(splits: Splits) -> None:
    rows = accuracy.train(chosen("model.name=xception_unet_s", "train.epochs=2"), splits)
    assert [row["epoch"] for row in rows] == [1, 2]
    assert 0 < rows[0]["minute"] < rows[1]["minute"]
    for row in rows:
        for split in (features.EVAL, features.TEST):
            assert set(row[split]) == set(accuracy.SCORES)
            assert all(0 <= value <= 1 for value in row[split].values())


def test_training_ends_when_the_time_is_up(splits: Splits) -> None:
    """Also in the midst of an epoch, and that epoch is judged, too."""
    rows = accuracy.train(chosen(), splits, minutes=1e-6)
    assert len(rows) == 1


def test_class_balance_needs_nothing_but_the_masks(splits: Splits) -> None:
    rows = accuracy.train(chosen("train.class_balance=0.5"), splits, minutes=1e-6)
    assert np.isfinite(rows[0]["loss"])
