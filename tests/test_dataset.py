"""What counts as an item, and which split it is in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core import features
from pipeline.core.errors import DataError
from pipeline.data import layout
from pipeline.settings import Data
from tests.support.faulty_data import SOUND, add


def make_folder(root: Path, images: list[str], masks: list[str], **lists: str) -> Path:
    """Makes a data folder of empty files; listing does not open them."""
    for folder, names in (("images", images), ("annotations/trimaps", masks)):
        (root / folder).mkdir(parents=True)
        for name in names:
            (root / folder / name).touch()
    for name, content in lists.items():
        (root / "annotations" / f"{name}.txt").write_text(content)
    return root


def scan(root: Path, **chosen: Any) -> layout.Scan:
    return layout.scan(root, Data(eval_share=0.2, test_share=0.2, **chosen))


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


def test_incomplete_pairs_are_quarantined(tmp_path: Path) -> None:
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


def test_names_that_are_not_utf_8_are_quarantined(tmp_path: Path) -> None:
    root = make_folder(tmp_path, ["ok_1.jpg"], ["ok_1.png"])
    Path(os.fsdecode(os.fsencode(root) + b"/images/Caf\xe9_1.jpg")).touch()
    result = scan(root)
    assert [item.id for item in result.items] == ["ok_1"]
    (row,) = result.quarantined
    assert row == {"id": "Caf\\udce9_1", "reason": "the file name is not UTF-8"}


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


def test_unlisted_ids_never_become_test_photos(tmp_path: Path) -> None:
    ids = [f"A_{i}" for i in range(30)]
    images, masks = [f"{i}.jpg" for i in ids], [f"{i}.png" for i in ids]
    root = make_folder(tmp_path, images, masks, trainval="A_0 1 2 1\n", test="A_1 1 2 1\n")
    assert [item.id for item in scan(root).items] == ["A_0", "A_1"]
    used = scan(root, unlisted="use")
    assert (len(used.items), used.unlisted) == (30, [])
    assert [item.id for item in used.items if item.split == features.TEST] == ["A_1"]


def test_list_alone_says_what_the_folder_holds(tmp_path: Path) -> None:
    root = make_folder(tmp_path, ["a_1.jpg", "b_1.jpg"], ["a_1.png", "b_1.png"], list="a_1 1 1 1\n")
    assert ([item.id for item in scan(root).items], scan(root).unlisted) == (["a_1"], ["b_1"])


def test_an_id_on_both_lists_is_judged_and_never_learned(tmp_path: Path) -> None:
    root = make_folder(
        tmp_path,
        ["a_1.jpg", "my cat.jpg"],
        ["a_1.png", "my cat.png"],
        trainval="a_1 1 2 1\nmy cat 1 2 2\n",
        test="a_1 1 2 1\n",
    )
    assert {i.id: i.split == features.TEST for i in scan(root).items} == {
        "a_1": True,
        "my cat": False,
    }
    (note,) = scan(root).notes
    assert note["id"] == "a_1"
    assert "both trainval.txt and test.txt" in note["note"]


def test_one_name_in_two_ways_of_writing_unicode_is_one_id(tmp_path: Path) -> None:
    """macOS writes an accent as a character of its own."""
    root = make_folder(tmp_path, ["Cafe\u0301_1.jpg"], ["Caf\u00e9_1.png"], test="Caf\u00e9_1")
    assert [item.id for item in scan(root).items] == ["Caf\u00e9_1"]
    (root / "images" / "Caf\u00e9_1.jpg").touch()
    assert "several photos have this id" in scan(root).quarantined[0]["reason"]


def test_masks_whose_names_differ_in_case_are_reported(tmp_path: Path) -> None:
    root = make_folder(tmp_path, ["a_1.jpg"], ["a_1.png", "a_1.PNG"])
    assert scan(root).quarantined == [
        {"id": "a_1", "reason": "several masks have this id: a_1.PNG, a_1.png"}
    ]


def test_copies_of_a_photo_never_lie_in_two_splits(tmp_path: Path) -> None:
    ids = [f"A_{i}" for i in range(40)]
    test = "".join(f"{id_} 1 1 1\n" for id_ in ids[20:])
    root = make_folder(tmp_path, [f"{i}.jpg" for i in ids], [f"{i}.png" for i in ids], test=test)
    for number, id_ in enumerate(ids):  # A_0 to A_9 equal A_20 to A_29; A_38 equals A_39
        content = f"{number % 20 if number < 30 else min(number, 38)}"
        (root / "images" / f"{id_}.jpg").write_text(content)
    result = scan(root)
    assert {row["id"]: row["reason"] for row in result.quarantined} == {
        f"A_{i}": f"the same photo as A_{i + 20}, which is in the test split" for i in range(10)
    }
    assert result.notes == [{"id": "A_39", "note": "the same photo as A_38"}]
    by_content: dict[str, set[str]] = {}
    for item in result.items:
        by_content.setdefault(Path(item.image).read_text(), set()).add(item.split)
    assert len(result.items) == 30
    assert all(len(splits) == 1 for splits in by_content.values())


def test_a_sound_photo_stays_where_its_copy_is_faulty(tmp_path: Path) -> None:
    """It is in train, the copy in test has a damaged mask."""
    root = make_folder(tmp_path, [], [], test="A_2 1 1 1\n")
    add(root, SOUND[0], "A_1")
    photos, masks = root / "images", root / "annotations" / "trimaps"
    (photos / "A_2.jpg").write_bytes((photos / "A_1.jpg").read_bytes())
    (masks / "A_2.png").write_bytes(b"")
    result = scan(root)
    assert [item.id for item in result.items] == ["A_1", "A_2"]  # A_2 is for the check to name
    assert not result.quarantined
    (masks / "A_2.png").write_bytes((masks / "A_1.png").read_bytes())
    assert [row["id"] for row in scan(root).quarantined] == ["A_1"]


def make_span(root: Path, name: str, *ids: str) -> None:
    make_folder(root / name, [f"{i}.jpg" for i in ids], [f"{i}.png" for i in ids])


@pytest.mark.parametrize(
    "names", [("span-2", "span-9", "span-10"), ("2025-12-31", "2026-01-02", "2026-11-25")]
)
def test_the_newest_spans_are_taken(names: tuple[str, str, str], tmp_path: Path) -> None:
    oldest, middle, newest = names
    make_span(tmp_path, oldest, "a_1")
    make_span(tmp_path, middle, "a_2", "b_1")
    make_span(tmp_path, newest, "a_2", "c_1")
    (tmp_path / "incoming").mkdir()  # no span
    assert [item.id for item in scan(tmp_path).items] == ["a_2", "c_1"]
    window = scan(tmp_path, spans=2)
    assert window.spans == [newest, middle]
    # Of an id in both the newest is taken.
    assert {i.id: Path(i.image).parts[-3] for i in window.items} == {
        "a_2": newest,
        "b_1": middle,
        "c_1": newest,
    }
    assert len(scan(tmp_path, spans=9).items) == 4


def test_an_item_quarantined_in_its_newest_span_is_not_used(
    tmp_path: Path,
) -> None:
    make_span(tmp_path, "span-1", "a_1", "b_1")
    make_span(tmp_path, "span-2", "a_1", "c_1")
    (tmp_path / "span-2" / "annotations" / "trimaps" / "a_1.png").unlink()
    window = scan(tmp_path, spans=2)
    assert [item.id for item in window.items] == ["c_1", "b_1"]
    assert [row["id"] for row in window.quarantined] == ["a_1"]


def test_an_id_not_listed_in_its_newest_span_is_not_used(
    tmp_path: Path,
) -> None:
    """Whoever strikes an id off the list wants it gone, not an older photo of it back."""
    make_span(tmp_path, "span-1", "a_1", "b_1")
    make_span(tmp_path, "span-2", "a_1", "c_1")
    (tmp_path / "span-2" / "annotations" / "list.txt").write_text("c_1 1 2 1\n")
    window = scan(tmp_path, spans=2)
    assert [item.id for item in window.items] == ["c_1", "b_1"]
    assert window.unlisted == ["a_1"]
    # Where unlisted ids are used, so is this one: of the newest span.
    used = {item.id: item.image for item in scan(tmp_path, spans=2, unlisted="use").items}
    assert sorted(used) == ["a_1", "b_1", "c_1"]
    assert Path(used["a_1"]).parts[-3] == "span-2"
    # A newest span that has no file of it and does not list it says nothing about it.
    for folder in ("images", "annotations/trimaps"):
        for path in (tmp_path / "span-2" / folder).glob("a_1.*"):
            path.unlink()
    assert [item.id for item in scan(tmp_path, spans=2).items] == ["c_1", "a_1", "b_1"]


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["span-1", "2026-11-25"], "by number and by date"),
        (["span-1", "span-01"], "are the same span"),
        (["images", "span-1"], "has both images/ and the span span-1/"),
        (["span-1"], "span-1 has no images/ folder with photos"),
    ],
)
def test_ambiguous_spans(names: list[str], sentence: str, tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).mkdir()
    with pytest.raises(DataError, match=sentence):
        scan(tmp_path)


def test_the_fingerprint_covers_only_the_spans_used(tmp_path: Path) -> None:
    make_span(tmp_path, "span-1", "a_1")
    make_span(tmp_path, "span-2", "a_2")
    newest, both = (layout.fingerprint(tmp_path, count) for count in (1, 2))
    (tmp_path / "span-1" / "images" / "a_1.jpg").write_text("changed")
    assert layout.fingerprint(tmp_path, 1) == newest
    assert layout.fingerprint(tmp_path, 2) != both
    (tmp_path / "span-2").rename(tmp_path / "span-3")
    assert layout.fingerprint(tmp_path, 1) != newest


def test_fingerprint_survives_what_is_no_file(tmp_path: Path) -> None:
    root = make_folder(tmp_path, ["a_1.jpg"], ["a_1.png"])
    (root / "images" / "loop.jpg").symlink_to("loop.jpg")
    (root / "images" / "gone.jpg").symlink_to("nowhere.jpg")
    assert layout.fingerprint(root) == layout.fingerprint(root)


@given(st.sets(st.text("abcXYZ_012é ", min_size=1, max_size=8), max_size=60), st.integers(0, 9))
def test_split_of_an_id_does_not_depend_on_the_others(ids: set[str], extra: int) -> None:
    def splits(of: set[str]) -> dict[str, str]:
        return {i: layout._split(i, None, Data(eval_share=0.2, test_share=0.2)) for i in of}

    more = splits({*ids, *(f"new_{n}" for n in range(extra))})
    assert {i: more[i] for i in ids} == splits(ids)


def test_hash_split_keeps_the_shares() -> None:
    shares = Data(eval_share=0.1, test_share=0.2)
    found = [layout._split(f"pug_{i}", None, shares) for i in range(5000)]
    assert found.count(features.TEST) / 5000 == pytest.approx(0.2, abs=0.02)
    assert found.count(features.EVAL) / 5000 == pytest.approx(0.8 * 0.1, abs=0.02)


@pytest.mark.parametrize(
    ("folders", "sentence"),
    [
        ([], "has no images/ folder with photos"),
        (["images"], "has no annotations/trimaps/ folder with masks"),
        (["images", "annotations/trimaps"], "contains no photos"),
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
