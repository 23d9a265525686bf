"""A local run of the pipeline: node by node, in this process."""

from __future__ import annotations

import contextlib
import datetime
import logging
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.artifacts import pushed_model
from pipeline.core import console, errors, run_folder
from pipeline.core.errors import UserError
from pipeline.settings.schema import Settings

if TYPE_CHECKING:
    from rich.console import Console
    from tfx.proto.orchestration import pipeline_pb2

    from pipeline.artifacts.run import RunArtifacts
    from pipeline.orchestration import plan

AGAIN = "; run the same command again to resume"


class LocalRun:
    """One run of the pipeline.

    Attributes:
      error: why the run failed, in a sentence; None while it has not.
      traceback: of that error, if it was not a user error.
    """

    def __init__(
        self,
        settings: Settings,
        data_root: Path,
        output_root: Path,
        begin: datetime.datetime,
        terminal: Console,
        store: Path | None = None,
    ):
        """Build the pipeline; run nothing.

        Args:
          settings: settings of the run.
          data_root: the data folder, absolute.
          output_root: the output folder, absolute.
          begin: start time, with time zone; also names the run in the metadata store.
          terminal: console for the run's output.
          store: metadata store to use instead of the one in the output folder.
        """
        # TensorFlow and TFX take seconds to load, so check the arguments first.
        from tfx.dsl.components.base.base_component import BaseComponent
        from tfx.orchestration import metadata

        from pipeline.orchestration.pipeline import beam_arguments, create_pipeline

        self.error: str | None = None
        self.traceback: str | None = None
        self._settings = settings
        self._output_root = output_root
        self._data_root = data_root
        self._begin = begin
        self._terminal = terminal
        self._serving_dir = output_root / "serving" / settings.model.name
        self._metadata = metadata.sqlite_metadata_connection_config(
            str(store or output_root / run_folder.METADATA)
        )
        self._pipeline = create_pipeline(
            data_root=str(data_root),
            pipeline_root=str(output_root / "artifacts"),
            serving_dir=str(self._serving_dir),
            settings=settings,
            metadata_connection_config=self._metadata,
            beam_pipeline_args=beam_arguments(settings.beam),
        )
        # The other nodes are resolvers, which only query the metadata.
        self._working = [c.id for c in self._pipeline.components if isinstance(c, BaseComponent)]
        self._seconds: dict[str, float] = {}

    @property
    def _run_id(self) -> str:
        return self._begin.isoformat()

    def check_serving(self, built_in: bool) -> None:
        """Refuse to replace a model of real data with one of the built-in data.

        Args:
          built_in: whether this run uses the built-in data.

        Raises:
          UserError: if it does, and the output folder serves a model of other data.
        """
        from pipeline.release import model_store

        folder = str(self._serving_dir)
        released = model_store.versions(folder)
        origin = released and model_store.record(folder, released[-1]).get(pushed_model.DATA_ROOT)
        if built_in and origin and origin != str(self._data_root):
            raise UserError(
                f"{self._serving_dir} serves a model trained on {origin}; use another "
                "--output-root for the built-in data."
            )

    def announce(self) -> None:
        """Replace the previous run's outcome and check that this run can start.

        Raises:
          UserError: if the metadata store is unusable or belongs to another folder.
        """
        from pipeline.report import publish

        publish.announce(self._settings, self._output_root)
        try:
            run_folder.check_metadata(self._output_root)
            self._check_moved()
            store = self._output_root / run_folder.METADATA
            if aside := run_folder.move_orphaned_artifacts(
                self._output_root, lambda: run_folder.is_new(store)
            ):
                console.print_line_to(
                    self._terminal,
                    f"Note: {run_folder.METADATA} is new; the artifacts of earlier runs are now in "
                    f"{aside}.",
                )
        except Exception as error:
            sentence, _ = errors.explain(error, "The run")
            publish.announce(self._settings, self._output_root, sentence)
            raise

    def _check_moved(self) -> None:
        import ml_metadata

        artifacts = self._output_root / "artifacts"
        try:
            recorded = ml_metadata.MetadataStore(self._metadata).get_artifacts()
        except (ml_metadata.errors.StatusError, RuntimeError) as error:
            raise UserError(
                f"{self._output_root / run_folder.METADATA} is not an ML Metadata store "
                f"({errors.first_line(error)}); move it elsewhere, or choose another --output-root."
            ) from None
        for artifact in recorded:
            if not Path(artifact.uri).is_relative_to(artifacts):
                raise UserError(
                    f"The output folder was moved: {run_folder.METADATA} in {self._output_root} "
                    f"refers to {artifact.uri}; move the folder back, or choose another "
                    "--output-root."
                )

    def plan(self) -> list[plan.Step]:
        """Plan the run; records cached components in the metadata store as done."""
        from pipeline.orchestration import launcher, plan

        ir = launcher.compile_pipeline(self._pipeline)
        return [
            step
            for step in plan.make(
                ir,
                self._run_id,
                lambda node_id: self._reconcile(ir, node_id),
                (self._data_root, self._settings),
            )
            if step.node in self._working
        ]

    def _reconcile(self, ir: pipeline_pb2.Pipeline, node_id: str) -> None:
        from pipeline.orchestration import pipeline, reconciliation

        if reconciliation.is_due(ir, node_id):
            reconciliation.reconcile(
                self._metadata,
                str(self._serving_dir),
                pipeline.NAME,
                self._pipeline.pipeline_info.pipeline_root,
            )

    def execute(self) -> int:
        """Run all nodes in order and return the exit code."""
        from pipeline.orchestration import launcher

        ir = launcher.compile_pipeline(self._pipeline)
        for node_id in launcher.node_ids(ir):
            try:
                self._reconcile(ir, node_id)
                if node_id in self._working:
                    self._run_component(ir, node_id)
                else:
                    launcher.run_node(ir, node_id, self._run_id)
            except Exception as error:
                self.error, code = errors.explain(error, node_id)
                if not isinstance(error, UserError):
                    self.traceback = traceback.format_exc()
                    logging.getLogger(__name__).exception("%s failed", node_id)
                return code
        return errors.DONE

    def _run_component(self, ir: pipeline_pb2.Pipeline, node_id: str) -> None:
        from pipeline.orchestration import launcher

        console.print_start(self._terminal, node_id)
        begin = time.monotonic()
        try:
            launcher.run_node(ir, node_id, self._run_id)
        finally:
            self._seconds[node_id] = time.monotonic() - begin
            state = self._artifacts().state(node_id)
            console.print_end(self._terminal, node_id, state, self._seconds[node_id])

    def stopped(self, error: BaseException) -> None:
        """Record in the outcome, the report and the metadata store that the run was stopped."""
        from pipeline.report import publish

        sentence, _ = errors.explain(error, "The run", AGAIN)
        publish.announce(self._settings, self._output_root, sentence)
        spent = datetime.datetime.now().astimezone() - self._begin
        with contextlib.suppress(Exception):  # the stop may have hit the store halfway
            self._artifacts().note_run_seconds(round(spent.total_seconds(), 1))

    def _artifacts(self) -> RunArtifacts:
        from pipeline.artifacts.run import RunArtifacts

        return RunArtifacts(self._metadata, self._run_id)

    def publish(self, code: int) -> int:
        """Write latest_run.json and report.html, and show the verdict.

        Args:
          code: exit code of `execute`.

        Returns:
          The exit code of the run.
        """
        from pipeline.report import outcome, publish, terminal

        artifacts = self._artifacts()
        result, files = publish.publish(
            artifacts,
            self._settings,
            [
                outcome.Component(
                    id=node_id, state=artifacts.state(node_id), seconds=round(seconds, 2)
                )
                for node_id, seconds in self._seconds.items()
            ],
            self.error,
            run_id=self._run_id,
            begin=self._begin,
            data_root=str(self._data_root),
            output_root=self._output_root,
            serving_dir=self._serving_dir,
        )
        artifacts.note_run_seconds(result.seconds or 0)
        terminal.show(self._terminal, result, files)
        if code == errors.DONE and result.status == outcome.FAILED:
            self.error = result.error
            return errors.FAILED
        return code
