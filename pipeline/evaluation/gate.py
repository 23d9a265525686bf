"""The gate: the metrics Evaluator computes, on which slices, and the bounds on them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import tensorflow_model_analysis as tfma
from google.protobuf import wrappers_pb2
from tensorflow_model_analysis.proto import config_pb2

from pipeline.core import code, features
from pipeline.evaluation import metrics, tfma_metrics
from pipeline.saved_model import contract
from pipeline.settings import Gate

CANDIDATE, CHAMPION = "candidate", "champion"
OVERALL = "overall"
EXAMPLE_COUNT = "example_count"
SLICE_FEATURES = {"species": features.SPECIES_KEY, "breed": features.BREED}

AT_LEAST, AT_MOST, CHANGE = "at_least", "at_most", "change"

# TFMA knows no least number of examples of a slice. So bounds on species and breeds stand on a twin
# of the metric, whose value holds any bound where the slice has too few.
_JUDGED = "judged_"
# Neither does it know that a bound of 0 asks nothing of a class that does not occur, whose IoU has
# no value: so such a bound stands on another twin.
_ASKED = "asked_"
_HOLDS = {AT_LEAST: 1.0, AT_MOST: 0.0}


def eval_config(gate: Gate) -> config_pb2.EvalConfig:
    """Evaluator's configuration.

    Absolute bounds stand on every slice that `gate.slices` names. The bounds against the champion
    stand on mean IoU, overall and of each species and breed.
    """
    overall = {
        name: [_threshold([OVERALL], kind, bound)]
        for name, (kind, bound) in _bounds(gate).items()
        if OVERALL in gate.slices and name not in _excused(gate)
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
    """The twins of the metrics with an overall bound that holds for a class that is not there."""
    if OVERALL in gate.slices:
        for name in sorted(_excused(gate)):
            kind, bound = _bounds(gate)[name]
            twin = {"name": _ASKED + name, "otherwise": _HOLDS[kind], "excuse_absent": True}
            yield _metric(name, gate, [_threshold([OVERALL], kind, bound)], **twin)


def _judged_metrics(gate: Gate) -> Iterator[config_pb2.MetricConfig]:
    """The twins of the metrics that have bounds on species or breeds."""
    where = [name for name in gate.slices if name != OVERALL]
    for name, (kind, bound) in _bounds(gate).items():
        thresholds = [_threshold(where, kind, bound)] if where else []
        if name == "mean_iou":
            thresholds.append(_threshold(SLICE_FEATURES, CHANGE, -gate.max_drop_slice))
        if thresholds:
            twin = {"name": _JUDGED + name, "otherwise": _HOLDS[kind]}
            excuse = {"excuse_absent": True} if name in _excused(gate) else {}
            yield _metric(name, gate, thresholds, min_images=gate.min_examples, **twin, **excuse)


def _bounds(gate: Gate) -> dict[str, tuple[str, float]]:
    """The absolute bounds that are set, by metric, with their kind."""
    bounds = {
        "pixel_accuracy": (AT_LEAST, gate.pixel_accuracy),
        "mean_iou": (AT_LEAST, gate.mean_iou),
        **{metrics.iou_name(name): (AT_LEAST, gate.class_iou) for name in features.CLASS_NAMES},
        "boundary_iou": (AT_LEAST, gate.boundary_iou),
        "calibration_error": (AT_MOST, gate.calibration_error),
        "images_below_floor": (AT_MOST, gate.images_below_floor),
    }
    return {name: (kind, bound) for name, (kind, bound) in bounds.items() if bound is not None}


def _excused(gate: Gate) -> set[str]:
    """Metrics whose bound holds where their class is neither in the truth nor predicted."""
    return set() if gate.class_iou else {metrics.iou_name(name) for name in features.CLASS_NAMES}


def read_metrics(evaluation_uri: str) -> dict[str, dict[str, Any]]:
    """The candidate's metrics by slice, in the shape of latest_run.json.

    Keys are ``overall``, ``species=cat``, ``breed=Bengal``, ...; a NaN is None.
    """
    by_slice = {}
    for key, values in _read(evaluation_uri):
        found = {name: value for (name, kind), value in values.items() if kind == CANDIDATE}
        interval = [found["mean_iou_low"], found["mean_iou_high"]]
        by_slice[key] = {
            "examples": round(found[EXAMPLE_COUNT] or 0),
            "pixel_accuracy": found["pixel_accuracy"],
            "mean_pixel_accuracy": found["mean_pixel_accuracy"],
            "mean_iou": found["mean_iou"],
            "mean_iou_interval": None if None in interval else interval,
            "frequency_weighted_iou": found["frequency_weighted_iou"],
            "boundary_iou": found["boundary_iou"],
            "calibration_error": found["calibration_error"],
            "images_below_floor": found["images_below_floor"],
            "iou": {name: found[metrics.iou_name(name)] for name in features.CLASS_NAMES},
            "dice": {name: found[metrics.dice_name(name)] for name in features.CLASS_NAMES},
        }
    return dict(sorted(by_slice.items(), key=lambda item: _slice_order(item[0])))


def read_comparison(evaluation_uri: str) -> tuple[float, float] | None:
    """Mean IoU of the candidate and of the champion on all test photos; None without a champion."""
    values = next((values for key, values in _read(evaluation_uri) if key == OVERALL), {})
    candidate, champion = (values.get(("mean_iou", each)) for each in (CANDIDATE, CHAMPION))
    return None if candidate is None or champion is None else (candidate, champion)


def read_confusion(evaluation_uri: str) -> dict[str, dict[str, float | None]] | None:
    """Pixels of all test photos by true class, then by predicted class; None without photos.

    At the model's own size; None where its output was not finite.
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
    """Each threshold that Evaluator checked, with value, bound and verdict, as in latest_run.json.

    A row of kind ``change`` holds, as value, the candidate's metric less the champion's, and both
    of these. A row whose class is in no true mask says so as ``reason``. Species and breeds with
    fewer examples than `gate.min_examples` have no row.
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


def _absence(metric: str, values: Mapping[tuple[str, str], float | None], key: str) -> Any:
    """``{"reason"}``, a clause, where a metric is the IoU of a class that no true mask holds."""
    for true in features.CLASS_NAMES:
        if metric == metrics.iou_name(true):
            cells = (metrics.confusion_name(true, each) for each in features.CLASS_NAMES)
            if all(values.get((cell, CANDIDATE)) == 0 for cell in cells):
                where = "" if key == OVERALL else f" of {key.replace('=', ' ')}"
                return {
                    "reason": f"no test mask{where} holds the class {true}, so its IoU says nothing"
                }
    return {}


def _read(evaluation_uri: str) -> Iterator[tuple[str, dict[tuple[str, str], float | None]]]:
    """Yields each slice with its metrics by (name, candidate | champion | change)."""
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
    **twin: Any,
) -> config_pb2.MetricConfig:
    config = {"name": measure, "measure": measure, **twin}
    if measure == "images_below_floor":
        config["iou_floor"] = gate.iou_floor
    # The fingerprint makes Evaluator run again when a metric's code has changed.
    config["code"] = code.fingerprint(tfma_metrics.__name__)
    return config_pb2.MetricConfig(
        class_name=tfma_metrics.SegmentationMetric.__name__,
        module=tfma_metrics.__name__,
        config=json.dumps(config),
        per_slice_thresholds=thresholds,
    )


def _threshold(
    slices: Iterable[str], kind: str, bound: float
) -> config_pb2.PerSliceMetricThreshold:
    # Named slices even for the overall one: TFMA applies `MetricConfig.threshold` to all slices.
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
