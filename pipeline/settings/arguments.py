"""Command-line parsers whose errors are one sentence."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from pipeline.core import console, paths
from pipeline.core.errors import UserError


class Parser(argparse.ArgumentParser):
    """An argument parser that raises UserError instead of exiting.

    Every path among the arguments goes through `paths.check`, except the arguments in `unchecked`.
    """

    unchecked: Sequence[str] = ()

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        parsed: argparse.Namespace = super().parse_args(args, namespace)
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
    """Prints all settings, or those of one section, and exits."""

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
        sections: dict[str, list[str]] = {}
        for line in lines:
            key = line.split()[0]
            sections.setdefault(key.partition(".")[0], []).append(line)
        if values is not None and values not in sections:
            raise UserError(
                f"There is no settings section {values!r}; the sections are {', '.join(sections)}."
            )
        for section in sections if values is None else [values]:
            console.print_line(f"{section}:")
            for line in sections[section]:
                console.print_line(line)
        parser.exit()


def add_settings(parser: argparse.ArgumentParser, describe: Callable[[], str]) -> None:
    """Add ``--config`` (a list of paths), ``--set`` (``overrides``, strings), ``--help-settings``.

    Args:
      parser: the parser to extend.
      describe: returns the list of settings, one per line.
    """
    parser.add_argument(
        "--config",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="YAML settings file; may be repeated, later files win",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="one setting, overrides the files; may be repeated",
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
    """Add ``--verbose``, which `console.command` looks for."""
    parser.add_argument("--verbose", action="store_true", help="show tracebacks of errors")


def choose(
    program: str, description: str, verbs: Mapping[str, tuple[str, str]], argv: Sequence[str]
) -> str:
    """Return the verb that the first argument names; ``--help`` lists all verbs.

    Args:
      program: how the program is called, such as ``python -m pipeline``.
      description: what the program does.
      verbs: by name, the module of each verb and a line on what it does.
      argv: the command line.

    Raises:
      UserError: if the first argument is not a verb.
    """
    width = max(map(len, verbs))
    lines = [f"  {name:<{width}}  {meaning}" for name, (_, meaning) in verbs.items()]
    parser = Parser(
        prog=program,
        description=description,
        epilog="\n".join(["commands:", *lines, "", f"Run {program} COMMAND --help for details."]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=verbs, metavar="COMMAND")
    verb: str = parser.parse_args(argv[:1]).command
    return verb
