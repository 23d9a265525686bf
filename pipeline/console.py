"""What a person sees of a run in the terminal."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.markup import escape
from rich.table import Table

_FILE_WIDTH = 160  # columns, where the output is no terminal


@contextlib.contextmanager
def quiet(log_file: Path) -> Iterator[Console]:
    """Sends all that libraries print, C++ included, to a log file; yields the way to the terminal.

    Records of the loggers below ``pipeline`` reach the terminal too: they are written for people.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    sys.stdout.flush()
    sys.stderr.flush()
    terminal, errors = os.dup(1), os.dup(2)
    with (
        log_file.open("ab", buffering=0) as log,
        os.fdopen(terminal, "w", encoding="utf-8", errors="backslashreplace") as out,
    ):
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        console = Console(file=out, highlight=False, soft_wrap=True)
        handler = _ConsoleHandler(console)
        people = logging.getLogger("pipeline")
        people.setLevel(logging.INFO)
        people.addHandler(handler)
        try:
            yield console
        finally:
            people.removeHandler(handler)
            sys.stdout.flush()
            sys.stderr.flush()
            os.dup2(terminal, 1)
            os.dup2(errors, 2)
            os.close(errors)


class _ConsoleHandler(logging.Handler):
    def __init__(self, console: Console):
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        self._console.print(f"    {escape(record.getMessage())}", style="dim")


def say(console: Console, sentence: str) -> None:
    """Prints a plain sentence; what it names may hold anything, also what looks like markup."""
    console.print(sentence, markup=False)


def started(console: Console, component: str) -> None:
    """Says that a component begins."""
    console.print(f"[cyan]>[/] {component}")


def ended(console: Console, component: str, state: str, seconds: float) -> None:
    """Says how a component ended."""
    mark = {"failed": "[red]x[/]", "cached": "[dim]=[/]"}.get(state, "[green]+[/]")
    console.print(f"{mark} {component:<18} {state:<9} {seconds:6.1f} s")


def verdict(console: Console, outcome: Mapping[str, Any], files: Mapping[str, Path]) -> None:
    """Prints thresholds, verdict and where to look further."""
    console.print()
    if outcome["gate"]:
        console.print(_gate_table(outcome["gate"]))
    quarantined = outcome["data"]["quarantined"]
    if quarantined:
        console.print(f"{len(quarantined)} faulty item(s) were set aside:")
        for row in quarantined[:10]:
            console.print(f"    {escape(row['id'])}: {escape(row['reason'])}")
        if len(quarantined) > 10:
            console.print(
                f"    ... and {len(quarantined) - 10} more, in {escape(str(files['outcome']))}"
            )
    drift = outcome["data"]["drift"]
    drifted = [row for row in drift["features"] if row["drifted"]]
    if drifted:
        console.print(f"The photos differ much from those of version {drift['against']}:")
        for row in drifted:
            bound = f"more than data.drift_bound = {row['bound']:g}"
            console.print(f"    {row['feature']}: a distance of {row['distance']:.2f}, {bound}")
    console.print(f"\nstatus: [bold]{outcome['status']}[/]")
    if outcome["status"] == "pushed":
        version, folder = outcome["pushed_version"], files["serving"]
        if outcome["new_version"]:
            say(console, f"Released version {version} in {folder}.")
        else:
            say(console, f"Version {version} in {folder} stays in service: the model is the same.")
    elif outcome.get("refused"):
        say(console, f"Not released: {outcome['refused']}")
    elif outcome["status"] == "not_blessed":
        failed = [row for row in outcome["gate"] if not row["held"]]
        names = ", ".join(f"{row['metric']} ({row['slice']})" for row in failed)
        console.print(f"Not released: {len(failed)} threshold(s) failed: {names}.")
    if outcome.get("copied_to"):
        say(console, f"Copy: {outcome['copied_to']}")
    note = (outcome["champion"] or {}).get("note")
    if note:
        say(console, note)
    say(console, f"Report: {files['report']}")


def _gate_table(gate: list[dict[str, Any]]) -> Table:
    """The thresholds that failed, and those overall; of others only their number."""
    shown = [row for row in gate if row["slice"] == "overall" or not row["held"]]
    table = Table(title="Thresholds", title_justify="left")
    for name in ("metric", "slice", "value", "bound", ""):
        table.add_column(name, justify="right" if name in ("value", "bound") else "left")
    for row in shown:
        change = row["kind"] == "change"
        number = "{:+.3f}" if change else "{:.3f}"
        sign = "<=" if row["kind"] == "at_most" else ">="
        table.add_row(
            f"{row['metric']} against champion" if change else row["metric"],
            escape(row["slice"]),
            "none" if row["value"] is None else number.format(row["value"]),
            f"{sign} {number.format(row['bound'])}",
            "[green]held[/]" if row["held"] else "[red]failed[/]",
        )
    if len(shown) < len(gate):
        table.caption = f"{len(gate) - len(shown)} more, of species and breeds, held"
    return table


def print_table(table: Table) -> None:
    """Prints a table to standard output, wide where that is no terminal."""
    wide = None if sys.stdout.isatty() else _FILE_WIDTH
    Console(highlight=False, width=wide).print(table)


def complain(sentence: str, stream: TextIO | None = None) -> None:
    """Prints an error for a person: one sentence, no traceback."""
    print(f"Error: {sentence}", file=stream or sys.stderr)
