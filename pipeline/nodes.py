"""A pipeline's nodes, one at a time: compile once, then run any node by its id."""

from __future__ import annotations

from tfx.dsl.compiler import compiler, constants
from tfx.orchestration.local.local_dag_runner import LocalDagRunner
from tfx.orchestration.pipeline import Pipeline
from tfx.orchestration.portable import runtime_parameter_utils
from tfx.proto.orchestration import pipeline_pb2


def compile_pipeline(pipeline: Pipeline) -> pipeline_pb2.Pipeline:
    """Compiles a pipeline to TFX's intermediate representation."""
    return compiler.Compiler().compile(pipeline)


def node_ids(ir: pipeline_pb2.Pipeline) -> list[str]:
    """Ids of the nodes, each after those it depends on."""
    return [node.pipeline_node.node_info.id for node in ir.nodes]


def run_node(ir: pipeline_pb2.Pipeline, node_id: str, run_id: str) -> None:
    """Runs one node: driver, cache, executor and publisher, in this process.

    Args:
      ir: the compiled pipeline, with the connection to the metadata store.
      node_id: of the node to run.
      run_id: names the run in the metadata store; the same for all nodes of a run.

    Raises:
      Exception: whatever the node's executor raised.
    """
    part = pipeline_pb2.Pipeline()
    part.CopyFrom(ir)
    del part.nodes[:]
    part.nodes.extend(n for n in ir.nodes if n.pipeline_node.node_info.id == node_id)
    runtime_parameter_utils.substitute_runtime_parameter(
        part, {constants.PIPELINE_RUN_ID_PARAMETER_NAME: run_id}
    )
    LocalDagRunner().run_with_ir(part)
