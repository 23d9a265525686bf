"""What a real server, release 2.17.0, answered; see tests/recordings."""

import json
from typing import Any

from tests.support.kfp.nodes import OMITTED, Look
from tests.support.runs import ROOT

RECORDINGS = ROOT / "tests" / "recordings"


AFTER_FIRST = [
    *("StatisticsGen", "ExampleValidator", "ReleasedData", "DriftValidator", "DataGate"),
    *("Transform", "Trainer", "Champion", "Evaluator", "Pusher"),
]


RECORDED = {
    "running": (
        "segmentation-v8n79",
        {name: Look("RUNNING") for name in ("ExampleGen", "ImportSchemaGen")},
    ),
    "failed": (
        "segmentation-gw986",
        {
            **{name: Look(OMITTED) for name in AFTER_FIRST},
            **{name: Look("FAILED") for name in ("ExampleGen", "ImportSchemaGen", "Report")},
        },
    ),
}


def recorded(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RECORDINGS / f"run-{name}.json").read_text())
    return found
