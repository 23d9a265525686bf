"""Items, one photo with its mask each, and rows of the quarantine and the notes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]  # JSON values; of the quarantine (`faulty`) or the notes (`noted`)


class UnusableItemError(Exception):
    """An item is unusable and is quarantined; the message is the reason.

    Args:
      reason: one clause.
      found: a description of its mask for `conventions.diagnose`.
    """

    def __init__(self, reason: str, found: Mapping[str, Any] | None = None):
        super().__init__(reason)
        self.found = found


@dataclass(frozen=True)
class Item:
    """One photo with its mask, not yet opened."""

    id: str
    image: str  # path
    mask: str  # path
    breed: str
    species: str
    split: str


def faulty(id_: str, reason: str, found: Mapping[str, Any] | None = None) -> Row:
    """Return a row of the quarantine: the id, the reason, and a description of the mask."""
    return {"id": id_, "reason": reason, **({"found": dict(found)} if found else {})}


def noted(id_: str, note: str, orientation: int | None = None) -> Row:
    """Return a row of the notes: an item that is used, and what to check in it.

    Args:
      id_: the id of the item.
      note: one clause.
      orientation: the EXIF orientation of its photo, if the note is about that.
    """
    return {"id": id_, "note": note, **({"orientation": orientation} if orientation else {})}


def by_id(rows: Iterable[Row]) -> list[Row]:
    """Sort rows of either kind."""
    return sorted(rows, key=lambda row: (row["id"], row.get("reason") or row.get("note")))


def of_used(notes: Iterable[Row], quarantined: Iterable[Row]) -> list[Row]:
    """Return the notes without those on quarantined items, sorted by id."""
    quarantined_ids = {row["id"] for row in quarantined}
    return by_id(row for row in notes if row["id"] not in quarantined_ids)
