"""A data folder of batches: which of them a run takes, and what it answers from the cache.

The runs are refused by the DataGate, for one item without a mask in each batch: training would add
nothing here.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.data import layout
from tests.support.faulty_data import FAULTY, SOUND, add
from tests.support.runs import Run, run_locally

pytestmark = pytest.mark.usefixtures("smoke_test_in_process")


def arrive(root: Path, span: str) -> Path:
    """A new batch of 30 items and a faulty one."""
    folder = root / span
    (folder / layout.IMAGES).mkdir(parents=True)
    (folder / layout.TRIMAPS).mkdir(parents=True)
    for number in range(30):
        add(folder, SOUND[0], f"beagle_{span}_{number}")
    (no_mask,) = (kind for kind in FAULTY if kind.name == "no_mask")
    add(folder, no_mask, f"faulty_{span}")
    return folder


def test_a_new_span_is_ingested_and_unchanged_ones_come_from_the_cache(tmp_path: Path) -> None:
    root = tmp_path / "data"

    def run() -> Run:
        result = run_locally(root, tmp_path / "output", "data.spans=2", "data.max_quarantined=0")
        found = result.outcome["data"]
        faulty = [row["id"] for row in found["quarantined"]]
        assert faulty == sorted(f"faulty_{span}" for span in found["spans"])
        assert sum(found["splits"].values()) == 30 * len(found["spans"])
        return result

    oldest = arrive(root, "2026-11-09")
    arrive(root, "2026-11-17")
    first = run()
    assert first.states()["ExampleGen"] == "executed"
    assert first.outcome["data"]["spans"] == ["2026-11-17", "2026-11-09"]

    arrive(root, "2026-11-25")
    newer = run()
    assert newer.states()["ExampleGen"] == "executed"
    assert newer.outcome["data"]["spans"] == ["2026-11-25", "2026-11-17"]
    page = (newer.output_root / "report.html").read_text()
    assert "Spans: 2026-11-25, 2026-11-17." in page

    os.utime(next((oldest / layout.IMAGES).iterdir()))  # no longer in the window
    assert run().states()["ExampleGen"] == "cached"
