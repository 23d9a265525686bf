"""What an item is: one photo with its mask, and the reasons why one cannot be used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]  # of the quarantine, `faulty`, or of the notes, `noted`; JSON values


class FaultyItem(Exception):
    """One item cannot be used; the message is the reason.

    Args:
      reason: one clause.
      found: what its mask is, for `conventions.diagnose`.
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
    """A row of the quarantine: an item that is set aside, why, and what its mask is."""
    return {"id": id_, "reason": reason, **({"found": dict(found)} if found else {})}


def noted(id_: str, note: str, orientation: int | None = None) -> Row:
    """A row of the notes: an item that is used, and what a person should look at.

    Args:
      id_: of the item.
      note: one clause.
      orientation: the EXIF orientation of its photo, if that is what the note is about.
    """
    return {"id": id_, "note": note, **({"orientation": orientation} if orientation else {})}


def by_id(rows: Iterable[Row]) -> list[Row]:
    """Sorts rows of either kind."""
    return sorted(rows, key=lambda row: (row["id"], row.get("reason") or row.get("note")))


def of_used(notes: Iterable[Row], quarantined: Iterable[Row]) -> list[Row]:
    """The notes without those of items that were set aside after all, sorted by id."""
    aside = {row["id"] for row in quarantined}
    return by_id(row for row in notes if row["id"] not in aside)
