"""The report in a real browser, offline; skipped where there is no Chromium."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from pipeline.report import html_page
from pipeline.report.outcome import Outcome
from tests.support import chromium
from tests.support.report_content import history, item, not_released
from tests.support.runs import ROOT

CHROMIUM = next(filter(None, map(shutil.which, chromium.BROWSERS)), None)
pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(
        CHROMIUM is None,
        reason="NO BROWSER: the report was not looked at; install chromium (Debian: as root,"
        " apt-get install chromium)",
    ),
]
# All that a run measures, which makes for wide tables.
MEASURES = (
    "pixel_accuracy",
    "mean_pixel_accuracy",
    "mean_iou",
    "frequency_weighted_iou",
    "boundary_iou",
    "calibration_error",
    "images_below_floor",
)
PROBE = (ROOT / "tests/support/programs/report_probe.js").read_text()


@pytest.fixture(scope="module")
def page() -> str:
    photos = [
        replace(item("Bengal_1"), group="worst", mean_iou=0.1),
        replace(item("Bengal_2"), group="middle", mean_iou=0.5),
        replace(item("pug_1"), group="middle", mean_iou=0.6, breed="pug"),
    ]
    champion = photos[0].truth
    photos = [replace(photo, champion=champion, champion_mean_iou=0.4) for photo in photos]
    counts = dict.fromkeys(("pet", "background", "border"), 12345.0)
    confusion = dict.fromkeys(counts, counts)
    by_class = {name: dict.fromkeys(counts, 0.9731) for name in ("iou", "dice")}
    measures = {"examples": 20, **dict.fromkeys(MEASURES, 0.9731), **by_class}
    measures["mean_iou_interval"] = [0.914, 0.923]
    metrics = {"overall": measures, "breed=harlequin_hound": measures}
    result = {**not_released(), "metrics": metrics, "confusion": confusion}
    return html_page.render(Outcome.model_validate(result), history(), photos)


def browse(folder: Path, html: str, *options: str) -> tuple[str, str]:
    """The page as the browser has it in the end, and what it complained of."""
    path = folder / "page.html"
    path.write_text(html, encoding="utf-8")
    assert CHROMIUM
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    command += [f"--user-data-dir={folder / 'profile'}", "--enable-logging=stderr", *options]
    done = subprocess.run(
        [*command, "--dump-dom", path.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
    )
    complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return done.stdout, "\n".join(complaints)


def probe(folder: Path, html: str, *options: str) -> dict[str, Any]:
    open_to_scripts = re.sub(r"<meta http-equiv=[^>]*>", "", html)
    dom, complaints = browse(
        folder, open_to_scripts.replace("</body>", f"<script>{PROBE}</script></body>"), *options
    )
    assert complaints == ""
    probe: dict[str, Any] = json.loads(
        unescape(re.findall(r'<pre id="probe">(.*?)</pre>', dom)[-1])
    )
    return probe


def test_page_opens_without_a_complaint(page: str, tmp_path: Path) -> None:
    dom, complaints = browse(tmp_path, page)
    assert complaints == ""
    assert "Not released: 3 of 4 thresholds missed" in dom


def test_gallery_is_narrowed_by_score_and_breed(page: str, tmp_path: Path) -> None:
    found = probe(tmp_path, page, "--window-size=1200,900")
    assert found["all"] == ["Bengal_1", "Bengal_2", "pug_1"]
    assert found["worst"] == ["Bengal_1"]
    assert (found["both"], found["nothing"]) == ([], True)
    assert (found["pug"], found["still"]) == (["pug_1"], False)
    assert found["overflow"] <= 0
    assert found["broken"] == 0
    assert found["page"] == "rgb(255, 255, 255)"


def test_phone_in_dark_mode(page: str, tmp_path: Path) -> None:
    found = probe(
        tmp_path, page, "--window-size=390,844", "--blink-settings=preferredColorScheme=0"
    )
    assert found["overflow"] <= 0
    assert found["width"] <= 500
    assert found["page"] == "rgb(20, 22, 26)"


@pytest.mark.parametrize("shot", chromium.SHOTS, ids=lambda shot: shot.name)
def test_nothing_sticks_out_of_phone_screen_and_paper(
    page: str, tmp_path: Path, shot: chromium.Shot
) -> None:
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    with chromium.chromium() as browser:
        browser.open((tmp_path / "page.html").as_uri())
        browser.show(shot)
        found = browser.evaluate(
            "[innerWidth, document.documentElement.scrollWidth,"
            " getComputedStyle(document.querySelector('.filters')).display]"
        )
        picture = browser.picture(shot, shot.parts[-1])
    display = "none" if shot.media == "print" else "flex"
    assert found == [shot.width, shot.width, display]
    assert picture.size == (round(shot.width * shot.scale), round(shot.height * shot.scale))
