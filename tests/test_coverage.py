"""Which classes the gate needs, in which split and slice."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.core import features
from pipeline.core.errors import DataError
from pipeline.data import coverage
from pipeline.data.items import Item, Row
from pipeline.settings import Gate

FULL = {"pet": 0.2, "background": 0.7, "border": 0.1}
TWO = {"pet": 0.2, "background": 0.8, "border": 0.0}


def rows(**masks: list[tuple[str, dict[str, float]]]) -> list[Row]:
    """Counts of splits, each given as breeds and the shares of a mask."""
    counts: dict[tuple[str, str], list[list[int]]] = {}
    for split, items in masks.items():
        for breed, shares in items:
            species = "cat" if breed[0].isupper() else "dog"
            item = Item("a", "a.jpg", "a.png", breed, species, split)
            for key, held in coverage.of_item(item, shares):
                counts.setdefault(key, []).append(held)
    return [coverage.row(key, coverage.add(held)) for key, held in counts.items()]


def refusal(found: list[Row], **gate: Any) -> str | None:
    try:
        coverage.require(found, Gate(**gate))
    except DataError as error:
        return str(error)
    return None


Masks = list[tuple[str, dict[str, float]]]
SOUND: dict[str, Masks] = {split: [("pug", FULL), ("Bengal", TWO)] for split in features.SPLITS}


def test_each_class_in_some_mask_of_each_split_will_do() -> None:
    assert refusal(rows(**SOUND)) is None
    assert coverage.hints(rows(**SOUND)) == []


@pytest.mark.parametrize("split", [features.TEST, features.TRAIN])
def test_a_class_missing_from_a_split_is_refused_if_the_gate_needs_it(split: str) -> None:
    found = rows(**{**SOUND, split: [("pug", TWO)]})
    said = refusal(found)
    assert f"No mask in the {split} split contains the class border, so " in str(said)
    assert "gate.class_iou = 0.35" in str(said)
    assert refusal(found, class_iou=0) is None
    (hint,) = coverage.hints(found)
    assert hint in str(said)


def test_the_eval_split_gets_a_hint() -> None:
    found = rows(**{**SOUND, "eval": [("pug", {"pet": 0.0, "background": 1.0, "border": 0.0})]})
    assert refusal(found) is None
    assert coverage.hints(found) == [
        "No mask in the eval split contains the classes pet or border, so the best epoch is picked "
        "without them"
    ]


def test_a_class_missing_everywhere_is_reported_once() -> None:
    (hint,) = coverage.hints(rows(**{split: [("pug", TWO)] for split in features.SPLITS}))
    assert hint.startswith(
        "No mask in the train, eval or test splits contains the class border, so "
    )


def test_gated_slices_count_if_large_enough() -> None:
    found = rows(**SOUND)
    few = {"slices": ("overall", "breed"), "min_examples": 2}
    assert refusal(found, **few) is None
    asked = {"slices": ("breed",), "min_examples": 1}
    said = "No mask in the test split, slice breed Bengal, contains the class border, so"
    assert said in str(refusal(found, **asked))
    assert refusal(found, **asked, class_iou=0) is None
    lacking = rows(**{**SOUND, "test": [("pug", TWO)]})
    assert refusal(lacking, slices=("species",), min_examples=2) is None  # nothing is judged
