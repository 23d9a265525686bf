"""The layout of the Oxford-IIIT Pet data set: a folder's items, their splits and their faults.

    images/*.{jpg,jpeg,png}          photos
    annotations/trimaps/*.png        masks: 8-bit greyscale, 1 pet, 2 background, 3 border
    annotations/list.txt             optional; a line an id: id, class id, species (1 cat, 2 dog)
    annotations/{trainval,test}.txt  optional; the official split, a line an id, the id first

Source: Parkhi, Vedaldi, Zisserman, Jawahar, "Cats and Dogs", CVPR 2012.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import PIL.Image

from pipeline import features
from pipeline.errors import DataError

IMAGES = Path("images")
ANNOTATIONS = Path("annotations")
TRIMAPS = ANNOTATIONS / "trimaps"
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
MASK_SUFFIX = ".png"

UNKNOWN_BREED = "unknown"  # of a file without an underscore in its name

TRIMAP_VALUES = range(features.TRIMAP_OFFSET, features.TRIMAP_OFFSET + features.NUM_CLASSES)


class FaultyItem(Exception):
    """One item cannot be used; the message is the reason."""


@dataclass(frozen=True)
class Item:
    """One photo with its mask, not yet opened."""

    id: str
    image: str  # path
    mask: str  # path
    breed: str
    species: str
    split: str


@dataclass(frozen=True)
class Scan:
    """What a data folder holds: usable items, and those set aside with the reason why."""

    items: list[Item] = field(default_factory=list)
    quarantined: list[dict[str, str]] = field(default_factory=list)
    unlisted: list[str] = field(default_factory=list)


def scan(root: Path, eval_share: float, test_share: float) -> Scan:
    """Lists the items of a data folder without opening a photo.

    Args:
      root: folder in the layout above.
      eval_share: share of the training ids (hash of the id) that become the eval split.
      test_share: share of all ids that become the test split, where no ``test.txt`` says which.

    Raises:
      DataError: the folder, its ``images/`` or its masks are missing, or ``images/`` is empty.
    """
    check_layout(root)
    images: dict[str, list[str]] = defaultdict(list)
    for name in sorted(os.listdir(root / IMAGES)):
        if Path(name).suffix.lower() in IMAGE_SUFFIXES and not name.startswith("."):
            images[Path(name).stem].append(name)
    masks = {
        Path(name).stem: name
        for name in sorted(os.listdir(root / TRIMAPS))
        if Path(name).suffix.lower() == MASK_SUFFIX and not name.startswith(".")
    }
    species = _read_species(root / ANNOTATIONS / "list.txt")
    trainval = _read_ids(root / ANNOTATIONS / "trainval.txt")
    test = _read_ids(root / ANNOTATIONS / "test.txt")
    listed = None if trainval is None or test is None else trainval | test

    result = Scan()
    for id_ in sorted(set(images) | set(masks) | (listed or set())):
        if not _is_utf8(id_):
            shown = id_.encode(errors="backslashreplace").decode()
            result.quarantined.append({"id": shown, "reason": "the file's name is not UTF-8"})
            continue
        if listed is not None and id_ not in listed:
            result.unlisted.append(id_)
            continue
        try:
            image, mask = _pair(id_, images.get(id_, []), masks.get(id_))
        except FaultyItem as fault:
            result.quarantined.append({"id": id_, "reason": str(fault)})
            continue
        result.items.append(
            Item(
                id=id_,
                image=str(root / IMAGES / image),
                mask=str(root / TRIMAPS / mask),
                breed=id_.rpartition("_")[0] or UNKNOWN_BREED,
                species=species.get(id_) or _species_by_name(id_),
                split=_split(id_, test, eval_share, test_share),
            )
        )
    return result


def fingerprint(root: Path) -> str:
    """Hex digest of names, sizes and times of all files of a data folder; nothing is opened."""
    digest = hashlib.sha256()
    for folder in (IMAGES, TRIMAPS, ANNOTATIONS):
        for entry in sorted(os.scandir(root / folder), key=lambda e: e.name):
            if entry.is_file():
                stat = entry.stat()
                name = os.fsencode(folder / entry.name)
                digest.update(name + f"\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def check_layout(root: Path) -> None:
    """Raises DataError, one sentence, if the folder cannot be a data set at all."""
    if not root.is_dir():
        raise DataError(f"There is no data folder {root}.")
    for folder, what in ((IMAGES, "photos"), (TRIMAPS, "masks")):
        if not (root / folder).is_dir():
            raise DataError(
                f"The data folder {root} has no {folder}/ folder with {what}; "
                f"the layout is {IMAGES}/*.jpg and {TRIMAPS}/*{MASK_SUFFIX}."
            )
    if not any(Path(n).suffix.lower() in IMAGE_SUFFIXES for n in os.listdir(root / IMAGES)):
        raise DataError(f"The folder {root / IMAGES} holds no photo ({', '.join(IMAGE_SUFFIXES)}).")


def _is_utf8(id_: str) -> bool:
    try:
        id_.encode()
    except UnicodeEncodeError:  # the file system's bytes, escaped by Python
        return False
    return True


def _pair(id_: str, images: list[str], mask: str | None) -> tuple[str, str]:
    if not images:
        raise FaultyItem(f"{'the mask' if mask else 'the listed id'} has no photo in {IMAGES}/")
    if len(images) > 1:
        raise FaultyItem(f"several photos have this id: {', '.join(images)}")
    if mask is None:
        raise FaultyItem(f"the photo has no mask {TRIMAPS}/{id_}{MASK_SUFFIX}")
    return images[0], mask


def _read_lines(path: Path) -> list[list[str]] | None:
    if not path.is_file():
        return None
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return [line.split() for line in lines if line.strip() and not line.startswith("#")]


def _read_ids(path: Path) -> set[str] | None:
    lines = _read_lines(path)
    return None if lines is None else {fields[0] for fields in lines}


def _read_species(path: Path) -> dict[str, str]:
    numbers = {"1": "cat", "2": "dog"}
    return {
        fields[0]: numbers[fields[2]]
        for fields in _read_lines(path) or []
        if len(fields) >= 3 and fields[2] in numbers
    }


def _species_by_name(id_: str) -> str:
    """File names of cats start with a capital letter."""
    return "cat" if id_[:1].isupper() else "dog"


def _split(id_: str, test: set[str] | None, eval_share: float, test_share: float) -> str:
    if test is None:
        if _fraction("test", id_) < test_share:
            return features.TEST
    elif id_ in test:
        return features.TEST
    return features.EVAL if _fraction("eval", id_) < eval_share else features.TRAIN


def _fraction(salt: str, id_: str) -> float:
    """A stable pseudo-random number in [0, 1) for an id; the salt makes splits independent."""
    digest = hashlib.sha256(f"{salt}:{id_}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


@dataclass(frozen=True)
class Facts:
    """What the check of an item found out on the way."""

    height: int  # pixels
    width: int  # pixels
    class_shares: dict[str, float]  # share of the mask's pixels, by class name


def check_pair(photo: np.ndarray, mask_file: bytes) -> Facts:
    """Checks that a mask belongs to its photo and says what the format says.

    Args:
      photo: decoded photo, uint8 [height, width, 3].
      mask_file: the trimap PNG.

    Raises:
      FaultyItem: with the reason.
    """
    try:
        with PIL.Image.open(io.BytesIO(mask_file)) as image:
            if image.format != "PNG":
                raise FaultyItem(f"the mask is {image.format}, not PNG")
            if image.mode != "L":
                raise FaultyItem(f"the mask is {image.mode}, not 8-bit greyscale")
            mask = np.asarray(image)
    except (OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError):
        raise FaultyItem("the mask cannot be decoded") from None
    height, width = photo.shape[:2]
    if mask.shape != (height, width):
        raise FaultyItem(f"mask is {mask.shape[1]}x{mask.shape[0]}, photo is {width}x{height}")
    counts = np.bincount(mask.ravel(), minlength=TRIMAP_VALUES.stop)
    strange = [int(v) for v in np.flatnonzero(counts) if v not in TRIMAP_VALUES]
    if strange:
        raise FaultyItem(
            f"the mask holds the value {strange[0]}, allowed are "
            f"{TRIMAP_VALUES.start} to {TRIMAP_VALUES.stop - 1}"
        )
    shares = counts[TRIMAP_VALUES.start : TRIMAP_VALUES.stop] / mask.size
    return Facts(height, width, dict(zip(features.CLASS_NAMES, shares.tolist(), strict=True)))
