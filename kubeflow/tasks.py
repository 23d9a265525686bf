"""The tasks of a run on the cluster: separate processes that share the metadata store."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import functools
import logging
from collections.abc import Sequence
from pathlib import Path

import ml_metadata as mlmd
from ml_metadata.proto import metadata_store_pb2
from tfx.dsl.components.base.base_component import BaseComponent
from tfx.orchestration import metadata
from tfx.orchestration.pipeline import Pipeline
from tfx.proto.orchestration import pipeline_pb2

from kubeflow import results, stages
from kubeflow.settings import NO_DOCKER
from pipeline.artifacts.run import CACHED, EXECUTED, FAILED, RunArtifacts
from pipeline.core import errors, locks, progress, run_folder
from pipeline.core.errors import CommandError, UserError
from pipeline.orchestration import launcher, reconciliation
from pipeline.orchestration import plan as planning
from pipeline.orchestration.pipeline import beam_arguments, code_of, create_pipeline
from pipeline.release import infra_validation, mirror
from pipeline.report import outcome, publish
from pipeline.settings import Settings

log = logging.getLogger("pipeline.tasks")  # loggers under `pipeline` are for users

_ASIDE_LOCK = ".set-aside.lock"


@dataclasses.dataclass(frozen=True)
class Run:
    """What all tasks of a run have in common."""

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
        return launcher.compile_pipeline(self.pipeline)

    def artifacts(self) -> RunArtifacts:
        return RunArtifacts(self.connection, self.id)

    def components(self) -> list[str]:
        """Return the ids of the components in order, without resolvers."""
        components = {c.id for c in self.pipeline.components if isinstance(c, BaseComponent)}
        return [node_id for node_id in launcher.node_ids(self.ir) if node_id in components]


def move_orphaned_artifacts(run: Run) -> Path | None:
    """Move artifacts of earlier runs away if the metadata store is new.

    Call it before the first node. If two runs start at the same time, one moves the artifacts, and
    the other sees a store with records and moves nothing.

    Returns:
      The folder with the artifacts; None if there was nothing to move.
    """

    def is_new() -> bool:
        with metadata.Metadata(run.connection) as handle:
            return not handle.store.get_executions(mlmd.ListOptions(limit=1))

    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locks.of(str(run.output_root / _ASIDE_LOCK)))
        except (OSError, NotImplementedError) as error:
            if not locks.are_missing(error):
                raise
        return run_folder.move_orphaned_artifacts(run.output_root, is_new)


def check_release(run: Run) -> None:
    """Check that this image can release the way the settings say.

    Raises:
      UserError: if it cannot.
    """
    if run.settings.release.infra_validation == infra_validation.DOCKER:
        raise UserError(f"Setting {NO_DOCKER}")
    if run.settings.release.copy_to:
        mirror.check(run.settings.release.copy_to, run.settings.beam.args)


def plan(run: Run) -> tuple[str, str]:
    """Take what is cached from the cache, and find out what has to run.

    Returns:
      The stage of `kubeflow.stages` that the run starts with, and a clause that says so.

    Raises:
      UserError: if a component's driver rejects its inputs.
    """
    run.artifacts().note_run_code(code_of(run.settings))
    with progress.watched(stages.PLAN):
        steps = planning.make(
            run.ir,
            run.id,
            lambda node_id: _reconcile(run, node_id),
            (run.data_root, run.settings),
        )
    to_run = [step for step in steps if step.runs]
    for step in to_run:
        log.info("%s: %s", step.node, step.why)
    stage = stages.first(launcher.node_ids(run.ir), [step.node for step in to_run])
    if stage == stages.NOTHING:
        return stage, "nothing has changed, so nothing has to run"
    return stage, f"the run starts with {to_run[0].node} ({to_run[0].why})"


def _reconcile(run: Run, node_id: str) -> None:
    if reconciliation.is_due(run.ir, node_id):
        reconciliation.reconcile(
            run.connection,
            str(run.serving_dir),
            run.pipeline.id,
            run.pipeline.pipeline_info.pipeline_root,
        )


def run_nodes(run: Run, node_ids: Sequence[str]) -> tuple[str, str, results.Facts]:
    """Run nodes, one after the other.

    Returns:
      How they went, in a word; the result of the last, in a clause; the metadata of all artifacts.

    Raises:
      UserError: if the pipeline lacks a node, the images differ, or a node rejects its inputs.
      Exception: whatever a node's executor raised.
    """
    all_ids = launcher.node_ids(run.ir)
    for node_id in node_ids:
        if node_id not in all_ids:
            raise UserError(
                f"The pipeline in this image has no node {node_id!r}, only {', '.join(all_ids)}; "
                "compile the pipeline with the code in the image."
            )
    planned_with = run.artifacts().run_code
    if planned_with and planned_with != code_of(run.settings):
        raise UserError(
            "The code or the libraries in this task's image differ from those in the image of task "
            f"{stages.PLAN}, so the plan may be wrong; set the run's parameters 'image_cpu' and "
            "'image_gpu' to images of the same version."
        )
    states: list[str] = []
    clauses: list[str] = []
    facts: results.Facts = {}
    for node_id in node_ids:
        state = _run_node(run, node_id)
        clause, more = results.of(run.artifacts(), node_id, run.settings)
        states.append(state)
        clauses.append(clause)
        facts |= more
        if node_id != node_ids[-1]:
            log.info("%s: %s%s", node_id, state, f": {clause}" if clause else "")
    # One state for all nodes: executed if any node ran.
    state = next(s for s in (EXECUTED, CACHED, "done") if s in states)
    return state, clauses[-1], facts


def _run_node(run: Run, node_id: str) -> str:
    _reconcile(run, node_id)
    before = run.artifacts()
    if before.error(node_id):  # of an earlier attempt
        before.note_error(node_id, "")
    try:
        launcher.run_node(run.ir, node_id, run.id)
    except Exception as error:
        sentence, _ = errors.explain(error, node_id)
        with contextlib.suppress(Exception):  # the store itself may have failed
            run.artifacts().note_error(node_id, sentence)
        raise
    except errors.Stopped:
        run.artifacts().note_error(node_id, f"{node_id} was stopped.")
        raise
    if node_id not in run.components():
        return "done"
    artifacts = run.artifacts()
    if not artifacts.began(node_id):
        raise RuntimeError("TFX skipped it because its inputs are missing")
    return artifacts.state(node_id)


def report(run: Run, page: Path) -> tuple[str, results.Facts]:
    """Write latest_run.json and report.html, and a copy of the report for the UI.

    Args:
      run: the run, whether it succeeded or not.
      page: path at which Kubeflow Pipelines expects the HTML artifact.

    Returns:
      The result of the run, in a clause; the metadata of the task's artifacts.
    """
    artifacts = run.artifacts()
    components = [
        outcome.Component(
            id=node, state=artifacts.state(node), seconds=round(artifacts.seconds(node), 2)
        )
        for node in run.components()
        if artifacts.began(node)
    ]
    now = datetime.datetime.now().astimezone()
    began = artifacts.begin()
    result, files = publish.publish(
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
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_bytes(files["report"].read_bytes())
    released = float(result.status == outcome.PUSHED and result.new_version)
    facts = {"metrics": results.figures(result.metrics.get("overall", {}), released=released)}
    if result.error:
        return f"status {result.status}: {result.error.rstrip('.')}", facts
    if components and all(each.state == CACHED for each in components):
        return "nothing has changed", facts
    return f"status {result.status}", facts


def require_health(run: Run) -> None:
    """Check the version in service, unless a task failed.

    Raises:
      CommandError: if that version is broken.
    """
    if not _error(run, run.artifacts()):
        fault = publish.fault(run.serving_dir)
        if fault:
            raise CommandError(fault)


def _error(run: Run, artifacts: RunArtifacts) -> str | None:
    if artifacts.run_error:
        return str(artifacts.run_error)
    for node in run.components():
        if artifacts.state(node) == FAILED:
            if not artifacts.began(node):
                return f"{node} did not start: it had no pod, or the run was stopped."
            return artifacts.error(node) or f"{node} was interrupted; see its log."
    return None
