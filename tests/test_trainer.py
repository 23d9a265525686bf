"""What the Trainer finds out by itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import tensorflow as tf

from pipeline.training import devices


@pytest.mark.parametrize(
    ("says", "batch_size"),
    [
        ("81559", 64),
        ("15360\n15360", 64),
        ("81559\n8192", 16),
        ("[N/A]", 16),
        (None, 16),
    ],
    ids=["large", "two of 16 GB", "one of two is small", "shared memory", "no nvidia-smi"],
)
def test_batch_size_follows_the_smallest_gpu(
    says: str | None, batch_size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if says is not None:
        tool = tmp_path / "nvidia-smi"
        tool.write_text(f"#!/bin/sh\necho '{says}'\n")
        tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":" if says is not None else None)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["a GPU"])
    assert devices.batch_size("auto") == batch_size


def test_batch_size_without_a_gpu() -> None:
    assert devices.batch_size("auto") == 16


def test_every_device_gets_as_many_photos() -> None:
    assert [devices.batch_size(choice, 4) for choice in (1, 8, 9, "auto")] == [4, 8, 12, 16]
