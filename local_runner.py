"""Runs the pipeline on this machine: ``python local_runner.py --help``.

Metadata lives in SQLite, Beam runs in this process. A run that was killed goes on where it stood
when it is started again, since finished components are answered from the cache.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import errno
import io
import logging
import os
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import builtin_data, console, dataset, errors, run_folder, settings
from pipeline.arguments import Parser, add_settings
from pipeline.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console
    from tfx.proto.orchestration import pipeline_pb2

FINISHED, COMPONENT_FAILED, USER_ERROR, INTERRUPTED = 0, 1, 2, 130

_METADATA = "metadata.sqlite"


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
    parser.add_argument("--verbose", action="store_true", help="show tracebacks of errors")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the pipeline once and returns the exit code."""
    verbose = "--verbose" in (sys.argv if argv is None else argv)
    try:
        arguments = _parse(argv)
        if arguments.history:
            return _show_history(arguments.output_root)
        files = arguments.config
        if arguments.data_root is None:
            files = [settings.BUILTIN_CONFIG, *files]
        chosen = settings.load(files, arguments.overrides)
        chosen.check_files()
        folder = run_folder.make(arguments.output_root)
        with run_folder.lock(folder):
            return _run(arguments, chosen, folder)
    except UserError as error:
        sentence, code = str(error), USER_ERROR
    except KeyboardInterrupt:
        sentence, code = "Interrupted; start the same command again to go on.", INTERRUPTED
    except Exception as error:
        sentence, code = f"The run failed: {errors.first_line(error)}.", COMPONENT_FAILED
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            where = error.filename or "the output folder"
            sentence = f"No space is left on the disk of {where}; make room, and start again."
    if verbose:
        traceback.print_exc()
    console.complain(sentence)
    return code


def _show_history(output_root: Path) -> int:
    database = output_root / _METADATA
    if not database.exists():
        raise UserError(f"There is no {database}: no run has been made in {output_root}.")
    with console.quiet(Path(os.devnull)):
        from tfx.orchestration import metadata

        from pipeline import history

        runs = history.past_runs(
            metadata.sqlite_metadata_connection_config(str(database)),
            going_on=run_folder.in_use(output_root),
        )
    console.print_table(history.table(runs))
    return FINISHED


def _run(arguments: argparse.Namespace, chosen: settings.Settings, output_root: Path) -> int:
    data_root = arguments.data_root
    if data_root is None:
        data_root = output_root / "builtin-data"
        print(f"Built-in data: {data_root}")
        builtin_data.generate(data_root)
    dataset.check_layout(data_root, chosen.data.spans)
    begin = datetime.datetime.now().astimezone()
    log_file = output_root / "logs" / f"{begin:%Y%m%d-%H%M%S}.log"
    with console.quiet(log_file) as terminal:
        console.say(terminal, f"Data: {data_root}  Log: {log_file}")
        run = LocalRun(chosen, data_root.resolve(), output_root, begin, terminal)
        run.check_output_root(built_in=arguments.data_root is None)
        code = run.execute()
        run.publish()
    if run.traceback and arguments.verbose:
        print(run.traceback, file=sys.stderr)
    if run.error:
        hint = "" if arguments.verbose else f" (details: --verbose, or {log_file})"
        console.complain(run.error + ("" if code == USER_ERROR else hint))
    return code


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
    ):
        # TensorFlow and TFX take seconds to load: not before the arguments are known to be good.
        from tfx.dsl.components.base.base_component import BaseComponent
        from tfx.orchestration import metadata

        from pipeline import release_copy
        from pipeline.pipeline import beam_arguments, create_pipeline

        self.error: str | None = None
        self.traceback: str | None = None
        self._settings = chosen
        self._output_root = output_root
        self._data_root = data_root
        self._begin = begin
        self._terminal = terminal
        _check_beam(chosen.beam)
        if chosen.release.copy_to:
            release_copy.check(chosen.release.copy_to, chosen.beam.args)
        self._serving_dir = output_root / "serving" / chosen.model.name
        self._metadata = metadata.sqlite_metadata_connection_config(str(output_root / _METADATA))
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

    def check_output_root(self, built_in: bool) -> None:
        """Raises UserError if the output folder was moved, or serves a model of real data.

        Args:
          built_in: this run is on the built-in data.
        """
        import ml_metadata

        from components import pusher
        from pipeline import serving

        artifacts = self._output_root / "artifacts"
        for artifact in ml_metadata.MetadataStore(self._metadata).get_artifacts():
            if not Path(artifact.uri).is_relative_to(artifacts):
                raise UserError(
                    f"The output folder was moved: metadata.sqlite in {self._output_root} speaks "
                    f"of {artifact.uri}; move it back, or start anew with another --output-root."
                )
        folder = str(self._serving_dir)
        released = serving.versions(folder)
        origin = released and serving.record(folder, released[-1]).get(pusher.DATA_ROOT)
        if built_in and origin and origin != str(self._data_root):
            raise UserError(
                f"{self._serving_dir} serves a model that was trained on {origin}; give the run on "
                "built-in data another --output-root."
            )

    def execute(self) -> int:
        """Runs component after component; returns the exit code."""
        from components import reconciliation
        from pipeline import nodes, pipeline, publication

        publication.announce(self._settings, self._output_root)
        reconciliation.reconcile(
            self._metadata,
            str(self._serving_dir),
            pipeline.NAME,
            self._pipeline.pipeline_info.pipeline_root,
        )
        ir = nodes.compile_pipeline(self._pipeline)
        for node_id in nodes.node_ids(ir):
            try:
                if node_id in self._working:
                    self._run_component(ir, node_id)
                else:
                    nodes.run_node(ir, node_id, self._run_id)
            except UserError as error:
                self.error = str(error)
                return USER_ERROR
            except Exception as error:
                self.error = f"{node_id} failed: {errors.first_line(error)}."
                self.traceback = traceback.format_exc()
                logging.getLogger(__name__).exception("%s failed", node_id)
                return COMPONENT_FAILED
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

    def _artifacts(self) -> Any:
        from pipeline import outcome

        return outcome.RunArtifacts(self._metadata, self._run_id)

    def publish(self) -> None:
        """Writes latest_run.json and report.html, and shows the verdict."""
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
        console.verdict(self._terminal, result, files)


if __name__ == "__main__":
    sys.exit(main())
