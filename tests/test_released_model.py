"""The model that a run releases: its metrics are those of the masks that it serves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from pipeline.cli import predict
from tests.support.runs import ROOT, Run
from tests.support.served import check_evaluation, check_metrics, confusion_of, ids_of_test_split


def test_metrics_of_a_slice_count_only_its_photos(small_run: Run) -> None:
    metrics = small_run.outcome["metrics"]
    ids = ids_of_test_split(small_run.data_root)
    cats = [id_ for id_ in ids if id_[0].isupper()]
    breed = cats[0].rpartition("_")[0]
    of_breed = [id_ for id_ in ids if id_.rpartition("_")[0] == breed]
    for key, members in (("species=cat", cats), (f"breed={breed}", of_breed)):
        confusion = confusion_of(small_run, members)
        assert metrics[key]["examples"] == len(members)
        assert metrics[key]["pixel_accuracy"] == pytest.approx(
            np.trace(confusion) / confusion.sum(), abs=1e-6
        )


def test_served_model_needs_plain_tensorflow_only(small_run: Run, tmp_path: Path) -> None:
    photo = next((small_run.data_root / "images").iterdir())
    program = ROOT / "tests/support/programs/ask_saved_model.py"
    done = subprocess.run(
        [sys.executable, program, small_run.released(), photo],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines() == [
        "image_bytes string (None,)",
        "mask uint8 (2, 64, 64)",
        "probabilities float32 (2, 64, 64, 3)",
        "[]",
    ], done.stderr


def test_predict_writes_masks_of_the_photos_own_size(small_run: Run, tmp_path: Path) -> None:
    photos = sorted((small_run.data_root / "images").iterdir())[:3]
    model = str(small_run.released().parent)
    arguments = ["--model", model, "--output-dir", str(tmp_path), *map(str, photos)]
    assert predict.main(arguments) == 0
    for photo in photos:
        mask = PIL.Image.open(tmp_path / f"{photo.stem}_mask.png")
        assert mask.size == PIL.Image.open(photo).size
        assert set(np.unique(np.asarray(mask))) <= {1, 2, 3}
        assert PIL.Image.open(tmp_path / f"{photo.stem}_overlay.png").size == mask.size


def test_metrics_equal_a_count_of_served_masks(small_run: Run) -> None:
    check_metrics(small_run)


def test_evaluation_and_serving_segment_alike(small_run: Run) -> None:
    check_evaluation(small_run)
