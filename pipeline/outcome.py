"""What became of a run: the content of latest_run.json, read from ML Metadata and the artifacts."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import dataclass
from typing import Any

import ml_metadata as mlmd
from ml_metadata.proto import metadata_store_pb2 as mlmd_pb2
from tfx.dsl.io import fileio
from tfx.orchestration import metadata
from tfx.orchestration.portable.mlmd import context_lib
from tfx.types import artifact_utils
from tfx.types.artifact import Artifact
from tfx.utils import path_utils

from components import champion, data_gate, example_gen, infra_validator, pusher, tuner
from pipeline import code, drift, evaluation, infra_validation, nodes, trainer
from pipeline.dataset import health, items
from pipeline.settings import Settings

PUSHED, NOT_BLESSED, FAILED = "pushed", "not_blessed", "failed"
EXECUTED, CACHED = "executed", "cached"

_RUN = "pipeline_run"  # a type of contexts
# Custom property of an execution, or of a run: the sentence that says why it failed.
_ERROR = "error"
_CODE = "code"  # of a run: fingerprint of what it was planned with
_SECONDS = "seconds"  # of a run: from its start to its end


@dataclass(frozen=True)
class Component:
    """One component's part in a run."""

    id: str
    state: str  # executed | cached | failed
    seconds: float


