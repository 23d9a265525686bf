"""Compare a converted file with the SavedModel: its masks, its quality, its speed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pipeline.core import features, images
from pipeline.evaluation import metrics
from pipeline.formats import Output
from pipeline.formats.photos import Example

# Minimum fraction of pixels on which a float32 file has the SavedModel's masks. It is below 1
# because the file resizes differently, and rounding decides if two classes are equally probable.
MIN_AGREEMENT = 0.995
MAX_LOSS = 0.003  # of mean IoU in int8
_TIMED = 20  # photos


class ConversionError(Exception):
    """A file must not be used; the message is a clause that says why."""


class Runner(Protocol):
    """Runs a file."""

    def __call__(self, photos: images.Pixels) -> Output:
        """Segments photos, uint8 [batch, height, width, 3]."""


@dataclass(frozen=True)
class Quality:
    """Metrics of masks against the ground truth."""

    mean_iou: float
    iou: dict[str, float | None]  # by class; None for a class that does not occur


def quality(masks: Sequence[images.Pixels], examples: Sequence[Example], size: int) -> Quality:
    """Compares masks, each uint8 [size, size], with the ground truth."""
    pairs = zip(masks, examples, strict=True)
    confusions = [metrics.confusion_of(example.truth(size), mask) for mask, example in pairs]
    confusion = np.sum(confusions, axis=0)
    iou = metrics.class_iou(confusion).tolist()
    named = {
        name: None if np.isnan(value) else value
        for name, value in zip(features.CLASS_NAMES, iou, strict=True)
    }
    return Quality(metrics.mean_iou(confusion), named)


def masks(runner: Runner, examples: Sequence[Example]) -> list[images.Pixels]:
    """Segments the photos one by one; returns masks, each uint8 [size, size]."""
    return [runner(example.pixels()[None]).mask[0] for example in examples]


def agreement(some: Sequence[images.Pixels], others: Sequence[images.Pixels]) -> float:
    """Fraction of equal pixels in two lists of masks."""
    return float(np.mean([np.mean(a == b) for a, b in zip(some, others, strict=True)]))


def milliseconds(runners: Sequence[Runner], examples: Sequence[Example]) -> list[float]:
    """Median CPU time per photo of each runner, which must use one thread.

    The runners take turns, so that other work on the machine affects them equally.
    """
    times: list[list[float]] = [[] for _ in runners]
    for example in examples[:_TIMED]:
        photo = example.pixels()
        for runner, own_times in zip(runners, times, strict=True):
            runner(photo[None])  # warm up for this photo size
            start = time.process_time()
            runner(photo[None])
            own_times.append(1000 * (time.process_time() - start))
    return [statistics.median(own_times) for own_times in times]
