"""``python -m kubeflow COMMAND``: the Kubeflow side of the pipeline.

Each command is a module that offers two functions and is only imported when it is called:
``add_arguments(parser: argparse.ArgumentParser) -> None`` and
``run(arguments: argparse.Namespace) -> int``, whose result is the exit code.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from pipeline.core import console
from pipeline.settings.arguments import Parser, add_verbose, choose

PROGRAM = "python -m kubeflow"

# Name: module, and what it does in one line.
COMMANDS: dict[str, tuple[str, str]] = {
    "compile": ("kubeflow.compile", "Writes the file that Kubeflow Pipelines takes."),
    "submit": ("kubeflow.submit", "Uploads the pipeline if it is new, runs it, waits for the end."),
    "schedule": ("kubeflow.schedule", "Makes, pauses, resumes, deletes and lists schedules."),
    "rehearse": ("kubeflow.rehearse", "Runs the pipeline on this machine, a container a task."),
    "status": ("kubeflow.status", "Shows the newest version, schedules and the last runs."),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; 2 for the user's mistakes."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return console.command(lambda: _main(arguments), arguments, "The command")


def _main(arguments: list[str]) -> int:
    name = choose(PROGRAM, "The pipeline on Kubeflow Pipelines.", COMMANDS, arguments)
    module_name, meaning = COMMANDS[name]
    parser = Parser(
        prog=f"{PROGRAM} {name}",
        description=meaning,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_verbose(parser)
    with console.libraries_silenced():
        command = importlib.import_module(module_name)
        command.add_arguments(parser)
        return command.run(parser.parse_args(arguments[1:]))


if __name__ == "__main__":
    sys.exit(main())
