"""Built-in data for runs without photos: painted pets in the layout of the real data set.

`painting` paints the photos.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.core import progress
from pipeline.core.errors import DataError
from pipeline.core.features import SPECIES
from pipeline.data.painting import BREEDS, paint_pair, species_of

VERSION = 2  # to increase when the same seed gives other files
MARKER = ".builtin_data.json"  # written last, beside `images/` and `annotations/`
TEST_EVERY = 4  # every fourth photo of each breed is in test
LIST_HEADER = """\
#Image CLASS-ID SPECIES BREED ID
#ID: 1:8 Class ids
#SPECIES: 1:Cat 2:Dog
#BREED ID: 1-4:Cat 1:4:Dog
#All images with 1st letter as captial are cat images
#images with small first letter are dog images
"""


def generate(root: Path, count: int = 160, seed: int = 0) -> None:
    """Generate `count` photos with trimaps and lists; the same arguments give the same bytes.

    Leaves a folder that already contains this set untouched, including modification times. Replaces
    another generated set. The set appears in one rename, never half-written.

    Args:
      root: the folder to create, with `images/*.jpg`, `annotations/trimaps/*.png` (8-bit grey, 1
        pet, 2 background, 3 border) and `annotations/{list,trainval,test}.txt`.
      count: number of photos, spread evenly over `BREEDS` and, for each breed, over both splits.
      seed: random seed, not negative.

    Raises:
      ValueError: if `count` leaves a split without some breed.
      DataError: if `root` contains files that are not generated.
    """
    if count < 2 * len(BREEDS):
        raise ValueError(f"Built-in data needs at least {2 * len(BREEDS)} photos, not {count}.")
    marker = {"count": count, "seed": seed, "version": VERSION}
    if _is_complete(root, marker):
        return
    foreign = _files(root) - {*_read_marker(root).get("files", []), MARKER}
    if foreign:
        raise DataError(
            f"{root} contains files that are not built-in data, such as {min(foreign)}; move them "
            "elsewhere or choose another folder."
        )
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{root.name}-", dir=root.parent) as scratch:
        new = Path(scratch, "new")
        _write_set(new, count, seed)
        (new / MARKER).write_text(json.dumps({**marker, "files": sorted(_files(new))}))
        if root.exists():
            root.rename(Path(scratch, "replaced"))
        try:
            new.rename(root)
        except OSError:  # another process was faster
            if not _is_complete(root, marker):
                raise


def _is_complete(root: Path, marker: dict[str, int]) -> bool:
    existing = _read_marker(root)
    files = {*existing.get("files", []), MARKER}
    return existing.items() >= marker.items() and _files(root) == files


def _read_marker(root: Path) -> dict[str, Any]:
    try:
        marker: dict[str, Any] = json.loads((root / MARKER).read_text())
        return marker
    except (OSError, ValueError):
        return {}


def _files(root: Path) -> set[str]:
    """Return the paths of all files below a folder, relative to it."""
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def _write_set(root: Path, count: int, seed: int) -> None:
    images, trimaps = root / "images", root / "annotations" / "trimaps"
    for folder in (images, trimaps):
        folder.mkdir(parents=True)
    rows: dict[str, list[str]] = {"list": [], "trainval": [], "test": []}
    progress.expect(count)
    for index in range(count):
        number, class_index = divmod(index, len(BREEDS))
        breed = BREEDS[class_index]
        photo, trimap = paint_pair(breed, np.random.default_rng([seed, index]))
        name = f"{breed.name}_{number + 1}"
        progress.count()
        photo.save(images / f"{name}.jpg", quality=90)
        trimap.save(trimaps / f"{name}.png")
        same_species = [b for b in BREEDS if species_of(b) == species_of(breed)]
        species_id = SPECIES.index(species_of(breed)) + 1
        breed_id = same_species.index(breed) + 1
        row = f"{name} {class_index + 1} {species_id} {breed_id}\n"
        rows["list"].append(row)
        rows["test" if number % TEST_EVERY == 1 else "trainval"].append(row)
    for split, lines in rows.items():
        text = "".join([LIST_HEADER] * (split == "list") + sorted(lines, key=str.lower))
        (root / "annotations" / f"{split}.txt").write_text(text)
