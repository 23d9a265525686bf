"""What tasks tell the server: artifacts of its own types with their facts, and a clause each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format, struct_pb2
from tfx.orchestration import metadata

from kubeflow import results
from pipeline import settings
from pipeline.artifacts.run import RunArtifacts
from tests.support.runs import SMALL, Run


@pytest.fixture(scope="module")
def told(small_run: Run) -> dict[str, tuple[str, results.Facts]]:
    """By node, of a run that released a model."""
    store = metadata.sqlite_metadata_connection_config(
        str(small_run.output_root / "metadata.sqlite")
    )
    artifacts = RunArtifacts(store, small_run.outcome["run_id"])
    chosen = settings.load([], SMALL)
    return {node: results.of(artifacts, node, chosen) for node in artifacts.nodes()}


def test_the_last_line_says_what_came_out(
    told: dict[str, tuple[str, results.Facts]], small_run: Run
) -> None:
    clauses = {node: clause for node, (clause, _) in told.items()}
    splits = small_run.outcome["data"]["splits"]
    assert clauses["ExampleGen"] == "40 photos, none quarantined"
    assert clauses["StatisticsGen"] == ", ".join(f"{name} {n}" for name, n in splits.items())
    assert clauses["ExampleValidator"] == "no anomalies"
    assert clauses["DriftValidator"] == "no release to compare with"
    assert clauses["Champion"] == "no champion yet"
    assert clauses["Trainer"].startswith("val_mean_iou 0.")
    assert clauses["Trainer"].endswith(" of 4")
    assert clauses["Evaluator"].endswith("; blessed")
    assert clauses["Pusher"] == f"released version {small_run.outcome['pushed_version']}"


def test_artifacts_carry_their_facts(
    told: dict[str, tuple[str, results.Facts]], small_run: Run
) -> None:
    facts: dict[str, Any] = {}
    for _, found in told.values():
        facts |= found
    assert facts["examples"]["photos"] == 40
    assert facts["model"]["model_name"] == "xception_unet_s"
    assert Path(facts["model"]["path"], "saved_model.pb").exists()
    assert facts["model"]["examples"] == small_run.outcome["data"]["splits"]["train"]
    assert facts["release"] == {
        "version": str(small_run.outcome["pushed_version"]),
        "made_by_this_run": True,
        "path": str(small_run.released()),
    }
    overall = small_run.outcome["metrics"]["overall"]
    assert facts["metrics"]["mean_iou"] == overall["mean_iou"]
    assert len(facts["metrics"]) <= 9  # the page shows ten, and the report has one more
    # Rows are true classes, as in the report.
    matrix = facts["confusion_matrix"]["confusionMatrix"]
    names = [each["displayName"] for each in matrix["annotationSpecs"]]
    assert [dict(zip(names, each["row"], strict=True)) for each in matrix["rows"]] == [
        small_run.outcome["confusion"][name] for name in names
    ]
    # The server keeps metadata as this message.
    json_format.ParseDict(facts, struct_pb2.Struct())


def test_facts_stand_in_for_content_and_reach_the_server(tmp_path: Path) -> None:
    message = {
        "outputs": {
            "outputFile": str(tmp_path / "out" / "output.json"),
            "artifacts": {"model": {"artifacts": [{"name": "model", "uri": "s3://b/model"}]}},
        }
    }
    path = tmp_path / "content" / "model"
    results.write(message, {"model": {"path": "/m/1", "best_epoch": 3.0}}, {"model": path})
    assert path.read_text() == "path: /m/1\nbest_epoch: 3.0\n"
    written = json.loads((tmp_path / "out" / "output.json").read_text())
    (model,) = written["artifacts"]["model"]["artifacts"]
    assert model == {
        "name": "model",
        "uri": "s3://b/model",
        "metadata": {"path": "/m/1", "best_epoch": 3.0},
    }
