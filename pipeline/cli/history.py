"""``python -m pipeline history``: the runs that an output folder has seen."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from pipeline.core import console, errors, run_folder
from pipeline.core.errors import UserError
from pipeline.settings.arguments import Parser, add_verbose


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    return console.command(lambda: show(_parse(argv).output_root), argv, "The command")


def show(output_root: Path) -> int:
    """Prints a table of the runs that an output folder has seen; returns the exit code."""
    database = output_root / run_folder.METADATA
    if not database.exists():
        raise UserError(f"There is no {database}: no run has been made in {output_root}.")
    run_folder.check_metadata(output_root)
    with console.quiet(Path(os.devnull)):
        from tfx.orchestration import metadata

        from pipeline.report import history

        runs = history.past_runs(
            metadata.sqlite_metadata_connection_config(str(database)),
            going_on=run_folder.in_use(output_root),
        )
    console.print_table(history.table(runs), less_important=("batches", "photos", "minutes"))
    return errors.DONE


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m pipeline history", description="Lists past runs.")
    parser.add_argument(
        "--output-root",
        type=Path,
        metavar="DIR",
        default=Path("output"),
        help="of the runs (default: output)",
    )
    add_verbose(parser)
    return parser.parse_args(argv)
