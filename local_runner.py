"""Runs the pipeline on this machine: ``python local_runner.py --help``.

Metadata lives in SQLite, Beam runs in this process. A run that was killed goes on where it stood
when it is started again, since finished components are answered from the cache.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import io
import logging
import os
import shutil
import sqlite3
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import builtin_data, console, dataset, errors, progress, run_folder, settings
from pipeline.arguments import Parser, add_settings
from pipeline.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console
    from tfx.proto.orchestration import pipeline_pb2

    from pipeline import plan

_AGAIN = "; start the same command again to go on"
_TFX_FOLDERS = f"{run_folder.ARTIFACTS}/*/.system/*/*"
FINISHED, COMPONENT_FAILED, USER_ERROR = 0, errors.FAILED, errors.USER_ERROR


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="local_runner.py",
        description="Ingests, validates, transforms, trains, evaluates, releases a model.",
        epilog=f"settings (--set KEY=VALUE), with their defaults:\n{settings.describe()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--data-root",
        type=Path,
        metavar="DIR",
        help="data folder with images/ and annotations/trimaps/; without it, built-in data is made",
    )
    parser.add_argument(
        "--output-root",
        type=Path,
        metavar="DIR",
        default=Path("output"),
        help="where models, report and everything else go (default: output)",
    )
    add_settings(parser)
    parser.add_argument(
        "--history", action="store_true", help="list the runs in the output folder, and run nothing"
    )
    parser.add_argument(
        "--plan", action="store_true", help="say what a run would do, and why, and run nothing"
    )
    parser.add_argument("--verbose", action="store_true", help="show tracebacks of errors")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the pipeline once and returns the exit code."""
    return console.command(lambda: _main(argv), argv, "The run", _AGAIN)


def _main(argv: Sequence[str] | None) -> int:
    arguments = _parse(argv)
    if arguments.history:
        return _show_history(arguments.output_root)
    files = arguments.config
    if arguments.data_root is None:
        files = [settings.BUILTIN_CONFIG, *files]
    chosen = settings.load(files, arguments.overrides)
    chosen.check_files()
    _check(chosen)
    if arguments.plan:
        return _show_plan(arguments, chosen)
    folder = run_folder.make(arguments.output_root)
    with run_folder.lock(folder):
        return _run(arguments, chosen, folder)


def _show_history(output_root: Path) -> int:
    database = output_root / run_folder.METADATA
    if not database.exists():
        raise UserError(f"There is no {database}: no run has been made in {output_root}.")
    run_folder.check_metadata(output_root)
    with console.quiet(Path(os.devnull)):
        from tfx.orchestration import metadata

        from pipeline import history

        runs = history.past_runs(
            metadata.sqlite_metadata_connection_config(str(database)),
            going_on=run_folder.in_use(output_root),
        )
    console.print_table(history.table(runs), less_important=("batches", "photos", "minutes"))
    return FINISHED


def _show_plan(arguments: argparse.Namespace, chosen: settings.Settings) -> int:
    output_root = arguments.output_root.resolve()
    data_root = arguments.data_root or output_root / "builtin-data"
    store = output_root / run_folder.METADATA
    if arguments.data_root is not None or store.exists():
        dataset.check_layout(data_root, chosen.data.spans)
    if not store.exists():
        console.show(f"No run has been made in {output_root}: every component would run.")
        return FINISHED
    run_folder.check_metadata(output_root)
    before = set(output_root.glob(_TFX_FOLDERS))
    with (
        run_folder.lock(output_root),
        tempfile.TemporaryDirectory() as folder,
        console.quiet(Path(os.devnull)) as terminal,
    ):
        copy = Path(folder, run_folder.METADATA)
        with (
            contextlib.closing(sqlite3.connect(store)) as database,
            contextlib.closing(sqlite3.connect(copy)) as target,
        ):
            database.backup(target)
        begin = datetime.datetime.now().astimezone()
        steps = LocalRun(chosen, data_root.resolve(), output_root, begin, terminal, copy).plan()
        for made in set(output_root.glob(_TFX_FOLDERS)) - before:  # where a node would work
            shutil.rmtree(made)
    for step in steps:
        console.show(f"{step.node:<18} {'runs:   ' + step.why if step.runs else 'cached'}")
    if not any(step.runs for step in steps):
        console.show("Nothing would run.")
    return FINISHED


def _run(arguments: argparse.Namespace, chosen: settings.Settings, output_root: Path) -> int:
    data_root = arguments.data_root
    if data_root is None:
        data_root = output_root / "builtin-data"
        console.show(f"Built-in data: {data_root}")
        with progress.watched("Built-in data", console.Terminal(sys.stdout)):
            builtin_data.generate(data_root)
    dataset.check_layout(data_root, chosen.data.spans)
    begin = datetime.datetime.now().astimezone()
    log_file = output_root / "logs" / f"{begin:%Y%m%d-%H%M%S}.log"
    with console.quiet(log_file) as terminal:
        console.say(terminal, f"Data: {data_root}  Log: {log_file}")
        run = LocalRun(chosen, data_root.resolve(), output_root, begin, terminal)
        run.check_serving(built_in=arguments.data_root is None)
        run.announce()
        try:
            code = run.execute()
        except (KeyboardInterrupt, errors.Stopped) as error:
            run.stopped(error)
            raise
        with progress.watched("Report"):
            code = run.publish(code)
    if run.traceback and arguments.verbose:
        console.show_traceback(run.traceback)
    if run.error:
        hint = "" if arguments.verbose else f" (details: --verbose, or {log_file})"
        console.complain(run.error + ("" if code == USER_ERROR else hint))
    return code


