"""Segmentation metrics from counts of pixels, in NumPy; `tfma_metrics` gives them to TFMA.

Most are ratios of sums over one confusion matrix C, with C[t, p] the pixels of true class t that
were predicted as p. The matrices of all images of a slice are added first, so each pixel weighs
alike. In the examples C is ``[[3, 1, 0], [1, 4, 0], [0, 0, 1]]``: 10 pixels. A class that occurs
neither in truth nor in prediction has no value: NaN, which no threshold accepts. Matrices that are
not finite have none either.

Sources: Everingham et al., "The Pascal Visual Object Classes Challenge", IJCV 2015, section 4, for
the IoU; Long et al., "Fully Convolutional Networks", CVPR 2015, section 5, for mean accuracy and
frequency weighting.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pipeline.core import features

CONFIDENCE = 0.95  # of intervals
_REPLICATES = 1000  # of the bootstrap


@dataclass(frozen=True)
class Counts:
    """What `pipeline.saved_model.pixel_counts` counted on the images of a slice."""

    images: np.ndarray  # [images, classes, classes], a confusion matrix each
    boundary: np.ndarray  # [2, classes], intersections and unions
    calibration: np.ndarray  # [3, bins], pixels, summed confidence, right ones

    @cached_property
    def confusion(self) -> np.ndarray:
        """The matrix of all images together, [classes, classes]."""
        return self.images.sum(axis=0)

    @cached_property
    def interval(self) -> np.ndarray:
        """Bounds of the mean IoU, see `mean_iou_interval`."""
        return mean_iou_interval(self.images)


def confusion_of(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """The confusion matrix of masks, int64 [classes, classes].

    Args:
      true: class ids, integers of any shape.
      predicted: the same, of that shape.
    """
    pairs = true.astype(int) * features.NUM_CLASSES + predicted
    counts = np.bincount(pairs.ravel(), minlength=features.NUM_CLASSES**2)
    return counts.reshape(features.NUM_CLASSES, features.NUM_CLASSES)


def pixel_accuracy(confusion: np.ndarray) -> float:
    """Share of pixels with the right class: (3 + 4 + 1) / 10 = 0.8 for the example."""
    return _ratio(np.trace(confusion), confusion.sum())


def mean_pixel_accuracy(confusion: np.ndarray) -> float:
    """Mean over the true classes of the share that was found: (3/4 + 4/5 + 1) / 3 = 0.85."""
    true = confusion.sum(axis=1)
    occurs = true != 0
    return _mean(np.diag(confusion)[occurs] / true[occurs])


def class_iou(confusion: np.ndarray) -> np.ndarray:
    """Intersection over union of each class: C[c, c] / (row c + column c - C[c, c]).

    The example has 3/5, 4/6 and 1/1.

    Args:
      confusion: [..., classes, classes].

    Returns:
      float64 [..., classes]; NaN where a class is absent.
    """
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    union = confusion.sum(axis=-2) + confusion.sum(axis=-1) - hits
    return np.divide(hits, union, out=np.full(hits.shape, np.nan), where=union != 0)


def class_dice(confusion: np.ndarray) -> np.ndarray:
    """Dice coefficient of each class, 2 C[c, c] / (row c + column c): 6/8, 8/10 and 2/2.

    Source: Dice, "Measures of the Amount of Ecologic Association Between Species", 1945.
    """
    iou = class_iou(confusion)
    return 2 * iou / (1 + iou)


def mean_iou(confusion: np.ndarray) -> float:
    """Mean IoU over the classes that occur: (3/5 + 4/6 + 1) / 3 = 0.756."""
    return float(_mean_ious(confusion))


def frequency_weighted_iou(confusion: np.ndarray) -> float:
    """IoUs weighted by the true pixels of their class: (4 * 3/5 + 5 * 4/6 + 1 * 1) / 10 = 0.673."""
    true = confusion.sum(axis=1)
    occurs = true != 0
    return _ratio((true * class_iou(confusion))[occurs].sum(), confusion.sum())


def boundary_iou(boundary: np.ndarray) -> float:
    """Mean over the classes that occur of the IoU of their boundaries.

    Unlike IoU it does not forgive an outline that is off because the inside is large. What a
    boundary is says `pixel_counts.boundary`. For example the intersections [6, 8, 5] and the unions
    [10, 10, 10] make 0.633. Source: Cheng et al., "Boundary IoU", CVPR 2021; here the pixels of
    all images are added before the division, as for IoU.
    """
    shared, either = boundary
    occurs = either != 0
    return _mean(shared[occurs] / either[occurs])


def calibration_error(calibration: np.ndarray) -> float:
    """Expected calibration error of the pixels: how far confidence is from accuracy.

    The mean over bins of confidence of | right / pixels - confidence / pixels |, weighted by the
    pixels. For example 10 pixels of confidence 0.6, 6 of them right, and 10 of 0.9, 7 of them
    right, make (0 + |7 - 9|) / 20 = 0.1. Source: Guo et al., "On Calibration of Modern Neural
    Networks", ICML 2017, section 2.
    """
    pixels, confidence, right = calibration
    return _ratio(np.abs(right - confidence).sum(), pixels.sum())


def images_below_floor(images: np.ndarray, iou_floor: float) -> float:
    """Share of images whose own mean IoU is below a floor.

    For example 1 of 2 images with the mean IoUs 0.4 and 0.8 is below 0.5: 0.5.
    """
    ious = _mean_ious(images)
    return float("nan") if np.isnan(ious).any() else _mean(ious < iou_floor)


def mean_iou_interval(images: np.ndarray) -> np.ndarray:
    """Bounds between which the mean IoU of other images of the same kind lies, float64 [2].

    The percentile bootstrap: images are drawn with replacement, as many as there are, and the
    bounds cut off 2.5 % of the mean IoUs of 1,000 such draws at each end. Two images with the mean
    IoUs 0.4 and 0.8 and the same classes have 0.4 to 0.8, since a quarter of the draws holds one of
    them twice; one image alone has no interval: NaN. The draws are the same each time. Source:
    Efron, "Bootstrap Methods", Annals of Statistics 1979.
    """
    count = len(images)
    if count < 2:
        return np.full(2, np.nan)
    rows = images.reshape(count, -1)
    rows = rows[np.lexsort(rows.T)]  # Beam promises no order
    random = np.random.default_rng(0)
    drawn = [
        np.bincount(random.integers(count, size=count), minlength=count) @ rows
        for _ in range(_REPLICATES)
    ]
    replicates = _mean_ious(np.reshape(drawn, [_REPLICATES, *images.shape[1:]]))
    outside = (1 - CONFIDENCE) / 2
    return np.quantile(replicates, [outside, 1 - outside])


def iou_name(class_name: str) -> str:
    """Key in `MEASURES` of the IoU of one class."""
    return f"iou_{class_name}"


def dice_name(class_name: str) -> str:
    """Key in `MEASURES` of the Dice coefficient of one class."""
    return f"dice_{class_name}"


def confusion_name(true: str, predicted: str) -> str:
    """Key in `MEASURES` of the pixels of one class that were taken for another."""
    return f"confusion_{true}_{predicted}"


Measure = Callable[..., float]

# Each takes the counts of a slice, and what settings it depends on.
MEASURES: dict[str, Measure] = {
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


def _mean_ious(confusions: np.ndarray) -> np.ndarray:
    """Mean IoU of each matrix of [..., classes, classes], float64 [...]."""
    iou = class_iou(confusions)
    occurs = confusions.sum(axis=-2) + confusions.sum(axis=-1) != 0
    total, count = np.where(occurs, iou, 0).sum(axis=-1), occurs.sum(axis=-1)
    return np.divide(total, count, out=np.full(count.shape, np.nan), where=count != 0)


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
