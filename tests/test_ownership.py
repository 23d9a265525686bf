"""What a person made, or has changed since, is never written over; what we made is."""

from __future__ import annotations

import errno
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.PngImagePlugin
import pytest

from kubeflow import __main__ as kubeflow
from kubeflow import compiler
from pipeline.cli import convert
from pipeline.core import images, ownership, run_folder
from pipeline.core.errors import UserError
from pipeline.inference import photo_jobs
from pipeline.report import html_page
from pipeline.report.outcome import Outcome
from tests.support.models.by_brightness import run, save_model
from tests.support.photos import drawing, save_photo
from tests.support.photos import load_mask as mask_of


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model") / "saved")


@pytest.mark.parametrize("suffix", [".png", ".onnx", ".xml", ".bin", ".tflite"])
def test_a_signed_file_is_known_until_it_is_changed(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"file{suffix}"
    contents = images.encode(drawing(40, 30)) if suffix == ".png" else bytes(range(256)) * 9
    path.write_bytes(contents)
    assert not ownership.is_ours(path)
    path.write_bytes(signed := ownership.sign(contents, suffix))
    assert ownership.is_ours(path)
    for at in (0, len(contents) // 2):
        path.write_bytes(signed[:at] + bytes([signed[at] ^ 1]) + signed[at + 1 :])
        assert not ownership.is_ours(path)
    link = tmp_path / "link"
    link.symlink_to(path)
    path.write_bytes(signed)
    assert not ownership.is_ours(link)


def test_a_signed_picture_is_a_sound_one() -> None:
    pixels = drawing(40, 30)
    with PIL.Image.open(io.BytesIO(ownership.sign(images.encode(pixels), ".png"))) as picture:
        picture.load()
        assert np.array_equal(np.asarray(picture), pixels)
        assert "segmentation-pipeline" in picture.info["Comment"]


def corrected(path: Path) -> None:
    """What an editor does with a picture of ours; it keeps the comment."""
    with PIL.Image.open(path) as mask:
        mask.load()  # as far as the comment
        info = PIL.PngImagePlugin.PngInfo()
        info.add_text("Comment", mask.info["Comment"])
        pixels = np.array(mask)
    pixels[0] = 3
    PIL.Image.fromarray(pixels).save(path, pnginfo=info)


PERSONS: dict[str, Callable[[Path], object]] = {
    "png": lambda path: path.write_bytes(images.encode(np.ones((2, 3), np.uint8))),
    "text": lambda path: path.write_text("notes"),
    "empty": Path.touch,
    "folder": Path.mkdir,
    "dangling-link": lambda path: path.symlink_to("nowhere"),
    "corrected": corrected,
}


@pytest.mark.parametrize("name", ["cat_mask.png", "cat_overlay.png"])
@pytest.mark.parametrize("kind", PERSONS)
def test_prediction_keeps_what_a_person_made(
    kind: str, name: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = [save_photo(tmp_path / "cat.jpg"), save_photo(tmp_path / "dog.jpg")]
    theirs = tmp_path / "out" / name
    if kind == "corrected":
        assert run(model, tmp_path / "out", *photos) == 0
    else:
        theirs.parent.mkdir()
    PERSONS[kind](theirs)
    before = {p.name: p.read_bytes() for p in theirs.parent.iterdir() if p.is_file()}
    capsys.readouterr()
    assert run(model, tmp_path / "out", *photos) == 2
    error = capsys.readouterr().err
    assert error.startswith(
        f"Error: {theirs} was not created by this program or has been modified since;"
    )
    assert error.count("\n") == 1
    assert {p.name: p.read_bytes() for p in theirs.parent.iterdir() if p.is_file()} == before


def test_prediction_replaces_what_it_made(model: Path, tmp_path: Path) -> None:
    photo = save_photo(tmp_path / "cat.png", 40, 30)
    assert run(model, tmp_path / "out", photo) == 0
    save_photo(photo, 60, 50)
    assert run(model, tmp_path / "out", photo) == 0
    assert mask_of(tmp_path / "out" / "cat_mask.png").shape == (50, 60)


def test_a_file_that_appears_meanwhile_is_kept(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    ownership.require_ours([path], "wait")
    path.write_text("notes")
    with pytest.raises(FileExistsError, match="not created by this program"):
        ownership.write(path, images.encode(drawing(40, 30)))
    assert path.read_text() == "notes"


def test_the_sentence_counts(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in "abc"]
    for path in paths:
        path.touch()
    with pytest.raises(UserError, match=r"/a \(and 2 more\) was not created .* or choose another"):
        ownership.require_ours(paths, "choose another --output-dir")


def test_a_full_folder_is_reported_once(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written: list[Path] = []

    def fill(path: Path, contents: bytes) -> None:
        if len(written) == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(path)

    monkeypatch.setattr(ownership, "write", fill)
    photos = [save_photo(tmp_path / f"{i}.png", 30, 20) for i in range(20)]
    assert run(model, tmp_path / "out", *photos) == 1
    output = capsys.readouterr()
    assert output.err == (
        f"Error: No more results can be written to {tmp_path / 'out'} (No space left on device)."
        " Make room there or choose another --output-dir.\n"
    )
    assert "2 of 20 photos" in output.out


def test_an_unwritable_folder_is_reported_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "no-model", Path("/proc/self/fdinfo"), tmp_path / "a.png") == 2
    error = capsys.readouterr().err
    assert error.startswith("Error: Cannot write to /proc/self/fdinfo (")
    assert error.count("\n") == 1


@pytest.mark.parametrize("where", ["_read", "_decode", "_write"])
@pytest.mark.parametrize("fault", [MemoryError, RuntimeError])
def test_a_photo_that_fails_takes_no_other_along(
    where: str,
    fault: type[Exception],
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    photos = [save_photo(tmp_path / f"{i}.png", 30, 20) for i in range(5)]
    calls: list[object] = []
    whole = getattr(photo_jobs, where)

    def fail_once(*arguments: object) -> object:
        calls.append(arguments)
        if len(calls) == 3:
            raise fault
        return whole(*arguments)

    monkeypatch.setattr(photo_jobs, where, fail_once)
    assert run(model, tmp_path / "out", *photos) == 1
    output = capsys.readouterr()
    reason = "not enough memory" if fault is MemoryError else "unexpected"
    assert output.err.startswith(f"{photos[2]}: ")
    assert reason in output.err
    assert output.err.count("\n") == 1
    assert "4 of 5 photos" in output.out


@pytest.mark.parametrize(
    ("name", "contents", "ours"),
    [
        ("latest_run.json", b"", True),
        ("latest_run.json", b'{\n  "status": "pushed",\n  "pus', True),  # a full disk's
        ("latest_run.json", b'{"accuracy": 0.5, "status": "mine"}', False),
        ("latest_run.json", b"[]", False),
        ("report.html", b"<!doctype html>\n<title>My year</title>", False),
        ("report.html", b"\x89PNG", False),
    ],
)
def test_a_run_keeps_what_a_person_has_in_its_folder(
    name: str, contents: bytes, ours: bool, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(contents)
    if ours:
        run_folder.make(tmp_path)
    else:
        with pytest.raises(
            UserError, match=f"{name} was not created by this program; move it elsewhere"
        ):
            run_folder.make(tmp_path)
    assert (tmp_path / name).read_bytes() == contents


def test_a_run_replaces_the_report_of_the_last_one(tmp_path: Path) -> None:
    html_page.write(tmp_path / "report.html", Outcome(), [], [])
    run_folder.make(tmp_path)
    page = (tmp_path / "report.html").read_text()
    before = page.replace('<meta name="generator" content="segmentation-pipeline">\n', "")
    assert before != page
    (tmp_path / "report.html").write_text(before)
    run_folder.make(tmp_path)


@pytest.mark.parametrize(
    ("format_", "output", "theirs"),
    [
        ("onnx", "a.onnx", "a.onnx"),
        ("litert_int8", "a.tflite", "a.tflite"),
        ("openvino", "a.xml", "a.xml"),
        ("openvino", "a.xml", "a.bin"),
    ],
)
def test_a_conversion_keeps_what_a_person_made(
    format_: str, output: str, theirs: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before the model is looked at; tests/test_formats.py writes files again and again."""
    (tmp_path / theirs).write_text("notes")
    arguments = [format_, "--model", "none", "--output", str(tmp_path / output)]
    assert convert.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"Error: {tmp_path / theirs} was not created by this program")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["notes"]


def test_compiling_keeps_what_a_person_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = "# PIPELINE DEFINITION\n# Name: segmentation\ncomponents: {}\n"
    monkeypatch.setattr(compiler, "compile_pipeline", lambda chosen: compiled)
    path = tmp_path / "pipeline.yaml"
    for contents in (b"replicas: 3\n", b"# PIPELINE DEFINITION\n# Name: other\n", b""):
        path.write_bytes(contents)
        assert kubeflow.main(["compile", "--output", str(path)]) == 2
        assert "was not created by this program" in capsys.readouterr().err
        assert path.read_bytes() == contents
    path.write_text(compiled.replace("components", "before"))
    assert kubeflow.main(["compile", "--output", str(path)]) == 0
    assert path.read_text() == compiled
