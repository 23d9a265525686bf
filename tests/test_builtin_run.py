"""What `make run` does, with nothing made smaller: the promise of the README."""

from __future__ import annotations

from pathlib import Path

import pytest
import tensorflow as tf

import local_runner
from tests.support.runs import outcome_of

pytestmark = pytest.mark.usefixtures("smoke_test_in_process")


@pytest.mark.slow
def test_the_built_in_run_releases_a_model(tmp_path: Path) -> None:
    arguments = ["--output-root", str(tmp_path)]
    run = outcome_of(local_runner.main(arguments), tmp_path / "builtin-data", tmp_path)
    assert run.code == 0
    first = run.outcome
    assert first["status"] == "pushed"
    assert sum(first["data"]["splits"].values()) == 160
    assert all(row["held"] for row in first["gate"])
    # What no model that says one class everywhere reaches.
    assert min(row["bound"] for row in first["gate"]) > 0.3

    photo = next((run.data_root / "images").iterdir()).read_bytes()
    serve = tf.saved_model.load(str(run.released())).signatures["serving_default"]
    assert serve(image_bytes=tf.constant([photo]))["mask"].shape == (1, 200, 200)

    again = outcome_of(local_runner.main(arguments), run.data_root, tmp_path)
    assert set(again.states().values()) == {"cached"}
    assert again.versions() == [first["pushed_version"]]
    assert again.outcome["metrics"] == first["metrics"]
