"""The gate: the metrics that Evaluator computes, their slices and their thresholds."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import tensorflow_model_analysis as tfma
from google.protobuf import wrappers_pb2
from tensorflow_model_analysis.proto import config_pb2

from pipeline.core import code, features
from pipeline.core.features import OVERALL
from pipeline.evaluation import metrics, tfma_metrics
from pipeline.saved_model import contract
from pipeline.settings.schema import Gate

CANDIDATE, CHAMPION = "candidate", "champion"
EXAMPLE_COUNT = "example_count"
SLICE_FEATURES = {"species": features.SPECIES_KEY, "breed": features.BREED}

AT_LEAST, AT_MOST, CHANGE = "at_least", "at_most", "change"

# TFMA cannot require a minimum number of examples in a slice. So thresholds on species and breeds
# apply to a copy of the metric with this prefix, which passes any threshold if the slice has too
# few examples.
_JUDGED = "judged_"
# If a class does not occur, its IoU has no value, and TFMA fails it even at a threshold of 0. So a
# threshold of 0 applies to a copy of the metric with this prefix, which then passes.
_ASKED = "asked_"
_PASSING_VALUES = {AT_LEAST: 1.0, AT_MOST: 0.0}


def eval_config(gate: Gate) -> config_pb2.EvalConfig:
    """The configuration of Evaluator.

    The absolute thresholds apply to every slice in `gate.slices`. The maximum drop against the
    champion applies to mean IoU, overall and for each species and breed.
    """
    overall = {
        name: [_threshold([OVERALL], kind, bound)]
        for name, (kind, bound) in _bounds(gate).items()
        if OVERALL in gate.slices and name not in _may_be_absent(gate)
    }
    overall.setdefault("mean_iou", []).append(_threshold([OVERALL], CHANGE, -gate.max_drop))
    return config_pb2.EvalConfig(
        model_specs=[
            config_pb2.ModelSpec(name=CANDIDATE, signature_name=contract.EVALUATE),
            config_pb2.ModelSpec(name=CHAMPION, signature_name=contract.EVALUATE, is_baseline=True),
        ],
        slicing_specs=[_slicing_spec(OVERALL), *map(_slicing_spec, SLICE_FEATURES)],
        metrics_specs=[
            config_pb2.MetricsSpec(
                metrics=[
                    config_pb2.MetricConfig(class_name="ExampleCount"),
                    *(_metric(name, gate, overall.get(name, [])) for name in metrics.MEASURES),
                    *_asked_metrics(gate),
                    *_judged_metrics(gate),
                ]
            )
        ],
    )


def _asked_metrics(gate: Gate) -> Iterator[config_pb2.MetricConfig]:
    """Copies of the class metrics that pass the overall threshold if their class is absent."""
    if OVERALL in gate.slices:
        for name in sorted(_may_be_absent(gate)):
            kind, bound = _bounds(gate)[name]
            options = {
                "name": _ASKED + name,
                "otherwise": _PASSING_VALUES[kind],
                "excuse_absent": True,
            }
            yield _metric(name, gate, [_threshold([OVERALL], kind, bound)], **options)


def _judged_metrics(gate: Gate) -> Iterator[config_pb2.MetricConfig]:
    """Copies of the metrics that have thresholds on species or breeds."""
    slices = [name for name in gate.slices if name != OVERALL]
    for name, (kind, bound) in _bounds(gate).items():
        thresholds = [_threshold(slices, kind, bound)] if slices else []
        if name == "mean_iou":
            thresholds.append(_threshold(SLICE_FEATURES, CHANGE, -gate.max_drop_slice))
        if thresholds:
            options = {"name": _JUDGED + name, "otherwise": _PASSING_VALUES[kind]}
            absent = {"excuse_absent": True} if name in _may_be_absent(gate) else {}
            yield _metric(name, gate, thresholds, min_images=gate.min_examples, **options, **absent)


def _bounds(gate: Gate) -> dict[str, tuple[str, float]]:
    """Kind and value of the absolute thresholds that are set, by metric."""
    bounds = {
        "pixel_accuracy": (AT_LEAST, gate.pixel_accuracy),
        "mean_iou": (AT_LEAST, gate.mean_iou),
        **{metrics.iou_name(name): (AT_LEAST, gate.class_iou) for name in features.CLASS_NAMES},
        "boundary_iou": (AT_LEAST, gate.boundary_iou),
        "calibration_error": (AT_MOST, gate.calibration_error),
        "images_below_floor": (AT_MOST, gate.images_below_floor),
    }
    return {name: (kind, bound) for name, (kind, bound) in bounds.items() if bound is not None}


def _may_be_absent(gate: Gate) -> set[str]:
    """Metrics that pass if their class is neither in the ground truth nor predicted."""
    return set() if gate.class_iou else {metrics.iou_name(name) for name in features.CLASS_NAMES}


def read_metrics(evaluation_uri: str) -> dict[str, dict[str, Any]]:
    """Reads the candidate's metrics by slice, in the layout of latest_run.json.

    Keys are ``overall``, ``species=cat``, ``breed=Bengal`` and so on. NaN becomes None.
    """
    by_slice = {}
    for key, values in _read(evaluation_uri):
        candidate = {name: value for (name, kind), value in values.items() if kind == CANDIDATE}
        interval = [candidate["mean_iou_low"], candidate["mean_iou_high"]]
        by_slice[key] = {
            "examples": round(candidate[EXAMPLE_COUNT] or 0),
            "pixel_accuracy": candidate["pixel_accuracy"],
            "mean_pixel_accuracy": candidate["mean_pixel_accuracy"],
            "mean_iou": candidate["mean_iou"],
            "mean_iou_interval": None if None in interval else interval,
            "frequency_weighted_iou": candidate["frequency_weighted_iou"],
            "boundary_iou": candidate["boundary_iou"],
            "calibration_error": candidate["calibration_error"],
            "images_below_floor": candidate["images_below_floor"],
            "iou": {name: candidate[metrics.iou_name(name)] for name in features.CLASS_NAMES},
            "dice": {name: candidate[metrics.dice_name(name)] for name in features.CLASS_NAMES},
        }
    return dict(sorted(by_slice.items(), key=lambda item: _slice_order(item[0])))


def read_comparison(evaluation_uri: str) -> tuple[float, float] | None:
    """Reads the overall mean IoU of candidate and champion; None without a champion."""
    values = next((values for key, values in _read(evaluation_uri) if key == OVERALL), {})
    candidate, champion = (values.get(("mean_iou", each)) for each in (CANDIDATE, CHAMPION))
    return None if candidate is None or champion is None else (candidate, champion)


def read_confusion(evaluation_uri: str) -> dict[str, dict[str, float | None]] | None:
    """Reads the pixel counts of all test photos, by true class and then by predicted class.

    Pixels are at the model's own size.

    Returns:
      The counts, with None for a count that is not finite; None without test photos.
    """
    overall = next((values for key, values in _read(evaluation_uri) if key == OVERALL), None)
    if overall is None:
        return None
    return {
        true: {
            predicted: overall[metrics.confusion_name(true, predicted), CANDIDATE]
            for predicted in features.CLASS_NAMES
        }
        for true in features.CLASS_NAMES
    }


def read_gate(evaluation_uri: str, gate: Gate) -> list[dict[str, Any]]:
    """Reads one row for each threshold that Evaluator checked, in the layout of latest_run.json.

    In a row of kind ``change``, ``value`` is the candidate's metric minus the champion's, and
    ``candidate`` and ``champion`` are these two. If no ground truth mask contains the class of a
    row, ``reason`` says so. Species and breeds with fewer than `gate.min_examples` examples have no
    rows.
    """
    failed = {
        (
            _slice_name(validation.slice_key),
            failure.metric_key.name.removeprefix(_JUDGED).removeprefix(_ASKED),
            failure.metric_key.is_diff,
        )
        for validation in tfma.load_validation_result(evaluation_uri).metric_validations_per_slice
        for failure in validation.failures
    }
    rows: list[dict[str, Any]] = []
    for key, values in sorted(_read(evaluation_uri), key=lambda item: _slice_order(item[0])):
        if key != OVERALL and (values[EXAMPLE_COUNT, CANDIDATE] or 0) < gate.min_examples:
            continue
        if key.partition("=")[0] in gate.slices:
            rows += [
                {
                    "metric": name,
                    "slice": key,
                    "value": values[name, CANDIDATE],
                    "bound": bound,
                    "kind": kind,
                    "held": (key, name, False) not in failed,
                    **_absence(name, values, key),
                }
                for name, (kind, bound) in _bounds(gate).items()
            ]
        if ("mean_iou", CHANGE) in values:
            rows.append(
                {
                    "metric": "mean_iou",
                    "slice": key,
                    "value": values["mean_iou", CHANGE],
                    "bound": -(gate.max_drop if key == OVERALL else gate.max_drop_slice),
                    "kind": CHANGE,
                    "held": (key, "mean_iou", True) not in failed,
                    "candidate": values["mean_iou", CANDIDATE],
                    "champion": values["mean_iou", CHAMPION],
                }
            )
    return rows


def _absence(
    metric: str, values: Mapping[tuple[str, str], float | None], key: str
) -> dict[str, str]:
    """A ``reason``, if a metric is the IoU of a class that no ground truth mask contains."""
    for true in features.CLASS_NAMES:
        if metric == metrics.iou_name(true):
            cells = (metrics.confusion_name(true, each) for each in features.CLASS_NAMES)
            if all(values.get((cell, CANDIDATE)) == 0 for cell in cells):
                of_slice = "" if key == OVERALL else f" of {key.replace('=', ' ')}"
                return {
                    "reason": f"no test mask{of_slice} contains the class {true}, so its IoU means "
                    "nothing"
                }
    return {}


def _read(evaluation_uri: str) -> Iterator[tuple[str, dict[tuple[str, str], float | None]]]:
    """Yields each slice and its metrics by (name, CANDIDATE | CHAMPION | CHANGE)."""
    for row in tfma.load_metrics(evaluation_uri):
        values = {}
        for entry in row.metric_keys_and_values:
            kind = CHANGE if entry.key.is_diff else entry.key.model_name or CANDIDATE
            value = entry.value.double_value.value
            values[entry.key.name, kind] = value if math.isfinite(value) else None
        yield _slice_name(row.slice_key), values


def _slice_name(key: Any) -> str:
    return (
        ",".join(
            f"{single.column}={single.bytes_value.decode()}" for single in key.single_slice_keys
        )
        or OVERALL
    )


def _slice_order(name: str) -> tuple[int, str]:
    return [OVERALL, *SLICE_FEATURES].index(name.partition("=")[0]), name


def _slicing_spec(name: str) -> config_pb2.SlicingSpec:
    if name == OVERALL:
        return config_pb2.SlicingSpec()
    return config_pb2.SlicingSpec(feature_keys=[SLICE_FEATURES[name]])


def _metric(
    measure: str,
    gate: Gate,
    thresholds: list[config_pb2.PerSliceMetricThreshold],
    **options: Any,
) -> config_pb2.MetricConfig:
    config = {"name": measure, "measure": measure, **options}
    if measure == "images_below_floor":
        config["iou_floor"] = gate.iou_floor
    # The fingerprint makes Evaluator run again if the code of the metrics changes.
    config["code"] = code.fingerprint("components.evaluator", tfma_metrics.__name__)
    return config_pb2.MetricConfig(
        class_name=tfma_metrics.SegmentationMetric.__name__,
        module=tfma_metrics.__name__,
        config=json.dumps(config),
        per_slice_thresholds=thresholds,
    )


def _threshold(
    slices: Iterable[str], kind: str, bound: float
) -> config_pb2.PerSliceMetricThreshold:
    # Even the overall slice is named, because TFMA applies `MetricConfig.threshold` to all slices.
    value = wrappers_pb2.DoubleValue(value=bound)
    if kind == CHANGE:
        better = config_pb2.MetricDirection.HIGHER_IS_BETTER
        change = config_pb2.GenericChangeThreshold(direction=better, absolute=value)
        threshold = config_pb2.MetricThreshold(change_threshold=change)
    else:
        end = {AT_LEAST: "lower_bound", AT_MOST: "upper_bound"}[kind]
        threshold = config_pb2.MetricThreshold(
            value_threshold=config_pb2.GenericValueThreshold(**{end: value})
        )
    return config_pb2.PerSliceMetricThreshold(
        slicing_specs=map(_slicing_spec, slices), threshold=threshold
    )
