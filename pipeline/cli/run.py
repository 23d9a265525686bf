"""``python -m pipeline run`` and ``python local_runner.py``: run the pipeline on this machine.

Metadata is in SQLite, and Beam runs in this process. If a run is killed, run the same command
again: finished components come from the cache, and training resumes after its last epoch.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import io
import os
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.cli import history
from pipeline.cli.local_run import AGAIN, LocalRun
from pipeline.core import console, errors, progress, run_folder
from pipeline.core.errors import UserError
from pipeline.data import layout, synthetic
from pipeline.settings.arguments import Parser, add_settings, add_verbose
from pipeline.settings.schema import BUILTIN_CONFIG, Beam, Settings, describe
from pipeline.settings.schema import load as load_settings

_TFX_FOLDERS = f"{run_folder.ARTIFACTS}/*/.system/*/*"


def _parse(argv: Sequence[str] | None, program: str) -> argparse.Namespace:
    parser = Parser(
        prog=program,
        description="Ingest and validate photos, train a model, evaluate it, and release it.",
    )
    parser.add_argument(
        "--data-root",
        type=Path,
        metavar="DIR",
        help="data folder with images/ and annotations/trimaps/ (default: generated built-in data)",
    )
    parser.add_argument(
        "--output-root",
        type=Path,
        metavar="DIR",
        default=Path("output"),
        help="folder for models, report and everything else (default: output)",
    )
    add_settings(parser, describe)
    parser.add_argument(
        "--history", action="store_true", help="list past runs in the output folder and exit"
    )
    parser.add_argument(
        "--plan", action="store_true", help="show which components would run, and why, and exit"
    )
    add_verbose(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None, program: str = "python -m pipeline run") -> int:
    """Run the pipeline once and return the exit code."""
    return console.command(lambda: _main(_parse(argv, program)), argv, "The run", AGAIN)


def _main(arguments: argparse.Namespace) -> int:
    if arguments.history:
        return history.show(arguments.output_root)
    files = arguments.config
    if arguments.data_root is None:
        files = [BUILTIN_CONFIG, *files]
    settings = load_settings(files, arguments.overrides)
    settings.check_files()
    _check(settings)
    if arguments.plan:
        return _show_plan(arguments, settings)
    folder = run_folder.make(arguments.output_root)
    with run_folder.lock(folder):
        return _run(arguments, settings, folder)


def _show_plan(arguments: argparse.Namespace, settings: Settings) -> int:
    output_root = arguments.output_root.resolve()
    data_root = arguments.data_root or output_root / "builtin-data"
    store = output_root / run_folder.METADATA
    if arguments.data_root is not None or store.exists():
        layout.check_layout(data_root, settings.data.spans)
    if not store.exists():
        console.print_line(f"{output_root} has no runs yet: every component would run.")
        return errors.DONE
    run_folder.check_metadata(output_root)
    with (
        run_folder.lock(output_root),
        _without_new_folders(output_root),
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
        steps = LocalRun(settings, data_root.resolve(), output_root, begin, terminal, copy).plan()
    for step in steps:
        console.print_line(f"{step.node:<18} {'runs     ' + step.why if step.runs else 'cached'}")
    if not any(step.runs for step in steps):
        console.print_line("Nothing would run.")
    return errors.DONE


@contextlib.contextmanager
def _without_new_folders(output_root: Path) -> Iterator[None]:
    """Remove the folders that TFX's drivers create, even if the plan fails."""

    def folders() -> set[Path]:
        return {path for path in output_root.glob(_TFX_FOLDERS) if path.is_dir()}

    before = folders()
    try:
        yield
    finally:
        for made in folders() - before:
            shutil.rmtree(made)


def _run(arguments: argparse.Namespace, settings: Settings, output_root: Path) -> int:
    data_root = arguments.data_root
    if data_root is None:
        data_root = output_root / "builtin-data"
        console.print_line(f"Built-in data: {data_root}")
        with progress.watched("Built-in data", console.Terminal(sys.stdout)):
            synthetic.generate(data_root)
    layout.check_layout(data_root, settings.data.spans)
    begin = datetime.datetime.now().astimezone()
    log_file = output_root / "logs" / f"{begin:%Y%m%d-%H%M%S}.log"
    with console.quiet(log_file) as terminal:
        console.print_line_to(terminal, f"Data: {data_root}  Log: {log_file}")
        run = LocalRun(settings, data_root.resolve(), output_root, begin, terminal)
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
        console.print_traceback(run.traceback)
    if run.error:
        hint = "" if arguments.verbose else f" (details: --verbose or {log_file})"
        console.print_error(run.error + ("" if code == errors.USER_ERROR else hint))
    return code


def _check(settings: Settings) -> None:
    """Raise UserError for settings that cannot work here, before anything is written."""
    release, default = settings.release, Settings()
    # The libraries take seconds to load, so only check what differs from the defaults.
    with console.quiet(Path(os.devnull)):
        if settings.beam != default.beam:
            _check_beam(settings.beam)
        if release.copy_to:
            from pipeline.release import mirror

            mirror.check(release.copy_to, settings.beam.args)
        if release.infra_validation != default.release.infra_validation:
            from pipeline.release import infra_validation

            infra_validation.check(release)


def _check_beam(beam: Beam) -> None:
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.runners.runner import create_runner

    try:
        create_runner(beam.runner)
    except (ImportError, ValueError, AttributeError):
        raise UserError(
            f"Setting 'beam.runner' is {beam.runner!r}, which is not a Beam runner; use "
            "DirectRunner, for example."
        ) from None
    stderr = io.StringIO()
    try:
        with contextlib.redirect_stderr(stderr):
            PipelineOptions(list(beam.args)).get_all_options()
    except SystemExit:  # argparse prints the error and exits
        reason = stderr.getvalue().strip().splitlines()[-1].partition("error: ")[2]
        raise UserError(f"Setting 'beam.args' is invalid: {reason}.") from None
