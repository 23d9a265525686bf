"""``python -m pipeline data``: fetches the real data set, and looks a data folder over.

Exit code 0 if the data is there, or fit to train on; 2, with one sentence, if not.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import settings
from pipeline.core import console, progress
from pipeline.data import download, layout
from pipeline.settings.arguments import Parser, add_settings, add_verbose

if TYPE_CHECKING:
    from pipeline.data import health


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit code."""
    return console.command(
        lambda: _main(argv), argv, "The command", "; start the same command again to go on"
    )


def _main(argv: Sequence[str] | None) -> int:
    arguments = _parse(argv)
    arguments.run(arguments)
    return 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="python -m pipeline data", description="Fetches a data set, or looks one over."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    check = commands.add_parser("check", help="say what a run would make of a data folder")
    check.add_argument("data_root", type=Path, metavar="DIR", help="the data folder")
    add_settings(check, settings.describe)
    check.set_defaults(run=_check)
    fetch = commands.add_parser("download", help="fetch the Oxford-IIIT Pet data set, 811 MB")
    fetch.add_argument("data_root", type=Path, metavar="DIR", help="the data folder to make")
    fetch.add_argument(
        "--url",
        default=download.PETS.url,
        help="folder of the two archives, such as a mirror's (default: %(default)s)",
    )
    fetch.set_defaults(run=_download)
    for command in (check, fetch):
        add_verbose(command)
    return parser.parse_args(argv)


def _download(arguments: argparse.Namespace) -> None:
    terminal = console.Terminal(sys.stdout)
    download.download(arguments.data_root, download.PETS.at(arguments.url), terminal)
    found = ", ".join(f"{n} {what}" for what, n in layout.count(arguments.data_root).items())
    console.say(terminal, f"{arguments.data_root} is complete: {found}.")


def _check(arguments: argparse.Namespace) -> None:
    chosen = settings.load(arguments.config, arguments.overrides)
    data = chosen.data
    layout.check_layout(arguments.data_root, data.spans)
    # TensorFlow takes seconds to load, and libjpeg reports every damaged photo past all settings.
    with console.quiet(Path(os.devnull)) as terminal:
        console.say(terminal, f"Checking {arguments.data_root} ...")
        from pipeline.data import coverage, health, table

        def shown(looked: Iterator[health.Result], total: int) -> Iterator[health.Result]:
            progress.expect(total)
            for each in looked:
                yield each
                progress.count()

        with progress.watched("Checking", patience=1):
            found = health.examine(arguments.data_root, data, shown)
        table.show(terminal, found)
        table.show_hints(terminal, found.hints)
        counts = {split: len(sound) for split, sound in found.sound.items()}
        health.require_fit(counts, found.quarantined, data.max_quarantined, found.causes, True)
        table.show_hints(terminal, found.causes)
        coverage.require(found.classes, chosen.gate)
        health.require_breeds(found, data.breeds)
    console.show("Fit to train on.")
