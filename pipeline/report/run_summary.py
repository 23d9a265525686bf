"""What became of a run: the content of latest_run.json, read from ML Metadata and the artifacts."""

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
    """Gathers the outcome of a run.

    Args:
      artifacts: of the run.
      settings: of the run.
      components: those that came to run, in order.
      error: the sentence that says why the run failed, if it did.
      **facts: further fields.
    """
    found: dict[str, Any] = _release(artifacts)
    judged = artifacts.get("Evaluator", "evaluation")
    if judged is not None:
        found["metrics"] = gate.read_metrics(judged.uri)
        found["gate"] = gate.read_gate(judged.uri, settings.gate)
        found["confusion"] = gate.read_confusion(judged.uri)
    tried = artifacts.get(infra_validation.NODE, "blessing")
    if tried is not None:
        found["infra_blessed"] = infra_blessing.verdict(tried)
    if error:
        found |= {"status": FAILED, "error": error}
    return Outcome.model_validate(
        {
            **found,
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
    """What the Pusher made of the candidate."""
    pushed = artifacts.get("Pusher", "pushed_model")
    if pushed is None:
        return {"status": NOT_BLESSED}
    blessed = bool(pushed.get_int_custom_property(pushed_model.PUSHED))
    new = artifacts.state("Pusher") == EXECUTED and bool(
        pushed.get_int_custom_property(pushed_model.MADE)
    )
    found: dict[str, Any] = {
        "status": PUSHED if blessed else NOT_BLESSED,
        "refused": pushed.get_string_custom_property(pushed_model.REFUSED) or None,
        "new_version": new,
    }
    if blessed:
        found["pushed_version"] = int(pushed.get_string_custom_property(pushed_model.VERSION))
    if new and (version := pushed.get_int_custom_property(pushed_model.REPLACED)):
        fault = pushed.get_string_custom_property(pushed_model.FAULT)
        found["replaced"] = {"version": version, "fault": fault or None}
    return found


def _data(artifacts: RunArtifacts, settings: Settings) -> dict[str, Any]:
    found: dict[str, Any] = {}
    statistics = artifacts.get("StatisticsGen", "statistics")
    if statistics is not None:
        found["splits"] = data_checks.count_examples(statistics)
    compared = artifacts.get("ReleasedData", "pushed_model")
    drifted = artifacts.get("DriftValidator", "anomalies")
    if compared is not None and drifted is not None:
        found["drift"] = {
            "against": int(compared.get_string_custom_property(pushed_model.VERSION)),
            "features": drift.read(drifted),
        }
    examples = artifacts.get("ExampleGen", "examples")
    if examples is not None:
        quarantined = ingestion.read_quarantine(examples.uri)
        notes = ingestion.read_notes(examples.uri)
        classes = ingestion.read_classes(examples.uri)
        scan = ingestion.read_scan(examples.uri)
        found |= {
            **scan,
            "quarantined": [items.faulty(row["id"], row["reason"]) for row in quarantined],
            "notes": notes,
            "hints": [
                *health.causes(quarantined, scan["hints"]),
                *health.hints(notes, classes, settings.data),
            ],
        }
    return found


def _champion(artifacts: RunArtifacts) -> dict[str, Any] | None:
    """Version of the model that the candidate replaces, with a note where they differ in kind."""
    releases = artifacts.all("Champion", "pushed_model")
    if not releases:
        return None

    def version(release: Artifact) -> int:
        return int(release.get_string_custom_property(pushed_model.VERSION))

    release, *others = sorted(releases, key=version, reverse=True)
    judged = artifacts.get("Champion", "model")
    note = comparison.note(
        release,
        judged and path_utils.serving_model_path(judged.uri),
        model_path(artifacts),
        others[0] if others else None,
    )
    found: dict[str, Any] = {"version": version(release)}
    return {**found, "note": note} if note else found


def unfinished(settings: Settings | None, error: str | None = None) -> Outcome:
    """What latest_run.json says while a run goes on, and after it was killed.

    Args:
      settings: of the run; None if they were refused.
      error: the sentence that says why the run ended before its first component, if it did.
    """
    return Outcome(
        error=error or UNFINISHED,
        versions=code.versions(),
        settings=settings.flat() if settings else {},
    )


def history(artifacts: RunArtifacts) -> list[dict[str, float]]:
    """The Trainer's history, one row an epoch; empty if it did not get as far."""
    lines = _model_run_file(artifacts, trainer.HISTORY).splitlines()
    return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(lines)]


def training(artifacts: RunArtifacts) -> dict[str, Any]:
    """What the Trainer noted about itself (see `trainer.fit`); empty if it did not get as far."""
    return json.loads(_model_run_file(artifacts, trainer.FACTS) or "{}")


def tuning(artifacts: RunArtifacts) -> dict[str, Any]:
    """The ``best`` values of settings that the Tuner found, and its ``trials``.

    A trial has its number, the score and its values; empty without a Tuner.
    """
    best = artifacts.get("Tuner", "best_hyperparameters")
    results = artifacts.get("Tuner", "tuner_results")
    if best is None or results is None:
        return {}
    return {"best": tuning_results.read_best(best), "trials": tuning_results.read_trials(results)}


def _model_run_file(artifacts: RunArtifacts, name: str) -> str:
    """The content of a file that the Trainer left; empty if there is none."""
    run = artifacts.get("Trainer", "model_run")
    path = run and os.path.join(run.uri, name)
    if not path or not fileio.exists(path):
        return ""
    with fileio.open(path, "r") as file:
        return file.read()


def model_path(artifacts: RunArtifacts) -> str | None:
    """The SavedModel that the Trainer exported, or None."""
    model = artifacts.get("Trainer", "model")
    return model and path_utils.serving_model_path(model.uri)
