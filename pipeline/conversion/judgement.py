"""A file beside what it was made of: whether it says the same, and what it costs to ask."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pipeline.core import features, images
from pipeline.evaluation import metrics
from pipeline.formats import Answer
from pipeline.formats.photos import Example

# Share of pixels on which a file of floats has the SavedModel's masks: it resizes in other steps,
# and rounding decides where two classes are as probable.
LEAST_AGREEMENT = 0.995
# Mean IoU that 8 bits may cost.
MOST_LOSS = 0.003
_TIMED = 20  # photos


class ConversionError(Exception):
    """A file that must not be used; the message says why, in one sentence."""


class Runner(Protocol):
    """Asks a file."""

    def __call__(self, photos: images.Pixels) -> Answer:
        """Segments photos, uint8 [batch, h, w, 3]."""


@dataclass(frozen=True)
class Quality:
    """How good masks are."""

    mean_iou: float
    iou: dict[str, float | None]  # by class; None where it does not occur


def quality(masks: Sequence[images.Pixels], examples: Sequence[Example], size: int) -> Quality:
    """Compares masks, uint8 [size, size] each, with the truth."""
    pairs = zip(masks, examples, strict=True)
    each = [metrics.confusion_of(example.truth(size), mask) for mask, example in pairs]
    confusion = np.sum(each, axis=0)
    iou = metrics.class_iou(confusion).tolist()
    named = {
        name: None if np.isnan(value) else value
        for name, value in zip(features.CLASS_NAMES, iou, strict=True)
    }
    return Quality(metrics.mean_iou(confusion), named)


def masks(runner: Runner, examples: Sequence[Example]) -> list[images.Pixels]:
    """Asks for one photo after the other: masks, uint8 [size, size] each."""
    return [runner(example.pixels()[None]).mask[0] for example in examples]


def agreement(some: Sequence[images.Pixels], others: Sequence[images.Pixels]) -> float:
    """Share of pixels that are equal in two lists of masks."""
    return float(np.mean([np.mean(a == b) for a, b in zip(some, others, strict=True)]))


def milliseconds(runners: Sequence[Runner], examples: Sequence[Example]) -> list[float]:
    """Processor time of one photo, the median, for each of several runners of one thread.

    They take turns, so that what else the machine does disturbs them alike.
    """
    taken: list[list[float]] = [[] for _ in runners]
    for example in examples[:_TIMED]:
        photo = example.pixels()
        for runner, times in zip(runners, taken, strict=True):
            runner(photo[None])  # prepares for this size
            begin = time.process_time()
            runner(photo[None])
            times.append(1000 * (time.process_time() - begin))
    return [statistics.median(times) for times in taken]
