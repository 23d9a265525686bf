"""Which classes the masks of each split hold, and whether the gate can judge them.

The IoU of a class that is in no test mask has no value, or is 0 however good a model is, so a bound
on it refuses every candidate; a class that no training mask holds is never learned.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from pipeline.core import features, formatting
from pipeline.core.errors import DataError
from pipeline.data.items import Item, Row
from pipeline.settings import Gate


def of_item(item: Item, shares: dict[str, float]) -> list[tuple[tuple[str, str], list[int]]]:
    """What an item adds to the counts of the slices that it is in.

    Args:
      item: with its split.
      shares: of the classes in its mask, by name.

    Returns:
      ``((split, slice), [1, 1 or 0 for each class])`` for ``overall``, its species and its breed.
    """
    held = [1, *(int(shares[name] > 0) for name in features.CLASS_NAMES)]
    slices = (formatting.OVERALL, f"species={item.species}", f"breed={item.breed}")
    return [((item.split, each), held) for each in slices]


def add(counts: Iterable[Sequence[int]]) -> list[int]:
    """Adds counts, place by place."""
    return [sum(column) for column in zip(*counts, strict=True)]


def row(key: tuple[str, str], counts: Sequence[int]) -> Row:
    """The counts of a slice as JSON values.

    Returns:
      ``{"split", "slice", "examples", "classes"}``, with the number of masks that hold each class.
    """
    split, where = key
    classes = dict(zip(features.CLASS_NAMES, counts[1:], strict=True))
    return {"split": split, "slice": where, "examples": counts[0], "classes": classes}


def require(rows: Iterable[Row], gate: Gate) -> None:
    """Raises DataError, one sentence, if the gate bounds the IoU of a class that is not there."""
    if not gate.class_iou:
        return
    by_place = {(each["split"], each["slice"]): each for each in rows}
    judged = [
        each
        for (split, where), each in sorted(by_place.items())
        if split == features.TEST and _is_judged(each, where, gate)
    ]
    missing = [(_absent(each), each["slice"]) for each in judged]
    missing = [(names, where) for names, where in missing if names]
    advice = f"gate.class_iou = {gate.class_iou:g} bounds the IoU of every class"
    if missing:
        # What is missing overall is missing in every slice.
        names, where = min(missing, key=lambda each: (each[1] != formatting.OVERALL, each[1]))
        place = (
            "" if where == formatting.OVERALL else f" of the slice {formatting.slice_label(where)}"
        )
        raise DataError(
            f"{_subject(names)} in no mask of the split test{place}, so the gate cannot judge "
            f"{_pronoun(names)}, and {advice}: add masks that hold {_pronoun(names)}, or set "
            "gate.class_iou=0 to release without that bound."
        )
    names = _absent(by_place.get((features.TRAIN, formatting.OVERALL)))
    if names and judged:
        raise DataError(
            f"{_subject(names)} in no mask of the split train, so no model can learn "
            f"{_pronoun(names)}, and {advice}: add masks that hold {_pronoun(names)}, or set "
            "gate.class_iou=0."
        )


def hints(rows: Iterable[Row]) -> list[str]:
    """What to know of classes that a whole split lacks: sentences without their full stop."""
    consequences = {
        features.TRAIN: "no model can learn",
        features.EVAL: "the best epoch is picked without",
        features.TEST: "the gate cannot judge",
    }
    overall = {each["split"]: each for each in rows if each["slice"] == formatting.OVERALL}
    lacking: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for split in consequences:
        if names := _absent(overall.get(split)):
            lacking[tuple(names)].append(split)
    return [
        f"{_subject(names)} in no mask of the split{'s' if len(splits) > 1 else ''} "
        f"{formatting.listed(splits, 'or')}, so "
        + formatting.listed([f"{consequences[split]} {_pronoun(names)}" for split in splits])
        for names, splits in lacking.items()
    ]


def _is_judged(counts: Row, where: str, gate: Gate) -> bool:
    """Whether absolute bounds of the gate stand on a slice of the split test."""
    if where == formatting.OVERALL:
        return formatting.OVERALL in gate.slices
    return where.partition("=")[0] in gate.slices and counts["examples"] >= gate.min_examples


def _absent(counts: Row | None) -> list[str]:
    if counts is None:  # an empty split, which is another fault
        return []
    return [name for name, count in counts["classes"].items() if not count]


def _subject(names: Sequence[str]) -> str:
    return (
        f"The class {names[0]} is"
        if len(names) == 1
        else f"The classes {formatting.listed(names)} are"
    )


def _pronoun(names: Sequence[str]) -> str:
    return "it" if len(names) == 1 else "them"
