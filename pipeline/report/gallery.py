"""Test photos for the report, with ground truth and prediction: the worst, middle and best."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
import tensorflow as tf

from pipeline.core import features, images, progress
from pipeline.data import raw_examples
from pipeline.evaluation import metrics
from pipeline.report.html_page import GalleryItem
from pipeline.saved_model import contract

SCORED = 200  # maximum number of test photos to score
_LONG_SIDE = 320  # pixels; shows borders, and 24 photos still fit in one page

Prediction = dict[str, Any]  # outputs of the signature `segment_examples` for one photo


def build(
    model_path: str, examples_uri: str, champion_path: str | None = None, count: int = 24
) -> list[GalleryItem]:
    """Segment test photos and pick a third each of the worst, middle and best ones.

    Scores up to `SCORED` photos, spread evenly over the ids of the test split.

    Args:
      model_path: a SavedModel with the signature ``segment_examples``.
      examples_uri: ExampleGen's output.
      champion_path: a second SavedModel to show next to it; ignored if it lacks that signature.
      count: maximum number of photos.

    Returns:
      The photos, lowest mean IoU first.
    """
    scored_ids = set(raw_examples.spread_ids(examples_uri, features.TEST, SCORED))
    if not scored_ids:
        return []
    # Hold on to the loaded modules: a signature alone does not keep its variables alive.
    model = tf.saved_model.load(model_path)
    champion = tf.saved_model.load(champion_path) if champion_path else None
    progress.expect(len(scored_ids))
    scores = {}
    for record in raw_examples.records(examples_uri, features.TEST):
        if raw_examples.id_of(record) in scored_ids:
            scores[raw_examples.id_of(record)] = _score(_segment(model, record))
            progress.count()
    groups = _pick(sorted(scores, key=lambda id_: (scores[id_], id_)), count)
    items = [  # segmented a second time, so that only a few photos are in memory
        _item(record, groups[raw_examples.id_of(record)], model, champion)
        for record in raw_examples.records(examples_uri, features.TEST)
        if raw_examples.id_of(record) in groups
    ]
    return sorted(items, key=lambda item: (item.mean_iou, item.id))


def _pick(ranked: list[bytes], count: int) -> dict[bytes, str]:
    """Choose the photos to show and the group of each, from ids ranked worst to best."""
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
    candidate = _segment(model, record)
    rival = None
    if champion is not None and contract.SEGMENT in champion.signatures:
        rival = _segment(champion, record)
    nearest = PIL.Image.Resampling.NEAREST
    return GalleryItem(
        id=candidate["id"].decode(),
        breed=example.features.feature[features.BREED].bytes_list.value[0].decode(),
        photo=_resize(candidate["image"], size, PIL.Image.Resampling.BILINEAR),
        truth=_resize(candidate["truth"], size, nearest),
        prediction=_resize(candidate["mask"], size, nearest),
        pixel_accuracy=metrics.pixel_accuracy(_confusion(candidate)),
        mean_iou=_score(candidate),
        group=group,
        champion=None if rival is None else _resize(rival["mask"], size, nearest),
        champion_mean_iou=None if rival is None else _score(rival),
    )


def _segment(model: Any, record: bytes) -> Prediction:
    """Segment one photo; no batches, so that large images need little memory."""
    outputs = model.signatures[contract.SEGMENT](examples=tf.constant([record]))
    return {name: value[0].numpy() for name, value in outputs.items()}


def _score(prediction: Prediction) -> float:
    return metrics.mean_iou(_confusion(prediction))


def _int(example: tf.train.Example, name: str) -> int:
    return int(example.features.feature[name].int64_list.value[0])


def _display_size(width: int, height: int) -> tuple[int, int]:
    scale = _LONG_SIDE / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _resize(
    pixels: images.Pixels, size: tuple[int, int], resampling: PIL.Image.Resampling
) -> images.Pixels:
    return np.asarray(PIL.Image.fromarray(pixels).resize(size, resampling))


def _confusion(prediction: Prediction) -> npt.NDArray[Any]:
    return metrics.confusion_of(prediction["truth"], prediction["mask"])
