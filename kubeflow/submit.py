"""``python -m kubeflow submit``: upload the pipeline if it changed, run it, and wait."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from kubeflow import arguments as shared
from kubeflow import package, waiting
from kubeflow.answers import Version
from kubeflow.client import Server
from kubeflow.settings import describe
from kubeflow.settings import load as load_settings
from pipeline.core import console
from pipeline.core.errors import UserError
from pipeline.settings.arguments import add_settings

_CODE = Path(__file__).parent
_EXIT_CODES = """\
exit codes:
  0  the run succeeded, whether or not the gate blessed the model; with --no-wait or --no-run, the
     server accepted everything
  1  a component failed
  2  bad arguments, or the server could not be reached, rejected a request or failed before the run
     was started
  3  the outcome is unknown: the run was stopped, did not end within --timeout, or the server was
     unavailable for too long
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.epilog = _EXIT_CODES
    parser.add_argument(
        "--package",
        type=Path,
        metavar="FILE",
        help="compiled pipeline (default: compile it first, like python -m kubeflow compile)",
    )
    add_settings(parser, describe)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--no-run", action="store_true", help="only upload the pipeline")
    mode.add_argument("--no-wait", action="store_true", help="do not wait for the run to end")
    parser.add_argument(
        "--timeout",
        type=shared.positive,
        metavar="SECONDS",
        help="maximum time to wait for the run (default: no limit)",
    )
    parser.add_argument(
        "--poll",
        type=shared.positive,
        default=10.0,
        metavar="SECONDS",
        help="pause between status requests (default: 10)",
    )
    parser.add_argument(
        "--run-name",
        metavar="NAME",
        help="name of the run (default: name of the pipeline, and the time)",
    )
    shared.add_run(parser)
    shared.add_connection(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return one of the exit codes in ``--help``."""
    connection = shared.connection(arguments)
    with _compiled(arguments) as compiled:
        parameters = package.read_parameters(arguments.param, compiled.spec)
        server = Server(connection)
        version = _upload(server, compiled, None if arguments.package else _commit())
    if arguments.no_run:
        return 0
    name = arguments.run_name or f"{compiled.spec.name} {datetime.datetime.now():%Y-%m-%d %H:%M:%S}"
    experiment_id = server.experiment(arguments.experiment)
    # Pass defaults too, because the page of the run only shows values that were passed.
    parameters = package.complete(parameters, compiled.spec)
    run_id = server.start(version, experiment_id, name, parameters, arguments.service_account)
    _say(f"Run        {name}: {server.run_page(run_id)}")
    if arguments.no_wait:
        return 0
    return waiting.wait(
        server, run_id, compiled.spec.steps, _say, timeout=arguments.timeout, pause=arguments.poll
    )


@contextlib.contextmanager
def _compiled(arguments: argparse.Namespace) -> Iterator[package.Package]:
    """Yield the package of ``--package``, or compile a temporary one from the settings."""
    if arguments.package:
        if arguments.config or arguments.overrides:
            raise UserError(
                "--config and --set do not apply to --package, which is already compiled; specify "
                "either --package or settings."
            )
        yield package.read(arguments.package)
        return
    settings = load_settings(arguments.config, arguments.overrides)
    # TFX takes seconds to load, so check the settings first.
    with console.quiet(Path(os.devnull)):
        from kubeflow import compiler

        text = compiler.compile_pipeline(settings)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pipeline.yaml"
        path.write_text(text, encoding="utf-8")
        yield package.read(path)


def _commit() -> str | None:
    """Return the short commit hash of this code, or None if it is not exactly a commit."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(_CODE), *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return None if changed else git("rev-parse", "--short", "HEAD")
    except (OSError, subprocess.SubprocessError):  # no git, or no repository
        return None


def _upload(server: Server, compiled: package.Package, code: str | None) -> Version:
    version, new = server.upload(compiled, code)
    _say(f"Pipeline   {compiled.spec.name}, {'new' if new else 'unchanged'} version {version.name}")
    try:
        moved = server.move_schedules(version)
    except UserError as error:
        raise UserError(
            f"The pipeline was uploaded, but a schedule could not be moved to the new version; "
            f"create it again with python -m kubeflow schedule. {error}"
        ) from error
    for each in moved:
        _say(f"Schedule   {each.name} now uses this version")
    return version


def _say(line: str) -> None:
    console.print_line(line)
