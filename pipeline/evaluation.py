"""The gate: the metrics Evaluator computes, on which slices, and the bounds on them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import tensorflow_model_analysis as tfma
from google.protobuf import wrappers_pb2
from tensorflow_model_analysis.proto import config_pb2

from pipeline import code, features, metrics
from pipeline.settings import Gate

CANDIDATE, CHAMPION = "candidate", "champion"
OVERALL = "overall"
EXAMPLE_COUNT = "example_count"
SLICE_FEATURES = {"species": features.SPECIES_KEY, "breed": features.BREED}


def eval_config(gate: Gate) -> config_pb2.EvalConfig:
    """Evaluator's configuration.

    Absolute bounds stand on pixel accuracy, mean IoU and the IoU of each class, on every slice that
    `gate.slices` names; the bound against the champion stands on mean IoU overall.
    """
    where = [_slicing_spec(name) for name in gate.slices]
    mean_iou = _metric("MeanIoU", {"name": "mean_iou"}, gate.mean_iou, where)
    mean_iou.threshold.CopyFrom(
        config_pb2.MetricThreshold(
            change_threshold=config_pb2.GenericChangeThreshold(
                direction=config_pb2.MetricDirection.HIGHER_IS_BETTER,
                absolute=wrappers_pb2.DoubleValue(value=-gate.max_drop),
            )
        )
    )
    return config_pb2.EvalConfig(
        model_specs=[
            config_pb2.ModelSpec(name=CANDIDATE, signature_name="evaluate"),
            config_pb2.ModelSpec(name=CHAMPION, signature_name="evaluate", is_baseline=True),
        ],
        slicing_specs=[_slicing_spec(OVERALL), *map(_slicing_spec, SLICE_FEATURES)],
        metrics_specs=[
            config_pb2.MetricsSpec(
                metrics=[
                    config_pb2.MetricConfig(class_name="ExampleCount"),
                    _metric(
                        "PixelAccuracy", {"name": "pixel_accuracy"}, gate.pixel_accuracy, where
                    ),
                    mean_iou,
                    *(
                        _metric(
                            "ClassIoU",
                            {"name": metrics.class_iou_name(name), "class_id": class_id},
                            gate.class_iou,
                            where,
                        )
                        for class_id, name in enumerate(features.CLASS_NAMES)
                    ),
                ]
            )
        ],
    )


def read_metrics(evaluation_uri: str) -> dict[str, dict[str, Any]]:
    """The candidate's metrics by slice, in the shape of latest_run.json.

    Keys are ``overall``, ``species=cat``, ``breed=Bengal``, ...; a NaN is None.
    """
    metrics_by_slice = {}
    for key, values in _read(evaluation_uri):
        found = {name: value for (name, kind), value in values.items() if kind == CANDIDATE}
        metrics_by_slice[key] = {
            "examples": round(found[EXAMPLE_COUNT] or 0),
            "pixel_accuracy": found["pixel_accuracy"],
            "mean_iou": found["mean_iou"],
            "iou": {name: found[metrics.class_iou_name(name)] for name in features.CLASS_NAMES},
        }
    return dict(sorted(metrics_by_slice.items(), key=lambda item: _slice_order(item[0])))


def read_gate(evaluation_uri: str, gate: Gate) -> list[dict[str, Any]]:
    """Each threshold that Evaluator checked, with value, bound and verdict, as in latest_run.json.

    A row of kind ``change`` holds, as value, the candidate's metric less the champion's, and both
    of these.
    """
    failed = {
        (_slice_name(validation.slice_key), failure.metric_key.name, failure.metric_key.is_diff)
        for validation in tfma.load_validation_result(evaluation_uri).metric_validations_per_slice
        for failure in validation.failures
    }
    bounds = {
        "pixel_accuracy": gate.pixel_accuracy,
        "mean_iou": gate.mean_iou,
        **{metrics.class_iou_name(name): gate.class_iou for name in features.CLASS_NAMES},
    }
    rows = []
    for key, values in sorted(_read(evaluation_uri), key=lambda item: _slice_order(item[0])):
        if key.partition("=")[0] in gate.slices:
            rows += [
                {
                    "metric": name,
                    "slice": key,
                    "value": values[name, CANDIDATE],
                    "bound": bound,
                    "kind": "at_least",
                    "held": (key, name, False) not in failed,
                }
                for name, bound in bounds.items()
            ]
        if key == OVERALL and ("mean_iou", "change") in values:
            rows.append(
                {
                    "metric": "mean_iou",
                    "slice": key,
                    "value": values["mean_iou", "change"],
                    "bound": -gate.max_drop,
                    "kind": "change",
                    "held": (key, "mean_iou", True) not in failed,
                    "candidate": values["mean_iou", CANDIDATE],
                    "champion": values["mean_iou", CHAMPION],
                }
            )
    return rows


def _read(evaluation_uri: str) -> Iterator[tuple[str, dict[tuple[str, str], float | None]]]:
    """Yields each slice with its metrics by (name, candidate | champion | change)."""
    for row in tfma.load_metrics(evaluation_uri):
        values = {}
        for entry in row.metric_keys_and_values:
            kind = "change" if entry.key.is_diff else entry.key.model_name or CANDIDATE
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
    class_name: str, config: dict[str, Any], bound: float, where: list[config_pb2.SlicingSpec]
) -> config_pb2.MetricConfig:
    return config_pb2.MetricConfig(
        class_name=class_name,
        module=metrics.__name__,
        # The fingerprint makes Evaluator run again when a metric's code has changed.
        config=json.dumps({**config, "code": code.fingerprint(metrics.__name__)}),
        per_slice_thresholds=[
            config_pb2.PerSliceMetricThreshold(
                slicing_specs=where,
                threshold=config_pb2.MetricThreshold(
                    value_threshold=config_pb2.GenericValueThreshold(
                        lower_bound=wrappers_pb2.DoubleValue(value=bound)
                    )
                ),
            )
        ],
    )
