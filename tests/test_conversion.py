"""TensorFlow Lite and ONNX files of a release give the SavedModel's masks, or are not written."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from conftest import Run

from pipeline import conversion, lite, onnx, segmenter

FORMATS = pytest.mark.parametrize("format_", [lite, onnx], ids=["lite", "onnx"])


def convert(format_: ModuleType, model: Path, output: Path) -> int:
    return format_.main(["--model", str(model), "--output", str(output)])


@FORMATS
def test_masks_are_those_of_the_saved_model(
    format_: ModuleType,
    small_run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "model"
    assert convert(format_, small_run.serving_dir, file) == 0
    assert f"agrees with {small_run.released()} on" in capsys.readouterr().out
    paths = sorted((small_run.data_root / "images").iterdir())[:3]
    photos = [path.read_bytes() for path in paths]
    expected = [answer.mask for answer in segmenter.Segmenter(small_run.released()).predict(photos)]
    found = format_.masks(file.read_bytes(), photos)
    assert found[0].dtype == np.uint8
    assert np.mean(np.array(found) == np.array(expected)) > 0.999

    monkeypatch.setattr(format_, "convert", lambda path: file.read_bytes())
    other = np.full([64, 64], 3, np.uint8)
    monkeypatch.setattr(format_, "masks", lambda content, photos: [other] * len(photos))
    assert convert(format_, small_run.serving_dir, tmp_path / "other") == 1
    assert "Nothing was written" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_an_onnx_file_says_what_it_takes_and_gives(small_run: Run) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(
        onnx.convert(small_run.released()), providers=["CPUExecutionProvider"]
    )
    described = {each.name: (each.type, each.shape) for each in session.get_inputs()}
    assert described == {conversion.IMAGE: ("tensor(uint8)", [1, 64, 64, 3])}
    described = {each.name: (each.type, each.shape) for each in session.get_outputs()}
    assert described == {
        "mask": ("tensor(uint8)", [1, 64, 64]),
        "probabilities": ("tensor(float)", [1, 64, 64, 3]),
    }


def test_onnx_without_its_packages_says_which_extra_has_them(
    small_run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    assert convert(onnx, small_run.serving_dir, tmp_path / "model") == 2
    assert "needs the package tf2onnx; install this one with its extra 'onnx'." in (
        capsys.readouterr().err
    )


@FORMATS
def test_model_that_was_not_released_is_refused(
    format_: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "saved_model.pb").touch()
    assert convert(format_, tmp_path, tmp_path / "model") == 2
    error = capsys.readouterr().err
    assert "has no release.json; give a version that was released." in error
    assert error.count("\n") == 1


def test_output_that_cannot_be_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Said before the model is looked for, which does not exist."""
    assert lite.main(["--model", str(tmp_path / "none"), "--output", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"Error: {tmp_path} is a folder; give the file to write.\n"