class RunArtifacts:
    """The output artifacts of one run, also those that are gone since, such as a pruned version."""

    def __init__(self, connection: mlmd_pb2.ConnectionConfig, run_id: str):
        self._connection, self._run_id = connection, run_id
        self._store = mlmd.MetadataStore(connection)
        self._by_node: dict[str, dict[str, list[Artifact]]] = {}
        self._executions: dict[str, mlmd_pb2.Execution] = {}
        context = self._store.get_context_by_type_and_name(_RUN, run_id)
        known = context.custom_properties if context else {}
        self.run_error = known[_ERROR].string_value if _ERROR in known else None
        self.run_code = known[_CODE].string_value if _CODE in known else None
        self.run_seconds = known[_SECONDS].double_value if _SECONDS in known else None
        executions = self._store.get_executions_by_context(context.id) if context else []
        begun = [e for e in executions if e.last_known_state != mlmd_pb2.Execution.NEW]
        for execution in sorted(begun, key=lambda e: e.id):
            node = self._node(execution.id)
            self._executions[node] = execution
            self._by_node[node] = self._outputs(execution.id)

    def get(self, node: str, key: str) -> Artifact | None:
        """The first output of that name, or None if the node did not get as far."""
        artifacts = self._by_node.get(node, {}).get(key)
        return artifacts[0] if artifacts else None

    def all(self, node: str, key: str) -> list[Artifact]:
        """All outputs of that name."""
        return self._by_node.get(node, {}).get(key, [])

    def state(self, node: str) -> str:
        """executed, cached or failed."""
        state = self._executions[node].last_known_state if self.began(node) else None
        if state == mlmd_pb2.Execution.CACHED:
            return CACHED
        return EXECUTED if state == mlmd_pb2.Execution.COMPLETE else FAILED

    def cut_off(self, node: str) -> bool:
        """Whether the node began and no end of it was noted: it was killed, or still runs."""
        return self.began(node) and (
            self._executions[node].last_known_state == mlmd_pb2.Execution.RUNNING
        )

    def began(self, node: str) -> bool:
        """Whether the node got as far as to be noted in the metadata store."""
        return node in self._executions

    def seconds(self, node: str) -> float:
        """From the first attempt's begin to the end of a node that began."""
        execution = self._executions[node]
        begin, end = execution.create_time_since_epoch, execution.last_update_time_since_epoch
        if nodes.BEGUN in execution.custom_properties:
            begin = execution.custom_properties[nodes.BEGUN].double_value * 1000
        return (end - begin) / 1000

    def nodes(self) -> list[str]:
        """The nodes that began, in order."""
        return list(self._executions)

    def begin(self) -> float | None:
        """When the run's first node began, seconds since 1970; None if none did."""
        times = [each.create_time_since_epoch for each in self._executions.values()]
        return min(times) / 1000 if times else None

    def end(self) -> float | None:
        """When the run's last node ended, or was last heard of; None if none began."""
        times = [each.last_update_time_since_epoch for each in self._executions.values()]
        return max(times) / 1000 if times else None

    def error(self, node: str) -> str | None:
        """The sentence that was noted about a failed node."""
        if self.state(node) != FAILED or not self.began(node):
            return None
        return self._executions[node].custom_properties[_ERROR].string_value or None

    def note_run_error(self, sentence: str) -> None:
        """Notes why the run failed, where that is no node's fault: `run_error`."""
        self._note_run(_ERROR, sentence)

    def note_run_code(self, fingerprint: str) -> None:
        """Notes what code the run was planned with: `run_code`."""
        self._note_run(_CODE, fingerprint)

    def note_run_seconds(self, seconds: float) -> None:
        """Notes how long the run took, or how long it had gone on when it was told to stop."""
        self._note_run(_SECONDS, seconds)

    def _note_run(self, key: str, value: str | float) -> None:
        with metadata.Metadata(self._connection) as handle:
            context = context_lib.register_context_if_not_exists(handle, _RUN, self._run_id)
            if isinstance(value, str):
                context.custom_properties[key].string_value = value
            else:
                context.custom_properties[key].double_value = value
            handle.store.put_contexts([context])

    def note_error(self, node: str, sentence: str) -> None:
        """Notes why a node failed, for whoever reports on the run; nothing if it never began."""
        if self.began(node):
            execution = self._executions[node]
            execution.custom_properties[_ERROR].string_value = sentence
            self._store.put_executions([execution])

    def _node(self, execution_id: int) -> str:
        contexts = self._store.get_contexts_by_execution(execution_id)
        return next(c.name for c in contexts if c.type == "node").partition(".")[2]

    def _outputs(self, execution_id: int) -> dict[str, list[Artifact]]:
        events = [
            event
            for event in self._store.get_events_by_execution_ids([execution_id])
            if event.type in (mlmd_pb2.Event.OUTPUT, mlmd_pb2.Event.INTERNAL_OUTPUT)
        ]
        outputs: dict[str, list[Artifact]] = {}
        for event in events:
            (raw,) = self._store.get_artifacts_by_id([event.artifact_id])
            if raw.state not in (mlmd_pb2.Artifact.LIVE, mlmd_pb2.Artifact.DELETED):
                continue
            (raw_type,) = self._store.get_artifact_types_by_id([raw.type_id])
            artifact = artifact_utils.deserialize_artifact(raw_type, raw)
            outputs.setdefault(event.path.steps[0].key, []).append(artifact)
        return outputs


