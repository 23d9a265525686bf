"""What ExampleGen leaves beside its examples: what was listed, set aside, noted and counted."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

from tfx.dsl.io import fileio

from pipeline.core import progress
from pipeline.data import items

# What lies beside the examples: rows of items, a JSON line each, and what the listing found.
QUARANTINE = "quarantine"
NOTES = "notes"
CLASSES = "classes"
SCAN = "scan.json"
LISTED = "listed"


def read_quarantine(examples_uri: str) -> list[items.Row]:
    """The items set aside at ingestion: `items.faulty`, sorted by id."""
    return items.by_id(_read_rows(examples_uri, QUARANTINE))


def read_notes(examples_uri: str) -> list[items.Row]:
    """What a person should look at in items that are used: `items.noted`, sorted by id."""
    return items.of_used(_read_rows(examples_uri, NOTES), read_quarantine(examples_uri))


def read_classes(examples_uri: str) -> list[items.Row]:
    """Which classes the masks of each split and slice hold: `coverage.row`."""
    return _read_rows(examples_uri, CLASSES)


def _read_rows(examples_uri: str, name: str) -> list[items.Row]:
    rows: list[items.Row] = []
    for path in fileio.glob(os.path.join(examples_uri, f"{name}-*")):
        with fileio.open(path, "r") as file:
            rows += [json.loads(line) for line in file.read().splitlines()]
    return rows


def read_scan(examples_uri: str) -> dict[str, list[str]]:
    """``unlisted``: ids that no official list names, left out; ``spans``: the batches taken;
    ``hints``: what the names of files and lists say of the folder, see `layout.Scan`.
    """
    scan = _read_scan(examples_uri)
    return {name: value for name, value in scan.items() if name != LISTED}


def expect_photos(examples_uri: str, splits: Sequence[str], what: str) -> None:
    """Tells `progress` how many photos there are to do; those set aside are among them."""
    listed = _read_scan(examples_uri).get(LISTED, {})
    progress.expect(sum(listed.get(split, 0) for split in splits), what)


def count_listed(examples_uri: str) -> int:
    """How many photos with a mask the data folder had, those set aside among them."""
    return sum(_read_scan(examples_uri).get(LISTED, {}).values())


def _read_scan(examples_uri: str) -> dict[str, Any]:
    with fileio.open(os.path.join(examples_uri, SCAN), "r") as file:
        return json.load(file)
