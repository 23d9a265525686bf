"""The command ``compile``: writes the file that Kubeflow Pipelines takes."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from kubeflow import settings
from pipeline.core import console, files
from pipeline.core.errors import UserError
from pipeline.settings.arguments import add_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FILE", help="YAML file to write"
    )
    add_settings(parser, settings.describe)
    parser.epilog = f"An example of the cluster side: {os.path.relpath(settings.EXAMPLE_CONFIG)}"


def run(arguments: argparse.Namespace) -> int:
    """Compiles and writes the file at one stroke; returns the exit code.

    Raises:
      UserError: for settings that are not allowed, or a file that cannot be written.
    """
    chosen = settings.load(arguments.config, arguments.overrides)
    # TFX and kfp take seconds to load: not before the settings are known to be good.
    with console.quiet(Path(os.devnull)):
        from kubeflow import compiler

        text = compiler.compile_pipeline(chosen)
    _require_ours(arguments.output, text)
    try:
        files.write_atomically(arguments.output, text.encode())
    except OSError as error:
        raise UserError(f"Cannot write {arguments.output}: {error.strerror}.") from None
    console.show(f"Compiled: {arguments.output}")
    return 0


def _require_ours(path: Path, text: str) -> None:
    """Refuses to write over what is not this pipeline, compiled before: KFP names it at the top."""
    head = "".join(text.splitlines(keepends=True)[:2]).encode()
    try:
        with path.open("rb") as file:
            ours = not path.is_symlink() and file.read(len(head)) == head
    except FileNotFoundError:
        ours = not path.is_symlink()
    except OSError:  # a folder, for one
        return
    if not ours:
        raise UserError(
            f"{path} was not made by this program; move it away, or give another --output."
        )
