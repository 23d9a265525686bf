"""The summary of a run that the terminal shows at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline.core.console import print_line_to, print_table_to
from pipeline.core.features import OVERALL
from pipeline.report.outcome import NOT_BLESSED, PUSHED, Outcome, Threshold

_MOST_QUARANTINED = 10


def show(terminal: Console, outcome: Outcome, files: Mapping[str, Path]) -> None:
    """Print the thresholds, the verdict and the paths of the results.

    Args:
      terminal: the console to print to.
      outcome: of the run.
      files: the paths `outcome`, `report` and `serving`.
    """
    terminal.print()
    if outcome.gate:
        print_table_to(terminal, _gate_table(outcome.gate))
    _show_data(terminal, outcome, files["outcome"])
    terminal.print()
    terminal.print(f"status: [bold]{outcome.status}[/]")
    if outcome.status == PUSHED:
        _show_release(terminal, outcome, files["serving"])
    elif outcome.refused:
        print_line_to(terminal, f"Not released: {outcome.refused}")
    elif outcome.status == NOT_BLESSED:
        missed = outcome.missed()
        names = ", ".join(f"{_metric(row)} ({row.slice})" for row in missed)
        count = f"{len(missed)} of {len(outcome.gate)}"
        print_line_to(terminal, f"Not released: {count} thresholds missed: {names}.")
        for reason in dict.fromkeys(row.reason for row in missed if row.reason):
            print_line_to(terminal, f"    {reason}")
    if outcome.copied_to:
        print_line_to(terminal, f"Copy: {outcome.copied_to}")
    if outcome.champion and outcome.champion.note:
        print_line_to(terminal, outcome.champion.note)
    print_line_to(terminal, f"Report: {files['report']}")


def _show_data(terminal: Console, outcome: Outcome, file: Path) -> None:
    quarantined = outcome.data.quarantined
    if quarantined:
        plural = "" if len(quarantined) == 1 else "s"
        terminal.print(f"Quarantined {len(quarantined)} photo{plural}:")
        for item in quarantined[:_MOST_QUARANTINED]:
            terminal.print(f"    {escape(item.id)}: {escape(item.reason or '')}")
        if len(quarantined) > _MOST_QUARANTINED:
            more = len(quarantined) - _MOST_QUARANTINED
            terminal.print(f"    ... and {more} more; see {escape(str(file))}")
    for hint in outcome.data.hints:
        print_line_to(terminal, f"Note: {hint}.")
    drift = outcome.data.drift
    if drifted := drift.drifted():
        terminal.print(
            f"The photos have drifted from the training data of version {drift.against}:"
        )
        for row in drifted:
            bound = f"above data.drift_bound = {row['bound']:g}"
            terminal.print(f"    {row['feature']}: distance {row['distance']:.2f}, {bound}")


def _show_release(terminal: Console, outcome: Outcome, folder: Path) -> None:
    version = outcome.pushed_version
    if not outcome.new_version:
        print_line_to(
            terminal, f"Version {version} in {folder} stays in service; the model is the same."
        )
        return
    print_line_to(terminal, f"Released version {version} in {folder}.")
    replaced = outcome.replaced
    if replaced and replaced.fault:
        broken = f"which was broken: {replaced.fault}"
        print_line_to(terminal, f"It replaces version {replaced.version}, {broken}.")
    for name, facts in outcome.formats.items():
        print_line_to(terminal, f"    with {', '.join(facts['files'])} ({name})")


def _metric(row: Threshold) -> str:
    return f"{row.metric} vs champion" if row.kind == "change" else row.metric


def _gate_table(gate: Sequence[Threshold]) -> Table:
    """Build the table of missed and overall thresholds; its caption counts the others."""
    shown = [row for row in gate if row.slice == OVERALL or not row.held]
    table = Table(title="Thresholds", title_justify="left")
    for name in ("metric", "slice", "value", "threshold", ""):
        is_number = name in ("value", "threshold")
        table.add_column(name, justify="right" if is_number else "left", no_wrap=is_number)
    for row in shown:
        number = "{:+.3f}" if row.kind == "change" else "{:.3f}"
        sign = "<=" if row.kind == "at_most" else ">="
        table.add_row(
            _metric(row),
            escape(row.slice),
            "none" if row.value is None else number.format(row.value),
            f"{sign} {'none' if row.bound is None else number.format(row.bound)}",
            "[green]met[/]" if row.held else "[red]missed[/]",
        )
    if len(shown) < len(gate):
        table.caption = f"{len(gate) - len(shown)} more, for species and breeds, are met"
    return table
