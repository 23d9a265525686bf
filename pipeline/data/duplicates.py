"""Finds photos with equal bytes: a copy in another split would leak into it."""

from __future__ import annotations

import hashlib
import os
import stat
from collections import defaultdict
from collections.abc import Iterable, Iterator

from pipeline.core import features
from pipeline.data.items import Item, Row, UnusableItemError, faulty, noted
from pipeline.settings import Data


def quarantine_duplicates(
    items: Iterable[Item], settings: Data
) -> tuple[list[Item], list[Row], list[Row]]:
    """Quarantine copies in different splits, and note copies in the same split.

    The copy in `test` is kept before one in `eval`, and that before one in `train`, so that no test
    photo is trained on. An unusable item is not kept in place of a usable copy. Only photos with
    equal file sizes are opened.

    Args:
      items: the items of a data set.
      settings: as for `validation.check_item`.

    Returns:
      The items to keep, rows of the quarantine, and notes.
    """
    all_items, quarantined, notes = list(items), [], []
    removed = set()
    for group in _groups(all_items):
        group.sort(key=lambda item: (-features.SPLITS.index(item.split), item.id))
        if len({item.split for item in group}) > 1:
            sound = [item for item in group if _is_sound(item, settings)]
            group = sound or group
        first = group[0]
        for copy in group[1:]:
            if copy.split == first.split:
                notes.append(noted(copy.id, f"the same photo as {first.id}"))
            else:
                reason = f"the same photo as {first.id}, which is in the {first.split} split"
                quarantined.append(faulty(copy.id, reason))
                removed.add(copy.id)
    return [item for item in all_items if item.id not in removed], quarantined, notes


def _is_sound(item: Item, settings: Data) -> bool:
    from pipeline.data import validation  # takes seconds, since it loads TensorFlow

    try:
        validation.check_item(item, settings)
    except UnusableItemError:
        return False
    return True


def _groups(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Yield groups of two or more items with equal photos."""
    by_size = defaultdict(list)
    for item in items:
        if size := _size(item.image):
            by_size[size].append(item)
    for same_size in by_size.values():
        if len(same_size) > 1:
            by_content = defaultdict(list)
            for item in same_size:
                by_content[_digest(item.image)].append(item)
            yield from (group for content, group in by_content.items() if content and group[1:])


def _size(path: str) -> int:
    """Return the size of a regular file; 0 for anything else, which `validation` reports."""
    try:
        status = os.stat(path)
    except OSError:
        return 0
    return status.st_size if stat.S_ISREG(status.st_mode) else 0


def _digest(path: str) -> str | None:
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError:
        return None
    return digest.hexdigest()
