"""What a task tells Kubeflow Pipelines: artifacts with their facts, and a clause for its log."""

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

Facts = dict[str, dict[str, Any]]  # metadata by key of the artifact


def of(artifacts: RunArtifacts, node: str, settings: Settings) -> tuple[str, Facts]:
    """What a node that is done came to.

    Args:
      artifacts: of the run.
      node: its id.
      settings: of the run.

    Returns:
      A clause, empty where there is nothing to say, and the metadata of its artifacts.
    """
    find = _FINDERS.get(node)
    return find(artifacts, settings) if find else ("", {})


def _examples(artifacts: RunArtifacts, _: Settings) -> tuple[str, Facts]:
    found = artifacts.get("ExampleGen", "examples")
    if found is None:
        return "", {}
    photos = ingestion.count_listed(found.uri)
    aside = len(ingestion.read_quarantine(found.uri))
    facts = {"photos": photos, "set_aside": aside, "path": found.uri}
    clause = f"{photos:,} photos, {f'{aside:,} of them' if aside else 'none'} set aside"
    return clause, {"examples": facts}


def _statistics(artifacts: RunArtifacts, _: Settings) -> tuple[str, Facts]:
    found = artifacts.get("StatisticsGen", "statistics")
    counts = data_checks.count_examples(found) if found else {}
    return ", ".join(f"{split} {count:,}" for split, count in counts.items()), {}


def _anomalies(artifacts: RunArtifacts, _: Settings) -> tuple[str, Facts]:
    found = artifacts.get("ExampleValidator", "anomalies")
    if found is None:
        return "", {}
    count = sum(len(data_checks.read_anomalies(found, split)) for split in features.SPLITS)
    return f"{count or 'no'} {'anomaly' if count == 1 else 'anomalies'}", {}


def _drift(artifacts: RunArtifacts, _: Settings) -> tuple[str, Facts]:
    found = artifacts.get("DriftValidator", "anomalies")
    rows = drift.read(found) if found else []
    drifted = [row["feature"] for row in rows if row["drifted"]]
    if not rows:
        return "nothing to compare with", {}
    return f"drifted: {', '.join(drifted) or 'nothing'}", {}


def _transformed(artifacts: RunArtifacts, settings: Settings) -> tuple[str, Facts]:
    found = artifacts.get("Transform", "transformed_examples")
    size = settings.transform.image_size
    facts = {"image_size": size, "path": found.uri} if found else {}
    return f"photos of {size}x{size} pixels", {"transformed_examples": facts}


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
    # An older one beside it only stands in for it in the comparison.
    newest = max(int(each.get_string_custom_property("pushed_version")) for each in releases)
    return f"the champion is version {newest}", {}


def _judged(artifacts: RunArtifacts, settings: Settings) -> tuple[str, Facts]:
    found = artifacts.get("Evaluator", "evaluation")
    overall = gate.read_metrics(found.uri).get("overall") if found else None
    if found is None or overall is None:
        return "", {}
    failed = [row for row in gate.read_gate(found.uri, settings.gate) if not row["held"]]
    names = dict.fromkeys(f"{row['metric']} ({row['slice']})" for row in failed)
    verdict = f"the gate says no: {', '.join(names)}" if failed else "the gate says yes"
    measures = [
        f"{name.replace('_', ' ')} {number(overall[name])}"
        for name in ("pixel_accuracy", "mean_iou")
    ]
    facts: Facts = {"metrics": figures(overall)}
    confusion = gate.read_confusion(found.uri)
    if confusion and all(None not in row.values() for row in confusion.values()):
        facts["confusion_matrix"] = {"confusionMatrix": _confusion(confusion)}
    return f"{', '.join(measures)}; {verdict}", facts


def _released(artifacts: RunArtifacts, settings: Settings) -> tuple[str, Facts]:
    result = run_summary.collect(artifacts, settings, [], None)
    if result.refused:
        why = result.refused.rstrip(".")
        return f"not released: {why}", {"release": {"refused": why}}
    if result.status != outcome.PUSHED:
        return "nothing to release", {"release": {"refused": "the gate says no"}}
    pushed = artifacts.get("Pusher", "pushed_model")
    facts = {
        "version": str(result.pushed_version),
        "made_by_this_run": result.new_version,
        "path": pushed.get_string_custom_property("pushed_destination") if pushed else "",
    }
    verb = "released" if result.new_version else "the model is that of"
    return f"{verb} version {result.pushed_version}", {"release": facts}


_FINDERS = {
    "ExampleGen": _examples,
    "StatisticsGen": _statistics,
    "ExampleValidator": _anomalies,
    "DriftValidator": _drift,
    "Transform": _transformed,
    TUNER: _tuned,
    "Trainer": _trained,
    "Champion": _champion,
    "Evaluator": _judged,
    "Pusher": _released,
}


def figures(overall: Mapping[str, Any], **more: float) -> dict[str, float]:
    """The numbers of all test photos for the run's page, which shows ten at most."""
    found = {name: overall.get(name) for name in _METRICS} | more
    found |= {f"iou_{name}": value for name, value in overall.get("iou", {}).items()}
    return {
        name: float(value)
        for name, value in found.items()
        if isinstance(value, int | float) and math.isfinite(value)
    }


def _confusion(pixels: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """As kfp's ClassificationMetrics keeps it: rows are true classes."""
    return {
        "annotationSpecs": [{"displayName": name} for name in pixels],
        "rows": [{"row": [float(value) for value in row.values()]} for row in pixels.values()],
    }


def write(
    executor_input: Mapping[str, Any] | None, facts: Facts, paths: Mapping[str, Path]
) -> None:
    """Hands a task's artifacts to Kubeflow Pipelines.

    Args:
      executor_input: its ExecutorInput message; the file it names tells of the artifacts. Without
        it no server learns their metadata. None for a task that has no artifacts.
      facts: metadata of the artifacts.
      paths: where their content is expected; where there is none yet, the facts become it.
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
