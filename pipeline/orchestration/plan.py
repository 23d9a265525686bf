"""Plan a run: ask TFX's drivers and cache, node by node, what has to run and why."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_metadata as mlmd
import tensorflow as tf
from ml_metadata.proto import metadata_store_pb2 as mlmd_pb2
from tfx.proto.orchestration import pipeline_pb2

from pipeline.artifacts import ingestion
from pipeline.compat import tfx_launcher
from pipeline.core.errors import UserError
from pipeline.data import layout
from pipeline.orchestration import launcher
from pipeline.settings import Settings

log = logging.getLogger(__name__)

_DONE = (mlmd_pb2.Execution.COMPLETE, mlmd_pb2.Execution.CACHED)
_MAX_CHANGES = 3  # changed settings to name


@dataclass(frozen=True)
class Step:
    """One node of the plan."""

    node: str
    runs: bool
    why: str = ""  # why it has to run, in a clause; empty if it is cached


def make(
    ir: pipeline_pb2.Pipeline,
    run_id: str,
    before: Callable[[str], None],
    data: tuple[Path, Settings],
) -> list[Step]:
    """Take cached nodes from the cache, and say why the others have to run.

    A node downstream of one that has to run counts as having to run, even if its own outputs may
    turn out to be cached.

    Args:
      ir: the compiled pipeline, with the connection to the metadata store.
      run_id: name of the run in the metadata store; its nodes can be run afterwards.
      before: called with a node's id before that node is looked up.
      data: the data folder and the settings of the run.

    Raises:
      UserError: if a node's driver rejects its inputs.
    """
    steps: dict[str, Step] = {}
    for node in (each.pipeline_node for each in ir.nodes):
        name = node.node_info.id
        waits = [other for other in node.upstream_nodes if steps[other].runs]
        if waits:
            steps[name] = Step(name, True, f"depends on {' and '.join(sorted(waits))}")
            continue
        before(name)
        if launcher.take_from_cache(ir, name, run_id):
            steps[name] = Step(name, False)
        else:
            steps[name] = Step(name, True, _explain(ir, name, run_id, *data))
    return list(steps.values())


def _explain(ir: pipeline_pb2.Pipeline, node_id: str, run_id: str, *data: Any) -> str:
    try:
        return _why(ir, node_id, run_id, *data)
    except Exception:  # such as a store of an older version; must not stop the run
        log.exception("Cannot tell why %s has to run", node_id)
        return "something changed"


def _why(
    ir: pipeline_pb2.Pipeline, node_id: str, run_id: str, data_root: Path, settings: Settings
) -> str:
    store = mlmd.MetadataStore(launcher.connection(ir))
    context = store.get_context_by_type_and_name("node", f"{ir.pipeline_info.id}.{node_id}")
    run = store.get_context_by_type_and_name("pipeline_run", run_id)
    in_run = {each.id for each in store.get_executions_by_context(run.id)}
    executions = sorted(store.get_executions_by_context(context.id), key=lambda each: each.id)
    now = [each for each in executions if each.id in in_run][-1]
    past = [e for e in executions if e.id < now.id and e.last_known_state in _DONE]
    if not past:
        return "it has not run before"
    parameters = _parameters(now)
    if run_id in parameters.values():
        return "it always runs"
    changes = list(_changes(_parameters(past[-1]), parameters))
    if changes:
        hidden = len(changes) - _MAX_CHANGES
        more = f" and {hidden} more" if hidden > 0 else ""
        return f"changed: {', '.join(changes[:_MAX_CHANGES])}{more}"
    if node_id == "ExampleGen":
        return _photos(store, past[-1], data_root, settings)
    before, after = _inputs(store, past[-1]), _inputs(store, now)
    changed = sorted(key for key in before.keys() | after if before.get(key) != after.get(key))
    if changed:
        return f"changed inputs: {', '.join(key.replace('_', ' ') for key in changed)}"
    return "its output is gone or was withdrawn"


def _parameters(execution: mlmd_pb2.Execution) -> dict[str, Any]:
    """Return a node's parameters by dotted key, including those inside JSON values."""
    parameters: dict[str, Any] = {}
    for properties in (execution.properties, execution.custom_properties):
        for key in sorted(properties):
            if key != tfx_launcher.BEGUN:
                value = properties[key]
                parameters |= _flat(key, getattr(value, value.WhichOneof("value")))
    return parameters


def _flat(key: str, value: Any) -> dict[str, Any]:
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            value = json.loads(value)
        except ValueError:
            return {key: value}
    if not isinstance(value, Mapping):
        return {key: value}
    return {k: v for name, each in value.items() for k, v in _flat(f"{key}.{name}", each).items()}


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """Describe the parameters that differ, each description once."""
    seen: set[str] = set()
    for key in sorted(after):  # `before` may have more keys, which the driver added
        old, new = before.get(key), after[key]
        if old == new or key.startswith("__"):
            continue
        change = _describe(key, old, new)
        if change not in seen:
            seen.add(change)
            yield change


def _describe(key: str, old: Any, new: Any) -> str:
    parts = [p for p in key.split(".") if p not in ("custom_config", "settings", "customConfig")]
    name = ".".join(parts) or key
    if parts[-1:] == ["code"]:
        return "the pipeline's code"
    if name.startswith(("eval_config", "example_splits")):
        return "gate settings"
    short = all(isinstance(each, int | float | bool | str | None) for each in (old, new))
    if short and len(f"{old}{new}") < 60:
        return f"{name} ({old} to {new})"
    return name


def _inputs(store: mlmd.MetadataStore, execution: mlmd_pb2.Execution) -> dict[str, set[int]]:
    """Return the ids of an execution's input artifacts, by input key."""
    ids: dict[str, set[int]] = {}
    for event in store.get_events_by_execution_ids([execution.id]):
        if event.type == mlmd_pb2.Event.INPUT:
            ids.setdefault(event.path.steps[0].key, set()).add(event.artifact_id)
    return ids


def _photos(
    store: mlmd.MetadataStore, past: mlmd_pb2.Execution, root: Path, settings: Settings
) -> str:
    """Compare the number of photos now with the last ingestion."""
    events = store.get_events_by_execution_ids([past.id])
    outputs = [event.artifact_id for event in events if event.type == mlmd_pb2.Event.OUTPUT]
    (examples,) = store.get_artifacts_by_id(outputs)
    try:
        before = ingestion.count_listed(examples.uri)
        now = len(layout.scan(root, settings.data).items)
    except (OSError, ValueError, tf.errors.OpError, UserError):  # such as a deleted artifact
        return "photos, masks or lists changed"
    if now == before:
        return f"photos, masks or lists changed (still {now:,} photos)"
    return f"{now:,} photos, previously {before:,}"
