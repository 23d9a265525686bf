"""Spans: a data folder of dated batches, of which a run takes the newest ones.

DIR/span-1/{images,annotations}/...        by number, or
DIR/2026-11-25/{images,annotations}/...    by day
"""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.errors import DataError

_NUMBERED = re.compile(r"span-(\d+)")
_DATED = re.compile(r"\d{4}-\d{2}-\d{2}")
_EPOCH = datetime.date(1970, 1, 1)


@dataclass(frozen=True)
class Span:
    """One batch."""

    number: int  # as TFX counts: of a dated batch, the days since 1970
    path: Path


def newest(root: Path, count: int) -> list[Span]:
    """The `count` newest batches of a folder, newest first; fewer, or none, where it has no more.

    Raises:
      DataError: two names mean the same batch, or numbers and dates are mixed.
    """
    found: dict[int, Path] = {}
    dated = set()
    for path in sorted(path for path in root.iterdir() if path.is_dir()):
        number = _number(path.name)
        if number is None:
            continue
        if number in found:
            raise DataError(f"{found[number]} and {path} are the same span; remove one of them.")
        found[number] = path
        dated.add(_DATED.fullmatch(path.name) is not None)
    if len(dated) > 1:
        raise DataError(
            f"The data folder {root} holds spans by number and by date; rename them all to "
            "span-NUMBER or all to YYYY-MM-DD."
        )
    return [Span(number, found[number]) for number in sorted(found, reverse=True)[:count]]


def _number(name: str) -> int | None:
    if match := _NUMBERED.fullmatch(name):
        return int(match[1])
    if not _DATED.fullmatch(name):
        return None
    try:
        return (datetime.date.fromisoformat(name) - _EPOCH).days
    except ValueError:  # such as 2026-13-01
        return None
