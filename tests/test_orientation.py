"""EXIF orientation: read as Pillow reads it, applied or not as `data.exif` says, everywhere."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import random
import shutil
import struct
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.cli import convert, predict
from pipeline.cli import data as command
from pipeline.core import features, file_formats, images
from pipeline.core.errors import UserError
from pipeline.data import orientation, preprocessing, validation
from pipeline.data.items import Item, UnusableItemError
from pipeline.inference import segmenter, web
from pipeline.saved_model import contract, smoke_test
from pipeline.settings import Data
from tests.support.faulty_data import photo, trimap
from tests.support.runs import Run, run_locally, skip_training, smoke_test_here

ALL = range(1, 9)


def exif(value: int, endian: str = "<", kind: int = 3) -> bytes:
    """A TIFF header with a directory of two entries, the second the orientation."""
    mark = {"<": b"II*\0", ">": b"MM\0*"}[endian]
    number = struct.pack(f"{endian}HH", value, 0) if kind == 3 else struct.pack(f"{endian}I", value)
    maker = struct.pack(f"{endian}HHII", 0x010F, 2, 4, int.from_bytes(b"Us!\0", "little"))
    entry = struct.pack(f"{endian}HHI", 0x0112, kind, 1) + number
    begin, count = struct.pack(f"{endian}I", 8), struct.pack(f"{endian}H", 2)
    return mark + begin + count + maker + entry + bytes(4)


def save(image: PIL.Image.Image, image_format: str, noted: bytes) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, exif=b"Exif\0\0" + noted)
    return buffer.getvalue()


def jpeg(value: int, **how: Any) -> bytes:
    return save(photo(1), "JPEG", exif(value, **how))


def png(value: int, **how: Any) -> bytes:
    return save(photo(1), "PNG", exif(value, **how))


def upright(contents: bytes) -> NDArray[Any]:
    """What Pillow takes a photo to be."""
    with PIL.Image.open(io.BytesIO(contents)) as image:
        return np.asarray(PIL.ImageOps.exif_transpose(image).convert("RGB"))


@pytest.mark.parametrize("value", ALL)
@pytest.mark.parametrize("make", [jpeg, png])
@pytest.mark.parametrize("how", [{"endian": "<"}, {"endian": ">"}, {"endian": ">", "kind": 4}])
def test_each_orientation_is_read_and_applied(value: int, make: Any, how: dict[str, Any]) -> None:
    contents = make(value, **how)
    assert orientation.of_file(contents) == value
    pixels = preprocessing.decode_upright(tf.constant(contents), "apply").numpy()
    assert pixels.shape == upright(contents).shape
    difference = np.abs(pixels.astype(int) - upright(contents))
    assert difference.max() <= 3  # two decoders
    stored = preprocessing.decode_upright(tf.constant(contents), "as_stored").numpy()
    assert (stored == preprocessing.decode_image(tf.constant(contents)).numpy()).all()


@pytest.mark.parametrize(
    "contents",
    [
        *(b"", b"\xff\xd8", b"BM", b"\x89PNG\r\n\x1a\n", jpeg(0), jpeg(9), jpeg(65535)),
        *(jpeg(6)[:40], b"\xff\xd8" + b"\xff" * 99, b"\xff\xd8" + b"\xff\xe2\0\2" * 99),
    ],
)
def test_what_says_no_orientation_stands_upright(contents: bytes) -> None:
    assert orientation.of_file(contents) == 1


def test_other_segments_come_first() -> None:
    """A thumbnail's marker, a comment, and an APP1 segment of another kind."""
    found = jpeg(8)
    for kind, text in ((0xE1, b"http://ns.adobe.com/xap/1.0/\0"), (0xFE, b"Exif\0\0"), (0xE2, b"")):
        segment = bytes([0xFF, 0xFF, kind]) + struct.pack(">H", 2 + len(text)) + text
        found = found[:2] + segment + found[2:]
    assert orientation.of_file(found) == 8


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([jpeg(6), png(3, endian=">")]), st.randoms(use_true_random=False))
def test_damage_is_no_error(contents: bytes, random: random.Random) -> None:
    data = bytearray(contents)
    for _ in range(random.randint(1, 4)):
        at = random.randrange(min(len(data), 120))
        data[at : at + random.choice([1, 1, 3])] = bytes([random.randrange(256)])
    assert orientation.of_file(bytes(data)) in ALL


def item(folder: Path, contents: bytes, mask: PIL.Image.Image) -> Item:
    image, mask_path = folder / "a.jpg", folder / "a.png"
    image.write_bytes(contents)
    mask.save(mask_path)
    return Item("a", str(image), str(mask_path), "a", "dog", "train")


