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

_RUN = "pipeline_run"  # a type of contexts
# Custom property of an execution, or of a run: the sentence that says why it failed.
_ERROR = "error"
_CODE = "code"  # of a run: fingerprint of what it was planned with
_SECONDS = "seconds"  # of a run: from its start to its end


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
        if tfx_launcher.BEGUN in execution.custom_properties:
            begin = execution.custom_properties[tfx_launcher.BEGUN].double_value * 1000
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
