"""What a run would do, and why: asked node by node of TFX's own drivers and cache."""

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
_SHOWN = 3  # settings that changed


@dataclass(frozen=True)
class Step:
    """A node of the plan; ``why`` is a clause, empty for what the cache answers."""

    node: str
    runs: bool
    why: str = ""


def make(
    ir: pipeline_pb2.Pipeline,
    run_id: str,
    before: Callable[[str], None],
    data: tuple[Path, Settings],
) -> list[Step]:
    """Answers the nodes that the cache knows, and says why the others have to run.

    A node behind one that has to run counts as one that has to run, though the cache may know it.

    Args:
      ir: the compiled pipeline, with the connection to the metadata store.
      run_id: names the run in the metadata store; its nodes can be run afterwards.
      before: is called with each node's id before it is asked about.
      data: the data folder, and the settings of the run.

    Raises:
      UserError: what a node's driver refuses.
    """
    steps: dict[str, Step] = {}
    for node in (each.pipeline_node for each in ir.nodes):
        name = node.node_info.id
        waits = [other for other in node.upstream_nodes if steps[other].runs]
        if waits:
            steps[name] = Step(name, True, f"after {' and '.join(sorted(waits))}")
            continue
        before(name)
        if launcher.answer_node(ir, name, run_id):
            steps[name] = Step(name, False)
        else:
            steps[name] = Step(name, True, _explained(ir, name, run_id, *data))
    return list(steps.values())


def _explained(ir: pipeline_pb2.Pipeline, node_id: str, run_id: str, *data: Any) -> str:
    try:
        return _why(ir, node_id, run_id, *data)
    except Exception:  # of a store or a folder of an older version, for one: these are only words
        log.exception("It is not known why %s has to run", node_id)
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
        return "it has not run here yet"
    told = _properties(now)
    if run_id in told.values():
        return "it runs each time"
    changed = list(_changes(_properties(past[-1]), told))
    if changed:
        more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        return f"changed: {', '.join(changed[:_SHOWN])}{more}"
    if node_id == "ExampleGen":
        return _photos(store, past[-1], data_root, settings)
    before, after = _inputs(store, past[-1]), _inputs(store, now)
    others = sorted(key for key in before.keys() | after if before.get(key) != after.get(key))
    if others:
        return f"other {' and '.join(key.replace('_', ' ') for key in others)}"
    return "what it made is gone, or was taken back"


def _properties(execution: mlmd_pb2.Execution) -> dict[str, Any]:
    """What a node was told to do: its parameters, those within JSON texts too, by dotted key."""
    found: dict[str, Any] = {}
    for properties in (execution.properties, execution.custom_properties):
        for key in sorted(properties):
            if key != tfx_launcher.BEGUN:
                value = properties[key]
                found |= _flat(key, getattr(value, value.WhichOneof("value")))
    return found


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
    """The settings that differ, in words."""
    told: set[str] = set()
    for key in sorted(after):  # what its driver finds out, only an execution that ran has
        old, new = before.get(key), after[key]
        if old == new or key.startswith("__"):
            continue
        words = _words(key, old, new)
        if words not in told:
            told.add(words)
            yield words


def _words(key: str, old: Any, new: Any) -> str:
    parts = [p for p in key.split(".") if p not in ("custom_config", "settings", "customConfig")]
    name = ".".join(parts) or key
    if parts[-1:] == ["code"]:
        return "this program's code"
    if name.startswith(("eval_config", "example_splits")):
        return "settings of the gate"
    short = all(isinstance(each, int | float | bool | str | None) for each in (old, new))
    if short and len(f"{old}{new}") < 60:
        return f"{name} ({old} to {new})"
    return name


def _inputs(store: mlmd.MetadataStore, execution: mlmd_pb2.Execution) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for event in store.get_events_by_execution_ids([execution.id]):
        if event.type == mlmd_pb2.Event.INPUT:
            found.setdefault(event.path.steps[0].key, set()).add(event.artifact_id)
    return found


def _photos(
    store: mlmd.MetadataStore, past: mlmd_pb2.Execution, root: Path, settings: Settings
) -> str:
    """How many photos there are now, and were when they were last ingested."""
    events = store.get_events_by_execution_ids([past.id])
    outputs = [event.artifact_id for event in events if event.type == mlmd_pb2.Event.OUTPUT]
    (examples,) = store.get_artifacts_by_id(outputs)
    try:
        before = ingestion.count_listed(examples.uri)
        now = len(layout.scan(root, settings.data).items)
    except (OSError, ValueError, tf.errors.OpError, UserError):  # cleaned away, for one
        return "photos, masks or lists changed"
    if now == before:
        return f"photos, masks or lists changed ({now:,} photos, as before)"
    return f"{now:,} photos, {before:,} before"