@pytest.mark.parametrize("value", ALL)
@pytest.mark.parametrize("masks", ["upright", "as_stored"])
def test_photo_and_mask_are_one_in_check_and_training(
    value: int, masks: str, tmp_path: Path
) -> None:
    """The mask of the upright photo, drawn upright, or stored as the photo is."""
    contents = save(photo(1), "PNG", exif(value))
    with PIL.Image.open(io.BytesIO(contents)) as image:
        red = image.getchannel(0).point(lambda level: 1 + (level > 90) + (level > 170))
        red.getexif()[0x0112] = value
        mask = PIL.ImageOps.exif_transpose(red) if masks == "upright" else red
    chosen = Data(exif="apply", exif_masks=masks)
    checked = validation.check_item(item(tmp_path, contents, mask), chosen)
    assert (checked.height, checked.width) == upright(contents).shape[:2]
    assert len(checked.notes) == (value != 1)
    inputs = {
        features.IMAGE: tf.constant([[checked.image_file]]),
        features.MASK: tf.constant([[checked.mask_file]]),
        features.ID: tf.constant([["a"]]),
    }
    size = {"image_size": 40, "exif": "apply", "exif_masks": masks}
    packed = preprocessing.preprocessing_fn(inputs, size)
    pixels = preprocessing.unpack_image(packed[features.IMAGE_PIXELS][0], 40).numpy()
    ids = preprocessing.unpack_mask(packed[features.MASK_PIXELS][0], 40).numpy()
    level = pixels[..., 0].astype(int)
    assert np.mean(ids == (level > 90).astype(int) + (level > 170)) > 0.9  # but for edges
    shown = preprocessing.resize_image(tf.constant(upright(contents)), 40).numpy()
    assert np.abs(pixels.astype(int) - shown).max() <= 1


@pytest.mark.parametrize(
    ("chosen", "turned", "reason"),
    [
        ({}, True, "photo is 60x40 as stored; set data.exif=apply"),
        ({"exif": "apply"}, False, "photo is 40x60 when upright; with data.exif_masks=as_stored"),
        (
            {"exif": "apply", "exif_masks": "as_stored"},
            True,
            "photo is 60x40 as stored; with data.exif_masks=upright",
        ),
    ],
)
def test_size_is_compared_as_the_settings_say(
    chosen: dict[str, Any], turned: bool, reason: str, tmp_path: Path
) -> None:
    lying, standing = trimap(), trimap().transpose(PIL.Image.Transpose.ROTATE_270)
    fits, misfits = (lying, standing) if turned else (standing, lying)
    validation.check_item(item(tmp_path, jpeg(6), fits), Data(**chosen))
    with pytest.raises(UnusableItemError, match=reason):
        validation.check_item(item(tmp_path, jpeg(6), misfits), Data(**chosen))
    with pytest.raises(UnusableItemError) as caught:  # which no orientation explains
        validation.check_item(item(tmp_path, jpeg(3), standing), Data(**chosen))
    assert "EXIF" not in str(caught.value)


