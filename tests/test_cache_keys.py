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
