"""The page that people open after a run."""

from __future__ import annotations

import base64
import copy
import dataclasses
import io
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipeline.core import images
from pipeline.report import html_page
from pipeline.report.outcome import Outcome
from tests.support.report_content import history, item, not_released, outcome

VOID = {"meta", "link", "img", "br", "hr", "input"}
EVIL = "<script>alert('1')</script>&\"x"


class Page(HTMLParser):
    """What a reader and a browser get from a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text: list[str] = []
        self.rows: list[list[str]] = []
        self.headline = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style" and data.strip():
            self.text.append(data.strip())
            if self.open[-1] == "h1":
                self.headline = data.strip()
            if self.open[-1] in ("td", "th"):
                self.rows[-1].append(data.strip())

    def every(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


def headline(page: Page) -> str:
    assert len(page.every("h1")) == 1
    return page.headline


def render(result: dict[str, Any], **parts: Any) -> tuple[str, Page]:
    html = html_page.render(
        Outcome.model_validate(result),
        parts.get("history", history()),
        parts.get("gallery", [item()]),
    )
    return html, Page(html)


def test_the_headline_announces_a_release() -> None:
    html, page = render(outcome())
    assert headline(page) == "Released version 1795535068"
    assert "It replaces version 1795535000." in page.text
    headings = [t for t in page.text if t in ("Thresholds", "Training", "Test photos", "Data")]
    assert headings == ["Thresholds", "Training", "Test photos", "Data"]
    assert html.index("<h1>") < html.index("<h2>")


def test_first_and_unchanged_releases_read_differently() -> None:
    _, first = render(outcome(champion=None))
    assert any("first version" in text for text in first.text)
    _, same = render(outcome(new_version=False))
    assert headline(same) == "Version 1795535068 stays in service"
    assert any("produced the same model" in text for text in same.text)
    result = outcome(new_version=False)
    result["components"][1]["state"] = "cached"
    _, cached = render(result)
    assert any("Nothing has changed" in text for text in cached.text)


def test_a_refusal_names_the_thresholds_that_were_missed() -> None:
    html, page = render(not_released())
    assert headline(page) == "Not released: 3 of 4 thresholds missed"
    reasons = re.findall(r"<li>(.*?)</li>", html)[:3]
    assert reasons == [
        "Mean IoU (overall) is 0.412; at least 0.600 is required",
        "IoU border (breed Bengal) is 0.34999; at least 0.35000 is required",
        "Mean IoU (overall), change against the champion: −0.031 (0.412 vs 0.443);"  # noqa: RUF001
        " at least −0.010 is required",  # noqa: RUF001
    ]
    assert "Version 1795535000 stays in service." in page.text
    verdicts = [row[0][0] for row in page.rows if row[0][0] in "✓✗"]
    assert verdicts == ["✗", "✗", "✗", "✓"]


def test_a_refusal_for_many_reasons_stays_short() -> None:
    result = not_released()
    result["gate"] = [dict(result["gate"][1], slice=f"breed=b{i}") for i in range(37)]
    html, _ = render(result)
    assert "and 31 more" in html
    assert html.count("<li>Mean IoU") == 6


def test_a_failure_says_why() -> None:
    _, page = render(outcome(status="failed", error="The disk is full; free some space."))
    assert headline(page) == "Failed: The disk is full; free some space."


def test_a_run_that_failed_early_has_a_page() -> None:
    early: dict[str, Any] = {
        "status": "failed",
        "champion": None,
        "metrics": {},
        "gate": [],
        "data": {"splits": {}, "quarantined": []},
        "components": [{"id": "Transform", "state": "failed", "seconds": None}],
        "versions": {},
    }
    _, page = render(early, history=[], gallery=[])
    assert headline(page).startswith("Failed: Transform")
    assert page.every("img") == []
    assert page.every("svg") == []
    assert ["Transform", "failed"] in page.rows
    assert render({}, history=[], gallery=[])[0]


def test_tables_hold_the_numbers() -> None:
    _, page = render(outcome())
    assert ["✓ met", "Pixel accuracy", "overall", "0.912", "0.800", "at least"] in page.rows
    change = ["✓ met", "Mean IoU", "overall", "+0.013", "−0.010", "change against the champion"]  # noqa: RUF001
    assert change in page.rows
    assert ["cat", "0.912", "0.733", "0.853", "0.904", "0.586", "17"] in page.rows
    breeds = [row[0] for row in page.rows if row[0] in ("Bengal", "Sphynx")]
    assert breeds == ["Sphynx", "Bengal"]  # lowest mean IoU first
    assert ["Bengal_7", "mask is 300x200, photo is 500x333"] in page.rows
    assert ["Trainer", "executed", "1 min 1 s"] in page.rows
    assert ["Transform", "cached", "0.3 s"] in page.rows
    assert ["train.epochs", "7"] in page.rows
    assert ["gate.slices", '["overall", "species"]'] in page.rows
    assert ["tfx", "1.21.0"] in page.rows
    for text in ("320", "41", "42", "2026-08-17 14:03 UTC", "/data/serving/encoder_decoder"):
        assert text in page.text


@pytest.mark.parametrize("nothing", [None, math.nan])
def test_missing_numbers_read_not_a_number(nothing: float | None) -> None:
    result = not_released()
    result["metrics"]["overall"]["mean_iou"] = nothing
    result["metrics"]["breed=Bengal"]["mean_iou"] = nothing
    result["gate"][1]["value"] = nothing
    rows = [{**row, "val_loss": nothing} for row in history()]
    html, page = render(result, history=rows)
    assert "Mean IoU (overall) is not a number; at least 0.600 is required" in html
    assert not re.search(r"\b(nan|None)\b", html)
    assert len(page.every("svg")) == 2


def test_upper_thresholds_and_intervals_are_worded() -> None:
    row = {"metric": "calibration_error", "slice": "overall", "kind": "at_most", "held": False}
    whole = {"mean_iou": 0.781, "mean_iou_interval": [0.71234, 0.84]}
    _, page = render(
        outcome(
            status="not_blessed",
            gate=[{**row, "value": 0.12, "bound": 0.1}],
            metrics={"overall": whole, "breed=pug": {**whole, "mean_iou_interval": None}},
        )
    )
    assert "Calibration error (overall) is 0.120; at most 0.100 is allowed" in page.text
    assert "0.712 to 0.840" in page.text
    assert ["pug", "0.781", "none"] in page.rows


def test_curves_are_drawn_for_what_the_history_has() -> None:
    _, page = render(outcome())
    figures = [f["aria-label"] for f in page.every("div") if f.get("role") == "img"]
    assert len(figures) == len(page.every("svg")) == 2
    assert figures[0].startswith("Loss over 5 epochs: train from 1.000 to 0.200; eval from 1.100")
    assert "kept epoch 4" in figures[0]
    assert {"train", "eval", "kept: 4", "epoch"} <= set(page.text)
    _, bare = render(outcome(), history=[{"epoch": 1, "mean_iou": 0.3, "loss": 0.5}])
    labels = [f["aria-label"] for f in bare.every("div") if f.get("role") == "img"]
    assert [label.split(" over")[0] for label in labels] == ["Loss", "Mean IoU"]
    _, none = render(outcome(), history=[])
    assert none.every("svg") == []


def test_gallery_shows_photo_truth_prediction_and_overlay() -> None:
    photo = item()
    _, page = render(outcome(), gallery=[photo])
    pictures = page.every("img")
    assert [p["alt"].split(" of ")[0] for p in pictures] == [
        "Photo",
        "Ground truth",
        "Prediction",
        "Difference",
        "Overlay",
    ]
    assert all("Bengal_1" in p["alt"] and "Bengal)" in p["alt"] for p in pictures)
    decoded = [decode(p["src"]) for p in pictures]
    assert {d.shape for d in decoded} == {(192, 256, 3)}
    assert decoded[1][0, 0].tolist() == images.COLOURS[0].tolist()
    assert decoded[1][-1, 0].tolist() == images.COLOURS[1].tolist()
    assert decoded[2][50, 50].tolist() == images.COLOURS[2].tolist()
    assert np.abs(decoded[3].astype(int) - images.WRONG).mean() < 5  # all is wrong
    distance = np.abs(decoded[4].astype(int) - images.COLOURS[2]).mean()
    assert distance < 20  # the whole photo is covered by border
    assert any("0.211" in text and "0.432" in text for text in page.text)


def decode(uri: str) -> NDArray[Any]:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))))


def test_everything_from_outside_is_escaped() -> None:
    result = not_released()
    result["gate"][1] |= {"slice": f"breed={EVIL}", "metric": EVIL}
    result["metrics"][f"breed={EVIL}"] = copy.deepcopy(result["metrics"]["overall"])
    result["metrics"]["overall"][EVIL] = 0.5
    result["data"]["quarantined"] = [{"id": EVIL, "reason": EVIL}]
    result["data"]["splits"][EVIL] = 3
    result["data"] |= {"unlisted": [EVIL], "spans": [EVIL], "notes": [{"id": EVIL, "note": EVIL}]}
    result["components"].append({"id": EVIL, "state": "executed", "seconds": 1.0})
    result["settings"] = {EVIL: EVIL}
    result["versions"] = {EVIL: EVIL}
    result |= {"started": EVIL, "model_name": EVIL, "serving_dir": EVIL}
    odd = dataclasses.replace(item(), id=EVIL, breed=EVIL)
    rows = [{**row, EVIL: 0.1} for row in history()]
    html, page = render(result, history=rows, gallery=[odd])
    assert page.every("script") == []
    assert "<script" not in html
    assert [EVIL, EVIL] in page.rows
    assert page.every("img")[0]["alt"] == f"Photo of {EVIL} ({EVIL})"
    failed, failed_page = render(outcome(status="failed", error=EVIL))
    assert "<script" not in failed
    assert f"Failed: {EVIL}" in failed_page.text


def test_page_needs_nothing_from_outside() -> None:
    html, page = render(not_released(), gallery=[item(f"Bengal_{i}") for i in range(3)])
    for tag, attributes in page.tags:
        assert tag not in ("script", "iframe", "object", "embed", "base")
        for name in ("src", "href", "xlink:href", "srcset", "action", "data"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), (tag, value)
    assert re.findall(r"url\((?!#)", html) == []
    assert "@import" not in html
    assert "//" not in re.sub(r"data:[\w/]+;base64,[\w+/=]*", "", html)


def test_ids_are_unique_and_references_resolve() -> None:
    html, page = render(outcome())
    ids = [a["id"] for _, a in page.tags if a.get("id")]
    assert len(ids) == len(set(ids))
    references = re.findall(r'(?:url\(|href=")#([^)"]+)', html)
    assert references
    assert set(references) <= set(ids)


def test_a_dozen_large_photos_stay_small(tmp_path: Path) -> None:
    """Noise is what compresses worst."""
    path = tmp_path / "new" / "report.html"
    html_page.write(
        path,
        Outcome.model_validate(outcome()),
        history(50),
        [item(f"x_{i}", 900, 900) for i in range(12)],
    )
    assert path.stat().st_size < 3_000_000
    page = Page(path.read_text(encoding="utf-8"))
    assert len(page.every("img")) == 60
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


def test_confusion_matrix_has_shares_and_pixels() -> None:
    row = {"pet": 600.0, "background": 1400.0, "border": None}
    _, page = render(outcome(confusion={"pet": row}))
    assert ["pet", "30.0 %", "70.0 %", "not a number"] in page.rows
    assert {"(600)", "(1,400)"} <= set(page.text)


def test_spans_and_notes_are_named() -> None:
    result = outcome()
    result["data"]["spans"] = ["span-2", "span-1"]
    result["data"]["notes"] = [{"id": "Bengal_7", "note": "the mask contains only pet"}]
    _, page = render(result)
    assert "Spans: span-2, span-1." in page.text
    assert ["Bengal_7", "the mask contains only pet"] in page.rows


def test_photos_in_no_list_are_named() -> None:
    result = outcome()
    result["data"]["unlisted"] = [f"Bengal_{i}" for i in range(41)]
    _, page = render(result)
    assert any(
        t.startswith("Left out 41 unlisted photos") and "Bengal_11, …" in t for t in page.text
    )


def test_a_page_that_cannot_be_made_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    wrong = dataclasses.replace(item(), prediction=np.full((375, 500), 7, np.uint8))
    with pytest.raises(ValueError, match="not a class id"):
        html_page.write(path, Outcome.model_validate(outcome()), history(), [wrong])
    assert path.read_text() == "old"


def test_names_that_are_no_unicode_can_be_written(tmp_path: Path) -> None:
    result = outcome(serving_dir="/data/\udce9t\udce9")
    html_page.write(tmp_path / "report.html", Outcome.model_validate(result), [], [])
    assert b"/data/" in (tmp_path / "report.html").read_bytes()
