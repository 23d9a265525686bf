"""Prints the health of a data folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import fmean, median

from rich.console import Console
from rich.table import Table

from pipeline.core import console, features
from pipeline.data.health import Health, Sound

_COLUMNS = ("items", *features.SPECIES, "breeds", "height", "width", *features.CLASS_NAMES)


def show(terminal: Console, health: Health) -> None:
    """Print which items a run would use, and list those quarantined, with notes, or unlisted."""
    if health.spans:
        console.print_line_to(terminal, f"Spans: {', '.join(health.spans)}")
    table = Table(
        title="Usable items, median size in pixels, mean fraction of each class in the masks",
        title_justify="left",
        box=None,
        padding=(0, 2, 0, 0),
    )
    for name in ("split", *_COLUMNS):
        table.add_column(name, justify="left" if name == "split" else "right")
    for split, sound in health.sound.items():
        table.add_row(split, *_cells(sound))
    console.print_table_to(terminal, table)
    for title, rows in (("Quarantined", health.quarantined), ("Notes", health.notes)):
        if rows:
            terminal.print(f"{title}: {len(rows)}")
        for row in rows:
            console.print_line_to(terminal, f"    {row['id']}: {row.get('reason') or row['note']}")
    if health.unlisted:
        ids = ", ".join(health.unlisted)
        console.print_line_to(terminal, f"Not listed, left out: {len(health.unlisted)}")
        console.print_line_to(terminal, f"    {ids}")


def show_hints(terminal: Console, hints: Sequence[str]) -> None:
    """Print notes on the data folder as a whole."""
    for hint in hints:
        console.print_line_to(terminal, f"Note: {hint}.")


def _cells(sound: Sequence[Sound]) -> list[str]:
    species = Counter(item.species for item, _ in sound)
    breeds = {item.breed for item, _ in sound}
    cells = [len(sound), *(species[name] for name in features.SPECIES), len(breeds)]
    if not sound:
        return [str(cell) for cell in cells]
    size = (
        median(checked.height for _, checked in sound),
        median(checked.width for _, checked in sound),
    )
    shares = (
        fmean(checked.class_shares[name] for _, checked in sound) for name in features.CLASS_NAMES
    )
    return [
        *(str(cell) for cell in cells),
        *(f"{side:.0f}" for side in size),
        *(f"{share:.2f}" for share in shares),
    ]
