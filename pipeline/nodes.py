"""A pipeline's nodes, one at a time: compile once, then run any node by its id."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from ml_metadata.proto import metadata_store_pb2
from tfx.dsl.compiler import compiler, constants
from tfx.dsl.io import fileio
from tfx.orchestration import metadata
from tfx.orchestration.local import runner_utils
from tfx.orchestration.pipeline import Pipeline
from tfx.orchestration.portable import launcher, outputs_utils, runtime_parameter_utils
from tfx.proto.orchestration import executable_spec_pb2, pipeline_pb2

# GPUs give memory as it is needed, so that others can use them as well. Read when TensorFlow first
# uses a GPU, which may be in any node: the Trainer could no longer ask for it.
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")

# Beam's worker processes begin in the folder that this one was called from, and find this package
# there too. Installed, it needs no help.
_ROOT = Path(__file__).parent.parent
if _ROOT.name != "site-packages":
    _found = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(_found)

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
    run = pipeline_pb2.Pipeline()
    run.CopyFrom(ir)
    runtime_parameter_utils.substitute_runtime_parameter(
        run, {constants.PIPELINE_RUN_ID_PARAMETER_NAME: run_id}
    )
    deployment = runner_utils.extract_local_deployment_config(run)
    (node,) = (n.pipeline_node for n in run.nodes if n.pipeline_node.node_info.id == node_id)
    # Not through LocalDagRunner, which logs the connection, and with it the password.
    _Launcher(
        pipeline_node=node,
        mlmd_connection=metadata.Metadata(connection(run)),
        pipeline_info=run.pipeline_info,
        pipeline_runtime_spec=run.runtime_spec,
        executor_spec=runner_utils.extract_executor_spec(deployment, node_id),
        custom_driver_spec=runner_utils.extract_custom_driver_spec(deployment, node_id),
    ).launch()


def _remove_abandoned(folder: str) -> None:
    """Removes the working folders of what nobody took up again, such as after a new setting."""
    for name in fileio.listdir(folder):
        path = os.path.join(folder, name)
        if os.path.getmtime(path) < time.time() - _ABANDONED_S:
            outputs_utils.remove_stateful_working_dir(path)


class _Launcher(launcher.Launcher):
    """Launches a node whose cache and working folder do not depend on where its work is done.

    TFX counts Beam's command line into the cache key: another cluster, a port, a checkout that was
    moved, and all would be trained and released anew. Here it does not count.

    The working folder outlives the process, the execution and the run. TFX names it after the
    execution, and so loses it when a new run starts over. Here it is named after the cache key:
    whoever does the same work, on the same inputs with the same parameters and code, finds what an
    earlier attempt left. It is deleted when the success is on record; TFX deletes it before, and a
    failure between the two would lose it.
    """

    def __init__(self, *, executor_spec: Any, **rest: Any) -> None:
        super().__init__(executor_spec=executor_spec, **rest)
        if isinstance(executor_spec, executable_spec_pb2.BeamExecutableSpec):
            # The executor has been made; from here on the specification is part of the key alone.
            self._executor_spec = executable_spec_pb2.BeamExecutableSpec(
                python_executor_spec=executor_spec.python_executor_spec
            )

    def launch(self) -> Any:
        launched = super().launch()
        folder = launched.stateful_working_dir if launched else None
        if folder and fileio.exists(folder):
            # At one stroke: half a state would be taken up by the next attempt.
            done = f"{folder}.done"
            fileio.rename(folder, done, overwrite=True)
            outputs_utils.remove_stateful_working_dir(done)
            _remove_abandoned(os.path.dirname(done))
        return launched

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
            fileio.makedirs(info.stateful_working_dir)
        return prepared
