"""Segmentation metrics for TensorFlow Model Analysis, all derived from one pixel confusion matrix.

The model's ``evaluate`` signature counts; here the matrices of all images of a slice are added, and
each metric is a ratio of sums over that one matrix C, with C[t, p] the pixels of true class t that
were predicted as p::

    pixel accuracy = sum_i C[i, i] / sum C
    IoU of class c = C[c, c] / (sum_p C[c, p] + sum_t C[t, c] - C[c, c])
    mean IoU       = mean of the IoUs of the classes that occur in truth or prediction

For example C = [[3, 1, 0], [1, 4, 0], [0, 0, 1]] has pixel accuracy 8/10 and the IoUs 3/5, 4/6 and
1. A class that occurs neither in truth nor in prediction has no IoU: NaN, which no threshold
accepts. Source: Everingham et al., "The Pascal Visual Object Classes Challenge", IJCV 2015, section
4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import apache_beam as beam
import numpy as np
from tensorflow_model_analysis.metrics import metric_types

from pipeline import features

CONFUSION = "_confusion"  # TFMA keeps metrics whose name starts with _ to itself


def pixel_accuracy(confusion: np.ndarray) -> float:
    """Share of pixels with the right class; `confusion` is [classes, classes]."""
    total = confusion.sum()
    return float(np.trace(confusion) / total) if total else float("nan")


def class_iou(confusion: np.ndarray) -> np.ndarray:
    """Intersection over union of each class, float64 [classes]; NaN where a class is absent."""
    hits = np.diag(confusion)
    union = confusion.sum(axis=0) + confusion.sum(axis=1) - hits
    return np.divide(hits, union, out=np.full(len(hits), np.nan), where=union != 0)


def mean_iou(confusion: np.ndarray) -> float:
    """Mean IoU over the classes that occur; NaN if the matrix itself is not finite."""
    iou = class_iou(confusion)
    occurs = confusion.sum(axis=0) + confusion.sum(axis=1) != 0
    return float(iou[occurs].mean()) if occurs.any() else float("nan")


class _Sum(beam.CombineFn):
    """Adds the ``confusion`` outputs of a model over the images of a slice."""

    def __init__(self, key: metric_types.MetricKey):
        self._key = key

    def create_accumulator(self) -> np.ndarray:
        return np.zeros((features.NUM_CLASSES, features.NUM_CLASSES))

    def add_input(
        self, accumulator: np.ndarray, element: metric_types.StandardMetricInputs
    ) -> np.ndarray:
        predictions = element.get_predictions(model_name=self._key.model_name)
        if isinstance(predictions, dict):
            predictions = predictions["confusion"]
        return accumulator + np.reshape(predictions, accumulator.shape)

    def merge_accumulators(self, accumulators: Iterable[np.ndarray]) -> np.ndarray:
        return np.sum(list(accumulators), axis=0)

    def extract_output(self, accumulator: np.ndarray) -> dict[metric_types.MetricKey, np.ndarray]:
        return {self._key: accumulator}


def _computations(
    name: str, compute: Callable[[np.ndarray], float], model_names: Iterable[str]
) -> metric_types.MetricComputations:
    computations: metric_types.MetricComputations = []
    for model_name in model_names:
        source = metric_types.MetricKey(name=CONFUSION, model_name=model_name)
        target = metric_types.MetricKey(name=name, model_name=model_name)
        computations.append(
            metric_types.MetricComputation(keys=[source], preprocessors=None, combiner=_Sum(source))
        )
        computations.append(
            metric_types.DerivedMetricComputation(
                keys=[target],
                result=lambda values, s=source, t=target: {t: compute(values[s])},  # type: ignore[misc]
            )
        )
    return computations


class _ConfusionMetric(metric_types.Metric):
    """Owns the summed confusion matrix; a subclass says which number to take from it.

    The argument `code` of the subclasses is only there to be part of Evaluator's configuration.
    """

    def __init__(self, name: str, compute: Callable[[np.ndarray], float], **config: int | str):
        def create(
            model_names: list[str] | None = None, **_: int | str
        ) -> metric_types.MetricComputations:
            return _computations(name, compute, model_names or [""])

        super().__init__(create, name=name, **config)


class PixelAccuracy(_ConfusionMetric):
    """Share of pixels with the right class."""

    def __init__(self, name: str, code: str):
        super().__init__(name, pixel_accuracy, code=code)


class MeanIoU(_ConfusionMetric):
    """Mean IoU over the classes that occur."""

    def __init__(self, name: str, code: str):
        super().__init__(name, mean_iou, code=code)


class ClassIoU(_ConfusionMetric):
    """IoU of one class id."""

    def __init__(self, class_id: int, name: str, code: str):
        super().__init__(
            name,
            lambda confusion: float(class_iou(confusion)[class_id]),
            class_id=class_id,
            code=code,
        )


def class_iou_name(class_name: str) -> str:
    """TFMA's name of the IoU of one class."""
    return f"iou_{class_name}"


for _metric in (PixelAccuracy, MeanIoU, ClassIoU):
    metric_types.register_metric(_metric)
