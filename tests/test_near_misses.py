"""A folder that is almost in the layout: understood, or told once what is there and what to do."""

from __future__ import annotations

import codecs
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.cli import data as command
from pipeline.core.errors import DataError
from pipeline.data import layout, lists
from pipeline.settings import Data
from tests.support.faulty_data import SOUND, add, photo, trimap


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Twelve sound items."""
    root = tmp_path / "pets"
    (root / layout.IMAGES).mkdir(parents=True)
    (root / layout.TRIMAPS).mkdir(parents=True)
    for number in range(12):
        add(root, SOUND[0], f"b_{number}")
    return root


def refused(root: Path) -> str:
    with pytest.raises(DataError) as caught:
        layout.scan(root, Data())
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_one_level_too_high_or_too_deep(root: Path) -> None:
    assert refused(root.parent).endswith(f"did you mean {root}?")
    assert refused(root / "images").endswith(f"did you mean {root}?")
    assert refused(root / "annotations").endswith(f"did you mean {root}?")
    assert refused(root / "annotations" / "trimaps").endswith(f"did you mean {root}?")
    assert refused(root.parent / "pet").endswith(f"did you mean {root}?")


@pytest.mark.parametrize(
    ("photos", "masks"),
    [
        ("JPEGImages", "SegmentationClass"),
        ("Images", "annotations/Trimaps"),
        ("img", "masks"),
        (".", "annotations/trimaps"),
        ("images", "annotations"),
        ("images", "labels/png"),
    ],
)
def test_other_names_are_named(root: Path, photos: str, masks: str, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere" / "other"
    for part, name in ((layout.TRIMAPS, masks), (layout.IMAGES, photos)):
        shutil.copytree(root / part, other / name, dirs_exist_ok=True)
    said = refused(other)
    for part, name, ending in (
        (layout.IMAGES, photos, ".jpg"),
        (layout.TRIMAPS, masks, ".png"),
    ):
        if name != str(part):
            shown = "the folder itself" if name == "." else f"{name}/"
            assert f"{shown} (12 {ending} files)" in said
            assert f"{part}/" in said.partition("but must be in")[2]


@pytest.mark.parametrize("name", ["pets.zip", "images.tar.gz"])
def test_an_archive_is_to_be_unpacked(name: str, tmp_path: Path) -> None:
    packed = tmp_path / "packed"
    packed.mkdir()
    (packed / name).touch()
    assert f"it contains {name}: unpack" in refused(packed)
    assert "it is an archive, not a folder: unpack it" in refused(packed / name)


def test_photos_in_folders_of_their_own_or_of_another_kind(root: Path) -> None:
    images = root / "images"
    (images / "cats").mkdir()
    for path in list(images.glob("*.jpg")):
        path.rename(images / "cats" / path.name)
    assert "photos are in cats/ (12 .jpg files) below it" in refused(root)
    for path in (images / "cats").glob("*.jpg"):
        path.rename(images / f"{path.stem}.TIF")
    assert "it contains 12 .tif files: convert them to JPEG or PNG" in refused(root)


def convert(folder: Path, ending: str, keep: int) -> None:
    for path in sorted(folder.iterdir())[keep:]:
        path.rename(path.with_suffix(ending))


@pytest.mark.parametrize("ending", [".webp", ".TIF", ".bmp", ".jfif"])
def test_endings_that_are_not_read_are_named(
    ending: str, root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    convert(root / "images", ending, keep=4)
    assert command.main(["check", str(root)]) == 2
    output = capfd.readouterr()
    only = "is not read; only .jpg, .jpeg and .png files are"
    assert f"    b_9: images/b_9{ending} {only}\n" in output.out
    assert f"images/ contains 8 {ending.lower()} files, but only .jpeg, .jpg and .png" in output.err
    assert "has no photo" not in output.out


def test_masks_of_another_ending_are_named(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    convert(root / "annotations" / "trimaps", ".tif", keep=0)
    assert command.main(["check", str(root)]) == 2
    output = capfd.readouterr()
    assert "b_9: annotations/trimaps/b_9.tif is not read; only .png files are" in output.out
    assert "annotations/trimaps/ contains 12 .tif files, but only .png files are" in output.err
    convert(root / "images", ".webp", keep=6)
    assert command.main(["check", str(root)]) == 2
    assert "12 of 12 items are quarantined" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("part", "name", "said"),
    [
        ("annotations/trimaps", "{}_mask", "12 masks are named like their photos with '_mask'"),
        ("annotations/trimaps", "{}.jpg", "12 masks are named like their photos with '.jpg'"),
        ("annotations/trimaps", "seg-{}", "12 masks are named like their photos with 'seg-'"),
        ("images", "{}_image", "12 photos are named like their masks with '_image'"),
        ("images", "B{0[1]}{0[2]}{0[3]}", "differ from their photos only in case"),
    ],
)
def test_mismatched_names_are_reported(
    part: str, name: str, said: str, root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for path in list((root / part).iterdir()):
        path.rename(path.with_stem(name.format(f"{path.stem:<4}").replace(" ", "")))
    assert command.main(["check", str(root)]) == 2
    assert said in capfd.readouterr().err


IDS = [f"b_{number}" for number in range(4)]
WRITTEN = {
    "ids": "\n".join(IDS),
    "headed": "image\n" + "\n".join(IDS),
    "official": "#Image CLASS-ID SPECIES BREED ID\n" + "".join(f"{i} 1 2 1\n" for i in IDS),
    "official heading": "Image CLASS-ID SPECIES BREED ID\n" + "".join(f"{i} 1 2 1\n" for i in IDS),
    "endings": "".join(f"{i}.jpg\r\n" for i in IDS),
    "endings in capitals": "".join(f"{i}.JPG 1 2 1\n" for i in IDS),
    "other endings": "".join(f"{i}.webp\n" for i in IDS),
    "paths": "".join(f"./images/{i}.jpg\n" for i in IDS),
    "windows": "".join(f"C:\\data\\images\\{i}.jpg\r\n" for i in IDS),
    "pairs": "".join(f"images/{i}.jpg annotations/trimaps/{i}.png\n" for i in IDS),
    "csv": "image,mask\n" + "".join(f"images/{i}.jpg,masks/{i}.png\n" for i in IDS),
    "quoted": '"file_name";"class_id"\n' + "".join(f'"{i}.jpg";"7"\n' for i in IDS),
    "numbers": "".join(f"{i}.jpg,1,2,1\n" for i in IDS),
    "index": "".join(f"{n},{i}.jpg\n" for n, i in enumerate(IDS)),
    "flags": "".join(f"{i}  -1\n" for i in IDS),
    "tabs": "".join(f"{i}.jpg\t{i}.png\n" for i in IDS),
}
ENCODED: dict[str, Callable[[str], bytes]] = {
    "utf-8": str.encode,
    "utf-8 mark": lambda text: text.encode("utf-8-sig"),
    "utf-16": lambda text: text.encode("utf-16"),
    "utf-16 big": lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
    "utf-32": lambda text: text.encode("utf-32"),
}


@pytest.mark.parametrize("how", WRITTEN)
def test_a_list_is_understood_however_it_is_written(
    how: str, root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for encode in ENCODED.values():
        (root / "annotations" / "test.txt").write_bytes(encode(WRITTEN[how]))
        scan = layout.scan(root, Data())
        assert {item.id for item in scan.items if item.split == "test"} == set(IDS)
        assert (len(scan.items), scan.quarantined, scan.hints) == (12, [], [])


def test_species_stand_behind_commas_too(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a_1.jpg,1,1,1\nb_1, 2, 2, 1\nc_1 3 1 1\nd_1\n")
    found = lists.read(tmp_path / "list.txt", {"a_1", "b_1", "c_1", "d_1"})
    assert found == {"a_1": "cat", "b_1": "dog", "c_1": "cat", "d_1": None}


def test_a_list_in_latin_1(root: Path) -> None:
    add(root, SOUND[0], "Café_1")
    (root / "annotations" / "test.txt").write_bytes("Café_1.jpg\nb_1\n".encode("latin-1"))
    found = layout.scan(root, Data())
    assert {item.id for item in found.items if item.split == "test"} == {"Café_1", "b_1"}


def test_a_name_with_commas_and_endings_is_still_an_id(root: Path) -> None:
    for id_ in ("cat, grey_1", "b_1.jpg", "my cat 1", "image"):
        photo(5).save(root / "images" / f"{id_}.png")
        trimap().save(root / "annotations" / "trimaps" / f"{id_}.png")
    (root / "annotations" / "test.txt").write_text("image\ncat, grey_1\nb_1.jpg\nmy cat 1\n")
    found = {item.id for item in layout.scan(root, Data()).items if item.split == "test"}
    assert {"cat, grey_1", "b_1.jpg"} <= found
    assert "b_1" not in found


def test_lists_that_name_nothing_or_are_not_read_are_named_once(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (root / "annotations" / "test.txt").write_text("dog 1\ndog 2\ndog 3\nb_1\n")
    (root / "annotations" / "train.txt").write_text("b_1\n")
    assert command.main(["check", str(root)]) == 2
    said = capfd.readouterr().err
    assert "3 of 4 lines of test.txt match no photo or mask, such as 'dog 1'" in said
    assert (
        "train.txt in annotations/ is not read; lists must be named list.txt, trainval.txt" in said
    )


def test_a_sound_folder_has_no_hints(root: Path) -> None:
    (root / "annotations" / "README").touch()
    (root / "images" / "notes.txt").touch()
    assert layout.scan(root, Data()).hints == []