@pytest.fixture(scope="module")
def phone_data(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small data as telephones and tools for masks store it: masks fit the upright photos."""
    root = Path(shutil.copytree(small_data, tmp_path_factory.mktemp("phone") / "data"))
    for number, path in enumerate(sorted((root / "images").iterdir())):
        value = 1 + number % 8
        with PIL.Image.open(path) as image:
            back = {6: 8, 8: 6}.get(value, value)
            image.getexif()[0x0112] = back
            stored = PIL.ImageOps.exif_transpose(image)
            path.write_bytes(save(stored, image.format or "JPEG", exif(value)))
    return root


def test_check_names_and_counts_them(phone_data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    chosen = ["--set", "data.exif=apply"]
    assert command.main(["check", str(phone_data), *chosen]) == 0
    output = capfd.readouterr().out
    assert "Notes: 35\n" in output
    *others, last = (f"5 with orientation {value}" for value in range(2, 9))
    counts = f"{', '.join(others)} and {last}"
    assert f"35 of 40 photos have an EXIF orientation ({counts}), which is applied" in output
    assert command.main(["check", str(phone_data)]) == 2
    said = capfd.readouterr().err
    assert (
        "18 masks are rotated by 90 degrees relative to their photos as stored" in said
    )  # 2: square
    assert "set data.exif=apply" in said


@pytest.fixture(scope="module")
def phone_run(phone_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that applies the orientation; what its model says is without sense."""
    with pytest.MonkeyPatch.context() as patch:
        skip_training(patch)
        smoke_test_here(patch)
        output = tmp_path_factory.mktemp("phone-run") / "output"
        return run_locally(phone_data, output, "data.exif=apply")


def test_run_notes_them(phone_run: Run) -> None:
    assert phone_run.outcome["status"] == "pushed"
    data = phone_run.outcome["data"]
    assert len(data["notes"]) == 35
    assert {row["orientation"] for row in data["notes"]} == set(range(2, 9))
    (hint,) = data["hints"]
    assert hint.startswith("35 of 40 photos have an EXIF orientation")
    page = (phone_run.output_root / "report.html").read_text()
    assert "35 of 40 photos have an EXIF orientation" in page
    card = (phone_run.released() / "assets.extra" / "model_card.md").read_text()
    assert "The photo is rotated by its EXIF orientation first" in card


def test_servers_turn_a_photo_inside_the_graph(phone_run: Run) -> None:
    model = str(phone_run.released())
    assert contract.exif(model) == contract.APPLY
    assert smoke_test.fault(model) is None
    photos = [jpeg(value) for value in ALL]
    lossless = [images.encode(decoded(photo, "apply")) for photo in photos]
    with smoke_test.as_server(model) as (_, ask):
        found = ask(contract.SERVE, photos)[contract.PROBABILITIES]
        expected = ask(contract.SERVE, lossless)[contract.PROBABILITIES]
        assert np.abs(found - expected).max() < 0.05
        assert np.abs(found[2] - found[0]).max() > 0.05
        masks = ask(contract.SERVE_PNG, [*photos, smoke_test.UNDECODABLE])
        assert masks[contract.VALID].tolist() == [True] * 8 + [False]


def decoded(contents: bytes, how: str) -> NDArray[Any]:
    return segmenter.decode_photo(contents, how)


def test_a_model_that_says_so_and_does_not_is_not_released(small_run: Run, tmp_path: Path) -> None:
    model = Path(shutil.copytree(small_run.released(), tmp_path / "1"))
    assert contract.exif(str(model)) == contract.AS_STORED
    (model / contract.FACTS).write_text(json.dumps({"exif": "apply"}))
    assert "does not apply the EXIF orientation" in str(smoke_test.fault(str(model)))
    for damage in ("{", "[]", '{"exif": 6}'):
        (model / contract.FACTS).write_text(damage)
        assert "it is damaged" in str(contract.incompatibility(str(model)))
        with pytest.raises(UserError, match="cannot be loaded and is probably damaged"):
            segmenter.Segmenter(model)


def ask_page(model: Path, contents: bytes) -> dict[str, Any]:
    """What the page on a model answers to a photo."""

    async def post() -> httpx.Response:
        app = httpx.ASGITransport(web.create_app(segmenter.Segmenter(model)))
        async with httpx.AsyncClient(transport=app, base_url="http://127.0.0.1") as client:
            return await client.post("/segment", content=contents)

    answer: dict[str, Any] = asyncio.run(post()).json()
    return answer


@pytest.mark.parametrize(("applied", "size"), [(True, (40, 60)), (False, (60, 40))])
def test_prediction_shows_what_the_model_saw(
    applied: bool,
    size: tuple[int, int],
    phone_run: Run,
    small_run: Run,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = (phone_run if applied else small_run).released()
    taken = tmp_path / "phone.jpg"
    taken.write_bytes(jpeg(6))
    out = tmp_path / "out"
    assert predict.main(["--model", str(model), "--output-dir", str(out), str(taken)]) == 0
    note = "its EXIF orientation 6 (rotated by 90 degrees) is not applied"
    assert (note in capsys.readouterr().out) is not applied
    with PIL.Image.open(out / "phone_mask.png") as mask:
        assert mask.size == size
    with PIL.Image.open(out / "phone_overlay.png") as overlay:
        assert (overlay.size, dict(overlay.getexif())) == (size, {})  # no viewer turns it again
        before = decoded(jpeg(6), "apply" if applied else "as_stored")
        tinted = np.corrcoef(np.asarray(overlay)[..., 0].ravel(), before[..., 0].ravel())[0, 1]
        assert tinted > 0.3
    answer = ask_page(model, jpeg(6))
    assert (answer["width"], answer["height"]) == size
    assert bool(answer["note"]) is not applied
    contents = base64.b64decode(answer["overlay"].partition(",")[2])
    with PIL.Image.open(io.BytesIO(contents)) as overlay:
        assert (overlay.size, dict(overlay.getexif())) == (size, {})


@pytest.mark.parametrize("name", ["onnx", "litert", "openvino"])
def test_other_formats_know_it_too(name: str, phone_run: Run, tmp_path: Path) -> None:
    path = tmp_path / file_formats.Format(name).file_name
    arguments = [name, "--model", str(phone_run.serving_dir), "--output", str(path)]
    assert convert.main(arguments) == 0
    asked = segmenter.FileSegmenter(path)
    assert asked.exif == contract.APPLY
    model = segmenter.Segmenter(phone_run.released())
    for value in (1, 3, 6):
        (found,), (expected,) = (each.predict([jpeg(value)]) for each in (asked, model))
        assert np.abs(found.probabilities - expected.probabilities).max() < 0.05
