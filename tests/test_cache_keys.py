"""What makes a component work anew, without running any: see also tests/test_run.py."""

from __future__ import annotations

from pathlib import Path

from tfx.utils import json_utils

from pipeline import settings
from pipeline.pipeline import create_pipeline


def config(node: str, *overrides: str) -> dict[str, object]:
    """The ``custom_config`` of a node, which is part of its cache key."""
    pipeline = create_pipeline(
        data_root="data",
        pipeline_root="artifacts",
        serving_dir="serving",
        settings=settings.load(overrides=overrides),
    )
    (found,) = (each for each in pipeline.components if each.id == node)
    return json_utils.loads(found.exec_properties["custom_config"])


def test_what_a_file_of_encoder_weights_holds_counts(tmp_path: Path) -> None:
    weights = tmp_path / "encoder.weights.h5"
    chosen = ("model.name=mobilenet_unet", f"model.encoder_weights={weights}")
    missing = config("Trainer", *chosen)  # as where the pipeline is compiled for a cluster
    weights.write_bytes(b"some")
    first = config("Trainer", *chosen)
    assert config("Trainer", *chosen) == first != missing
    weights.write_bytes(b"other")
    assert config("Trainer", *chosen) != first


def test_how_long_the_training_is_does_not_matter_to_the_trials() -> None:
    asked = ("tune.trials=2", "train.epochs=9")
    trials, training = config("Tuner", *asked), config("Trainer", *asked)
    longer = ("tune.trials=2", "train.epochs=10", "train.max_minutes=5")
    assert config("Tuner", *longer) == trials
    assert config("Trainer", *longer) != training
    for change in (
        "tune.trial_epochs=2",
        "train.seed=2",
        "tune.widths=[1]",
        "transform.image_size=64",
    ):
        assert config("Tuner", *asked, change) != trials
