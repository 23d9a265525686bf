"""What counts as an item, and which split it is in."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import dataset, features
from pipeline.dataset import layout
from pipeline.errors import DataError


def make_folder(root: Path, images: list[str], masks: list[str], **lists: str) -> Path:
    """Makes a data folder of empty files; listing does not open them."""
    for folder, names in (("images", images), ("annotations/trimaps", masks)):
        (root / folder).mkdir(parents=True)
        for name in names:
            (root / folder / name).touch()
    for name, content in lists.items():
        (root / "annotations" / f"{name}.txt").write_text(content)
    return root


def scan(root: Path) -> dataset.Scan:
    return dataset.scan(root, eval_share=0.2, test_share=0.2)


def test_pairs_are_matched_by_name(tmp_path: Path) -> None:
    root = make_folder(
        tmp_path,
        ["Maine_Coon_1.jpg", "pug_2.JPEG", "beagle_3.png", "notes.txt", ".hidden.jpg"],
        ["Maine_Coon_1.png", "pug_2.png", "beagle_3.png", "._pug_2.png", "readme.md"],
    )
    found = {item.id: item for item in scan(root).items}
    assert list(found) == ["Maine_Coon_1", "beagle_3", "pug_2"]
    assert (found["Maine_Coon_1"].breed, found["Maine_Coon_1"].species) == ("Maine_Coon", "cat")
    assert (found["pug_2"].breed, found["pug_2"].species) == ("pug", "dog")
    assert Path(found["pug_2"].image).name == "pug_2.JPEG"
    assert scan(root).quarantined == []


def test_halves_of_pairs_are_set_aside_with_a_reason(tmp_path: Path) -> None:
    root = make_folder(
        tmp_path, ["a_1.jpg", "a_2.jpg", "a_2.png", "ok_1.jpg"], ["a_2.png", "b_1.png", "ok_1.png"]
    )
    result = scan(root)
    assert [item.id for item in result.items] == ["ok_1"]
    reasons = {row["id"]: row["reason"] for row in result.quarantined}
    assert reasons == {
        "a_1": "the photo has no mask annotations/trimaps/a_1.png",
        "a_2": "several photos have this id: a_2.jpg, a_2.png",
        "b_1": "the mask has no photo in images/",
    }


def test_names_that_are_not_utf_8_are_set_aside(tmp_path: Path) -> None:
    root = make_folder(tmp_path, ["ok_1.jpg"], ["ok_1.png"])
    Path(os.fsdecode(os.fsencode(root) + b"/images/Caf\xe9_1.jpg")).touch()
    result = scan(root)
    assert [item.id for item in result.items] == ["ok_1"]
    (row,) = result.quarantined
    assert row == {"id": "Caf\\udce9_1", "reason": "the file's name is not UTF-8"}


def test_name_without_an_underscore_has_no_breed(tmp_path: Path) -> None:
    root = make_folder(tmp_path, ["IMG1.jpg", "IMG2.jpg"], ["IMG1.png", "IMG2.png"])
    assert {item.breed for item in scan(root).items} == {"unknown"}


def test_official_lists_decide_species_and_test_split(tmp_path: Path) -> None:
    ids = [f"A_{i}" for i in range(50)]
    root = make_folder(
        tmp_path,
        [f"{i}.jpg" for i in [*ids, "Extra_1"]],
        [f"{i}.png" for i in [*ids, "Extra_1"]],
        list="#Image CLASS-ID SPECIES BREED ID\n" + "".join(f"{i} 1 2 1\n" for i in ids),
        trainval="".join(f"{i} 1 2 1\n" for i in ids[:40]),
        test="".join(f"{i} 1 2 1\n" for i in ids[40:]) + "Gone_1 1 1 1\n",
    )
    result = scan(root)
    assert {item.species for item in result.items} == {"dog"}  # though their names are cats'
    assert {i.id for i in result.items if i.split == features.TEST} == set(ids[40:])
    assert 0 < sum(i.split == features.EVAL for i in result.items) < 20
    assert result.unlisted == ["Extra_1"]
    assert result.quarantined == [
        {"id": "Gone_1", "reason": "the listed id has no photo in images/"}
    ]


@given(st.sets(st.text("abcXYZ_012é ", min_size=1, max_size=8), max_size=60), st.integers(0, 9))
def test_split_of_an_id_does_not_depend_on_the_others(ids: set[str], extra: int) -> None:
    def splits(of: set[str]) -> dict[str, str]:
        return {i: layout._split(i, None, 0.2, 0.2) for i in of}

    more = splits({*ids, *(f"new_{n}" for n in range(extra))})
    assert {i: more[i] for i in ids} == splits(ids)


def test_hash_split_keeps_the_shares() -> None:
    found = [layout._split(f"pug_{i}", None, 0.1, 0.2) for i in range(5000)]
    assert found.count(features.TEST) / 5000 == pytest.approx(0.2, abs=0.02)
    assert found.count(features.EVAL) / 5000 == pytest.approx(0.8 * 0.1, abs=0.02)


@pytest.mark.parametrize(
    ("folders", "sentence"),
    [
        ([], "has no images/ folder with photos"),
        (["images"], "has no annotations/trimaps/ folder with masks"),
        (["images", "annotations/trimaps"], "holds no photo"),
    ],
)
def test_folder_that_is_no_data_set(folders: list[str], sentence: str, tmp_path: Path) -> None:
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
    with pytest.raises(DataError, match=sentence):
        scan(tmp_path)


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no data folder"):
        scan(tmp_path / "none")
