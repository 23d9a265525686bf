"""TFX's launcher of one node: its cache key, its working folder, and a question to its cache.

For tfx 1.16 (compatible stack) and 1.21 (current). What TFX does instead is told at each class and
method.
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

# Custom property of an execution: when its work began, seconds since 1970 (MySQL keeps integers of
# 32 bits); without it, when it was made.
BEGUN = "begun"

_ABANDONED_S = 7 * 24 * 3600  # without an epoch that ended


def _remove_abandoned(folder: str) -> None:
    """Removes the working folders of what nobody took up again, such as after a new setting."""
    for name in fileio.listdir(folder):
        path = os.path.join(folder, name)
        with contextlib.suppress(OSError):  # another run is at the same
            if os.path.getmtime(path) < time.time() - _ABANDONED_S:
                outputs_utils.remove_stateful_working_dir(path)


def _lock_of(folder: str) -> str:
    """Of a working folder, its lock; not beside it, where all are working folders."""
    parent, key = os.path.split(folder)
    return os.path.join(os.path.dirname(parent), "locks", key)


class Launcher(launcher.Launcher):
    """Launches a node whose cache and working folder do not depend on where its work is done.

    TFX counts Beam's command line into the cache key: another cluster, a port, a checkout that was
    moved, and all would be trained and released anew. Here it does not count.

    The working folder outlives the process, the execution and the run. TFX names it after the
    execution, and so loses it when a new run starts over. Here it is named after the cache key:
    whoever does the same work, on the same inputs with the same parameters and code, finds what an
    earlier attempt left; of two runs at once, as on a cluster, the second waits for the first. It
    is deleted when the success is on record; TFX deletes it before, and a failure between the two
    would lose it.
    """

    def __init__(self, *, executor_spec: Any, **rest: Any) -> None:
        super().__init__(executor_spec=executor_spec, **rest)
        self._asks = False
        if isinstance(executor_spec, executable_spec_pb2.BeamExecutableSpec):
            # The executor has been made; from here on the specification is part of the key alone.
            self._executor_spec = executable_spec_pb2.BeamExecutableSpec(
                python_executor_spec=executor_spec.python_executor_spec
            )

    def launch(self) -> Any:
        if self._system_node_handler and self._is_done():
            return None  # another look-up in the same run could find something else
        with contextlib.ExitStack() as self._held:
            launched = super().launch()
            folder = launched.stateful_working_dir if launched else None
            if folder and fileio.exists(folder):
                # At one stroke: half a state would be taken up by the next attempt.
                done = f"{folder}.done"
                outputs_utils.remove_stateful_working_dir(done)  # of one that was killed here
                fileio.rename(folder, done, overwrite=True)
                outputs_utils.remove_stateful_working_dir(done)
                with contextlib.suppress(OSError):
                    os.unlink(_lock_of(folder))  # who waits for it is answered by the cache
                _remove_abandoned(os.path.dirname(done))
            return launched

    def answer(self) -> bool:
        """Publishes what the cache knows; see `answer_node`."""
        if self._system_node_handler:
            self.launch()
            return self._is_done()
        self._asks = True
        try:
            # Not through the method below, which gets ready to work.
            prepared = super()._prepare_execution()
        except Exception:  # by its driver, which finds fault with the data, for one
            self._set_state(self._begun(), metadata_store_pb2.Execution.FAILED)
            raise
        if not prepared.is_execution_needed:
            return self._is_done()  # TFX means by that, too, that its inputs are not there
        info = prepared.execution_info
        outputs_utils.remove_stateful_working_dir(info.stateful_working_dir)
        fileio.rmtree(info.tmp_dir)
        self._set_state([prepared.execution_metadata], metadata_store_pb2.Execution.NEW)
        return False

    def _begun(self) -> list[metadata_store_pb2.Execution]:
        """The node's execution in this run, if there is one."""
        with self._mlmd_connection as handle:
            contexts = context_lib.prepare_contexts(
                metadata_handle=handle, node_contexts=self._pipeline_node.contexts
            )
            return execution_lib.get_executions_associated_with_all_contexts(handle, contexts)

    def _is_done(self) -> bool:
        return any(map(execution_lib.is_execution_successful, self._begun()))

    def _set_state(self, executions: list[metadata_store_pb2.Execution], state: int) -> None:
        for each in executions:
            each.last_known_state = state
        with self._mlmd_connection as handle:
            handle.store.put_executions(executions)

    def _register_or_reuse_execution(self, metadata_handle: Any, **how: Any) -> Any:
        execution = super()._register_or_reuse_execution(metadata_handle=metadata_handle, **how)
        if execution.last_known_state == metadata_store_pb2.Execution.NEW and not self._asks:
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
            unstable = info.stateful_working_dir
            outputs_utils.remove_stateful_working_dir(unstable)
            info.stateful_working_dir = os.path.join(os.path.dirname(unstable), key)
            if self._wait_for_others(info.stateful_working_dir):
                return self._prepare_execution()  # with what they have found
            fileio.makedirs(info.stateful_working_dir)
        return prepared

    def _wait_for_others(self, folder: str) -> bool:
        """Keeps other runs out of a working folder until this launch ends.

        Returns:
          Whether another run was at the same work, and has ended.
        """
        mine = locks.of(_lock_of(folder))
        if mine.is_locked:
            return False
        fileio.makedirs(os.path.dirname(mine.lock_file))
        waited = False
        try:
            try:
                mine.acquire(timeout=0)
            except filelock.Timeout:
                log.info("Another run is at the very same work; waiting for what it finds.")
                waited = True
                mine.acquire()
        except (OSError, NotImplementedError) as error:
            if not locks.are_missing(error):
                raise
            log.warning("The disk of %s keeps no locks; let only one run at a time use it.", folder)
        self._held.callback(mine.release)
        return waited
