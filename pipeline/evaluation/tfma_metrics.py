"""Wrap the metrics of `pipeline.evaluation.metrics` for TensorFlow Model Analysis (TFMA).

The model's ``evaluate`` signature counts pixels. One combiner gathers the counts of all images in a
slice, and every metric is derived from these.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import apache_beam as beam
import numpy as np
from tensorflow_model_analysis.metrics import metric_types

from pipeline.core import features
from pipeline.evaluation import metrics
from pipeline.evaluation.metrics import Floats
from pipeline.saved_model.pixel_counts import BINS

_COUNTS = "_counts"  # TFMA does not output metrics whose name starts with _
_SHAPES = {
    "confusion": (features.NUM_CLASSES, features.NUM_CLASSES),
    "boundary": (2, features.NUM_CLASSES),
    "calibration": (3, BINS),
}
_Accumulator = tuple[list[Floats], Floats, Floats]  # the fields of Counts


class _Gather(beam.CombineFn):
    """Gathers a model's outputs for the images of a slice into `metrics.Counts`."""

    def __init__(self, key: metric_types.MetricKey):
        self._key = key

    def create_accumulator(self) -> _Accumulator:
        return [], np.zeros(_SHAPES["boundary"]), np.zeros(_SHAPES["calibration"])

    def add_input(
        self, accumulator: _Accumulator, element: metric_types.StandardMetricInputs
    ) -> _Accumulator:
        outputs = element.get_predictions(model_name=self._key.model_name)
        if not isinstance(outputs, dict):  # an old champion counts only this
            outputs = {"confusion": outputs}
        confusion, boundary, calibration = (
            np.reshape(outputs[name], shape) if name in outputs else np.full(shape, np.nan)
            for name, shape in _SHAPES.items()
        )
        images, boundaries, calibrations = accumulator
        images.append(confusion)
        return images, boundaries + boundary, calibrations + calibration

    def merge_accumulators(self, accumulators: Iterable[_Accumulator]) -> _Accumulator:
        images, boundaries, calibrations = zip(*accumulators, strict=True)
        return (
            list(itertools.chain(*images)),
            np.sum(boundaries, axis=0),
            np.sum(calibrations, axis=0),
        )

    def extract_output(
        self, accumulator: _Accumulator
    ) -> dict[metric_types.MetricKey, metrics.Counts]:
        images, boundaries, calibrations = accumulator
        stacked = np.reshape(images, [-1, *_SHAPES["confusion"]]).astype(np.float64)
        return {self._key: metrics.Counts(stacked, boundaries, calibrations)}


class SegmentationMetric(metric_types.Metric):
    """A TFMA metric for one of `metrics.MEASURES`."""

    def __init__(
        self,
        name: str,
        measure: str,
        code: str,
        min_images: int = 0,
        otherwise: float = 0.0,
        excuse_absent: bool = False,
        **parameters: float,
    ):
        """Creates the metric.

        Args:
          name: name of the metric in TFMA.
          measure: key in `metrics.MEASURES`.
          code: fingerprint of the code that computes it. Unused here; it is an argument so that it
            becomes part of Evaluator's configuration.
          min_images: slices with fewer images get the value ``otherwise``.
          otherwise: the value for slices with too few images.
          excuse_absent: whether slices in which the measure's class does not occur get the value
            ``otherwise``, too.
          **parameters: more arguments of the measure.
        """

        def value(counts: metrics.Counts) -> float:
            if len(counts.images) < min_images:
                return otherwise
            measured = metrics.MEASURES[measure](counts, **parameters)
            absent = excuse_absent and np.isnan(measured) and np.isfinite(counts.confusion).all()
            return otherwise if absent else measured

        def create(
            model_names: list[str] | None = None, **_: Any
        ) -> metric_types.MetricComputations:
            computations: metric_types.MetricComputations = []
            for model_name in model_names or [""]:
                source = metric_types.MetricKey(name=_COUNTS, model_name=model_name)
                target = metric_types.MetricKey(name=name, model_name=model_name)
                computations += [
                    metric_types.MetricComputation([source], None, _Gather(source)),
                    metric_types.DerivedMetricComputation(
                        [target],
                        lambda values, s=source, t=target: {t: value(values[s])},
                    ),
                ]
            return computations

        config = {
            "measure": measure,
            "code": code,
            "min_images": min_images,
            "otherwise": otherwise,
            "excuse_absent": excuse_absent,
        }
        super().__init__(create, name=name, **config, **parameters)


metric_types.register_metric(SegmentationMetric)
