"""The tasks of a run on the cluster, each in a process of its own, tied by the metadata store."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_metadata.proto import metadata_store_pb2
from tfx.dsl.components.base.base_component import BaseComponent
from tfx.orchestration.pipeline import Pipeline
from tfx.proto.orchestration import pipeline_pb2

from components import reconciliation
from pipeline import errors, nodes, outcome, publication, release_copy
from pipeline.errors import UserError
from pipeline.pipeline import beam_arguments, create_pipeline
from pipeline.settings import Settings

HTML, METRICS = "html", "metrics"  # what the report task hands to the run page


@dataclasses.dataclass(frozen=True)
class Run:
    """What all tasks of a run agree on."""

    id: str
    settings: Settings
    data_root: Path
    output_root: Path
    connection: metadata_store_pb2.ConnectionConfig

    @property
    def serving_dir(self) -> Path:
        return self.output_root / "serving" / self.settings.model.name

    @functools.cached_property
    def pipeline(self) -> Pipeline:
        return create_pipeline(
            data_root=str(self.data_root),
            pipeline_root=str(self.output_root / "artifacts"),
            serving_dir=str(self.serving_dir),
            settings=self.settings,
            metadata_connection_config=self.connection,
            beam_pipeline_args=beam_arguments(self.settings.beam),
        )

    @functools.cached_property
    def ir(self) -> pipeline_pb2.Pipeline:
        return nodes.compile_pipeline(self.pipeline)

    def artifacts(self) -> outcome.RunArtifacts:
        return outcome.RunArtifacts(self.connection, self.id)

    def components(self) -> list[str]:
        """Ids of the nodes that do work, in order; the others are look-ups in the metadata."""
        working = {c.id for c in self.pipeline.components if isinstance(c, BaseComponent)}
        return [node_id for node_id in nodes.node_ids(self.ir) if node_id in working]


def is_first(run: Run, node_id: str) -> bool:
    """Whether the node is the one that every run begins with."""
    return node_id == nodes.node_ids(run.ir)[0]


def check_copy(run: Run) -> None:
    """Raises UserError if this image cannot copy releases to where the settings say."""
    if run.settings.release.copy_to:
        release_copy.check(run.settings.release.copy_to, run.settings.beam.args)


def run_node(run: Run, node_id: str) -> str:
    """Runs one node; returns how it went, in a word.

    Raises:
      UserError: if the pipeline has no such node, or what the node itself refuses.
      Exception: whatever the node's executor raised.
    """
    known = nodes.node_ids(run.ir)
    if node_id not in known:
        raise UserError(
            f"This image's pipeline has no node {node_id!r}, only {', '.join(known)}; compile the "
            "pipeline with the code that is in the image."
        )
    if is_first(run, node_id):
        reconciliation.reconcile(
            run.connection,
            str(run.serving_dir),
            run.pipeline.id,
            run.pipeline.pipeline_info.pipeline_root,
        )
    try:
        nodes.run_node(run.ir, node_id, run.id)
    except Exception as error:
        sentence = str(error)
        if not isinstance(error, UserError):
            sentence = f"{node_id} failed: {errors.first_line(error)}."
        run.artifacts().note_error(node_id, sentence)
        raise
    return run.artifacts().state(node_id) if node_id in run.components() else "done"


def report(run: Run, html: Path, metrics: Path, executor_input: Mapping[str, Any]) -> str:
    """Writes latest_run.json and report.html, and hands both to Kubeflow Pipelines.

    Args:
      run: the run, whatever became of it.
      html: where Kubeflow Pipelines expects the HTML artifact.
      metrics: where it expects the Metrics artifact, which has no content, only metadata.
      executor_input: its ExecutorInput message.

    Returns:
      What came of the run, for the log.
    """
    artifacts = run.artifacts()
    components = [
        outcome.Component(node, artifacts.state(node), round(artifacts.seconds(node), 2))
        for node in run.components()
        if artifacts.began(node)
    ]
    now = datetime.datetime.now().astimezone()
    began = artifacts.begin()
    result, files = publication.publish(
        artifacts,
        run.settings,
        components,
        _error(run, artifacts),
        run_id=run.id,
        begin=datetime.datetime.fromtimestamp(began).astimezone() if began else now,
        data_root=str(run.data_root),
        output_root=run.output_root,
        serving_dir=run.serving_dir,
    )
    html.parent.mkdir(parents=True, exist_ok=True)
    html.write_bytes(files["report"].read_bytes())
    metrics.parent.mkdir(parents=True, exist_ok=True)
    metrics.touch()
    _write_executor_output(executor_input, {METRICS: _figures(result)})
    error = f", because {result['error']!r}" if result.get("error") else ""
    return f"status {result['status']}{error}, reported"


def _error(run: Run, artifacts: outcome.RunArtifacts) -> str | None:
    for node in run.components():
        if artifacts.state(node) == outcome.FAILED:
            what = "was cut off" if artifacts.began(node) else "did not start"
            return artifacts.error(node) or f"{node} {what}; its log says why."
    return None


def _figures(result: Mapping[str, Any]) -> dict[str, float]:
    """The numbers on the run page: those of all test photos."""
    overall = dict(result["metrics"].get("overall", {}))
    overall |= {f"iou_{name}": value for name, value in overall.pop("iou", {}).items()}
    overall["released"] = float(result["status"] == outcome.PUSHED)
    return {
        name: float(value)
        for name, value in overall.items()
        if isinstance(value, int | float) and math.isfinite(value)
    }


def _write_executor_output(
    executor_input: Mapping[str, Any], metadata: Mapping[str, Mapping[str, float]]
) -> None:
    """Writes the file through which a container tells about its artifacts.

    Without it kfp's local runner loses the artifacts, and no runner learns their metadata.
    """
    outputs = executor_input["outputs"]
    artifacts = {
        key: {
            "artifacts": [
                {**each, "metadata": {**each.get("metadata", {}), **metadata.get(key, {})}}
                for each in listed["artifacts"]
            ]
        }
        for key, listed in outputs.get("artifacts", {}).items()
    }
    path = Path(outputs["outputFile"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"artifacts": artifacts}), encoding="utf-8")
