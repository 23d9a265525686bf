"""``python -m kubeflow COMMAND``: run the pipeline on Kubeflow Pipelines.

Each command is a module with two functions, and is imported only when it is used:
``add_arguments(parser: argparse.ArgumentParser) -> None`` and
``run(arguments: argparse.Namespace) -> int``, which returns the exit code.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from pipeline.core import console
from pipeline.settings.arguments import Parser, add_verbose, choose

PROGRAM = "python -m kubeflow"

# Command: module and one-line help.
COMMANDS: dict[str, tuple[str, str]] = {
    "compile": ("kubeflow.compile", "Compile the pipeline to a file for Kubeflow Pipelines."),
    "submit": ("kubeflow.submit", "Upload the pipeline if it changed, run it, and wait."),
    "schedule": ("kubeflow.schedule", "Create, pause, resume, delete and list schedules."),
    "rehearse": ("kubeflow.rehearse", "Run the compiled pipeline in containers on this machine."),
    "status": ("kubeflow.status", "Show the newest version, the schedules and the last runs."),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; 2 for user errors."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return console.command(lambda: _main(arguments), arguments, "The command")


def _main(arguments: list[str]) -> int:
    name = choose(PROGRAM, "Run the pipeline on Kubeflow Pipelines.", COMMANDS, arguments)
    module_name, description = COMMANDS[name]
    parser = Parser(
        prog=f"{PROGRAM} {name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_verbose(parser)
    with console.libraries_silenced():
        command = importlib.import_module(module_name)
        command.add_arguments(parser)
        code: int = command.run(parser.parse_args(arguments[1:]))
        return code


if __name__ == "__main__":
    sys.exit(main())
