"""A pipeline's nodes, one at a time: compile once, then run any node by its id."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from pathlib import Path
from typing import Any

import filelock
from ml_metadata.proto import metadata_store_pb2
from tfx.dsl.compiler import compiler, constants
from tfx.dsl.io import fileio
from tfx.orchestration import metadata
from tfx.orchestration.local import runner_utils
from tfx.orchestration.pipeline import Pipeline
from tfx.orchestration.portable import launcher, outputs_utils, runtime_parameter_utils
from tfx.orchestration.portable.mlmd import context_lib, execution_lib
from tfx.proto.orchestration import executable_spec_pb2, pipeline_pb2

from pipeline import locks, progress

# GPUs give memory as it is needed, so that others can use them as well. Read when TensorFlow first
# uses a GPU, which may be in any node: the Trainer could no longer ask for it.
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")

# Beam's worker processes begin in the folder that this one was called from, and find this package
# there too. Installed, it needs no help.
_ROOT = Path(__file__).parent.parent
if _ROOT.name != "site-packages":
    _found = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(_found)

log = logging.getLogger(__name__)

# Custom property of an execution: when its work began, seconds since 1970 (MySQL keeps integers of
# 32 bits); without it, when it was made.
BEGUN = "begun"

_ABANDONED_S = 7 * 24 * 3600  # without an epoch that ended


def compile_pipeline(pipeline: Pipeline) -> pipeline_pb2.Pipeline:
    """Compiles a pipeline to TFX's intermediate representation."""
    return compiler.Compiler().compile(pipeline)


def node_ids(ir: pipeline_pb2.Pipeline) -> list[str]:
    """Ids of the nodes, each after those it depends on."""
    return [node.pipeline_node.node_info.id for node in ir.nodes]


def connection(ir: pipeline_pb2.Pipeline) -> metadata_store_pb2.ConnectionConfig:
    """The connection to the metadata store that the pipeline was compiled with."""
    config = runner_utils.extract_local_deployment_config(ir).metadata_connection_config
    return getattr(config, config.WhichOneof("connection_config"))


def run_node(ir: pipeline_pb2.Pipeline, node_id: str, run_id: str) -> None:
    """Runs one node: driver, cache, executor and publisher, in this process.

    A node that was cut off may be run again with the same run id: it goes on with the same
    execution. One that succeeded does nothing then.

    Args:
      ir: the compiled pipeline, with the connection to the metadata store.
      node_id: of the node to run.
      run_id: names the run in the metadata store; the same for all nodes of a run.

    Raises:
      Exception: whatever the node's executor raised.
    """
    launched = _launcher(ir, node_id, run_id)
    with progress.watched(node_id):
        launched.launch()


def answer_node(ir: pipeline_pb2.Pipeline, node_id: str, run_id: str) -> bool:
    """Answers a node from the cache, if that knows the answer; runs nothing but look-ups.

    What is not answered stays as it was, but for an execution in the state NEW, which `run_node`
    takes up with the same run id; so a node may be asked about again.

    Args:
      ir: as `run_node`.
      node_id: of a node whose upstream nodes are done or answered in this run.
      run_id: as `run_node`.

    Returns:
      Whether it is done.
    """
    return _launcher(ir, node_id, run_id).answer()


def _launcher(ir: pipeline_pb2.Pipeline, node_id: str, run_id: str) -> _Launcher:
    run = pipeline_pb2.Pipeline()
    run.CopyFrom(ir)
    runtime_parameter_utils.substitute_runtime_parameter(
        run, {constants.PIPELINE_RUN_ID_PARAMETER_NAME: run_id}
    )
    deployment = runner_utils.extract_local_deployment_config(run)
    (node,) = (n.pipeline_node for n in run.nodes if n.pipeline_node.node_info.id == node_id)
    # Not through LocalDagRunner, which logs the connection, and with it the password.
    return _Launcher(
        pipeline_node=node,
        mlmd_connection=metadata.Metadata(connection(run)),
        pipeline_info=run.pipeline_info,
        pipeline_runtime_spec=run.runtime_spec,
        executor_spec=runner_utils.extract_executor_spec(deployment, node_id),
        custom_driver_spec=runner_utils.extract_custom_driver_spec(deployment, node_id),
    )


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


class _Launcher(launcher.Launcher):
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
