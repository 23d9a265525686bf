"""Test photos with truth and prediction, for the report: the worst, the middling and the best."""

from __future__ import annotations

from typing import Any

import numpy as np
import PIL.Image
import tensorflow as tf

from pipeline.core import features, progress
from pipeline.data import raw_examples
from pipeline.evaluation import metrics
from pipeline.report.html_page import GalleryItem
from pipeline.saved_model import contract

SCORED = 200  # test photos at most, among which they are
_LONG_SIDE = 320  # pixels; enough to see a border, small enough for one page of two dozen


def build(
    model_path: str, examples_uri: str, champion_path: str | None = None, count: int = 24
) -> list[GalleryItem]:
    """Segments test photos and picks a third each of the worst, the middling and the best.

    Up to `SCORED` photos, spread evenly over the ids of the test split, are looked at.

    Args:
      model_path: a SavedModel with the signature ``segment_examples``.
      examples_uri: ExampleGen's output.
      champion_path: another, which segments the same photos; left out if it has no such signature.
      count: number of photos at most.

    Returns:
      The photos, lowest mean IoU first.
    """
    looked_at = set(raw_examples.spread_ids(examples_uri, features.TEST, SCORED))
    if not looked_at:
        return []
    # The modules are kept: a signature does not keep its variables alive.
    model = tf.saved_model.load(model_path)
    champion = tf.saved_model.load(champion_path) if champion_path else None
    progress.expect(len(looked_at))
    scores = {}
    for record in raw_examples.records(examples_uri, features.TEST):
        if raw_examples.id_of(record) in looked_at:
            scores[raw_examples.id_of(record)] = _score(_segment(model, record))
            progress.count()
    groups = _pick(sorted(scores, key=lambda id_: (scores[id_], id_)), count)
    items = [  # segmented again, to hold a few photos and not hundreds
        _item(record, groups[raw_examples.id_of(record)], model, champion)
        for record in raw_examples.records(examples_uri, features.TEST)
        if raw_examples.id_of(record) in groups
    ]
    return sorted(items, key=lambda item: (item.mean_iou, item.id))


def _pick(ranked: list[bytes], count: int) -> dict[bytes, str]:
    """Names the group of each photo that is shown, given all from the worst to the best."""
    count = min(count, len(ranked))
    best = count // 3
    worst = (count - best + 1) // 2
    middle = count - worst - best
    begin = max(worst, (len(ranked) - middle) // 2)
    begin = min(begin, len(ranked) - best - middle)
    return {
        **dict.fromkeys(ranked[:worst], "worst"),
        **dict.fromkeys(ranked[begin : begin + middle], "middle"),
        **dict.fromkeys(ranked[len(ranked) - best :], "best"),
    }


def _item(record: bytes, group: str, model: Any, champion: Any) -> GalleryItem:
    example = tf.train.Example.FromString(record)
    size = _display_size(_int(example, features.WIDTH), _int(example, features.HEIGHT))
    found = _segment(model, record)
    rival = None
    if champion is not None and contract.SEGMENT in champion.signatures:
        rival = _segment(champion, record)
    nearest = PIL.Image.Resampling.NEAREST
    return GalleryItem(
        id=found["id"].decode(),
        breed=example.features.feature[features.BREED].bytes_list.value[0].decode(),
        photo=_resize(found["image"], size, PIL.Image.Resampling.BILINEAR),
        truth=_resize(found["truth"], size, nearest),
        prediction=_resize(found["mask"], size, nearest),
        pixel_accuracy=metrics.pixel_accuracy(_confusion(found)),
        mean_iou=_score(found),
        group=group,
        champion=None if rival is None else _resize(rival["mask"], size, nearest),
        champion_mean_iou=None if rival is None else _score(rival),
    )


def _segment(model: Any, record: bytes) -> dict[str, Any]:
    """One photo alone, to need little memory at any image size."""
    found = model.signatures[contract.SEGMENT](examples=tf.constant([record]))
    return {name: value[0].numpy() for name, value in found.items()}


def _score(found: dict[str, Any]) -> float:
    return metrics.mean_iou(_confusion(found))


def _int(example: tf.train.Example, name: str) -> int:
    return example.features.feature[name].int64_list.value[0]


def _display_size(width: int, height: int) -> tuple[int, int]:
    scale = _LONG_SIDE / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _resize(
    pixels: np.ndarray, size: tuple[int, int], resampling: PIL.Image.Resampling
) -> np.ndarray:
    return np.asarray(PIL.Image.fromarray(pixels).resize(size, resampling))


def _confusion(found: dict[str, Any]) -> np.ndarray:
    return metrics.confusion_of(found["truth"], found["mask"])
