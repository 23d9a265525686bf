"""Every kind of item that may arrive: which are used, which are quarantined, and why."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from google.protobuf import text_format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tensorflow_metadata.proto.v0 import schema_pb2

from pipeline.core import features
from pipeline.data import layout, preprocessing, validation
from pipeline.data.items import Item, UnusableItemError
from pipeline.settings import Data
from tests.support.faulty_data import FAULTY, SOUND, Kind, add, photo, trimap
from tests.support.photos import encoded
from tests.support.runs import REAL_SAMPLE, ROOT


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An empty data folder."""
    (tmp_path / "data" / layout.IMAGES).mkdir(parents=True)
    (tmp_path / "data" / layout.TRIMAPS).mkdir(parents=True)
    return tmp_path / "data"


def account(root: Path, **chosen: Any) -> dict[str, str]:
    """What becomes of every id of a folder: a reason, a note, or nothing to be said."""
    settings = Data(**chosen)
    scan = layout.scan(root, settings)
    found = {row["id"]: row["reason"] for row in scan.quarantined}
    for item in scan.items:
        try:
            notes = validation.check_item(item, settings).notes
            found[item.id] = "; ".join(row["note"] for row in notes)
        except UnusableItemError as fault:
            found[item.id] = str(fault)
    return found


@pytest.mark.parametrize("kind", [*SOUND, *FAULTY], ids=lambda kind: kind.name)
def test_what_becomes_of_each_kind(kind: Kind, root: Path) -> None:
    add(root, SOUND[0], "beagle_1")
    add(root, kind, "Bengal_1")
    expected = (kind.reason or kind.note or "").format(id="Bengal_1")
    assert account(root) == {"beagle_1": "", "Bengal_1": expected}


@pytest.mark.parametrize("id_", ["My cat 1", "Café_1", "猫_1", "a.b_1", "'\"&_1"])
def test_any_name_will_do(id_: str, root: Path) -> None:
    add(root, SOUND[0], id_)
    image = root / "images" / f"{id_}.jpg"
    image.rename(image.with_suffix(".JPG"))
    mask = root / "annotations" / "trimaps" / f"{id_}.png"
    mask.rename(mask.with_suffix(".PNG"))
    assert account(root) == {id_: ""}


def test_masks_of_one_class_can_be_quarantined(root: Path) -> None:
    (kind,) = (kind for kind in SOUND if kind.name == "one_class_mask")
    add(root, kind, "Bengal_1")
    item = layout.scan(root, Data()).items[0]
    with pytest.raises(UnusableItemError, match="the mask contains only background"):
        validation.check_item(item, Data(one_class_masks="set_aside"))


def test_photo_and_mask_of_a_sound_item_agree_with_the_graph(root: Path) -> None:
    """Also of one with an EXIF rotation: the mask fits the photo as it is stored."""
    for number, kind in enumerate(SOUND):
        add(root, kind, f"Bengal_{number}")
    for item in layout.scan(root, Data()).items:
        checked = validation.check_item(item)
        pixels = preprocessing.decode_image(tf.constant(checked.image_file))
        assert pixels.shape[:2] == preprocessing.decode_trimap(checked.mask_file).shape[:2]
        assert pixels.shape[:2] == (checked.height, checked.width)
        assert sum(checked.class_shares.values()) == pytest.approx(1)