def collect(
    artifacts: RunArtifacts,
    settings: Settings,
    components: list[Component],
    error: str | None,
    **facts: Any,
) -> dict[str, Any]:
    """Builds the content of latest_run.json.

    Args:
      artifacts: of the run.
      settings: of the run.
      components: those that came to run, in order.
      error: the sentence that says why the run failed, if it did.
      **facts: further fields.
    """
    blessed = pushed_version = refused = replaced = None
    new = False
    pushed = artifacts.get("Pusher", "pushed_model")
    if pushed is not None:
        blessed = bool(pushed.get_int_custom_property(pusher.PUSHED))
        pushed_version = int(pushed.get_string_custom_property(pusher.VERSION)) if blessed else None
        refused = pushed.get_string_custom_property(pusher.REFUSED)
        new = artifacts.state("Pusher") == EXECUTED and bool(
            pushed.get_int_custom_property(pusher.MADE)
        )
        if new and (version := pushed.get_int_custom_property(pusher.REPLACED)):
            fault = pushed.get_string_custom_property(pusher.FAULT)
            replaced = {"version": version, "fault": fault or None}
    result: dict[str, Any] = {
        "status": FAILED if error else PUSHED if blessed else NOT_BLESSED,
        "pushed_version": pushed_version,
        "new_version": new,  # this run made it; else it was in service already
        "replaced": replaced,  # what was in service until then, and what was wrong with that
        "champion": _champion(artifacts),
        "metrics": {},
        "gate": [],
        "data": _no_data(),
        "components": [vars(component) for component in components],
        "tuning": tuning(artifacts),
        "training": training(artifacts),
        "versions": code.versions(),
    }
    statistics = artifacts.get("StatisticsGen", "statistics")
    examples = artifacts.get("ExampleGen", "examples")
    if statistics is not None:
        result["data"]["splits"] = data_gate.count_examples(statistics)
    compared = artifacts.get("ReleasedData", "pushed_model")
    drifted = artifacts.get("DriftValidator", "anomalies")
    if compared is not None and drifted is not None:
        result["data"]["drift"] = {
            "against": int(compared.get_string_custom_property(pusher.VERSION)),
            "features": drift.read(drifted),
        }
    if examples is not None:
        quarantined = example_gen.read_quarantine(examples.uri)
        notes = example_gen.read_notes(examples.uri)
        classes = example_gen.read_classes(examples.uri)
        scan = example_gen.read_scan(examples.uri)
        result["data"] |= {
            **scan,
            "quarantined": [items.faulty(row["id"], row["reason"]) for row in quarantined],
            "notes": notes,
            "hints": [
                *health.causes(quarantined, scan["hints"]),
                *health.hints(notes, classes, settings.data),
            ],
        }
    judged = artifacts.get("Evaluator", "evaluation")
    if judged is not None:
        result["metrics"] = evaluation.read_metrics(judged.uri)
        result["gate"] = evaluation.read_gate(judged.uri, settings.gate)
        result["confusion"] = evaluation.read_confusion(judged.uri)
    tried = artifacts.get(infra_validation.NODE, "blessing")
    if tried is not None:
        result["infra_blessed"] = infra_validator.verdict(tried)
    if refused:
        result["refused"] = refused
    if error:
        result["error"] = error
    return {**result, **facts, "settings": settings.flat()}


def _champion(artifacts: RunArtifacts) -> dict[str, Any] | None:
    """Version of the model that the candidate replaces, with a note where they differ in kind."""
    releases = artifacts.all("Champion", "pushed_model")
    if not releases:
        return None

    def version(release: Artifact) -> int:
        return int(release.get_string_custom_property(pusher.VERSION))

    release, *others = sorted(releases, key=version, reverse=True)
    judged = artifacts.get("Champion", "model")
    note = champion.note(
        release,
        judged and path_utils.serving_model_path(judged.uri),
        model_path(artifacts),
        others[0] if others else None,
    )
    found: dict[str, Any] = {"version": version(release)}
    return {**found, "note": note} if note else found


def _no_data() -> dict[str, Any]:
    return {
        "splits": {},
        "quarantined": [],
        "notes": [],
        "unlisted": [],
        "spans": [],
        "hints": [],
        "drift": {"against": None, "features": []},
    }


def unfinished(settings: Settings) -> dict[str, Any]:
    """What latest_run.json says while a run goes on, and after it was killed."""
    return {
        "status": FAILED,
        "error": "The run has not ended: it still goes on, or it was killed.",
        "pushed_version": None,
        "new_version": False,
        "replaced": None,
        "champion": None,
        "metrics": {},
        "gate": [],
        "data": _no_data(),
        "components": [],
        "copied_to": None,
        "tuning": {},
        "training": {},
        "versions": code.versions(),
        "settings": settings.flat(),
    }


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
    return {"best": tuner.read_best(best), "trials": tuner.read_trials(results)}


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
