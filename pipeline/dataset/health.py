"""Whether a data set is fit to train on: the rule, and a look at every item of a folder."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from dataclasses import dataclass
from pathlib import Path

from pipeline import features
from pipeline.dataset import checks, items, layout
from pipeline.errors import DataError
from pipeline.settings import Data

Sound = tuple[items.Item, checks.Checked]
Looked = checks.Checked | str  # or why the item is faulty
Track = Callable[[Iterator[Looked], int], Iterator[Looked]]


@dataclass(frozen=True)
class Health:
    """What a run would take from a data folder, and what it would leave."""

    sound: dict[str, list[Sound]]  # by split; the files themselves are dropped
    quarantined: list[dict[str, str]]  # set aside: `items.faulty`
    notes: list[dict[str, str]]  # used, worth a look: `items.noted`
    unlisted: list[str]  # ids on none of the lists, left out
    spans: list[str]  # names of the batches taken, newest first


def examine(root: Path, settings: Data, track: Track = lambda looked, _: looked) -> Health:
    """Opens every item that a run would take, several at a time.

    Args:
      root: the data folder.
      settings: which of its items are taken.
      track: gets the results one after the other and their number, and hands them through.

    Raises:
      DataError: as `layout.check_layout`.
    """
    scan = layout.scan(root, settings)
    quarantined, notes = list(scan.quarantined), list(scan.notes)
    sound: dict[str, list[Sound]] = {split: [] for split in features.SPLITS}

    def look(item: items.Item) -> Looked:
        try:
            checked = checks.check_item(item, settings.one_class_masks)
        except items.FaultyItem as fault:
            return str(fault)
        # Thousands of items are kept; their files need not be.
        return dataclasses.replace(checked, image_file=b"", mask_file=b"")

    with futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        looked = track(pool.map(look, scan.items), len(scan.items))
        for item, found in zip(scan.items, looked, strict=True):
            if isinstance(found, str):
                quarantined.append(items.faulty(item.id, found))
                continue
            sound[item.split].append((item, found))
            if found.note:
                notes.append(items.noted(item.id, found.note))
    return Health(
        sound=sound,
        quarantined=items.by_id(quarantined),
        notes=items.of_used(notes, quarantined),
        unlisted=scan.unlisted,
        spans=scan.spans,
    )


def require_breeds(found: Health, allowed: Sequence[str]) -> None:
    """Raises DataError if there are breeds beyond those that are allowed; no list allows all."""
    strange = {item.breed for sound in found.sound.values() for item, _ in sound} - set(allowed)
    if allowed and strange:
        raise DataError(
            f"There are photos of {', '.join(sorted(strange))}, but data.breeds allows only "
            f"{', '.join(allowed)}; take the photos out, or change the setting."
        )


def require_fit(
    splits: Mapping[str, int], quarantined: Sequence[Mapping[str, str]], max_quarantined: float
) -> None:
    """Refuses a data set with too many faulty items, or with an empty split.

    Args:
      splits: number of usable items of each split.
      quarantined: rows ``{"id", "reason"}`` of the items set aside.
      max_quarantined: share of faulty items that is tolerated; above 0, one item always is.

    Raises:
      DataError: one sentence.
    """
    usable = sum(splits.values())
    total = usable + len(quarantined)
    if len(quarantined) > (max(1, max_quarantined * total) if max_quarantined else 0):
        worst = "; ".join(f"{row['id']}: {row['reason']}" for row in quarantined[:3])
        more = ", ..." if len(quarantined) > 3 else ""
        raise DataError(
            f"{len(quarantined)} of {total} items are faulty, more than data.max_quarantined = "
            f"{max_quarantined:g} allows ({worst}{more}); mend them or raise the setting."
        )
    for split, count in splits.items():
        if count == 0:
            raise DataError(
                f"The split '{split}' has no usable items ({usable} in all); "
                "add photos, or change data.eval_share, data.test_share or annotations/*.txt."
            )
