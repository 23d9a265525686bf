"""A release in other formats gives the SavedModel's masks, or is not written."""

from __future__ import annotations

import errno
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies

from pipeline import formats, settings
from pipeline.cli import convert, predict, releases
from pipeline.conversion import converter, judgement
from pipeline.conversion.judgement import ConversionError
from pipeline.core import file_formats, ownership
from pipeline.data import preprocessing
from pipeline.formats import network, photos
from pipeline.inference import segmenter
from tests.support.releases import visible
from tests.support.runs import Run, run_locally

pytestmark = pytest.mark.usefixtures("smoke_test_in_process")

SIZE = 64
FLOATS = tuple(name for name in file_formats.NAMES if not file_formats.Format(name).int8)


def write(name: str, run: Run, folder: Path, *options: str) -> tuple[int, Path]:
    path = folder / ("repository" if name == "triton" else file_formats.Format(name).file_name)
    arguments = [name, "--model", str(run.serving_dir), "--output", str(path), *options]
    return convert.main(arguments), path


@pytest.fixture(scope="module")
def written(small_run: Run, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file of each format, made of the small run's release."""
    folder = tmp_path_factory.mktemp("formats")
    made = {}
    for name in file_formats.NAMES:
        # In 8 bits a model as small as this need be no quicker.
        code, made[name] = write(name, small_run, folder, "--force")
        assert code == 0
    return made


def photos_of(run: Run, count: int = 3) -> list[bytes]:
    paths = sorted((run.data_root / "images").iterdir())[:count]
    return [path.read_bytes() for path in paths]


@pytest.mark.parametrize("name", file_formats.NAMES)
def test_masks_are_those_of_the_saved_model(
    name: str, small_run: Run, written: dict[str, Path]
) -> None:
    photos = photos_of(small_run)
    expected = [answer.mask for answer in segmenter.Segmenter(small_run.released()).predict(photos)]
    found = segmenter.FileSegmenter(written[name]).predict(photos)
    assert found[0].mask.dtype == np.uint8
    assert found[0].probabilities.shape == (SIZE, SIZE, 3)
    agreement = np.mean([answer.mask == mask for answer, mask in zip(found, expected, strict=True)])
    assert agreement > (0.95 if file_formats.Format(name).int8 else 0.995)


@pytest.mark.parametrize("name", file_formats.NAMES)
def test_photos_of_any_size(name: str, written: dict[str, Path]) -> None:
    run = formats.module(file_formats.Format(name).family).Runner(written[name])
    for shape in ((1, 80, 300, 3), (1, 40, 30, 3), (3, 64, 64, 3)):
        answer = run(np.zeros(shape, np.uint8))
        assert answer.mask.shape == (shape[0], SIZE, SIZE)
        assert answer.probabilities.dtype == np.float32


@hypothesis.given(
    height=strategies.integers(1, 300),
    width=strategies.integers(1, 300),
    size=strategies.integers(8, 100),
    seed=strategies.integers(0, 99),
)
@hypothesis.settings(max_examples=40)
def test_two_matrix_products_resize_as_preprocessing_does(
    height: int, width: int, size: int, seed: int
) -> None:
    photo = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    found = network.resize(tf.constant(photo[None]), size).numpy()[0]
    expected = preprocessing.resize_image(tf.constant(photo), size).numpy()
    assert np.abs(found - expected).max() <= 1  # what rounds up and what rounds down
    if min(height, width) > 64:  # of a few pixels some lie on the edge
        assert np.mean(found != expected) < 0.02


def test_means_that_end_in_a_half_round_as_in_preprocessing() -> None:
    photo = np.random.default_rng(1).integers(0, 256, (128, 128, 3), np.uint8)
    found = network.resize(tf.constant(photo[None]), 64).numpy()[0]
    np.testing.assert_array_equal(found, preprocessing.resize_image(tf.constant(photo), 64))


def test_an_onnx_file_says_what_it_is(small_run: Run, written: dict[str, Path]) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(written["onnx"], providers=["CPUExecutionProvider"])
    described = {each.name: (each.type, each.shape) for each in session.get_inputs()}
    assert described == {"image": ("tensor(uint8)", ["batch", "height", "width", 3])}
    described = {each.name: (each.type, each.shape) for each in session.get_outputs()}
    assert described == {
        "mask": ("tensor(uint8)", ["batch", SIZE, SIZE]),
        "probabilities": ("tensor(float)", ["batch", SIZE, SIZE, 3]),
    }
    assert session.get_modelmeta().custom_metadata_map == {
        "model": "xception_unet_s",
        "version": str(small_run.outcome["pushed_version"]),
        "image_size": "64",
        "classes": "pet,background,border",
        "colours": "#56b4e9,#262a3a,#ffb000",
    }


@pytest.mark.parametrize("opset", [13, 18])
def test_the_opset_can_be_chosen(opset: int, small_run: Run, tmp_path: Path) -> None:
    import onnx

    code, path = write("onnx", small_run, tmp_path, "--opset", str(opset))
    assert code == 0
    versions = {each.domain: each.version for each in onnx.load(path).opset_import}
    assert versions[""] == opset


def test_eight_bits_are_smaller(written: dict[str, Path]) -> None:
    for name in FLOATS:
        weights = [
            path.with_suffix(".bin") if name == "openvino" else path
            for path in (written[name], written[f"{name}_int8"])
        ]
        assert weights[1].stat().st_size < 0.6 * weights[0].stat().st_size


@pytest.mark.parametrize(
    ("name", "masks", "fault"),
    [
        ("onnx", lambda masks: [mask * 0 for mask in masks], "agree with"),
        ("litert_int8", lambda masks: [mask * 0 for mask in masks], "its mean IoU on"),
        ("triton", lambda masks: [mask * 0 for mask in masks], "agree with"),
    ],
)
def test_a_file_that_is_not_good_enough_is_refused_with_figures(
    name: str,
    masks: Any,
    fault: str,
    small_run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: list[int] = []

    def broken(runner: judgement.Runner, examples: Sequence[photos.Example]) -> Any:
        asked.append(len(examples))
        good = ask(runner, examples)
        return masks(good) if len(asked) == 1 else good  # the new file is asked first

    ask = judgement.masks
    monkeypatch.setattr(judgement, "masks", broken)
    code, path = write(name, small_run, tmp_path)
    assert code == 1
    error = capsys.readouterr().err
    assert "Nothing was written" in error
    assert fault in error
    assert "--force" in error
    assert list(tmp_path.iterdir()) == []
    asked.clear()
    assert write(name, small_run, tmp_path, "--force")[0] == 0
    assert path.exists()
    assert "written although its m" in capsys.readouterr().out


@pytest.mark.slow
def test_convert_refuses_slower_8_bit_files(
    small_run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(judgement, "milliseconds", lambda runners, _: [5.0, 4.0][: len(runners)])
    assert write("onnx_int8", small_run, tmp_path)[0] == 1
    assert "takes 5.0 ms on one core, not less than the 4.0 ms" in capsys.readouterr().err
    release = network.read(small_run.released())
    (tmp_path / "version").mkdir()
    for name in ("variables", "saved_model.pb"):
        (tmp_path / "version" / name).symlink_to(small_run.released() / name)
    weights = tmp_path / "version" / "assets.extra" / "model.weights.h5"
    weights.parent.mkdir()
    weights.symlink_to(small_run.released() / "assets.extra" / "model.weights.h5")
    made = converter.make_all(
        {"onnx_int8": {"opset": 17}},
        str(tmp_path / "version"),
        release.record,
        release.record["examples_uri"],
    )
    assert made["onnx_int8"]["float"]["milliseconds"] == 4.0
    assert (weights.parent / "formats" / "model_int8.onnx").exists()


def test_predict_takes_files(
    small_run: Run,
    written: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    photo = next((small_run.data_root / "images").iterdir())
    (tmp_path / "bad.jpg").write_bytes(b"no photo")
    masks = {}
    for model in (small_run.serving_dir, written["onnx"], written["litert"]):
        out = tmp_path / model.name
        arguments = ["--model", str(model), "--output-dir", str(out), str(photo)]
        assert predict.main([*arguments, str(tmp_path / "bad.jpg")]) == 1
        masks[model] = tf.io.decode_png((out / f"{photo.stem}_mask.png").read_bytes()).numpy()
    expected = masks[small_run.serving_dir]
    assert all(np.mean(mask == expected) > 0.99 for mask in masks.values())
    capsys.readouterr()
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    (tmp_path / "alone.xml").touch()
    for file, sentence in (
        (tmp_path / "bad.jpg", "is not a model"),
        (tmp_path / "broken.onnx", "cannot"),
        (tmp_path / "alone.xml", "alone.bin cannot be read (No such file"),
    ):
        assert predict.main(["--model", str(file), "--output-dir", "x", str(photo)]) == 2
        error = capsys.readouterr().err
        assert sentence in error
        assert error.count("\n") == 1


def test_mistakes_are_one_sentence(
    small_run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "saved_model.pb").touch()
    (tmp_path / "d.onnx").mkdir()
    model, good = str(small_run.serving_dir), str(tmp_path / "x.onnx")
    for arguments, sentence in (
        (["onnx", "--model", str(tmp_path / "none"), "--output", str(tmp_path)], "is a folder"),
        (["onnx", "--model", model, "--output", str(tmp_path / "d.onnx")], "is a folder"),
        (
            ["onnx", "--model", model, "--output", str(tmp_path / "x.bin")],
            "must have the extension .onnx",
        ),
        (["onnx", "--model", str(tmp_path), "--output", good], "has no readable release.json"),
        (["onnx", "--model", model, "--output", good, "--opset", "99"], "opset"),
        (["litert", "--model", model, "--output", "x.tflite", "--opset", "15"], "does not apply"),
        (["onnx", "--model", __file__, "--output", good], "is a file"),
        (["onnx", "--model", model, "--output", f"{__file__}/x.onnx"], "Cannot write to"),
        (["onnx", "--model", model, "--output", "/proc/x.onnx"], "Cannot write to"),
        (["onnx_int8", "--model", model, "--output", good, "--data-root", "none"], "none"),
        (["onxx", "--model", model, "--output", good], "onxx"),
        (["triton", "--model", model, "--output", str(tmp_path)], "exists"),
    ):
        assert convert.main(arguments) == 2, arguments
        error = capsys.readouterr().err
        assert sentence in error
        assert error.count("\n") == 1
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    assert convert.main(["onnx", "--model", model, "--output", good]) == 2
    error = capsys.readouterr().err
    assert "needs the package tf2onnx; install segmentation-pipeline[onnx]." in error


@pytest.mark.parametrize(
    ("module", "function", "sentence"),
    [
        (converter, "make", "Cannot convert "),
        (ownership, "write", "Cannot write "),
    ],
)
def test_a_conversion_that_fails_is_not_blamed_on_the_arguments(
    module: ModuleType,
    function: str,
    sentence: str,
    small_run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, function, fail)
    code, _ = write("litert", small_run, tmp_path, "--force")
    assert code == 1
    assert capsys.readouterr().err.startswith(f"Error: {sentence}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.usefixtures("untrained")
def test_formats_are_part_of_the_release(
    small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = ("release.formats=[onnx, litert]", "gate.mean_iou=0", "gate.pixel_accuracy=0")
    first = run_locally(small_data, tmp_path / "output", *chosen[1:])
    assert first.outcome["status"] == "pushed"
    assert "formats" not in json.loads(
        (first.released() / "assets.extra" / "release.json").read_text()
    )
    # The same model, but asked for in more formats: a version of its own, since none is changed.
    run = first.again(*chosen)
    assert len(run.versions()) == 2
    record = json.loads((run.released() / "assets.extra" / "release.json").read_text())
    made = run.released() / "assets.extra" / "formats"
    assert sorted(path.name for path in made.iterdir()) == ["model.onnx", "model.tflite"]
    for facts in record["formats"].values():
        ((name, digest),) = facts["files"].items()
        assert hashlib.sha256((made / name).read_bytes()).hexdigest() == digest
        assert facts["agreement"] > 0.995
        assert facts["photos"] == record["data"]["splits"]["test"]
        assert facts["mean_iou"] == pytest.approx(
            record["metrics"]["overall"]["mean_iou"], abs=0.005
        )
    assert run.outcome["formats"].keys() == {"onnx", "litert"}
    assert run.again(*chosen).versions() == run.versions()
    without = run.again(*chosen[1:])
    assert without.outcome["pushed_version"] == run.outcome["pushed_version"]
    # A rollback takes them along, with their record.
    back = ["rollback", str(run.versions()[0]), "--serving", str(run.serving_dir)]
    assert releases.main(back) == 2  # the model is in service
    assert releases.main(["show", str(run.versions()[-1]), *back[2:], "--json"]) == 0
    other = run.again(*chosen, "train.seed=2")
    assert releases.main(["rollback", str(run.outcome["pushed_version"]), *back[2:]]) == 0
    newest = run.serving_dir / str(run.versions()[-1])
    assert newest != other.released()
    again = json.loads((newest / "assets.extra" / "release.json").read_text())
    assert again["formats"] == record["formats"]
    assert (newest / "assets.extra" / "formats" / "model.onnx").exists()
    versions = run.versions()
    # Another opset is another file.
    run.again(*chosen, "release.onnx_opset=15")
    assert len(run.versions()) == len(versions) + 1

    def fail(*_: object, **__: object) -> None:
        raise ConversionError("the release as ONNX is not good enough: it differs")

    monkeypatch.setattr(converter, "make", fail)
    refused = first.again("release.formats=[onnx, onnx_int8]", *chosen[1:])
    assert refused.code == 1
    assert "Pusher failed: ConversionError: the release as ONNX" in refused.outcome["error"]
    assert len(refused.versions()) == len(versions) + 1
    assert visible(first.serving_dir.parent) == [first.serving_dir.name]


def test_a_missing_package_is_reported_before_the_run(
    small_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    run = run_locally(small_data, tmp_path / "output", "release.formats=[litert]")
    assert run.code == 2
    assert "LiteRT needs the package ai_edge_litert" in capsys.readouterr().err


def test_settings_know_all_formats() -> None:
    assert get_args(settings.FormatName) == file_formats.NAMES