def test_a_bomb_is_refused_by_its_header(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (kind,) = (kind for kind in FAULTY if kind.name == "decompression_bomb")
    add(root, kind, "Bengal_1")
    monkeypatch.setattr(preprocessing, "decode_image", lambda contents: pytest.fail("decoded"))
    assert "megapixels" in account(root)["Bengal_1"]


def test_unreadable_files_are_quarantined(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(root, SOUND[0], "Bengal_1")
    photo = root / "images" / "Bengal_1.jpg"
    photo.chmod(0)
    if os.access(photo, os.R_OK):  # root may read everything

        def refuse(path: str, mode: str) -> None:
            raise PermissionError(path)

        monkeypatch.setattr(validation, "open", refuse, raising=False)
    assert account(root) == {"Bengal_1": "the photo cannot be read"}


def test_the_schema_has_the_sides_that_pass_the_check() -> None:
    text = (ROOT / "schemas" / "pets.pbtxt").read_text()
    schema = text_format.Parse(text, schema_pb2.Schema())
    sides = {f.name: (f.int_domain.min, f.int_domain.max) for f in schema.feature}
    longest = validation.MAX_MEGAPIXELS * 1_000_000 // validation.MIN_SIDE
    assert sides[features.HEIGHT] == sides[features.WIDTH] == (validation.MIN_SIDE, longest)


PHOTOS = [
    encoded(photo(1), "JPEG"),
    encoded(photo(1), "JPEG", progressive=True),
    encoded(photo(1).convert("CMYK"), "JPEG"),
    encoded(photo(1), "PNG"),
    encoded(photo(1).convert("P"), "PNG"),
    encoded(photo(1), "GIF", save_all=True, append_images=[photo(2)]),
    encoded(photo(1), "BMP"),
    encoded(photo(1).convert("L"), "BMP"),
]


def damaged(contents: bytes, random: random.Random) -> bytes:
    """Flips, cuts, drops or doubles a few bytes, headers more often than the rest."""
    data = bytearray(contents)
    for _ in range(random.randint(0, 4)):
        at = random.randrange(min(len(data), random.choice([40, 700, len(data)])) or 1)
        match random.randrange(5):
            case 0 | 1:
                data[at : at + 1] = bytes([random.randrange(256)])
            case 2:
                del data[at : at + random.randint(1, 9)]
            case 3:
                data[at:at] = data[at : at + random.randint(1, 9)]
            case 4:
                del data[max(at, 9) :]
    return bytes(data)


@tf.function(input_signature=[tf.TensorSpec([], tf.string), tf.TensorSpec([], tf.string)])
def transform(image_file: tf.Tensor, mask_file: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """What the transform graph does with an item."""
    photo = preprocessing.resize_image(preprocessing.decode_image(image_file), 16)
    return photo, preprocessing.decode_mask(mask_file, 16)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(PHOTOS), st.randoms(use_true_random=False))
def test_photos_that_pass_the_check_pass_the_graph(
    tmp_path: Path, contents: bytes, random: random.Random
) -> None:
    image, mask = tmp_path / "a.jpg", tmp_path / "a.png"
    mask_file = encoded(trimap(), "PNG")
    image.write_bytes(damaged(contents, random))
    mask.write_bytes(damaged(mask_file, random) if random.random() < 0.5 else mask_file)
    untouched = (image.read_bytes(), mask.read_bytes()) == (contents, mask_file)
    item = Item("a", str(image), str(mask), "a", "cat", "train")
    try:
        checked = validation.check_item(item)
    except UnusableItemError:
        assert not untouched
        return
    pixels, ids = transform(checked.image_file, checked.mask_file)
    assert pixels.shape == (16, 16, 3)
    assert set(ids.numpy().flat) <= set(range(features.NUM_CLASSES))


@pytest.mark.skipif(not REAL_SAMPLE.exists(), reason="the real sample is not there")
def test_exactly_the_thirty_faulty_files_are_quarantined(tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(REAL_SAMPLE, root, copy_function=lambda a, b: Path(b).symlink_to(a))
    lists = root / "annotations"
    trainval = (lists / "trainval.txt").read_text()
    (lists / "trainval.txt").unlink()
    (lists / "list.txt").unlink()
    expected = {item.id: "" for item in layout.scan(REAL_SAMPLE, Data()).items}
    assert len(expected) == 400
    for number, kind in enumerate(FAULTY[:30]):
        id_ = f"Faulty_{number}"
        add(root, kind, id_)
        trainval += f"{id_} 1 1 1\n"
        assert kind.reason
        expected[id_] = kind.reason.format(id=id_)
    (lists / "trainval.txt").write_text(trainval)
    assert len(expected) == 430
    assert account(root) == expected
