"""What `make run` does, with nothing made smaller: the promise of the README."""

from __future__ import annotations

from pathlib import Path

import pytest
import tensorflow as tf
from conftest import Run

import local_runner


@pytest.mark.slow
def test_built_in_run_is_released_and_the_same_again_changes_nothing(tmp_path: Path) -> None:
    arguments = ["--output-root", str(tmp_path)]
    assert local_runner.main(arguments) == 0
    run = Run(0, tmp_path / "builtin-data", tmp_path)
    first = run.outcome
    assert first["status"] == "pushed"
    assert sum(first["data"]["splits"].values()) == 160
    assert all(row["held"] for row in first["gate"])
    # What no model that says one class everywhere reaches.
    assert min(row["bound"] for row in first["gate"]) > 0.3

    photo = next((run.data_root / "images").iterdir()).read_bytes()
    serve = tf.saved_model.load(
        str(tmp_path / "serving" / "encoder_decoder" / str(first["pushed_version"]))
    ).signatures["serving_default"]
    assert serve(image_bytes=tf.constant([photo]))["mask"].shape == (1, 200, 200)

    assert local_runner.main(arguments) == 0
    assert set(run.states().values()) == {"cached"}
    assert run.versions() == [first["pushed_version"]]
    assert run.outcome["metrics"] == first["metrics"]
