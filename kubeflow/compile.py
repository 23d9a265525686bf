"""``python -m kubeflow compile``: compile the pipeline to a file for Kubeflow Pipelines."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from kubeflow.settings import EXAMPLE_CONFIG, describe
from kubeflow.settings import load as load_settings
from pipeline.core import console, files
from pipeline.core.errors import UserError
from pipeline.settings.arguments import add_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FILE", help="YAML file to write"
    )
    add_settings(parser, describe)
    parser.epilog = f"Example of a --config for a cluster: {os.path.relpath(EXAMPLE_CONFIG)}"


def run(arguments: argparse.Namespace) -> int:
    """Compile the pipeline, write the file atomically, and return the exit code.

    Raises:
      UserError: if a setting is invalid or the file cannot be written.
    """
    settings = load_settings(arguments.config, arguments.overrides)
    # TFX and kfp take seconds to load, so check the settings first.
    with console.quiet(Path(os.devnull)):
        from kubeflow import compiler

        text = compiler.compile_pipeline(settings)
    _require_ours(arguments.output, text)
    try:
        files.write_atomically(arguments.output, text.encode())
    except OSError as error:
        raise UserError(
            f"Cannot write {arguments.output} ({error.strerror}); choose another --output."
        ) from None
    console.print_line(f"Compiled: {arguments.output}")
    return 0


def _require_ours(path: Path, text: str) -> None:
    """Refuse to overwrite anything but a compiled pipeline of this name, known by its head."""
    head = "".join(text.splitlines(keepends=True)[:2]).encode()
    try:
        with path.open("rb") as file:
            ours = not path.is_symlink() and file.read(len(head)) == head
    except FileNotFoundError:
        ours = not path.is_symlink()
    except OSError:  # such as a folder; writing reports it
        return
    if not ours:
        raise UserError(
            f"{path} was not created by this program; move it elsewhere, or choose another "
            "--output."
        )
