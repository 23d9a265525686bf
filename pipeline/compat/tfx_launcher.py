"""TFX's launcher of a node: a stable cache key, a persistent working folder, and cache look-ups.

For tfx 1.16 (compatible stack) and 1.21 (current). The docstrings say what TFX does instead.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from typing import Any

import filelock
from ml_metadata.proto import metadata_store_pb2
from tfx.dsl.io import fileio
from tfx.orchestration.portable import launcher, outputs_utils
from tfx.orchestration.portable.mlmd import context_lib, execution_lib
from tfx.proto.orchestration import executable_spec_pb2

from pipeline.compat import Part
from pipeline.core import locks

_MODULE = "tfx.orchestration.portable.launcher"
PARTS = (
    Part(_MODULE, "Launcher._prepare_execution", ("self",)),
    Part(
        _MODULE,
        "Launcher._register_or_reuse_execution",
        ("self", "metadata_handle", "contexts", "input_artifacts", "exec_properties"),
    ),
    Part(_MODULE, "Launcher._clean_up_stateful_execution_info", ("self", "execution_info")),
)

log = logging.getLogger(__name__)

# Custom property of an execution: its start in seconds since 1970, a double since MySQL has 32-bit
# integers. An execution without it started when it was created.
BEGUN = "begun"

_ABANDONED_S = 7 * 24 * 3600  # since the last epoch


def _remove_abandoned(folder: str) -> None:
    """Remove working folders that nothing has resumed for a week, such as after a new setting."""
    for name in fileio.listdir(folder):
        path = os.path.join(folder, name)
        with contextlib.suppress(OSError):  # another run may be removing it, too
            if os.path.getmtime(path) < time.time() - _ABANDONED_S:
                outputs_utils.remove_stateful_working_dir(path)


def _lock_of(folder: str) -> str:
    """Return the lock file of a working folder, outside the parent of all working folders."""
    parent, key = os.path.split(folder)
    return os.path.join(os.path.dirname(parent), "locks", key)


class Launcher(launcher.Launcher):
    """Launches a node whose cache key and working folder do not depend on where it runs.

    TFX includes Beam's command line in the cache key, so another cluster, port or checkout would
    train and release everything again. Here it is left out.

    The working folder outlives the process, the execution and the run. TFX names it after the
    execution, so a new run cannot find it. Here it is named after the cache key, so any attempt at
    the same work, with the same inputs, parameters and code, resumes the earlier one. If two runs
    do the same work at once, as on a cluster, the second waits for the first. The folder is deleted
    after the success is recorded; TFX deletes it before, so a failure in between would lose it.
    """

    def __init__(self, *, executor_spec: Any, **rest: Any) -> None:
        super().__init__(executor_spec=executor_spec, **rest)
        self._only_looks_up = False
        if isinstance(executor_spec, executable_spec_pb2.BeamExecutableSpec):
            # The executor exists already, so from now on the spec only affects the cache key.
            self._executor_spec = executable_spec_pb2.BeamExecutableSpec(
                python_executor_spec=executor_spec.python_executor_spec
            )

    def launch(self) -> Any:
        if self._system_node_handler and self._is_done():
            return None  # resolving again in the same run could have another result
        with contextlib.ExitStack() as self._held:
            launched = super().launch()
            folder = launched.stateful_working_dir if launched else None
            if folder and fileio.exists(folder):
                # Rename first, so that no attempt resumes from a half-deleted folder.
                done = f"{folder}.done"
                outputs_utils.remove_stateful_working_dir(
                    done
                )  # left by a process that was killed here
                fileio.rename(folder, done, overwrite=True)
                outputs_utils.remove_stateful_working_dir(done)
                with contextlib.suppress(OSError):
                    os.unlink(_lock_of(folder))  # a run that waits for it gets a cache hit
                _remove_abandoned(os.path.dirname(done))
            return launched

    def publish_cache_hit(self) -> bool:
        """Publish a cache hit, if there is one, and return whether; runs no executor."""
        if self._system_node_handler:
            self.launch()
            return self._is_done()
        self._only_looks_up = True
        try:
            # Not `self._prepare_execution`, which prepares a working folder.
            prepared = super()._prepare_execution()
        except Exception:  # from a driver, for example about the data
            self._set_state(self._executions(), metadata_store_pb2.Execution.FAILED)
            raise
        if not prepared.is_execution_needed:
            return self._is_done()  # TFX also skips nodes whose inputs do not exist
        info = prepared.execution_info
        outputs_utils.remove_stateful_working_dir(info.stateful_working_dir)
        fileio.rmtree(info.tmp_dir)
        self._set_state([prepared.execution_metadata], metadata_store_pb2.Execution.NEW)
        return False

    def _executions(self) -> list[metadata_store_pb2.Execution]:
        """Return the node's executions in this run."""
        with self._mlmd_connection as handle:
            contexts = context_lib.prepare_contexts(
                metadata_handle=handle, node_contexts=self._pipeline_node.contexts
            )
            executions: list[metadata_store_pb2.Execution] = (
                execution_lib.get_executions_associated_with_all_contexts(handle, contexts)
            )
            return executions

    def _is_done(self) -> bool:
        return any(map(execution_lib.is_execution_successful, self._executions()))

    def _set_state(self, executions: list[metadata_store_pb2.Execution], state: int) -> None:
        for each in executions:
            each.last_known_state = state
        with self._mlmd_connection as handle:
            handle.store.put_executions(executions)

    def _register_or_reuse_execution(self, metadata_handle: Any, **options: Any) -> Any:
        execution = super()._register_or_reuse_execution(metadata_handle=metadata_handle, **options)
        if (
            execution.last_known_state == metadata_store_pb2.Execution.NEW
            and not self._only_looks_up
        ):
            execution.custom_properties[BEGUN].double_value = time.time()
            execution.last_known_state = metadata_store_pb2.Execution.RUNNING
            metadata_handle.store.put_executions([execution])
        return execution

    def _clean_up_stateful_execution_info(self, execution_info: Any) -> None:
        pass

    def _prepare_execution(self) -> Any:
        prepared = super()._prepare_execution()
        if prepared.is_execution_needed:
            key = prepared.contexts[-1].name  # the cache context is appended last
            info = prepared.execution_info
            of_execution = info.stateful_working_dir
            outputs_utils.remove_stateful_working_dir(of_execution)
            info.stateful_working_dir = os.path.join(os.path.dirname(of_execution), key)
            if self._wait_for_others(info.stateful_working_dir):
                return self._prepare_execution()  # their result is now in the cache
            fileio.makedirs(info.stateful_working_dir)
        return prepared

    def _wait_for_others(self, folder: str) -> bool:
        """Lock a working folder until this launch ends.

        Returns:
          Whether it had to wait for another run that was doing the same work.
        """
        lock = locks.of(_lock_of(folder))
        if lock.is_locked:
            return False
        fileio.makedirs(os.path.dirname(lock.lock_file))
        waited = False
        try:
            try:
                lock.acquire(timeout=0)
            except filelock.Timeout:
                log.info("Another run is doing the same work; waiting for its result.")
                waited = True
                lock.acquire()
        except (OSError, NotImplementedError) as error:
            if not locks.are_missing(error):
                raise
            log.warning(
                "The file system of %s does not support locks; do not start two runs at once.",
                folder,
            )
        self._held.callback(lock.release)
        return waited
