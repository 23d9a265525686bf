"""axe-core finds nothing on any page that people open, light or dark."""

from __future__ import annotations

import base64
import contextlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.core import images
from pipeline.inference import segmenter
from pipeline.report import html_page
from pipeline.report.outcome import Outcome
from tests.support import debian
from tests.support.chromium import BROWSERS, Page, Shot, chromium
from tests.support.clients import axe
from tests.support.report_content import history, item, not_released
from tests.support.runs import only_with_all, skips_without
from tests.support.web_page import Slow, shown

pytestmark = [pytest.mark.once, pytest.mark.slow]
SCHEMES = ("light", "dark")


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    with axe_in_chromium() as page:
        yield page


@contextlib.contextmanager
def axe_in_chromium() -> Iterator[Page]:
    """A browser that `violations` can look with."""
    only_with_all("ACCESSIBILITY")
    with skips_without("ACCESSIBILITY"):
        if not any(map(shutil.which, BROWSERS)):
            debian.need("chromium", packages=["chromium"])
        axe.source()
    with chromium() as page:
        yield page


def violations(
    browser: Page,
    url: str,
    schemes: Sequence[str] = SCHEMES,
    prepare: Callable[[], object] = lambda: None,
) -> list[str]:
    """What axe-core finds on a page, in each colour scheme, after a preparation of the page."""
    found = []
    for scheme in schemes:
        browser.show(Shot("desktop", 1280, 1000, (), scheme=scheme))
        browser.open(url)
        prepare()
        found += [f"{scheme}: {line}" for line in axe.violations(browser)]
    return found


@pytest.fixture
def report(tmp_path: Path) -> Path:
    """A report with every part that one can have."""
    result = not_released()
    counts = dict.fromkeys(("pet", "background", "border"), 345.0)
    result["confusion"] = {name: {**counts, name: 98765.0} for name in counts}
    result["components"].append({"id": "Evaluator", "state": "failed", "seconds": 3.0})
    result["tuning"] = {
        "trials": [{"trial": trial, "score": 0.5, "train.learning_rate": 0.002} for trial in (1, 2)]
    }
    feature = {"feature": "brightness", "distance": 0.4, "bound": 0.3}
    result["data"] |= {
        "notes": [{"id": "pug_1", "note": "EXIF orientation 6"}],
        "unlisted": ["pug_2"],
        "spans": ["2026-11-25"],
        "hints": ["2 photos have an EXIF orientation"],
        "drift": {
            "against": 1795535000,
            "features": [feature | {"drifted": True}, feature | {"drifted": False}],
        },
    }
    photos = [
        replace(item("Bengal_1"), group="worst", champion=item().truth, champion_mean_iou=0.4),
        replace(item("pug_1"), group="best", breed="pug"),
    ]
    path = tmp_path / "report.html"
    html_page.write(path, Outcome.model_validate(result), history(), photos)
    return path


def test_the_report(browser: Page, report: Path) -> None:
    assert violations(browser, report.as_uri()) == []


class Model(Slow):
    """Sees the first class everywhere, at once."""

    def predict(self, photos: Sequence[bytes]) -> list[segmenter.Prediction]:
        self.may.set()
        return super().predict(photos)


def test_the_page_that_segments_photos(browser: Page) -> None:
    photo = base64.b64encode(images.encode(np.zeros((60, 80, 3), np.uint8))).decode()

    def segment() -> None:
        for content in (photo, base64.b64encode(b"no photo").decode()):
            script = (
                f"fetch('data:;base64,{content}').then(r => r.blob())"
                ".then(blob => segment(new File([blob], 'Bengal_1.png')))"
            )
            browser.call("Runtime.evaluate", expression=script, awaitPromise=True)
        assert browser.evaluate("document.images.length") == 2

    with shown(Model()) as url:
        assert violations(browser, url) == []
        assert violations(browser, url, prepare=segment) == []
