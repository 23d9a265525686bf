"""The nodes of one run and their output artifacts, read from ML Metadata."""

from __future__ import annotations

import ml_metadata as mlmd
from ml_metadata.proto import metadata_store_pb2 as mlmd_pb2
from tfx.orchestration import metadata
from tfx.orchestration.portable.mlmd import context_lib
from tfx.types import artifact_utils
from tfx.types.artifact import Artifact

from pipeline.compat import tfx_launcher

EXECUTED, CACHED, FAILED = "executed", "cached", "failed"

_RUN = "pipeline_run"  # the type of a run's context
# Custom properties of the context of a run; an execution has the first, too.
_ERROR = "error"  # why it failed, in a sentence
_CODE = "code"  # fingerprint of the code that planned the run
_SECONDS = "seconds"  # from the start of the run to its end


class RunArtifacts:
    """The output artifacts of one run, deleted ones included, such as a pruned version."""

    def __init__(self, connection: mlmd_pb2.ConnectionConfig, run_id: str):
        self._connection, self._run_id = connection, run_id
        self._store = mlmd.MetadataStore(connection)
        self._by_node: dict[str, dict[str, list[Artifact]]] = {}
        self._executions: dict[str, mlmd_pb2.Execution] = {}
        context = self._store.get_context_by_type_and_name(_RUN, run_id)
        properties = context.custom_properties if context else {}
        self.run_error = properties[_ERROR].string_value if _ERROR in properties else None
        self.run_code = properties[_CODE].string_value if _CODE in properties else None
        self.run_seconds = properties[_SECONDS].double_value if _SECONDS in properties else None
        executions = self._store.get_executions_by_context(context.id) if context else []
        started = [e for e in executions if e.last_known_state != mlmd_pb2.Execution.NEW]
        for execution in sorted(started, key=lambda e: e.id):
            node = self._node(execution.id)
            self._executions[node] = execution
            self._by_node[node] = self._outputs(execution.id)

    def get(self, node: str, key: str) -> Artifact | None:
        """The first artifact of a node's output; None if the node has not written it."""
        artifacts = self._by_node.get(node, {}).get(key)
        return artifacts[0] if artifacts else None

    def all(self, node: str, key: str) -> list[Artifact]:
        """All artifacts of a node's output."""
        return self._by_node.get(node, {}).get(key, [])

    def state(self, node: str) -> str:
        """`EXECUTED`, `CACHED` or `FAILED`; a node that never started counts as failed."""
        state = self._executions[node].last_known_state if self.began(node) else None
        if state == mlmd_pb2.Execution.CACHED:
            return CACHED
        return EXECUTED if state == mlmd_pb2.Execution.COMPLETE else FAILED

    def cut_off(self, node: str) -> bool:
        """Whether the node started but did not end: it was killed, or is still running."""
        if not self.began(node):
            return False
        state: int = self._executions[node].last_known_state
        running: int = mlmd_pb2.Execution.RUNNING
        return state == running

    def began(self, node: str) -> bool:
        """Whether the node started, according to the metadata store."""
        return node in self._executions

    def seconds(self, node: str) -> float:
        """Seconds from the start of a node's first attempt to the end of the last one."""
        execution = self._executions[node]
        start: float = execution.create_time_since_epoch
        if tfx_launcher.BEGUN in execution.custom_properties:
            start = execution.custom_properties[tfx_launcher.BEGUN].double_value * 1000
        end: float = execution.last_update_time_since_epoch
        return (end - start) / 1000

    def nodes(self) -> list[str]:
        """The nodes that started, in order."""
        return list(self._executions)

    def begin(self) -> float | None:
        """When the first node started, in seconds since 1970; None if none did."""
        times = [each.create_time_since_epoch for each in self._executions.values()]
        return min(times) / 1000 if times else None

    def end(self) -> float | None:
        """When a node was last updated, in seconds since 1970; None if none started."""
        times = [each.last_update_time_since_epoch for each in self._executions.values()]
        return max(times) / 1000 if times else None

    def error(self, node: str) -> str | None:
        """The recorded error of a failed node, a sentence; None without one."""
        if self.state(node) != FAILED or not self.began(node):
            return None
        return self._executions[node].custom_properties[_ERROR].string_value or None

    def note_run_error(self, sentence: str) -> None:
        """Records why the run failed outside of any node."""
        self._note_run(_ERROR, sentence)

    def note_run_code(self, fingerprint: str) -> None:
        """Records the fingerprint of the code that planned the run."""
        self._note_run(_CODE, fingerprint)

    def note_run_seconds(self, seconds: float) -> None:
        """Records the duration of the run, up to its end or its interruption."""
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
        """Records why a node failed; does nothing if the node never started."""
        if self.began(node):
            execution = self._executions[node]
            execution.custom_properties[_ERROR].string_value = sentence
            self._store.put_executions([execution])

    def _node(self, execution_id: int) -> str:
        contexts = self._store.get_contexts_by_execution(execution_id)
        names = (str(context.name) for context in contexts if context.type == "node")
        return next(names).partition(".")[2]

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
