"""What an item is: one photo with its mask, and the reasons why one cannot be used."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


class FaultyItem(Exception):
    """One item cannot be used; the message is the reason."""


@dataclass(frozen=True)
class Item:
    """One photo with its mask, not yet opened."""

    id: str
    image: str  # path
    mask: str  # path
    breed: str
    species: str
    split: str


def faulty(id_: str, reason: str) -> dict[str, str]:
    """A row of the quarantine: an item that is set aside, and why."""
    return {"id": id_, "reason": reason}


def noted(id_: str, note: str) -> dict[str, str]:
    """A row of the notes: an item that is used, and what a person should look at."""
    return {"id": id_, "note": note}


def by_id(rows: Iterable[dict[str, str]]) -> list[dict[str, str]]:
    """Sorts rows of either kind."""
    return sorted(rows, key=lambda row: tuple(row.values()))


def of_used(
    notes: Iterable[dict[str, str]], quarantined: Iterable[dict[str, str]]
) -> list[dict[str, str]]:
    """The notes without those of items that were set aside after all, sorted by id."""
    aside = {row["id"] for row in quarantined}
    return by_id(row for row in notes if row["id"] not in aside)
