"""Collect the outcome of a run from ML Metadata and the artifacts."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Sequence
from typing import Any

from tfx.dsl.io import fileio
from tfx.types.artifact import Artifact
from tfx.utils import path_utils

from pipeline.artifacts import (
    comparison,
    data_checks,
    infra_blessing,
    ingestion,
    pushed_model,
    tuning_results,
)
from pipeline.artifacts.run import EXECUTED, RunArtifacts
from pipeline.core import code
from pipeline.data import drift, health, items
from pipeline.evaluation import gate
from pipeline.release import infra_validation
from pipeline.report.outcome import FAILED, NOT_BLESSED, PUSHED, UNFINISHED, Component, Outcome
from pipeline.settings import Settings
from pipeline.training import trainer


def collect(
    artifacts: RunArtifacts,
    settings: Settings,
    components: Sequence[Component],
    error: str | None,
    **facts: Any,
) -> Outcome:
    """Collect the outcome of a run.

    Args:
      artifacts: of the run.
      settings: of the run.
      components: the components that ran or were cached, in order.
      error: why the run failed, in a sentence; None if it did not.
      **facts: values of further fields of the outcome.
    """
    values: dict[str, Any] = _release(artifacts)
    evaluation = artifacts.get("Evaluator", "evaluation")
    if evaluation is not None:
        values["metrics"] = gate.read_metrics(evaluation.uri)
        values["gate"] = gate.read_gate(evaluation.uri, settings.gate)
        values["confusion"] = gate.read_confusion(evaluation.uri)
    blessing = artifacts.get(infra_validation.NODE, "blessing")
    if blessing is not None:
        values["infra_blessed"] = infra_blessing.verdict(blessing)
    if error:
        values |= {"status": FAILED, "error": error}
    return Outcome.model_validate(
        {
            **values,
            "champion": _champion(artifacts),
            "data": _data(artifacts, settings),
            "components": list(components),
            "tuning": tuning(artifacts),
            "training": training(artifacts),
            "versions": code.versions(),
            "settings": settings.flat(),
            **facts,
        }
    )


def _release(artifacts: RunArtifacts) -> dict[str, Any]:
    """Return the fields that the Pusher decides."""
    pushed = artifacts.get("Pusher", "pushed_model")
    if pushed is None:
        return {"status": NOT_BLESSED}
    blessed = bool(pushed.get_int_custom_property(pushed_model.PUSHED))
    new = artifacts.state("Pusher") == EXECUTED and bool(
        pushed.get_int_custom_property(pushed_model.MADE)
    )
    values: dict[str, Any] = {
        "status": PUSHED if blessed else NOT_BLESSED,
        "refused": pushed.get_string_custom_property(pushed_model.REFUSED) or None,
        "new_version": new,
    }
    if blessed:
        values["pushed_version"] = int(pushed.get_string_custom_property(pushed_model.VERSION))
    if new and (version := pushed.get_int_custom_property(pushed_model.REPLACED)):
        fault = pushed.get_string_custom_property(pushed_model.FAULT)
        values["replaced"] = {"version": version, "fault": fault or None}
    return values


def _data(artifacts: RunArtifacts, settings: Settings) -> dict[str, Any]:
    values: dict[str, Any] = {}
    statistics = artifacts.get("StatisticsGen", "statistics")
    if statistics is not None:
        values["splits"] = data_checks.count_examples(statistics)
    release = artifacts.get("ReleasedData", "pushed_model")
    anomalies = artifacts.get("DriftValidator", "anomalies")
    if release is not None and anomalies is not None:
        values["drift"] = {
            "against": int(release.get_string_custom_property(pushed_model.VERSION)),
            "features": drift.read(anomalies),
        }
    examples = artifacts.get("ExampleGen", "examples")
    if examples is not None:
        quarantined = ingestion.read_quarantine(examples.uri)
        notes = ingestion.read_notes(examples.uri)
        classes = ingestion.read_classes(examples.uri)
        scan = ingestion.read_scan(examples.uri)
        values |= {
            **scan,
            "quarantined": [items.faulty(row["id"], row["reason"]) for row in quarantined],
            "notes": notes,
            "hints": [
                *health.causes(quarantined, scan["hints"]),
                *health.hints(notes, classes, settings.data),
            ],
        }
    return values


def _champion(artifacts: RunArtifacts) -> dict[str, Any] | None:
    """Return the version the candidate was compared with, and a note if that needs one."""
    releases = artifacts.all("Champion", "pushed_model")
    if not releases:
        return None

    def version(release: Artifact) -> int:
        return int(release.get_string_custom_property(pushed_model.VERSION))

    release, *others = sorted(releases, key=version, reverse=True)
    model = artifacts.get("Champion", "model")
    note = comparison.note(
        release,
        model and path_utils.serving_model_path(model.uri),
        model_path(artifacts),
        others[0] if others else None,
    )
    champion: dict[str, Any] = {"version": version(release)}
    return {**champion, "note": note} if note else champion


def unfinished(settings: Settings | None, error: str | None = None) -> Outcome:
    """Build the outcome of a run that is still running, or that was killed.

    Args:
      settings: of the run; None if they were invalid.
      error: why the run ended before its first component, in a sentence; None if it did not.
    """
    return Outcome(
        error=error or UNFINISHED,
        versions=code.versions(),
        settings=settings.flat() if settings else {},
    )


def history(artifacts: RunArtifacts) -> list[dict[str, float]]:
    """Read the Trainer's history, one row per epoch; empty if there is none."""
    lines = _model_run_file(artifacts, trainer.HISTORY).splitlines()
    return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(lines)]


def training(artifacts: RunArtifacts) -> dict[str, Any]:
    """Read the facts that `trainer.fit` records; empty if there are none."""
    facts: dict[str, Any] = json.loads(_model_run_file(artifacts, trainer.FACTS) or "{}")
    return facts


def tuning(artifacts: RunArtifacts) -> dict[str, Any]:
    """Read the Tuner's results: the ``best`` values of settings, and all ``trials``.

    Each trial has its number, score and values. Empty without a Tuner.
    """
    best = artifacts.get("Tuner", "best_hyperparameters")
    results = artifacts.get("Tuner", "tuner_results")
    if best is None or results is None:
        return {}
    return {"best": tuning_results.read_best(best), "trials": tuning_results.read_trials(results)}


def _model_run_file(artifacts: RunArtifacts, name: str) -> str:
    """Read a file from the Trainer's output ``model_run``; empty if it does not exist."""
    run = artifacts.get("Trainer", "model_run")
    path = run and os.path.join(run.uri, name)
    if not path or not fileio.exists(path):
        return ""
    with fileio.open(path, "r") as file:
        return str(file.read())


def model_path(artifacts: RunArtifacts) -> str | None:
    """Return the path of the SavedModel that the Trainer exported, or None."""
    model = artifacts.get("Trainer", "model")
    return str(path_utils.serving_model_path(model.uri)) if model else None
