"""The gate's verdicts on candidates whose strengths and weaknesses are known to the pixel."""

from __future__ import annotations

import pytest

from pipeline.report import html_page
from pipeline.report.outcome import Outcome
from pipeline.settings import Gate
from tests.support.models.judging import judge

COUNTS = {"Bengal": 30, "Birman": 30, "pug": 30, "beagle": 3}
CHAMPION = dict.fromkeys(COUNTS, 0.9)


def iou(right: float) -> float:
    """IoU of each class, where each is found to that share and gets as much from the others."""
    return right / (2 - right)


def test_better_overall_but_worse_on_one_breed_is_refused() -> None:
    candidate = {**dict.fromkeys(COUNTS, 0.97), "Birman": 0.85}
    blessed, metrics, gate = judge(COUNTS, candidate, CHAMPION)
    changes = {row["slice"]: row for row in gate if row["kind"] == "change"}
    assert changes["overall"]["value"] > 0
    assert [name for name, row in changes.items() if not row["held"]] == ["breed=Birman"]
    assert all(row["held"] for row in gate if row["kind"] != "change")
    assert changes["breed=Birman"] == {
        "metric": "mean_iou",
        "slice": "breed=Birman",
        "value": pytest.approx(iou(0.85) - iou(0.9)),
        "bound": -0.05,
        "kind": "change",
        "held": False,
        "candidate": pytest.approx(iou(0.85)),
        "champion": pytest.approx(iou(0.9)),
    }
    assert not blessed
    assert metrics["breed=Birman"]["examples"] == 30


def test_a_breed_of_few_photos_does_not_decide() -> None:
    candidate = {**dict.fromkeys(COUNTS, 0.97), "beagle": 0.1}
    blessed, metrics, gate = judge(COUNTS, candidate, CHAMPION, Gate(slices=("overall", "breed")))
    assert blessed
    assert all(row["held"] for row in gate)
    assert "breed=beagle" in metrics
    judged = {"overall", "species=cat", "species=dog", "breed=Bengal", "breed=Birman", "breed=pug"}
    assert {row["slice"] for row in gate} == judged
    few = judge(COUNTS, candidate, CHAMPION, Gate(slices=("overall", "breed"), min_examples=3))
    assert not few[0]
    failed = {(row["slice"], row["kind"]) for row in few[2] if not row["held"]}
    assert failed == {("breed=beagle", "at_least"), ("breed=beagle", "change")}


def test_metrics_of_what_was_counted() -> None:
    _, metrics, gate = judge({"Bengal": 1, "pug": 3}, {"Bengal": 1.0, "pug": 0.4})
    right = (1 + 3 * 0.4) / 4
    ious = pytest.approx(dict.fromkeys(("pet", "background", "border"), iou(right)))
    assert metrics["overall"] == {
        "examples": 4,
        "pixel_accuracy": pytest.approx(right),
        "mean_pixel_accuracy": pytest.approx(right),
        "mean_iou": pytest.approx(iou(right)),
        "mean_iou_interval": [pytest.approx(iou(0.4)), pytest.approx(iou(0.85))],
        "frequency_weighted_iou": pytest.approx(iou(right)),
        "boundary_iou": pytest.approx(right),
        "calibration_error": pytest.approx(right - 0.05),
        "images_below_floor": 0.75,
        "iou": ious,
        "dice": pytest.approx(dict.fromkeys(ious.expected, right)),
    }
    assert metrics["breed=Bengal"]["mean_iou_interval"] is None
    assert {row["kind"] for row in gate} == {"at_least"}


@pytest.mark.parametrize(
    ("setting", "bound", "value"),
    [("calibration_error", 0.8, 0.85), ("images_below_floor", 0.2, 0.25)],
)
def test_upper_thresholds(setting: str, bound: float, value: float) -> None:
    candidate = {"Bengal": 1.0, "pug": 0.6}
    blessed, _, gate = judge({"Bengal": 3, "pug": 1}, candidate, gate=Gate(**{setting: bound}))
    (row,) = [row for row in gate if not row["held"]]
    assert not blessed
    assert row == {
        "metric": setting,
        "slice": "overall",
        "value": pytest.approx(value),
        "bound": bound,
        "kind": "at_most",
        "held": False,
    }


def test_output_that_is_not_finite_holds_no_bound() -> None:
    laxest = Gate(
        pixel_accuracy=0,
        mean_iou=0,
        class_iou=0,
        boundary_iou=0,
        calibration_error=1,
        images_below_floor=1,
    )
    blessed, metrics, gate = judge(COUNTS, {**CHAMPION, "beagle": float("nan")}, gate=laxest)
    assert len(gate) == 8
    assert not blessed
    assert not any(row["held"] for row in gate)
    assert metrics["overall"]["mean_iou_interval"] is None


def test_a_champion_that_counts_only_confusion_is_compared() -> None:
    """One from before there were other counts."""
    blessed, metrics, gate = judge(
        COUNTS, dict.fromkeys(COUNTS, 0.8), CHAMPION, champion_counts=["confusion"]
    )
    changes = {row["slice"]: row for row in gate if row["kind"] == "change"}
    assert changes["overall"]["champion"] == pytest.approx(iou(0.9))
    assert not changes["overall"]["held"]
    assert not blessed
    assert metrics["overall"]["boundary_iou"] == pytest.approx(0.8)


def test_a_class_missing_from_all_test_masks_is_reported() -> None:
    right = dict.fromkeys(COUNTS, 0.9)
    blessed, metrics, gate = judge(COUNTS, right, border=False)
    (row,) = [row for row in gate if not row["held"]]
    assert not blessed
    assert metrics["overall"]["iou"]["border"] is None
    assert (row["metric"], row["value"]) == ("iou_border", None)
    assert row["reason"] == "no test mask contains the class border, so its IoU means nothing"
    assert (
        "no test mask contains the class border"
        in html_page.verdict(Outcome.model_validate({"status": "not_blessed", "gate": gate}))[
            "reasons"
        ][0]
    )
    slices = ("overall", "breed")
    blessed, _, gate = judge(COUNTS, right, gate=Gate(class_iou=0, slices=slices), border=False)
    assert blessed
    assert all(row["held"] for row in gate)
    reasons = {row["slice"]: row["reason"] for row in gate if row["metric"] == "iou_border"}
    assert "no test mask of breed pug contains the class border" in reasons["breed=pug"]
    assert len(reasons) == 4  # too few photos of beagles


def test_too_few_photos_excuse_no_output_that_is_not_finite() -> None:
    laxest = Gate(pixel_accuracy=0, mean_iou=0, class_iou=0)
    blessed, _, gate = judge({"pug": 2}, {"pug": float("nan")}, gate=laxest)
    assert not blessed
    assert not any(row["held"] for row in gate)
