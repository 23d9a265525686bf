"""Read what ExampleGen writes beside its examples: quarantine, notes, classes, the listing."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

from tfx.dsl.io import fileio

from pipeline.core import progress
from pipeline.data import items

# Files beside the examples: three of JSON lines, and the result of listing the data folder.
QUARANTINE = "quarantine"
NOTES = "notes"
CLASSES = "classes"
SCAN = "scan.json"
LISTED = "listed"


def read_quarantine(examples_uri: str) -> list[items.Row]:
    """Reads the quarantined items, sorted by id: see `items.faulty`."""
    return items.by_id(_read_rows(examples_uri, QUARANTINE))


def read_notes(examples_uri: str) -> list[items.Row]:
    """Reads the notes on items that are used, sorted by id: see `items.noted`."""
    return items.of_used(_read_rows(examples_uri, NOTES), read_quarantine(examples_uri))


def read_classes(examples_uri: str) -> list[items.Row]:
    """Reads which classes the masks of each split and slice contain: see `coverage.row`."""
    return _read_rows(examples_uri, CLASSES)


def _read_rows(examples_uri: str, name: str) -> list[items.Row]:
    rows: list[items.Row] = []
    for path in fileio.glob(os.path.join(examples_uri, f"{name}-*")):
        with fileio.open(path, "r") as file:
            rows += [json.loads(line) for line in file.read().splitlines()]
    return rows


def read_scan(examples_uri: str) -> dict[str, list[str]]:
    """Reads the result of listing the data folder.

    Returns:
      ``unlisted``: ids that are skipped because no official list names them. ``spans``: the spans
      in use. ``hints``: what the names of files and lists suggest, see `layout.Scan`.
    """
    scan = _read_scan(examples_uri)
    return {name: value for name, value in scan.items() if name != LISTED}


def expect_photos(examples_uri: str, splits: Sequence[str], what: str) -> None:
    """Tells `progress` the number of photos in some splits, quarantined ones included."""
    listed = _read_scan(examples_uri).get(LISTED, {})
    progress.expect(sum(listed.get(split, 0) for split in splits), what)


def count_listed(examples_uri: str) -> int:
    """The number of photos with a mask in the data folder, quarantined ones included."""
    return sum(_read_scan(examples_uri).get(LISTED, {}).values())


def _read_scan(examples_uri: str) -> dict[str, Any]:
    with fileio.open(os.path.join(examples_uri, SCAN), "r") as file:
        scan: dict[str, Any] = json.load(file)
    return scan
