"""The command line that segments photos, on a model with the contract's signature."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from pipeline.core import images
from pipeline.core.errors import UserError
from pipeline.inference import segmenter
from pipeline.inference.segmenter import ImageError, Segmenter
from tests.support.models.by_brightness import SIZE, WIDEST, run, save_model
from tests.support.photos import drawing, load_mask, save_photo

PET, BACKGROUND, BORDER = 0, 1, 2


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model") / "saved")


def test_mask_and_overlay_have_the_size_of_the_photo(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = save_photo(tmp_path / "Bengal_1.jpg", 320, 240, quality=95)
    assert run(model, tmp_path / "out", photo) == 0
    mask = load_mask(tmp_path / "out" / "Bengal_1_mask.png")
    assert mask.shape == (240, 320)
    assert mask[120, 160] == 1
    assert mask[5, 5] == 2
    assert mask[120, 92] == 3
    expected = np.select([drawing(320, 240)[..., 0] == v for v in (20, 235)], [1, 2], 3)
    assert (mask == expected).mean() > 0.95
    with Image.open(tmp_path / "out" / "Bengal_1_overlay.png") as overlay:
        assert (overlay.size, overlay.mode) == ((320, 240), "RGB")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert str(photo) in lines[0]
    assert str(tmp_path / "out") in lines[1]


def test_edges_are_smooth_at_the_photos_size(model: Path, tmp_path: Path) -> None:
    """A diagonal edge of a large photo is no staircase of enlarged model pixels."""
    side = 5 * SIZE
    rows, columns = np.mgrid[:side, :side]
    photo = np.where(rows > columns, 20, 235).astype(np.uint8)
    Image.fromarray(photo).save(tmp_path / "edge.png")
    assert run(model, tmp_path, tmp_path / "edge.png") == 0
    pet = load_mask(tmp_path / "edge_mask.png") == 1
    edge = pet.sum(axis=1)[side // 4 : -side // 4]
    assert np.abs(np.diff(edge.astype(int))).max() <= 2


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.gif", "a.bmp"])
def test_every_format_of_the_contract(model: Path, tmp_path: Path, name: str) -> None:
    assert run(model, tmp_path / "out", save_photo(tmp_path / name, 90, 130)) == 0
    mask = load_mask(tmp_path / "out" / "a_mask.png")
    assert mask.shape == (130, 90)
    assert (mask[65, 45], mask[2, 2]) == (1, 2)


def test_alpha_and_animation(model: Path, tmp_path: Path) -> None:
    clear = np.dstack([drawing(60, 40), np.zeros((40, 60), np.uint8)])
    Image.fromarray(clear).save(tmp_path / "clear.png")
    frames = [Image.fromarray(drawing(60, 40)), Image.new("RGB", (60, 40), (20, 20, 20))]
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:])
    assert run(model, tmp_path, tmp_path / "clear.png", tmp_path / "film.gif") == 0
    for stem in ("clear", "film"):
        mask = load_mask(tmp_path / f"{stem}_mask.png")
        assert mask.shape == (40, 60)
        assert (mask[20, 30], mask[2, 2]) == (1, 2)


def test_exif_orientation_is_not_applied(model: Path, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to show
    photo = save_photo(tmp_path / "turned.jpg", 80, 50, exif=exif)
    assert run(model, tmp_path, photo) == 0
    assert load_mask(tmp_path / "turned_mask.png").shape == (50, 80)


def test_one_stem_twice_makes_four_files(model: Path, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    photos = [
        save_photo(tmp_path / "cat.jpg", 40, 30),
        save_photo(tmp_path / "cat.png", 50, 30),
        save_photo(tmp_path / "b" / "Cat.jpg", 60, 30),
        save_photo(tmp_path / "cat-2.png", 70, 30),
    ]
    assert run(model, tmp_path / "out", *photos) == 0
    widths = {p.name: load_mask(p).shape[1] for p in (tmp_path / "out").glob("*_mask.png")}
    assert widths == {
        "cat_mask.png": 40,
        "cat-3_mask.png": 50,
        "Cat-4_mask.png": 60,
        "cat-2_mask.png": 70,
    }


def test_bad_photos_get_a_sentence_and_the_rest_is_done(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = [tmp_path / f"bad{i}.jpg" for i in range(6)]
    bad[0].write_text("no image")
    bad[1].touch()
    bad[2].mkdir()
    whole = save_photo(tmp_path / "whole.jpg").read_bytes()
    bad[3].write_bytes(whole[: len(whole) // 2])
    bad[5].symlink_to(bad[5])
    good = [save_photo(tmp_path / f"good{i}.png", 20 + i, 20) for i in range(10)]
    assert run(model, tmp_path / "out", *good[:3], *bad, *good[3:]) == 1
    output = capsys.readouterr()
    complaints = [line.split(": ", 1) for line in output.err.splitlines()]
    assert [path for path, _ in complaints] == [str(p) for p in bad]
    words = ("not a JPEG", "is empty", "the folder", "truncated", "does not exist", "symbolic")
    for word, (_, sentence) in zip(words, complaints, strict=True):
        assert word in sentence
        assert sentence.endswith(".")
    assert len(output.out.splitlines()) == 11
    assert "10 of 16" in output.out
    for i, photo in enumerate(good):
        assert load_mask(tmp_path / "out" / f"{photo.stem}_mask.png").shape == (20, 20 + i)
    assert len(list((tmp_path / "out").iterdir())) == 20


def test_the_result_folder_is_named_only_if_there_are_results(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.jpg").write_text("no image")
    assert run(model, tmp_path / "out", tmp_path / "bad.jpg") == 1
    said = capsys.readouterr().out
    assert said.startswith("Segmented 0 of 1 photos")
    assert "results" not in said


def test_folders_are_searched_for_photos(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "photos" / "deeper").mkdir(parents=True)
    (tmp_path / "none").mkdir()
    for name in ("b.PNG", "a.jpg", ".hidden.png"):
        save_photo(tmp_path / "photos" / name, 30, 20)
    (tmp_path / "photos" / "list.txt").touch()
    alone = save_photo(tmp_path / "c.bmp", 30, 20)
    assert run(model, tmp_path / "out", tmp_path / "photos", alone, tmp_path / "none") == 1
    output = capsys.readouterr()
    assert [line.split(": ")[0] for line in output.out.splitlines()[:-1]] == [
        str(path) for path in (tmp_path / "photos" / "a.jpg", tmp_path / "photos" / "b.PNG", alone)
    ]
    assert (
        output.err
        == f"{tmp_path / 'none'}: the folder has no readable JPEG, PNG, GIF or BMP file.\n"
    )


def test_one_photo_from_a_pipe(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = save_photo(tmp_path / "a.png", 30, 20)
    for contents, code in ((photo.read_bytes(), 0), (b"", 1)):
        pipe = SimpleNamespace(buffer=io.BytesIO(contents))
        monkeypatch.setattr(sys, "stdin", pipe)
        assert run(model, tmp_path / "out", Path("-")) == code
    assert load_mask(tmp_path / "out" / "stdin_mask.png").shape == (20, 30)


def test_bar_on_a_terminal_beside_plain_lines(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = [save_photo(tmp_path / f"{i}.png", 30, 20) for i in range(3)]
    screen, terminal = pty.openpty()
    shown: list[bytes] = []

    def watch() -> None:
        with contextlib.suppress(OSError):  # what reading ends with when nobody writes any more
            while chunk := os.read(screen, 1000):
                shown.append(chunk)

    watcher = threading.Thread(target=watch)
    watcher.start()
    with monkeypatch.context() as patch, os.fdopen(terminal, "w") as stderr:
        patch.setattr(sys, "stderr", stderr)
        assert run(model, tmp_path / "out", *photos) == 0
    watcher.join()
    os.close(screen)
    assert b"3/3" in b"".join(shown)
    assert len(capsys.readouterr().out.splitlines()) == 4


def test_a_photo_that_only_the_model_refuses_fails_alone(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = [save_photo(tmp_path / f"{width}.png", width, 20) for width in (30, WIDEST + 1, 40)]
    assert run(model, tmp_path / "out", *photos) == 1
    assert capsys.readouterr().err.startswith(f"{photos[1]}: ")
    assert {p.stem[:2] for p in (tmp_path / "out").iterdir()} == {"30", "40"}


def test_the_newest_complete_version_of_a_serving_folder_is_taken(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    serving = tmp_path / "serving" / "unet"
    for version in ("9", "10"):
        (serving / version).parent.mkdir(parents=True, exist_ok=True)
        (serving / version).symlink_to(model)
    (serving / "11").mkdir()  # no model in it yet
    (serving / "notes").mkdir()
    assert segmenter.find_saved_model(serving) == serving / "10"
    with pytest.raises(UserError, match=r"Did you mean .*unet"):
        segmenter.find_saved_model(tmp_path / "serving")
    assert run(serving, tmp_path / "out", save_photo(tmp_path / "a.jpg")) == 0
    assert str(serving / "10") in capsys.readouterr().out


def test_segmenter_keeps_order_and_its_mask_is_the_one_on_disk(model: Path, tmp_path: Path) -> None:
    sheets = [np.full((SIZE, SIZE, 3), v, np.uint8) for v in (20, 235, 128)]
    sheets.append(drawing(SIZE, SIZE))
    encoded = [images.encode(s) for s in sheets]
    segmenter = Segmenter(model)
    answers = segmenter.predict(encoded)
    assert [int(a.mask[0, 0]) for a in answers] == [PET, BACKGROUND, BORDER, BACKGROUND]
    assert answers[3].mask.dtype == np.uint8
    assert answers[3].mask.shape == (SIZE, SIZE)
    assert answers[3].probabilities.shape == (SIZE, SIZE, 3)
    assert segmenter.predict([]) == []
    with pytest.raises(ImageError):
        segmenter.predict([encoded[0], b"no image"])
    (tmp_path / "a.png").write_bytes(encoded[3])
    assert run(model, tmp_path, tmp_path / "a.png") == 0
    np.testing.assert_array_equal(
        load_mask(tmp_path / "a_mask.png"), images.to_trimap(answers[3].mask)
    )


def broken_model(tmp_path: Path) -> Path:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "saved_model.pb").write_bytes(b"no model")
    variables = tmp_path / "broken" / "variables"
    variables.mkdir()
    for name in ("variables.index", "variables.data-00000-of-00001"):
        (variables / name).touch()
    return tmp_path / "broken"


def version_without_weights(tmp_path: Path) -> Path:
    """Beside another one."""
    save_model(tmp_path / "m" / "7")
    newest = save_model(tmp_path / "m" / "8")
    shutil.rmtree(newest / "variables")
    return newest


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda tmp: tmp / "nowhere", "nowhere"),
        (lambda tmp: tmp, "is not a SavedModel"),
        (lambda tmp: tmp / "photo.jpg", "photo.jpg"),
        (broken_model, "damaged"),
        (
            version_without_weights,
            "because its folder variables/ is missing. Choose another version, ",
        ),
        (version_without_weights, "/m/7."),
        (lambda tmp: save_model(tmp / "other", signature="classify"), "'serving_default'"),
    ],
)
def test_a_folder_without_a_model_is_refused(
    make: Callable[[Path], Path], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = save_photo(tmp_path / "photo.jpg")
    assert run(make(tmp_path), tmp_path / "out", photo) == 2
    errors = capsys.readouterr().err
    assert words in errors
    assert errors.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_output_that_cannot_be_is_refused(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = save_photo(tmp_path / "a.jpg")
    assert run(model, photo, photo) == 2
    assert "is a file" in capsys.readouterr().err
    assert run(model, photo / "below", photo) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_result_never_replaces_a_photo(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = [save_photo(tmp_path / "a.jpg"), save_photo(tmp_path / "a_mask.png")]
    before = photos[1].read_bytes()
    assert run(model, tmp_path, *photos) == 2
    assert "--output-dir" in capsys.readouterr().err
    assert photos[1].read_bytes() == before


def test_probabilities_that_are_no_numbers_make_no_mask(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = save_model(tmp_path / "nan", poison=float("nan"))
    assert run(model, tmp_path / "out", save_photo(tmp_path / "a.jpg")) == 1
    assert "not finite" in capsys.readouterr().err
    assert not list((tmp_path / "out").iterdir())


def test_the_command_is_quiet_and_its_help_is_fast(model: Path, tmp_path: Path) -> None:
    photo = save_photo(tmp_path / "a.jpg")
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(photo.read_bytes()[:500])
    command = [sys.executable, "-m", "pipeline", "predict"]
    arguments = ["--model", str(model), "--output-dir", str(tmp_path / "out"), str(photo), str(bad)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TF_")}
    done = subprocess.run(
        [*command, *arguments], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"{bad}: ")
    assert done.stderr.count("\n") == 1
    assert len(done.stdout.splitlines()) == 2
    asked = subprocess.run([*command, "--help"], capture_output=True, text=True, check=True)
    assert "--output-dir" in asked.stdout
    wrong = subprocess.run([*command, str(photo)], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert wrong.stderr.count("\n") == 1
