"""Results of a task for Kubeflow Pipelines: metadata of its artifacts, and a clause for its log."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.artifacts import data_checks, ingestion
from pipeline.artifacts.run import RunArtifacts
from pipeline.core import features
from pipeline.core.formatting import number
from pipeline.data import drift
from pipeline.evaluation import gate
from pipeline.orchestration.pipeline import TUNER
from pipeline.report import outcome, run_summary
from pipeline.settings import Settings

_METRICS = ("pixel_accuracy", "mean_iou", "boundary_iou", "calibration_error")

Facts = dict[str, dict[str, Any]]  # metadata by artifact key


def of(artifacts: RunArtifacts, node: str, settings: Settings) -> tuple[str, Facts]:
    """Summarise the results of a finished node.

    Args:
      artifacts: of the run.
      node: id of the node.
      settings: of the run.

    Returns:
      A clause, which may be empty, and the metadata of the node's artifacts.
    """
    summarize = _SUMMARIES.get(node)
    return summarize(artifacts, settings) if summarize else ("", {})


def _examples(artifacts: RunArtifacts, _: Settings) -> tuple[str, Facts]:
    examples = artifacts.get("ExampleGen", "examples")
    if examples is None:
        return "", {}
    photos = ingestion.count_listed(examples.uri)
    quarantined = len(ingestion.read_quarantine(examples.uri))
    facts = {"photos": photos, "set_aside": quarantined, "path": examples.uri}
    count = f"{quarantined:,} of them" if quarantined else "none"
    return f"{photos:,} photos, {count} quarantined", {"examples": facts}


def _statistics(artifacts: RunArtifacts, _: Settings) -> tuple[str, Facts]:
    statistics = artifacts.get("StatisticsGen", "statistics")
    counts = data_checks.count_examples(statistics) if statistics else {}
    return ", ".join(f"{split} {count:,}" for split, count in counts.items()), {}


def _anomalies(artifacts: RunArtifacts, _: Settings) -> tuple[str, Facts]:
    anomalies = artifacts.get("ExampleValidator", "anomalies")
    if anomalies is None:
        return "", {}
    count = sum(len(data_checks.read_anomalies(anomalies, split)) for split in features.SPLITS)
    return f"{count or 'no'} {'anomaly' if count == 1 else 'anomalies'}", {}


def _drift(artifacts: RunArtifacts, _: Settings) -> tuple[str, Facts]:
    anomalies = artifacts.get("DriftValidator", "anomalies")
    rows = drift.read(anomalies) if anomalies else []
    drifted = [row["feature"] for row in rows if row["drifted"]]
    if not rows:
        return "no release to compare with", {}
    return f"drifted: {', '.join(drifted)}" if drifted else "no drift", {}


def _transformed(artifacts: RunArtifacts, settings: Settings) -> tuple[str, Facts]:
    examples = artifacts.get("Transform", "transformed_examples")
    size = settings.transform.image_size
    facts = {"image_size": size, "path": examples.uri} if examples else {}
    return f"{size}x{size} pixels per photo", {"transformed_examples": facts}


def _tuned(artifacts: RunArtifacts, _: Settings) -> tuple[str, Facts]:
    best = run_summary.tuning(artifacts).get("best", {})
    return ", ".join(f"{name} {value}" for name, value in best.items()), {}


def _trained(artifacts: RunArtifacts, settings: Settings) -> tuple[str, Facts]:
    rows = run_summary.history(artifacts)
    path = run_summary.model_path(artifacts)
    best = next((row for row in rows if row["best"]), None)
    if best is None or path is None:
        return "", {}
    statistics = artifacts.get("StatisticsGen", "statistics")
    facts = {
        "model_name": settings.model.name,
        "examples": data_checks.count_examples(statistics)[features.TRAIN] if statistics else 0,
        "best_epoch": best["epoch"],
        "val_mean_iou": best["val_mean_iou"],
        "path": path,
    }
    clause = f"val_mean_iou {best['val_mean_iou']:.3f} in epoch {best['epoch']:.0f} of {len(rows)}"
    return clause, {"model": facts}


def _champion(artifacts: RunArtifacts, _: Settings) -> tuple[str, Facts]:
    releases = artifacts.all("Champion", "pushed_model")
    if not releases:
        return "no champion yet", {}
    # A second, older release only replaces an unusable champion in the comparison.
    newest = max(int(each.get_string_custom_property("pushed_version")) for each in releases)
    return f"the champion is version {newest}", {}


def _evaluation(artifacts: RunArtifacts, settings: Settings) -> tuple[str, Facts]:
    evaluation = artifacts.get("Evaluator", "evaluation")
    overall = gate.read_metrics(evaluation.uri).get("overall") if evaluation else None
    if evaluation is None or overall is None:
        return "", {}
    missed = [row for row in gate.read_gate(evaluation.uri, settings.gate) if not row["held"]]
    names = dict.fromkeys(f"{row['metric']} ({row['slice']})" for row in missed)
    verdict = f"not blessed, missed {', '.join(names)}" if missed else "blessed"
    measures = [
        f"{name.replace('_', ' ')} {number(overall[name])}"
        for name in ("pixel_accuracy", "mean_iou")
    ]
    facts: Facts = {"metrics": figures(overall)}
    confusion = gate.read_confusion(evaluation.uri)
    if confusion and all(None not in row.values() for row in confusion.values()):
        facts["confusion_matrix"] = {"confusionMatrix": _confusion(confusion)}
    return f"{', '.join(measures)}; {verdict}", facts


def _released(artifacts: RunArtifacts, settings: Settings) -> tuple[str, Facts]:
    result = run_summary.collect(artifacts, settings, [], None)
    if result.refused:
        why = result.refused.rstrip(".")
        return f"not released: {why}", {"release": {"refused": why}}
    if result.status != outcome.PUSHED:
        return "not released", {"release": {"refused": "not blessed by the gate"}}
    pushed = artifacts.get("Pusher", "pushed_model")
    facts = {
        "version": str(result.pushed_version),
        "made_by_this_run": result.new_version,
        "path": pushed.get_string_custom_property("pushed_destination") if pushed else "",
    }
    verb = "released" if result.new_version else "same model as"
    return f"{verb} version {result.pushed_version}", {"release": facts}


_SUMMARIES = {
    "ExampleGen": _examples,
    "StatisticsGen": _statistics,
    "ExampleValidator": _anomalies,
    "DriftValidator": _drift,
    "Transform": _transformed,
    TUNER: _tuned,
    "Trainer": _trained,
    "Champion": _champion,
    "Evaluator": _evaluation,
    "Pusher": _released,
}


def figures(overall: Mapping[str, Any], **more: float) -> dict[str, float]:
    """Select the overall metrics for the run's page, which shows at most ten."""
    values = {name: overall.get(name) for name in _METRICS} | more
    values |= {f"iou_{name}": value for name, value in overall.get("iou", {}).items()}
    return {
        name: float(value)
        for name, value in values.items()
        if isinstance(value, int | float) and math.isfinite(value)
    }


