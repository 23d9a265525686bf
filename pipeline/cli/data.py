"""``python -m pipeline data``: download the pet data set, or check a data folder.

Exit codes: 0 the data is complete or fit to train on, 2 it is not.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.core import console, progress
from pipeline.data import download, layout
from pipeline.settings.arguments import Parser, add_settings, add_verbose
from pipeline.settings.schema import describe
from pipeline.settings.schema import load as load_settings

if TYPE_CHECKING:
    from pipeline.data import health


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return console.command(
        lambda: _main(argv), argv, "The command", "; run the same command again to resume"
    )


def _main(argv: Sequence[str] | None) -> int:
    arguments = _parse(argv)
    arguments.run(arguments)
    return 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="python -m pipeline data", description="Check a data folder, or download the pet data."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    check = commands.add_parser("check", help="check a data folder the way a run does")
    check.add_argument("data_root", type=Path, metavar="DIR", help="the data folder")
    add_settings(check, describe)
    check.set_defaults(run=_check)
    get = commands.add_parser("download", help="download the Oxford-IIIT Pet data set (811 MB)")
    get.add_argument("data_root", type=Path, metavar="DIR", help="the data folder to create")
    get.add_argument(
        "--url",
        default=download.PETS.url,
        help="address of the folder with both archives (default: %(default)s)",
    )
    get.set_defaults(run=_download)
    for command in (check, get):
        add_verbose(command)
    return parser.parse_args(argv)


def _download(arguments: argparse.Namespace) -> None:
    terminal = console.Terminal(sys.stdout)
    download.download(arguments.data_root, download.PETS.at(arguments.url), terminal)
    counts = ", ".join(f"{n} {what}" for what, n in layout.count(arguments.data_root).items())
    console.print_line_to(terminal, f"{arguments.data_root} is complete: {counts}.")


def _check(arguments: argparse.Namespace) -> None:
    settings = load_settings(arguments.config, arguments.overrides)
    data = settings.data
    layout.check_layout(arguments.data_root, data.spans)
    # The imports take seconds, and libjpeg prints a line for every damaged photo.
    with console.quiet(Path(os.devnull)) as terminal:
        console.print_line_to(terminal, f"Checking {arguments.data_root} ...")
        from pipeline.cli import health_table
        from pipeline.data import coverage, health

        def counted(looked: Iterator[health.Result], total: int) -> Iterator[health.Result]:
            progress.expect(total)
            for item in looked:
                yield item
                progress.count()

        with progress.watched("Checking", patience=1):
            result = health.examine(arguments.data_root, data, counted)
        health_table.show(terminal, result)
        health_table.show_hints(terminal, result.hints)
        counts = {split: len(sound) for split, sound in result.sound.items()}
        health.require_fit(counts, result.quarantined, data.max_quarantined, result.causes, True)
        health_table.show_hints(terminal, result.causes)
        coverage.require(result.classes, settings.gate)
        health.require_breeds(result, data.breeds)
    console.print_line("The data is fit for training.")
