"""Command lines: mistakes become one sentence."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from pipeline import paths
from pipeline.errors import UserError


class Parser(argparse.ArgumentParser):
    """An argument parser that raises UserError instead of ending the process.

    Each path among the arguments is looked at (`paths.check`), before anything is done with one.
    """

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> argparse.Namespace:
        parsed = super().parse_args(args, namespace)
        for value in vars(parsed).values():
            for each in value if isinstance(value, list) else [value]:
                if isinstance(each, Path):
                    paths.check(each)
        return parsed

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message[:1].upper()}{message[1:]}; --help lists all arguments.")


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Adds ``--config`` (a list of paths) and ``--set`` (``overrides``, a list of strings)."""
    parser.add_argument(
        "--config",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="YAML file of settings; may be given several times, later ones win",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="one setting, stronger than the files; may be given several times",
    )
