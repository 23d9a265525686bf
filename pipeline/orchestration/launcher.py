"""A pipeline's nodes, one at a time: compile once, then run any node by its id."""

from __future__ import annotations

import logging
import os

from ml_metadata.proto import metadata_store_pb2
from tfx.dsl.compiler import compiler, constants
from tfx.orchestration import metadata
from tfx.orchestration.local import runner_utils
from tfx.orchestration.pipeline import Pipeline
from tfx.orchestration.portable import runtime_parameter_utils
from tfx.proto.orchestration import pipeline_pb2

from pipeline.compat import beam_tfrecord, tfx_launcher
from pipeline.core import code, progress

log = logging.getLogger(__name__)


def prepare_process() -> None:
    """Sets up this process, and those that it starts, for running nodes; may be called again."""
    # GPUs give memory as it is needed, so that others can use them as well. Read when TensorFlow
    # first uses a GPU, which may be in any node: the Trainer could no longer ask for it.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    # Beam's worker processes begin in the folder that this one was called from, and find this
    # package there too. Installed, it needs no help.
    places = [*filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    if code.ROOT.name != "site-packages" and str(code.ROOT) not in places:
        os.environ["PYTHONPATH"] = os.pathsep.join([str(code.ROOT), *places])
    beam_tfrecord.install()


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


def _launcher(ir: pipeline_pb2.Pipeline, node_id: str, run_id: str) -> tfx_launcher.Launcher:
    prepare_process()
    run = pipeline_pb2.Pipeline()
    run.CopyFrom(ir)
    runtime_parameter_utils.substitute_runtime_parameter(
        run, {constants.PIPELINE_RUN_ID_PARAMETER_NAME: run_id}
    )
    deployment = runner_utils.extract_local_deployment_config(run)
    (node,) = (n.pipeline_node for n in run.nodes if n.pipeline_node.node_info.id == node_id)
    # Not through LocalDagRunner, which logs the connection, and with it the password.
    return tfx_launcher.Launcher(
        pipeline_node=node,
        mlmd_connection=metadata.Metadata(connection(run)),
        pipeline_info=run.pipeline_info,
        pipeline_runtime_spec=run.runtime_spec,
        executor_spec=runner_utils.extract_executor_spec(deployment, node_id),
        custom_driver_spec=runner_utils.extract_custom_driver_spec(deployment, node_id),
    )
