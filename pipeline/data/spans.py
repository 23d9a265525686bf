"""Spans: numbered or dated batches in a data folder, of which a run uses the newest.

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
    """One span."""

    number: int  # TFX's span number; for a dated span, the days since 1970-01-01
    path: Path


def newest(root: Path, count: int) -> list[Span]:
    """Return the newest spans of a folder, at most `count`, newest first.

    Raises:
      DataError: if two names mean the same span, or numbers and dates are mixed.
    """
    paths: dict[int, Path] = {}
    dated = set()
    for path in sorted(path for path in root.iterdir() if path.is_dir()):
        number = _number(path.name)
        if number is None:
            continue
        if number in paths:
            raise DataError(f"{paths[number]} and {path} are the same span; remove one of them.")
        paths[number] = path
        dated.add(_DATED.fullmatch(path.name) is not None)
    if len(dated) > 1:
        raise DataError(
            f"The data folder {root} has spans by number and by date; name all of them "
            "span-NUMBER or all of them YYYY-MM-DD."
        )
    return [Span(number, paths[number]) for number in sorted(paths, reverse=True)[:count]]


def _number(name: str) -> int | None:
    if match := _NUMBERED.fullmatch(name):
        return int(match[1])
    if not _DATED.fullmatch(name):
        return None
    try:
        return (datetime.date.fromisoformat(name) - _EPOCH).days
    except ValueError:  # such as 2026-13-01
        return None
