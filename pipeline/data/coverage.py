"""Counts the masks of each split that contain each class, and checks that the gate can judge it.

Without test masks of a class, its IoU is undefined or 0 for any model, so a threshold on it refuses
every candidate. Without training masks of a class, no model learns it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from pipeline.core import features, formatting
from pipeline.core.errors import DataError
from pipeline.data.items import Item, Row
from pipeline.settings import Gate


def of_item(item: Item, shares: dict[str, float]) -> list[tuple[tuple[str, str], list[int]]]:
    """Return what an item adds to the counts of its slices.

    Args:
      item: the item.
      shares: the fraction of each class in its mask, by name.

    Returns:
      ``((split, slice), [1, 1 or 0 for each class])`` for ``overall``, its species and its breed.
    """
    counts = [1, *(int(shares[name] > 0) for name in features.CLASS_NAMES)]
    slices = (features.OVERALL, f"species={item.species}", f"breed={item.breed}")
    return [((item.split, each), counts) for each in slices]


def add(counts: Iterable[Sequence[int]]) -> list[int]:
    """Add up counts element by element."""
    return [sum(column) for column in zip(*counts, strict=True)]


def row(key: tuple[str, str], counts: Sequence[int]) -> Row:
    """Return the counts of a slice as JSON values.

    Returns:
      ``{"split", "slice", "examples", "classes"}``; ``classes`` has the number of masks that
      contain each class.
    """
    split, where = key
    classes = dict(zip(features.CLASS_NAMES, counts[1:], strict=True))
    return {"split": split, "slice": where, "examples": counts[0], "classes": classes}


def require(rows: Iterable[Row], gate: Gate) -> None:
    """Raise DataError if the gate has a threshold on the IoU of a class that is missing."""
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
    rule = f"gate.class_iou = {gate.class_iou:g} applies to every class"
    if missing:
        # A class that is missing overall is missing in every slice.
        names, where = min(missing, key=lambda each: (each[1] != features.OVERALL, each[1]))
        place = "" if where == features.OVERALL else f", slice {formatting.slice_label(where)},"
        raise DataError(
            f"No mask in the test split{place} contains {_classes(names)}, so the gate cannot "
            f"judge {_pronoun(names)}, but {rule}; add masks that contain {_pronoun(names)}, or "
            "set gate.class_iou=0 to release without that threshold."
        )
    names = _absent(by_place.get((features.TRAIN, features.OVERALL)))
    if names and judged:
        raise DataError(
            f"No mask in the train split contains {_classes(names)}, so no model can learn "
            f"{_pronoun(names)}, but {rule}; add masks that contain {_pronoun(names)}, or set "
            "gate.class_iou=0."
        )


def hints(rows: Iterable[Row]) -> list[str]:
    """Return notes on classes that a whole split lacks: sentences without full stop."""
    consequences = {
        features.TRAIN: "no model can learn",
        features.EVAL: "the best epoch is picked without",
        features.TEST: "the gate cannot judge",
    }
    overall = {each["split"]: each for each in rows if each["slice"] == features.OVERALL}
    lacking: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for split in consequences:
        if names := _absent(overall.get(split)):
            lacking[tuple(names)].append(split)
    return [
        f"No mask in the {formatting.listed(splits, 'or')} split{'s' if len(splits) > 1 else ''} "
        f"contains {_classes(names)}, so "
        + formatting.listed([f"{consequences[split]} {_pronoun(names)}" for split in splits])
        for names, splits in lacking.items()
    ]


def _is_judged(counts: Row, where: str, gate: Gate) -> bool:
    """Return whether the gate's absolute thresholds apply to a slice of the test split."""
    if where == features.OVERALL:
        return features.OVERALL in gate.slices
    return where.partition("=")[0] in gate.slices and counts["examples"] >= gate.min_examples


def _absent(counts: Row | None) -> list[str]:
    if counts is None:  # an empty split, which `health.require_fit` reports
        return []
    return [name for name, count in counts["classes"].items() if not count]


def _classes(names: Sequence[str]) -> str:
    return f"the class{'es' if len(names) > 1 else ''} {formatting.listed(names, 'or')}"


def _pronoun(names: Sequence[str]) -> str:
    return "it" if len(names) == 1 else "them"
