"""Command lines: verbs, and mistakes that become one sentence."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from pipeline.core import console, paths
from pipeline.core.errors import UserError


class Parser(argparse.ArgumentParser):
    """An argument parser that raises UserError instead of ending the process.

    Each path among the arguments is looked at (`paths.check`), before anything is done with one,
    except those of the arguments named in `unchecked`.
    """

    unchecked: Sequence[str] = ()

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> argparse.Namespace:
        parsed = super().parse_args(args, namespace)
        for name, value in vars(parsed).items():
            if name in self.unchecked:
                continue
            for each in value if isinstance(value, list) else [value]:
                if isinstance(each, Path):
                    paths.check(each)
        return parsed

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message[:1].upper()}{message[1:]}; --help lists all arguments.")


class _ShowSettings(argparse.Action):
    """Prints the list of settings, or those of one section, and ends the process."""

    def __init__(self, *, describe: Callable[[], str], **rest: Any):
        super().__init__(**rest)
        self._describe = describe

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: Any,
        values: Any,
        option: str | None = None,
    ) -> NoReturn:
        lines = self._describe().splitlines()
        sections = list(dict.fromkeys(line.split(".")[0].strip() for line in lines))
        if values is not None and values not in sections:
            known = ", ".join(sections)
            raise UserError(f"There is no section {values!r} of settings; sections are {known}.")
        for section in sections if values is None else [values]:
            console.show(f"{section}:")
            for line in lines:
                if line.split(".")[0].strip() == section:
                    console.show(line)
        parser.exit()


def add_settings(parser: argparse.ArgumentParser, describe: Callable[[], str]) -> None:
    """Adds ``--config`` (a list of paths), ``--set`` (``overrides``, strings), ``--help-settings``.

    Args:
      parser: gets them.
      describe: lists the settings, one a line.
    """
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
        help="one setting, which overrides the files; may be given several times",
    )
    parser.add_argument(
        "--help-settings",
        action=_ShowSettings,
        describe=describe,
        nargs="?",
        metavar="SECTION",
        help="list all settings with their defaults, or those of one section, and exit",
    )


def add_verbose(parser: argparse.ArgumentParser) -> None:
    """Adds ``--verbose``, which `console.command` looks for."""
    parser.add_argument("--verbose", action="store_true", help="show tracebacks of errors")


def choose(
    program: str, description: str, verbs: Mapping[str, tuple[str, str]], argv: Sequence[str]
) -> str:
    """Which verb the first argument names; shows the list of all with ``--help``.

    Args:
      program: as it is called, such as ``python -m pipeline``.
      description: of the program.
      verbs: by name, the module behind each and what it does in one line.
      argv: the command line.

    Raises:
      UserError: if it names none.
    """
    width = max(map(len, verbs))
    lines = [f"  {name:<{width}}  {meaning}" for name, (_, meaning) in verbs.items()]
    parser = Parser(
        prog=program,
        description=description,
        epilog="\n".join(["commands:", *lines, "", f"{program} COMMAND --help says more."]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=verbs, metavar="COMMAND")
    return parser.parse_args(argv[:1]).command
