"""The TensorFlow Lite file of a release gives the SavedModel's masks, or is not written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import Run

from pipeline import lite, segmenter


def convert(model: Path, output: Path) -> int:
    return lite.main(["--model", str(model), "--output", str(output)])


def test_masks_are_those_of_the_saved_model(
    small_run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "model.tflite"
    assert convert(small_run.serving_dir, file) == 0
    assert f"agrees with {small_run.released()} on" in capsys.readouterr().out
    paths = sorted((small_run.data_root / "images").iterdir())[:3]
    photos = [path.read_bytes() for path in paths]
    expected = [answer.mask for answer in segmenter.Segmenter(small_run.released()).predict(photos)]
    found = lite.masks(file.read_bytes(), photos)
    assert found[0].dtype == np.uint8
    assert np.mean(np.array(found) == np.array(expected)) > 0.999

    monkeypatch.setattr(lite, "convert", lambda path: file.read_bytes())
    other = np.full([64, 64], 3, np.uint8)
    monkeypatch.setattr(lite, "masks", lambda content, photos: [other] * len(photos))
    assert convert(small_run.serving_dir, tmp_path / "other.tflite") == 1
    assert "Nothing was written" in capsys.readouterr().err
    assert not (tmp_path / "other.tflite").exists()


def test_model_that_was_not_released_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "saved_model.pb").touch()
    assert convert(tmp_path, tmp_path / "model.tflite") == 2
    error = capsys.readouterr().err
    assert "has no release.json; give a version that was released." in error
    assert error.count("\n") == 1
