"""Segmentation metrics from pixel counts, in NumPy; `tfma_metrics` wraps them for TFMA.

Most are ratios of sums over a confusion matrix C, where C[t, p] is the number of pixels of true
class t predicted as p. The matrices of all images in a slice are added first, so every pixel has
the same weight. The examples use C = ``[[3, 1, 0], [1, 4, 0], [0, 0, 1]]``, 10 pixels. The value of
a class that is neither in the ground truth nor predicted is NaN, and so is any value from counts
that are not finite. No threshold accepts NaN.

Sources: Everingham et al., "The Pascal Visual Object Classes Challenge", IJCV 2015, section 4, for
IoU; Long et al., "Fully Convolutional Networks", CVPR 2015, section 5, for mean accuracy and
frequency weighting.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.core import features

Numbers = npt.NDArray[np.number[Any]]
Floats = npt.NDArray[np.float64]

CONFIDENCE = 0.95  # of intervals
_REPLICATES = 1000  # of the bootstrap


@dataclass(frozen=True)
class Counts:
    """The counts of `pipeline.saved_model.pixel_counts` for the images of a slice."""

    images: Floats  # [images, classes, classes], a confusion matrix per image
    boundary: Floats  # [2, classes], intersections and unions
    calibration: Floats  # [3, bins], pixels, sums of confidence, correct pixels

    @cached_property
    def confusion(self) -> Floats:
        """The confusion matrix of all images together, [classes, classes]."""
        confusion: Floats = self.images.sum(axis=0)
        return confusion

    @cached_property
    def interval(self) -> Floats:
        """The interval of the mean IoU: see `mean_iou_interval`."""
        return mean_iou_interval(self.images)


def confusion_of(true: npt.NDArray[Any], predicted: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """The confusion matrix of masks, int64 [classes, classes].

    Args:
      true: class ids, integers of any shape.
      predicted: class ids of the same shape.
    """
    pairs = true.astype(int) * features.NUM_CLASSES + predicted
    counts = np.bincount(pairs.ravel(), minlength=features.NUM_CLASSES**2)
    return counts.reshape(features.NUM_CLASSES, features.NUM_CLASSES)


def pixel_accuracy(confusion: Numbers) -> float:
    """Fraction of correct pixels: (3 + 4 + 1) / 10 = 0.8 in the example."""
    return _ratio(np.trace(confusion), confusion.sum())


def mean_pixel_accuracy(confusion: Numbers) -> float:
    """Mean recall of the classes in the ground truth: (3/4 + 4/5 + 1) / 3 = 0.85."""
    true = confusion.sum(axis=1)
    occurs = true != 0
    return _mean(np.diag(confusion)[occurs] / true[occurs])


def class_iou(confusion: Numbers) -> Floats:
    """Intersection over union of each class: C[c, c] / (row c + column c - C[c, c]).

    In the example: 3/5, 4/6 and 1/1.

    Args:
      confusion: [..., classes, classes].

    Returns:
      float64 [..., classes]; NaN where a class is absent.
    """
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    union = confusion.sum(axis=-2) + confusion.sum(axis=-1) - hits
    iou: Floats = np.divide(hits, union, out=np.full(hits.shape, np.nan), where=union != 0)
    return iou


def class_dice(confusion: Numbers) -> Floats:
    """Dice coefficient of each class, 2 C[c, c] / (row c + column c): 6/8, 8/10 and 2/2.

    Source: Dice, "Measures of the Amount of Ecologic Association Between Species", 1945.
    """
    iou = class_iou(confusion)
    return 2 * iou / (1 + iou)


def mean_iou(confusion: Numbers) -> float:
    """Mean IoU of the classes that occur: (3/5 + 4/6 + 1) / 3 = 0.756."""
    return float(_mean_ious(confusion))


def frequency_weighted_iou(confusion: Numbers) -> float:
    """Mean IoU weighted by true pixels: (4 * 3/5 + 5 * 4/6 + 1 * 1) / 10 = 0.673."""
    true = confusion.sum(axis=1)
    occurs = true != 0
    return _ratio((true * class_iou(confusion))[occurs].sum(), confusion.sum())


def boundary_iou(boundary: Floats) -> float:
    """Mean IoU of the boundaries of the classes that occur; `pixel_counts.boundary` defines them.

    Unlike mean IoU, it penalises a wrong outline of a large object as much as that of a small one.
    For example, the intersections [6, 8, 5] and the unions [10, 10, 10] give 0.633.

    Source: Cheng et al., "Boundary IoU", CVPR 2021; but here the pixels of all images are added
    before the division, as for IoU.
    """
    shared, either = boundary
    occurs = either != 0
    return _mean(shared[occurs] / either[occurs])


def calibration_error(calibration: Floats) -> float:
    """Expected calibration error of the pixels: the gap between confidence and accuracy.

    The mean of |correct / pixels - confidence / pixels| over the bins, weighted by their pixels.
    For example, 10 pixels with confidence 0.6, of which 6 are correct, and 10 with confidence 0.9,
    of which 7 are correct, give (0 + |7 - 9|) / 20 = 0.1.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 2.
    """
    pixels, confidence, correct = calibration
    return _ratio(np.abs(correct - confidence).sum(), pixels.sum())


def images_below_floor(images: Floats, iou_floor: float) -> float:
    """Fraction of images whose own mean IoU is below a floor.

    For example, 1 of 2 images with the mean IoUs 0.4 and 0.8 is below 0.5, which gives 0.5.
    """
    ious = _mean_ious(images)
    return float("nan") if np.isnan(ious).any() else _mean(ious < iou_floor)


def mean_iou_interval(images: Floats) -> Floats:
    """95 % confidence interval of the mean IoU, float64 [2], by the percentile bootstrap.

    Draws as many images as there are, with replacement, 1,000 times, and cuts off 2.5 % of the
    resulting mean IoUs at each end. The draws are the same every time. For example, two images with
    the mean IoUs 0.4 and 0.8 and the same classes give 0.4 to 0.8, because a quarter of the draws
    takes the same image twice. A single image gives NaN.

    Source: Efron, "Bootstrap Methods", Annals of Statistics 1979.
    """
    count = len(images)
    if count < 2:
        return np.full(2, np.nan)
    rows = images.reshape(count, -1)
    rows = rows[np.lexsort(rows.T)]  # Beam does not keep an order
    random = np.random.default_rng(0)
    draws = [
        np.bincount(random.integers(count, size=count), minlength=count) @ rows
        for _ in range(_REPLICATES)
    ]
    replicates = _mean_ious(np.reshape(draws, [_REPLICATES, *images.shape[1:]]))
    tail = (1 - CONFIDENCE) / 2
    interval: Floats = np.quantile(replicates, [tail, 1 - tail])
    return interval


def iou_name(class_name: str) -> str:
    """Key in `MEASURES` of the IoU of one class."""
    return f"iou_{class_name}"


def dice_name(class_name: str) -> str:
    """Key in `MEASURES` of the Dice coefficient of one class."""
    return f"dice_{class_name}"


def confusion_name(true: str, predicted: str) -> str:
    """Key in `MEASURES` of the pixels of one class that were predicted as another."""
    return f"confusion_{true}_{predicted}"


# Each function takes the counts of a slice, and the settings that it depends on.
MEASURES: dict[str, Callable[..., float]] = {
    "pixel_accuracy": lambda counts: pixel_accuracy(counts.confusion),
    "mean_pixel_accuracy": lambda counts: mean_pixel_accuracy(counts.confusion),
    "mean_iou": lambda counts: mean_iou(counts.confusion),
    "mean_iou_low": lambda counts: float(counts.interval[0]),
    "mean_iou_high": lambda counts: float(counts.interval[1]),
    "frequency_weighted_iou": lambda counts: frequency_weighted_iou(counts.confusion),
    "boundary_iou": lambda counts: boundary_iou(counts.boundary),
    "calibration_error": lambda counts: calibration_error(counts.calibration),
    "images_below_floor": lambda counts, iou_floor: images_below_floor(counts.images, iou_floor),
}
for _id, _name in enumerate(features.CLASS_NAMES):
    MEASURES[iou_name(_name)] = lambda counts, i=_id: float(class_iou(counts.confusion)[i])
    MEASURES[dice_name(_name)] = lambda counts, i=_id: float(class_dice(counts.confusion)[i])
    for _other, _predicted in enumerate(features.CLASS_NAMES):
        MEASURES[confusion_name(_name, _predicted)] = lambda counts, i=_id, j=_other: float(
            counts.confusion[i, j]
        )


def _mean_ious(confusions: Numbers) -> Floats:
    """Mean IoU of each matrix in [..., classes, classes]: float64 [...]."""
    iou = class_iou(confusions)
    occurs = confusions.sum(axis=-2) + confusions.sum(axis=-1) != 0
    total, count = np.where(occurs, iou, 0).sum(axis=-1), occurs.sum(axis=-1)
    means: Floats = np.divide(total, count, out=np.full(count.shape, np.nan), where=count != 0)
    return means


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")


def _mean(values: npt.NDArray[Any]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
