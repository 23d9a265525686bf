"""Whether a data set is fit to train on: the rule, and a look at every item of a folder."""

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
Looked = validation.Checked | items.FaultyItem
Track = Callable[[Iterator[Looked], int], Iterator[Looked]]


@dataclass(frozen=True)
class Health:
    """What a run would take from a data folder, and what it would leave."""

    sound: dict[str, list[Sound]]  # by split; the files themselves are dropped
    quarantined: list[items.Row]  # set aside: `items.faulty`
    notes: list[items.Row]  # used, worth a look: `items.noted`
    unlisted: list[str]  # ids on none of the lists, left out
    spans: list[str]  # names of the batches taken, newest first
    classes: list[items.Row]  # which the masks hold: `coverage.row`
    causes: list[str]  # what may explain what is set aside: `causes`
    hints: list[str]  # what else is to be known of the whole: `hints`


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
            checked = validation.check_item(item, settings)
        except items.FaultyItem as fault:
            return fault
        # Thousands of items are kept; their files need not be.
        return dataclasses.replace(checked, image_file=b"", mask_file=b"")

    with futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        looked = track(pool.map(look, scan.items), len(scan.items))
        for item, found in zip(scan.items, looked, strict=True):
            if isinstance(found, items.FaultyItem):
                quarantined.append(items.faulty(item.id, str(found), found.found))
                continue
            sound[item.split].append((item, found))
            notes += found.notes
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
        for key, held in coverage.of_item(item, checked.class_shares):
            counts[key].append(held)
    return [coverage.row(key, coverage.add(held)) for key, held in counts.items()]


def hints(notes: Iterable[items.Row], classes: Sequence[items.Row], settings: Data) -> list[str]:
    """What to know of the data as a whole: sentences without their full stop.

    Args:
      notes: on items that are used.
      classes: which of them the masks hold: `coverage.row`.
      settings: that they were read with.
    """
    return [*_orientations(notes, classes, settings), *coverage.hints(classes)]


def causes(quarantined: Sequence[items.Row], of_folder: Sequence[str]) -> list[str]:
    """What may explain items that are set aside, as sentences without their full stop.

    Args:
      quarantined: those items.
      of_folder: what the names of files and lists say: `layout.Scan.hints`.
    """
    return [*conventions.diagnose(quarantined), *of_folder]


def _orientations(
    notes: Iterable[items.Row], classes: Iterable[items.Row], settings: Data
) -> list[str]:
    counts = Counter(row["orientation"] for row in notes if row.get("orientation"))
    if not counts:
        return []
    photos = sum(row["examples"] for row in classes if row["slice"] == formatting.OVERALL)
    each = formatting.listed([f"{n} with orientation {turn}" for turn, n in sorted(counts.items())])
    total = sum(counts.values())
    what = (
        f"{total} of {photos} photos {'has' if total == 1 else 'have'} an EXIF orientation ({each})"
    )
    if settings.exif == "as_stored":
        return [
            f"{what}, which is not applied: their masks have to fit the pixels as stored; if they "
            'fit the upright photos, set data.exif=apply (docs/how_to/data.md, "EXIF orientation")'
        ]
    masks = {"upright": "their masks have to fit the upright photos", "as_stored": "to masks too"}
    return [f"{what}, which is applied: {masks[settings.exif_masks]}"]


def require_breeds(found: Health, allowed: Sequence[str]) -> None:
    """Raises DataError if there are breeds beyond those that are allowed; no list allows all."""
    strange = {item.breed for sound in found.sound.values() for item, _ in sound} - set(allowed)
    if allowed and strange:
        raise DataError(
            f"There are photos of {', '.join(sorted(strange))}, but data.breeds allows only "
            f"{', '.join(allowed)}; take the photos out, or change the setting."
        )


def require_fit(
    splits: Mapping[str, int],
    quarantined: Sequence[items.Row],
    max_quarantined: float,
    causes: Sequence[str] = (),
    listed: bool = False,
) -> None:
    """Refuses a data set with too many faulty items, or with an empty split.

    Args:
      splits: number of usable items of each split.
      quarantined: rows ``{"id", "reason"}`` of the items set aside.
      max_quarantined: share of faulty items that is tolerated; above 0, one item always is.
      causes: what is known of the folder that may explain it: sentences without full stop.
      listed: the faulty items have been named already.

    Raises:
      DataError: one sentence.
    """
    usable = sum(splits.values())
    total = usable + len(quarantined)
    if len(quarantined) > (max(1, max_quarantined * total) if max_quarantined else 0):
        shown = 1 if causes else 3
        worst = "; ".join(f"{row['id']}: {row['reason']}" for row in quarantined[:shown])
        more = ", ..." if len(quarantined) > shown else ""
        examples = "" if listed else f" ({worst}{more})"
        advice = "; ".join(causes) or "mend them or raise the setting"
        raise DataError(
            f"{len(quarantined)} of {total} items are faulty, more than data.max_quarantined = "
            f"{max_quarantined:g} allows{examples}; {advice}."
        )
    for split, count in splits.items():
        if count == 0:
            advice = "; ".join(causes) or (
                "add photos, or change data.eval_share, data.test_share or annotations/*.txt"
            )
            raise DataError(f"The split '{split}' has no usable items ({usable} in all); {advice}.")
