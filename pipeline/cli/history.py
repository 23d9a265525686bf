"""``python -m pipeline history``: list the past runs in an output folder."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from pipeline.core import console, errors, run_folder
from pipeline.core.errors import UserError
from pipeline.settings.arguments import Parser, add_verbose


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return console.command(lambda: show(_parse(argv).output_root), argv, "The command")


def show(output_root: Path) -> int:
    """Print a table of the past runs in an output folder and return the exit code."""
    database = output_root / run_folder.METADATA
    if not database.exists():
        raise UserError(f"{output_root} has no runs yet: {database} does not exist.")
    run_folder.check_metadata(output_root)
    with console.quiet(Path(os.devnull)):
        from tfx.orchestration import metadata

        from pipeline.report import history

        runs = history.past_runs(
            metadata.sqlite_metadata_connection_config(str(database)),
            is_running=run_folder.in_use(output_root),
        )
    console.print_table(history.table(runs), less_important=("spans", "photos", "minutes"))
    return errors.DONE


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m pipeline history", description="List past runs.")
    parser.add_argument(
        "--output-root",
        type=Path,
        metavar="DIR",
        default=Path("output"),
        help="output folder of the runs (default: output)",
    )
    add_verbose(parser)
    return parser.parse_args(argv)