def _confusion(pixels: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Convert to the format of kfp's ClassificationMetrics, in which rows are true classes."""
    return {
        "annotationSpecs": [{"displayName": name} for name in pixels],
        "rows": [{"row": [float(value) for value in row.values()]} for row in pixels.values()],
    }


def write(
    executor_input: Mapping[str, Any] | None, facts: Facts, paths: Mapping[str, Path]
) -> None:
    """Write a task's artifacts and their metadata for Kubeflow Pipelines.

    Args:
      executor_input: the task's ExecutorInput message, which names the file for the metadata; None
        for a task without artifacts.
      facts: metadata of the artifacts.
      paths: expected file of each artifact; if it does not exist, it gets the metadata as text.
    """
    for key, path in paths.items():
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(_lines(facts.get(key, {}))), encoding="utf-8")
    if executor_input is None:
        return
    outputs = executor_input["outputs"]
    artifacts = {
        key: {
            "artifacts": [
                {**each, "metadata": {**each.get("metadata", {}), **facts.get(key, {})}}
                for each in listed["artifacts"]
            ]
        }
        for key, listed in outputs.get("artifacts", {}).items()
    }
    path = Path(outputs["outputFile"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"artifacts": artifacts}), encoding="utf-8")


def _lines(facts: Mapping[str, Any]) -> Iterator[str]:
    for name, value in facts.items():
        yield f"{name}: {value if isinstance(value, str) else json.dumps(value)}\n"
