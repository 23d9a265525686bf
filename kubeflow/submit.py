"""``python -m kubeflow submit``: uploads the pipeline if it is new, runs it, waits for the end."""

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
from kubeflow import client, package, settings, waiting
from pipeline.core import console
from pipeline.core.errors import UserError
from pipeline.settings.arguments import add_settings

_CODE = Path(__file__).parent
_EXIT_CODES = """\
exit codes:
  0  the run succeeded, whether or not the gate let the model through; with --no-wait and --no-run:
     the server took everything
  1  a component failed
  2  bad arguments, or the server cannot be reached, refuses or fails before the run is started
  3  the outcome is not known: the run was stopped, did not end within --timeout, or the server
     was away too long
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.epilog = _EXIT_CODES
    parser.add_argument(
        "--package",
        type=Path,
        metavar="FILE",
        help="compiled pipeline; without it, compiles as python -m kubeflow compile does",
    )
    add_settings(parser, settings.describe)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--no-run", action="store_true", help="only upload")
    how.add_argument("--no-wait", action="store_true", help="do not wait for the end of the run")
    parser.add_argument(
        "--timeout", type=shared.positive, metavar="SECONDS", help="longest wait (default: none)"
    )
    parser.add_argument(
        "--poll",
        type=shared.positive,
        default=10.0,
        metavar="SECONDS",
        help="between two looks at the run (default: 10)",
    )
    parser.add_argument("--run-name", metavar="NAME", help="default: the pipeline's with the time")
    shared.add_run(parser)
    shared.add_connection(parser)


def run(arguments: argparse.Namespace) -> int:
    """Runs the command; returns one of the exit codes of ``--help``."""
    connection = shared.connection(arguments)
    with _compiled(arguments) as compiled:
        parameters = package.read_parameters(arguments.param, compiled.spec)
        server = client.Server(connection)
        version = _upload(server, compiled, None if arguments.package else _commit())
    if arguments.no_run:
        return 0
    name = arguments.run_name or f"{compiled.spec.name} {datetime.datetime.now():%Y-%m-%d %H:%M:%S}"
    experiment_id = server.experiment(arguments.experiment)
    # All of them: the run's page shows only what is given.
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
    """The package that is named, or one made of the settings, for as long as it is needed."""
    if arguments.package:
        if arguments.config or arguments.overrides:
            raise UserError(
                "--package is compiled already; leave --config and --set out, or leave it out."
            )
        yield package.read(arguments.package)
        return
    chosen = settings.load(arguments.config, arguments.overrides)
    # TFX takes seconds to load: not before the settings are known to be good.
    with console.quiet(Path(os.devnull)):
        from kubeflow import compiler

        text = compiler.compile_pipeline(chosen)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pipeline.yaml"
        path.write_text(text, encoding="utf-8")
        yield package.read(path)


def _commit() -> str | None:
    """The short commit of the code that compiles, if it is that of a commit."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(_CODE), *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return None if changed else git("rev-parse", "--short", "HEAD")
    except (OSError, subprocess.SubprocessError):  # no git here, or no repository
        return None


def _upload(server: client.Server, compiled: package.Package, code: str | None) -> client.Version:
    version, new = server.upload(compiled, code)
    _say(f"Pipeline   {compiled.spec.name}, {'new' if new else 'unchanged'} version {version.name}")
    try:
        moved = server.move_schedules(version)
    except UserError as error:
        raise UserError(
            f"The pipeline is uploaded, but a schedule could not be moved to its newest version; "
            f"make it anew with python -m kubeflow schedule. {error}"
        ) from error
    for each in moved:
        _say(f"Schedule   {each.name} takes this version from now on")
    return version


def _say(line: str) -> None:
    console.show(line)
