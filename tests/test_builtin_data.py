"""The built-in data: layout of the Oxford-IIIT Pet set, same bytes every time, fair pictures."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipeline.core import features
from pipeline.core.errors import DataError
from pipeline.data import layout, painting, synthetic, validation
from pipeline.settings import Data

COUNT = 48


def digest(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def mtimes(root: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in [root, *root.rglob("*")]}


def rows(root: Path, name: str) -> list[list[str]]:
    lines = (root / "annotations" / f"{name}.txt").read_text().splitlines()
    return [line.split() for line in lines if not line.startswith("#")]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("builtin") / "data"
    synthetic.generate(root, COUNT)
    return root


@pytest.fixture(scope="module")
def trimaps(root: Path) -> dict[str, NDArray[Any]]:
    paths = (root / "annotations" / "trimaps").iterdir()
    return {path.stem: np.asarray(Image.open(path)) for path in paths}


def test_every_photo_has_its_trimap_and_its_line(
    root: Path, trimaps: dict[str, NDArray[Any]]
) -> None:
    photos = {path.stem for path in (root / "images").glob("*.jpg")}
    listed = [row[0] for row in rows(root, "list")]
    assert len(photos) == COUNT
    assert photos == set(trimaps) == set(listed)
    assert len(listed) == len(set(listed))


def test_list_has_the_header_and_columns_of_the_data_set(root: Path) -> None:
    header = (root / "annotations" / "list.txt").read_text().splitlines()[:6]
    assert header[0] == "#Image CLASS-ID SPECIES BREED ID"
    assert all(line.startswith("#") for line in header)
    breeds: dict[str, tuple[str, str, str]] = {}
    for id_, class_id, species, breed_id in rows(root, "list"):
        breed, _, number = id_.rpartition("_")
        assert int(number) > 0
        assert (species == "1") == breed[0].isupper()  # cats are capitalised
        assert breeds.setdefault(breed, (class_id, species, breed_id)) == (
            class_id,
            species,
            breed_id,
        )
    assert len(set(breeds.values())) == len(breeds) == 8
    assert sorted(species for _, species, _ in breeds.values()) == ["1"] * 4 + ["2"] * 4


def test_each_split_has_every_breed(root: Path) -> None:
    trainval, test = rows(root, "trainval"), rows(root, "test")
    assert sorted(trainval + test) == sorted(rows(root, "list"))
    for split in (trainval, test):
        assert len({row[1] for row in split}) == 8


def test_the_default_count_leaves_enough_to_judge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blank = Image.new("L", (2, 2))
    monkeypatch.setattr(synthetic, "paint_pair", lambda breed, rng: (blank, blank))
    synthetic.generate(tmp_path / "data")
    assert len(rows(tmp_path / "data", "list")) == 160
    assert len(rows(tmp_path / "data", "test")) == 40


def test_the_pipeline_reads_it_without_a_fault(root: Path) -> None:
    scan = layout.scan(root, Data(eval_share=0.125, test_share=0.1))
    assert len(scan.items) == COUNT
    assert not scan.quarantined
    assert not scan.unlisted
    assert {item.split for item in scan.items} == set(features.SPLITS)
    assert {item.species for item in scan.items} == set(features.SPECIES)
    for item in scan.items:
        with Image.open(item.image) as photo:
            assert (photo.format, photo.mode) == ("JPEG", "RGB")
        checked = validation.check_item(item)
        assert all(share > 0 for share in checked.class_shares.values())


def test_sizes_vary_as_photos_do(trimaps: dict[str, NDArray[Any]]) -> None:
    shapes = {trimap.shape for trimap in trimaps.values()}
    assert len(shapes) > COUNT / 4
    assert all(200 <= side <= 500 for shape in shapes for side in shape)
    assert any(height > width for height, width in shapes)
    assert any(height < width for height, width in shapes)


def test_class_shares_are_like_those_of_real_photos(trimaps: dict[str, NDArray[Any]]) -> None:
    shares = np.array([[np.mean(t == value) for value in (1, 2, 3)] for t in trimaps.values()])
    pet, background, border = shares.mean(axis=0)
    assert 0.22 <= pet <= 0.36
    assert 0.52 <= background <= 0.66
    assert 0.08 <= border <= 0.16


def test_border_lies_between_pet_and_background(trimaps: dict[str, NDArray[Any]]) -> None:
    for trimap in trimaps.values():
        for first, second in ((trimap[1:], trimap[:-1]), (trimap[:, 1:], trimap[:, :-1])):
            assert not np.any((first == 1) & (second == 2))
            assert not np.any((first == 2) & (second == 1))


def test_pet_stands_out_from_its_background(root: Path, trimaps: dict[str, NDArray[Any]]) -> None:
    """Else no model could learn the task: the mean colours differ in nearly every photo."""
    distances = []
    for id_, trimap in trimaps.items():
        photo = np.asarray(Image.open(root / "images" / f"{id_}.jpg"), float)
        means = photo[trimap == 1].mean(axis=0), photo[trimap == 2].mean(axis=0)
        distances.append(np.linalg.norm(means[0] - means[1]))
    assert np.percentile(distances, 10) > 20


def test_same_seed_same_bytes(root: Path, tmp_path: Path) -> None:
    synthetic.generate(tmp_path / "again", COUNT)
    assert digest(tmp_path / "again") == digest(root)


def test_other_seed_other_pictures(tmp_path: Path) -> None:
    for seed in (1, 2):
        synthetic.generate(tmp_path / str(seed), 16, seed)
    first, second = digest(tmp_path / "1"), digest(tmp_path / "2")
    pictures = [name for name in first if name.endswith((".jpg", ".png"))]
    assert len(pictures) == 32
    assert all(first[name] != second[name] for name in pictures)


def test_a_complete_set_is_left_alone(root: Path) -> None:
    before = mtimes(root)
    synthetic.generate(root, COUNT)
    assert mtimes(root) == before


def test_a_damaged_or_other_set_is_replaced(tmp_path: Path) -> None:
    root = tmp_path / "data"
    synthetic.generate(root, 16)
    whole = digest(root)
    next((root / "images").iterdir()).unlink()
    synthetic.generate(root, 16)
    assert digest(root) == whole
    synthetic.generate(root, 24)
    assert len(list((root / "images").iterdir())) == 24
    assert [path.name for path in tmp_path.iterdir()] == ["data"]  # no scratch folder stays


def test_other_peoples_files_are_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(DataError, match=r"not built-in data"):
        synthetic.generate(tmp_path, 16)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


@pytest.mark.parametrize("count", [16, 24])
def test_files_that_were_added_to_the_set_are_refused_and_kept(tmp_path: Path, count: int) -> None:
    root = tmp_path / "data"
    synthetic.generate(root, 16)
    (root / "images" / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(DataError, match=r"such as images/holiday\.jpg; move them"):
        synthetic.generate(root, count)
    assert (root / "images" / "holiday.jpg").read_bytes() == b"mine"
    assert len(list((root / "images").iterdir())) == 17


def test_nothing_is_visible_when_it_fails_half_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paint, calls = painting.paint_pair, []

    def fail_late(
        breed: painting.Breed, rng: np.random.Generator
    ) -> tuple[Image.Image, Image.Image]:
        calls.append(breed)
        assert not (tmp_path / "data").exists()
        if len(calls) == 10:
            raise OSError("disk full")
        return paint(breed, rng)

    monkeypatch.setattr(synthetic, "paint_pair", fail_late)
    with pytest.raises(OSError, match="disk full"):
        synthetic.generate(tmp_path / "data", 16)
    assert not list(tmp_path.iterdir())


def test_too_few_photos_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 16 photos, not 15"):
        synthetic.generate(tmp_path / "data", 15)
