"""Test photos with truth and prediction, for the report."""

from __future__ import annotations

import os

import numpy as np
import PIL.Image
import tensorflow as tf
from tfx.dsl.io import fileio

from pipeline import features, metrics
from pipeline.report import GalleryItem

_LONG_SIDE = 320  # pixels; enough to see a border, small enough for one page of a dozen


def build(model_path: str, examples_uri: str, count: int = 12) -> list[GalleryItem]:
    """Segments test photos, spread evenly over the ids of the test split.

    Args:
      model_path: a SavedModel with the signature ``segment_examples``.
      examples_uri: ExampleGen's output.
      count: number of photos at most.
    """
    examples = _pick(os.path.join(examples_uri, f"Split-{features.TEST}"), count)
    if not examples:
        return []
    segment = tf.saved_model.load(model_path).signatures["segment_examples"]
    items = []
    for serialized in examples:  # one at a time, to need little memory at any image size
        found = {k: v[0].numpy() for k, v in segment(examples=tf.constant([serialized])).items()}
        example = tf.train.Example.FromString(serialized)
        confusion = _confusion(found["truth"], found["mask"])
        size = _display_size(_int(example, features.WIDTH), _int(example, features.HEIGHT))
        items.append(
            GalleryItem(
                id=found["id"].decode(),
                breed=example.features.feature[features.BREED].bytes_list.value[0].decode(),
                photo=_resize(found["image"], size, PIL.Image.Resampling.BILINEAR),
                truth=_resize(found["truth"], size, PIL.Image.Resampling.NEAREST),
                prediction=_resize(found["mask"], size, PIL.Image.Resampling.NEAREST),
                pixel_accuracy=metrics.pixel_accuracy(confusion),
                mean_iou=metrics.mean_iou(confusion),
            )
        )
    return items


def _pick(split_uri: str, count: int) -> list[bytes]:
    files = sorted(fileio.glob(os.path.join(split_uri, "*")))
    records = tf.data.TFRecordDataset(files, compression_type="GZIP")
    ids = sorted(_id(record) for record in records.as_numpy_iterator())
    count = min(count, len(ids))
    wanted = {ids[i * len(ids) // count] for i in range(count)}
    # Read twice, to hold a dozen photos and not all of them.
    return sorted((r for r in records.as_numpy_iterator() if _id(r) in wanted), key=_id)


def _id(record: bytes) -> bytes:
    example = tf.train.Example.FromString(record)
    return example.features.feature[features.ID].bytes_list.value[0]


def _int(example: tf.train.Example, name: str) -> int:
    return example.features.feature[name].int64_list.value[0]


def _display_size(width: int, height: int) -> tuple[int, int]:
    scale = _LONG_SIDE / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _resize(
    pixels: np.ndarray, size: tuple[int, int], resampling: PIL.Image.Resampling
) -> np.ndarray:
    return np.asarray(PIL.Image.fromarray(pixels).resize(size, resampling))


def _confusion(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    pairs = truth.astype(int) * features.NUM_CLASSES + predicted
    counts = np.bincount(pairs.ravel(), minlength=features.NUM_CLASSES**2)
    return counts.reshape(features.NUM_CLASSES, features.NUM_CLASSES)
