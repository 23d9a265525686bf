"""Compile a pipeline once, then run its nodes one at a time by id."""

from __future__ import annotations

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


def prepare_process() -> None:
    """Set up this process and its children for running nodes; may be called repeatedly."""
    # Let GPUs allocate memory on demand, so that others can share them. TensorFlow reads this when
    # any node first uses a GPU, so the Trainer would be too late.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    # Beam's workers start in the caller's working directory, so they only find this package if it
    # is installed or on PYTHONPATH.
    paths = [*filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    if code.ROOT.name != "site-packages" and str(code.ROOT) not in paths:
        os.environ["PYTHONPATH"] = os.pathsep.join([str(code.ROOT), *paths])
    beam_tfrecord.install()


def compile_pipeline(pipeline: Pipeline) -> pipeline_pb2.Pipeline:
    """Compile a pipeline to TFX's intermediate representation (IR)."""
    return compiler.Compiler().compile(pipeline)


def node_ids(ir: pipeline_pb2.Pipeline) -> list[str]:
    """Return the ids of the nodes in topological order."""
    return [node.pipeline_node.node_info.id for node in ir.nodes]


def connection(ir: pipeline_pb2.Pipeline) -> metadata_store_pb2.ConnectionConfig:
    """Return the connection to the metadata store that the pipeline was compiled with."""
    config = runner_utils.extract_local_deployment_config(ir).metadata_connection_config
    return getattr(config, config.WhichOneof("connection_config"))


def run_node(ir: pipeline_pb2.Pipeline, node_id: str, run_id: str) -> None:
    """Run one node in this process: driver, cache look-up, executor and publisher.

    Call it again with the same run id to resume a node that was interrupted; it continues the same
    execution. If the node has already succeeded in this run, nothing happens.

    Args:
      ir: the compiled pipeline, with the connection to the metadata store.
      node_id: the node to run.
      run_id: name of the run in the metadata store, the same for all nodes of a run.

    Raises:
      Exception: whatever the node's executor raised.
    """
    launcher = _launcher(ir, node_id, run_id)
    with progress.watched(node_id):
        launcher.launch()


def take_from_cache(ir: pipeline_pb2.Pipeline, node_id: str, run_id: str) -> bool:
    """Publish a node's cached outputs if there are any; never runs its executor.

    On a cache miss, only an execution in the state NEW is left behind. `run_node` picks it up when
    called with the same run id, and this function may be called again.

    Args:
      ir: as `run_node`.
      node_id: a node whose upstream nodes have run or were cached in this run.
      run_id: as `run_node`.

    Returns:
      Whether the node is done.
    """
    return bool(_launcher(ir, node_id, run_id).publish_cache_hit())


def _launcher(ir: pipeline_pb2.Pipeline, node_id: str, run_id: str) -> tfx_launcher.Launcher:
    prepare_process()
    run = pipeline_pb2.Pipeline()
    run.CopyFrom(ir)
    runtime_parameter_utils.substitute_runtime_parameter(
        run, {constants.PIPELINE_RUN_ID_PARAMETER_NAME: run_id}
    )
    deployment = runner_utils.extract_local_deployment_config(run)
    (node,) = (n.pipeline_node for n in run.nodes if n.pipeline_node.node_info.id == node_id)
    # LocalDagRunner would log the connection, including the password.
    return tfx_launcher.Launcher(
        pipeline_node=node,
        mlmd_connection=metadata.Metadata(connection(run)),
        pipeline_info=run.pipeline_info,
        pipeline_runtime_spec=run.runtime_spec,
        executor_spec=runner_utils.extract_executor_spec(deployment, node_id),
        custom_driver_spec=runner_utils.extract_custom_driver_spec(deployment, node_id),
    )
