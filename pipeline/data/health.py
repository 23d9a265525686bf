"""Checks every item of a data folder, and decides whether the data set is fit to train on."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent import futures
from dataclasses import dataclass
from pathlib import Path

from pipeline.core import features, formatting
from pipeline.core.errors import DataError
from pipeline.data import conventions, coverage, items, layout, validation
from pipeline.settings import Data

Sound = tuple[items.Item, validation.Checked]
Result = validation.Checked | items.UnusableItemError
Track = Callable[[Iterator[Result], int], Iterator[Result]]


@dataclass(frozen=True)
class Health:
    """What a run would use of a data folder, and what not."""

    sound: dict[str, list[Sound]]  # usable items by split, without the contents of their files
    quarantined: list[items.Row]  # rows from `items.faulty`
    notes: list[items.Row]  # on items that are used, rows from `items.noted`
    unlisted: list[str]  # ids that are not listed, left out
    spans: list[str]  # names of the batches that are used, newest first
    classes: list[items.Row]  # counts of the classes in the masks, rows from `coverage.row`
    causes: list[str]  # what may explain the quarantined items, from `causes`
    hints: list[str]  # notes on the data set as a whole, from `hints`


def examine(root: Path, settings: Data, track: Track = lambda results, _: results) -> Health:
    """Check every item that a run would use, several in parallel.

    Args:
      root: the data folder.
      settings: which of its items are used.
      track: wraps the iterator over the results, to show progress; also gets their number.

    Raises:
      DataError: as `layout.check_layout`.
    """
    scan = layout.scan(root, settings)
    quarantined, notes = list(scan.quarantined), list(scan.notes)
    sound: dict[str, list[Sound]] = {split: [] for split in features.SPLITS}

    def check(item: items.Item) -> Result:
        try:
            checked = validation.check_item(item, settings)
        except items.UnusableItemError as fault:
            return fault
        # Drop the files, since thousands of items are kept.
        return dataclasses.replace(checked, image_file=b"", mask_file=b"")

    with futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        results = track(pool.map(check, scan.items), len(scan.items))
        for item, result in zip(scan.items, results, strict=True):
            if isinstance(result, items.UnusableItemError):
                quarantined.append(items.faulty(item.id, str(result), result.found))
                continue
            sound[item.split].append((item, result))
            notes += result.notes
    quarantined = items.by_id(quarantined)
    notes = items.of_used(notes, quarantined)
    classes = _classes(each for pairs in sound.values() for each in pairs)
    return Health(
        sound=sound,
        quarantined=quarantined,
        notes=notes,
        unlisted=scan.unlisted,
        spans=scan.spans,
        classes=classes,
        causes=causes(quarantined, scan.hints),
        hints=hints(notes, classes, settings),
    )


def _classes(sound: Iterable[Sound]) -> list[items.Row]:
    counts = defaultdict(list)
    for item, checked in sound:
        for key, count in coverage.of_item(item, checked.class_shares):
            counts[key].append(count)
    return [coverage.row(key, coverage.add(each)) for key, each in counts.items()]


def hints(notes: Iterable[items.Row], classes: Sequence[items.Row], settings: Data) -> list[str]:
    """Return notes on the data set as a whole: sentences without full stop.

    Args:
      notes: rows on items that are used.
      classes: counts of the classes in their masks, rows from `coverage.row`.
      settings: the settings that the items were read with.
    """
    return [*_orientations(notes, classes, settings), *coverage.hints(classes)]


def causes(quarantined: Sequence[items.Row], of_folder: Sequence[str]) -> list[str]:
    """Return what may explain the quarantined items: sentences without full stop.

    Args:
      quarantined: rows of those items.
      of_folder: hints from the names of files and lists, `layout.Scan.hints`.
    """
    return [*conventions.diagnose(quarantined), *of_folder]


def _orientations(
    notes: Iterable[items.Row], classes: Iterable[items.Row], settings: Data
) -> list[str]:
    counts = Counter(row["orientation"] for row in notes if row.get("orientation"))
    if not counts:
        return []
    photos = sum(row["examples"] for row in classes if row["slice"] == features.OVERALL)
    each = formatting.listed([f"{n} with orientation {turn}" for turn, n in sorted(counts.items())])
    total = sum(counts.values())
    what = (
        f"{total} of {photos} photos {'has' if total == 1 else 'have'} an EXIF orientation ({each})"
    )
    if settings.exif == "as_stored":
        return [
            f"{what}, which is not applied: their masks must fit the pixels as stored; if they "
            'fit the upright photos, set data.exif=apply (docs/how_to/data.md, "EXIF orientation")'
        ]
    if settings.exif_masks == "as_stored":
        return [f"{what}, which is applied to photos and masks"]
    return [f"{what}, which is applied: their masks must fit the upright photos"]


def require_breeds(health: Health, allowed: Sequence[str]) -> None:
    """Raise DataError if a breed is not among those allowed; an empty list allows all."""
    strange = {item.breed for sound in health.sound.values() for item, _ in sound} - set(allowed)
    if allowed and strange:
        raise DataError(
            f"There are photos of {', '.join(sorted(strange))}, but data.breeds allows only "
            f"{', '.join(allowed)}; remove the photos or change the setting."
        )


def require_fit(
    splits: Mapping[str, int],
    quarantined: Sequence[items.Row],
    max_quarantined: float,
    causes: Sequence[str] = (),
    listed: bool = False,
) -> None:
    """Refuse a data set with too many quarantined items or an empty split.

    Args:
      splits: number of usable items in each split.
      quarantined: rows ``{"id", "reason"}``.
      max_quarantined: maximum fraction of quarantined items; above 0, one is always tolerated.
      causes: what may explain them: sentences without full stop.
      listed: whether the quarantined items have been printed already.

    Raises:
      DataError: if the data set is refused.
    """
    usable = sum(splits.values())
    total = usable + len(quarantined)
    if len(quarantined) > (max(1, max_quarantined * total) if max_quarantined else 0):
        shown = 1 if causes else 3
        worst = "; ".join(f"{row['id']}: {row['reason']}" for row in quarantined[:shown])
        more = ", ..." if len(quarantined) > shown else ""
        examples = "" if listed else f" ({worst}{more})"
        advice = "; ".join(causes) or "fix them or raise the setting"
        raise DataError(
            f"{len(quarantined)} of {total} items are quarantined, more than data.max_quarantined ="
            f" {max_quarantined:g} allows{examples}; {advice}."
        )
    for split, count in splits.items():
        if count == 0:
            advice = "; ".join(causes) or (
                "add photos, or change data.eval_share, data.test_share or annotations/*.txt"
            )
            raise DataError(
                f"The {split} split has no usable items ({usable} in all splits together); "
                f"{advice}."
            )
