"""One run of the pipeline on this machine, node by node in this process."""

from __future__ import annotations

import contextlib
import datetime
import logging
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import settings
from pipeline.artifacts import pushed_model
from pipeline.core import console, errors, run_folder
from pipeline.core.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console
    from tfx.proto.orchestration import pipeline_pb2

    from pipeline.artifacts.run import RunArtifacts
    from pipeline.orchestration import plan

AGAIN = "; start the same command again to go on"


class LocalRun:
    """One run of the pipeline, node by node in this process."""

    def __init__(
        self,
        chosen: settings.Settings,
        data_root: Path,
        output_root: Path,
        begin: datetime.datetime,
        terminal: Console,
        store: Path | None = None,
    ):
        # TensorFlow and TFX take seconds to load: not before the arguments are known to be good.
        from tfx.dsl.components.base.base_component import BaseComponent
        from tfx.orchestration import metadata

        from pipeline.orchestration.pipeline import beam_arguments, create_pipeline

        self.error: str | None = None
        self.traceback: str | None = None
        self._settings = chosen
        self._output_root = output_root
        self._data_root = data_root
        self._begin = begin
        self._terminal = terminal
        self._serving_dir = output_root / "serving" / chosen.model.name
        self._metadata = metadata.sqlite_metadata_connection_config(
            str(store or output_root / run_folder.METADATA)
        )
        self._pipeline = create_pipeline(
            data_root=str(data_root),
            pipeline_root=str(output_root / "artifacts"),
            serving_dir=str(self._serving_dir),
            settings=chosen,
            metadata_connection_config=self._metadata,
            beam_pipeline_args=beam_arguments(chosen.beam),
        )
        # The others are look-ups in the metadata, which do no work that could be cached.
        self._working = [c.id for c in self._pipeline.components if isinstance(c, BaseComponent)]
        self._seconds: dict[str, float] = {}

    @property
    def _run_id(self) -> str:
        return self._begin.isoformat()

    def check_serving(self, built_in: bool) -> None:
        """Raises UserError if the output folder serves a model of real data.

        Args:
          built_in: this run is on the built-in data.
        """
        from pipeline.release import model_store

        folder = str(self._serving_dir)
        released = model_store.versions(folder)
        origin = released and model_store.record(folder, released[-1]).get(pushed_model.DATA_ROOT)
        if built_in and origin and origin != str(self._data_root):
            raise UserError(
                f"{self._serving_dir} serves a model that was trained on {origin}; give the run on "
                "built-in data another --output-root."
            )

    def announce(self) -> None:
        """Takes back the outcome of the run before, and sees whether this one can begin.

        Raises:
          UserError: if the metadata store cannot be used, or is one of another folder.
        """
        from pipeline.report import publish

        publish.announce(self._settings, self._output_root)
        try:
            run_folder.check_metadata(self._output_root)
            self._check_moved()
            store = self._output_root / run_folder.METADATA
            if aside := run_folder.set_aside_unknown(
                self._output_root, lambda: run_folder.is_new(store)
            ):
                console.say(
                    self._terminal,
                    f"Note: {run_folder.METADATA} is new; the artifacts that it knows nothing of "
                    f"are in {aside}.",
                )
        except Exception as error:
            sentence, _ = errors.explain(error, "The run")
            publish.announce(self._settings, self._output_root, sentence)
            raise

    def _check_moved(self) -> None:
        import ml_metadata

        artifacts = self._output_root / "artifacts"
        try:
            known = ml_metadata.MetadataStore(self._metadata).get_artifacts()
        except (ml_metadata.errors.StatusError, RuntimeError) as error:  # of another program
            raise UserError(
                f"{self._output_root / run_folder.METADATA} is no store of ML Metadata's "
                f"({errors.first_line(error)}); move it away, or give another --output-root."
            ) from None
        for artifact in known:
            if not Path(artifact.uri).is_relative_to(artifacts):
                raise UserError(
                    f"The output folder was moved: {run_folder.METADATA} in {self._output_root} "
                    f"speaks of {artifact.uri}; move it back, or start anew with another "
                    "--output-root."
                )

    def plan(self) -> list[plan.Step]:
        """What the components would do; those which the cache answers count as run afterwards."""
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
        """Runs component after component; returns the exit code."""
        from pipeline.orchestration import launcher

        ir = launcher.compile_pipeline(self._pipeline)
        for node_id in launcher.node_ids(ir):
            try:
                self._reconcile(ir, node_id)
                if node_id in self._working:
                    self._run_component(ir, node_id)
                else:
                    launcher.run_node(ir, node_id, self._run_id)
            except UserError as error:
                self.error = str(error)
                return errors.USER_ERROR
            except Exception as error:
                self.error, code = errors.explain(error, node_id)
                self.traceback = traceback.format_exc()
                logging.getLogger(__name__).exception("%s failed", node_id)
                return code
        return errors.DONE

    def _run_component(self, ir: pipeline_pb2.Pipeline, node_id: str) -> None:
        from pipeline.orchestration import launcher

        console.started(self._terminal, node_id)
        begin = time.monotonic()
        try:
            launcher.run_node(ir, node_id, self._run_id)
        finally:
            self._seconds[node_id] = time.monotonic() - begin
            state = self._artifacts().state(node_id)
            console.ended(self._terminal, node_id, state, self._seconds[node_id])

    def stopped(self, error: BaseException) -> None:
        """Notes that the run was told to stop, in latest_run.json, report and metadata store."""
        from pipeline.report import publish

        sentence, _ = errors.explain(error, "The run", AGAIN)
        publish.announce(self._settings, self._output_root, sentence)
        spent = datetime.datetime.now().astimezone() - self._begin
        with contextlib.suppress(Exception):  # it may have been stopped while it used the store
            self._artifacts().note_run_seconds(round(spent.total_seconds(), 1))

    def _artifacts(self) -> RunArtifacts:
        from pipeline.artifacts.run import RunArtifacts

        return RunArtifacts(self._metadata, self._run_id)

    def publish(self, code: int) -> int:
        """Writes latest_run.json and report.html, and shows the verdict.

        Args:
          code: that the components ended with.

        Returns:
          The run's exit code.
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