def _check(chosen: settings.Settings) -> None:
    """Raises UserError for what no run can be made with, before anything is made for one."""
    release, default = chosen.release, settings.Settings()
    # Only where it is needed: the libraries take seconds to load.
    with console.quiet(Path(os.devnull)):
        if chosen.beam != default.beam:
            _check_beam(chosen.beam)
        if release.copy_to:
            from pipeline import release_copy

            release_copy.check(release.copy_to, chosen.beam.args)
        if release.infra_validation != default.release.infra_validation:
            from pipeline import infra_validation

            infra_validation.check(release)


def _check_beam(beam: settings.Beam) -> None:
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.runners.runner import create_runner

    try:
        create_runner(beam.runner)
    except (ImportError, ValueError, AttributeError):
        raise UserError(
            f"Setting 'beam.runner' is {beam.runner!r}, which Beam does not know; DirectRunner is "
            "one."
        ) from None
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            PipelineOptions(list(beam.args)).get_all_options()
    except SystemExit:  # argparse, after it has printed what is wrong
        what = said.getvalue().strip().splitlines()[-1].partition("error: ")[2]
        raise UserError(f"Setting 'beam.args' has a value that Beam refuses: {what}.") from None


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

        from pipeline.pipeline import beam_arguments, create_pipeline

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
        from components import pusher
        from pipeline import serving

        folder = str(self._serving_dir)
        released = serving.versions(folder)
        origin = released and serving.record(folder, released[-1]).get(pusher.DATA_ROOT)
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
        from pipeline import publication

        publication.announce(self._settings, self._output_root)
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
            publication.announce(self._settings, self._output_root, sentence)
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
        from pipeline import nodes, plan

        ir = nodes.compile_pipeline(self._pipeline)
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
        from components import reconciliation
        from pipeline import pipeline

        if reconciliation.is_due(ir, node_id):
            reconciliation.reconcile(
                self._metadata,
                str(self._serving_dir),
                pipeline.NAME,
                self._pipeline.pipeline_info.pipeline_root,
            )

    def execute(self) -> int:
        """Runs component after component; returns the exit code."""
        from pipeline import nodes

        ir = nodes.compile_pipeline(self._pipeline)
        for node_id in nodes.node_ids(ir):
            try:
                self._reconcile(ir, node_id)
                if node_id in self._working:
                    self._run_component(ir, node_id)
                else:
                    nodes.run_node(ir, node_id, self._run_id)
            except UserError as error:
                self.error = str(error)
                return USER_ERROR
            except Exception as error:
                self.error, code = errors.explain(error, node_id)
                self.traceback = traceback.format_exc()
                logging.getLogger(__name__).exception("%s failed", node_id)
                return code
        return FINISHED

    def _run_component(self, ir: pipeline_pb2.Pipeline, node_id: str) -> None:
        from pipeline import nodes

        console.started(self._terminal, node_id)
        begin = time.monotonic()
        try:
            nodes.run_node(ir, node_id, self._run_id)
        finally:
            self._seconds[node_id] = time.monotonic() - begin
            state = self._artifacts().state(node_id)
            console.ended(self._terminal, node_id, state, self._seconds[node_id])

    def stopped(self, error: BaseException) -> None:
        """Notes that the run was told to stop, in latest_run.json, report and metadata store."""
        from pipeline import publication

        sentence, _ = errors.explain(error, "The run", _AGAIN)
        publication.announce(self._settings, self._output_root, sentence)
        spent = datetime.datetime.now().astimezone() - self._begin
        with contextlib.suppress(Exception):  # it may have been stopped while it used the store
            self._artifacts().note_run_seconds(round(spent.total_seconds(), 1))

    def _artifacts(self) -> Any:
        from pipeline import outcome

        return outcome.RunArtifacts(self._metadata, self._run_id)

    def publish(self, code: int) -> int:
        """Writes latest_run.json and report.html, and shows the verdict.

        Args:
          code: that the components ended with.

        Returns:
          The run's exit code.
        """
        from pipeline import outcome, publication

        artifacts = self._artifacts()
        result, files = publication.publish(
            artifacts,
            self._settings,
            [
                outcome.Component(node_id, artifacts.state(node_id), round(seconds, 2))
                for node_id, seconds in self._seconds.items()
            ],
            self.error,
            run_id=self._run_id,
            begin=self._begin,
            data_root=str(self._data_root),
            output_root=self._output_root,
            serving_dir=self._serving_dir,
        )
        artifacts.note_run_seconds(result["seconds"])
        console.verdict(self._terminal, result, files)
        if code == FINISHED and result["status"] == outcome.FAILED:
            self.error = result["error"]
            return COMPONENT_FAILED
        return code


if __name__ == "__main__":
    sys.exit(main())
