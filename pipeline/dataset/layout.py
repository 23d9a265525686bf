"""The layout of the Oxford-IIIT Pet data set: a folder's items and their splits.

    images/*.{jpg,jpeg,png}          photos
    annotations/trimaps/*.png        masks: 8-bit greyscale, 1 pet, 2 background, 3 border
    annotations/list.txt             optional; a line an id: id, class id, species (1 cat, 2 dog),
                                     number within the species
    annotations/{trainval,test}.txt  optional; the official split, lines as above or the id alone

Source: Parkhi, Vedaldi, Zisserman, Jawahar, "Cats and Dogs", CVPR 2012.

A data folder may also hold batches, each in that layout: see `spans`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline import features
from pipeline.dataset import copies, spans
from pipeline.dataset.items import FaultyItem, Item, faulty, noted
from pipeline.errors import DataError
from pipeline.settings import Data

IMAGES = Path("images")
ANNOTATIONS = Path("annotations")
TRIMAPS = ANNOTATIONS / "trimaps"
LISTS = ("list.txt", "trainval.txt", "test.txt")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
MASK_SUFFIX = ".png"

UNKNOWN_BREED = "unknown"  # of a file without an underscore in its name

# An id may hold spaces; the three numbers behind it may be missing.
_LINE = re.compile(r"(?P<id>.+?)(?:\s+\d+\s+(?P<species>\d+)\s+\d+)?\s*")
_SPECIES = {"1": "cat", "2": "dog"}


@dataclass(frozen=True)
class Scan:
    """What a data folder holds."""

    items: list[Item] = field(default_factory=list)
    quarantined: list[dict[str, str]] = field(default_factory=list)  # set aside: `items.faulty`
    notes: list[dict[str, str]] = field(default_factory=list)  # used, worth a look: `items.noted`
    unlisted: list[str] = field(default_factory=list)  # ids on none of the lists, left out
    spans: list[str] = field(default_factory=list)  # names of the batches taken, newest first


def scan(root: Path, settings: Data) -> Scan:
    """Lists the items of a data folder; a photo is opened only to compare it with its equals.

    Args:
      root: folder in the layout above, or of spans in that layout.
      settings: which items are taken, and for which split. Of an id in several spans the newest is
        taken.

    Raises:
      DataError: as `check_layout`.
    """
    folders = check_layout(root, settings.spans)
    with _readable(root):
        return _scan(root, folders, settings)


def _scan(root: Path, folders: Sequence[Path], settings: Data) -> Scan:
    result = Scan(spans=[folder.name for folder in folders if folder != root])
    seen: set[str] = set()
    items: list[Item] = []
    for folder in folders:
        found = _scan_folder(folder, settings)
        items += [item for item in found.items if item.id not in seen]
        result.quarantined.extend(row for row in found.quarantined if row["id"] not in seen)
        result.notes.extend(row for row in found.notes if row["id"] not in seen)
        result.unlisted.extend(id_ for id_ in found.unlisted if id_ not in seen)
        seen |= {item.id for item in found.items} | {row["id"] for row in found.quarantined}
        seen.update(found.unlisted)
    stay, copied, notes = copies.keep_apart(items, settings.one_class_masks)
    result.items.extend(stay)
    result.quarantined.extend(copied)
    result.notes.extend(notes)
    return result


def fingerprint(root: Path, span_count: int = 1) -> str:
    """Hex digest of names, sizes and times of all files that a scan takes; nothing is opened.

    Raises:
      DataError: as `check_layout`.
    """
    digest = hashlib.sha256()
    for batch in check_layout(root, span_count):
        for folder in (IMAGES, TRIMAPS, ANNOTATIONS):
            for entry in sorted(os.scandir(batch / folder), key=lambda e: e.name):
                name = os.fsencode(batch.relative_to(root) / folder / entry.name)
                digest.update(name + _state(entry) + b"\n")
    return digest.hexdigest()


def check_layout(root: Path, span_count: int = 1) -> list[Path]:
    """The folders that a run takes its items from: the data folder, or its newest spans.

    Raises:
      DataError: one sentence, if the folder cannot be a data set at all.
    """
    with _readable(root):
        return _check_layout(root, span_count)


@contextlib.contextmanager
def _readable(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"Cannot read {error.filename or root} in the data folder: {error.strerror}."
        ) from None


def _check_layout(root: Path, span_count: int) -> list[Path]:
    if not root.is_dir():
        raise DataError(f"There is no data folder {root}.")
    batches = spans.newest(root, span_count)
    if batches and (root / IMAGES).is_dir():
        raise DataError(
            f"The data folder {root} has both {IMAGES}/ and the span {batches[0].path.name}/; "
            "move one of them elsewhere."
        )
    folders = [batch.path for batch in batches] or [root]
    for folder in folders:
        _check_folder(folder)
    return folders


def count(root: Path) -> dict[str, int]:
    """Number of photos in a folder in the layout above, and on each list of ids with both files."""
    images, masks = _files(root / IMAGES, IMAGE_SUFFIXES), _files(root / TRIMAPS, (MASK_SUFFIX,))
    counts = {"photos": len(images)}
    for name in LISTS:
        listed = _read_list(root / ANNOTATIONS / name) or {}
        counts[f"pairs on {name}"] = sum(id_ in images and id_ in masks for id_ in listed)
    return counts


def _check_folder(root: Path) -> None:
    for folder, what in ((IMAGES, "photos"), (TRIMAPS, "masks")):
        if not (root / folder).is_dir():
            raise DataError(
                f"The data folder {root} has no {folder}/ folder with {what}; "
                f"the layout is {IMAGES}/*.jpg and {TRIMAPS}/*{MASK_SUFFIX}."
            )
    if not any(Path(n).suffix.lower() in IMAGE_SUFFIXES for n in os.listdir(root / IMAGES)):
        raise DataError(f"The folder {root / IMAGES} holds no photo ({', '.join(IMAGE_SUFFIXES)}).")


def _state(entry: os.DirEntry[str]) -> bytes:
    """Size and time of a file; nothing of what is none, such as a symbolic link to itself."""
    try:
        if not entry.is_file():
            return b""
        status = entry.stat()
    except OSError:
        return b""
    return f"\0{status.st_size}\0{status.st_mtime_ns}".encode()


def _scan_folder(root: Path, settings: Data) -> Scan:
    images = _files(root / IMAGES, IMAGE_SUFFIXES)
    masks = _files(root / TRIMAPS, (MASK_SUFFIX,))
    everything, trainval, test = (_read_list(root / ANNOTATIONS / name) for name in LISTS)
    species = {**(test or {}), **(trainval or {}), **(everything or {})}
    # The test photos' list alone, or that of the others, does not say what the folder holds.
    complete = everything is not None or (trainval is not None and test is not None)

    result = Scan()
    for id_ in sorted({*images, *masks, *species}):
        if not _is_utf8(id_):
            shown = id_.encode(errors="backslashreplace").decode()
            result.quarantined.append(faulty(shown, "the file's name is not UTF-8"))
            continue
        if complete and id_ not in species and settings.unlisted == "leave_out":
            result.unlisted.append(id_)
            continue
        try:
            image, mask = _pair(id_, images.get(id_, []), masks.get(id_, []))
        except FaultyItem as fault:
            result.quarantined.append(faulty(id_, str(fault)))
            continue
        if trainval and test and id_ in trainval and id_ in test:
            note = "both trainval.txt and test.txt list it; it is in the split test alone"
            result.notes.append(noted(id_, note))
        result.items.append(
            Item(
                id=id_,
                image=str(root / IMAGES / image),
                mask=str(root / TRIMAPS / mask),
                breed=id_.rpartition("_")[0] or UNKNOWN_BREED,
                species=species.get(id_) or _species_by_name(id_),
                split=_split(id_, test, settings),
            )
        )
    return result


def _files(folder: Path, suffixes: Collection[str]) -> dict[str, list[str]]:
    """Names of the files that have one of the suffixes in any case, by id.

    macOS writes accents in two characters, others in one: ids have them in one (Unicode's NFC).
    """
    files: dict[str, list[str]] = defaultdict(list)
    for name in sorted(os.listdir(folder)):
        path = Path(name)
        if path.suffix.lower() in suffixes and not name.startswith("."):
            files[unicodedata.normalize("NFC", path.stem)].append(name)
    return files


def _is_utf8(id_: str) -> bool:
    try:
        id_.encode()
    except UnicodeEncodeError:  # the file system's bytes, escaped by Python
        return False
    return True


def _pair(id_: str, images: list[str], masks: list[str]) -> tuple[str, str]:
    if not images:
        raise FaultyItem(f"{'the mask' if masks else 'the listed id'} has no photo in {IMAGES}/")
    if len(images) > 1:
        raise FaultyItem(f"several photos have this id: {', '.join(images)}")
    if not masks:
        raise FaultyItem(f"the photo has no mask {TRIMAPS}/{id_}{MASK_SUFFIX}")
    if len(masks) > 1:
        raise FaultyItem(f"several masks have this id: {', '.join(masks)}")
    return images[0], masks[0]


def _read_list(path: Path) -> dict[str, str | None] | None:
    """The ids of a list, each with its species where the line says it; None without the file."""
    if not path.is_file():
        return None
    text = unicodedata.normalize("NFC", path.read_text(encoding="utf-8-sig", errors="replace"))
    lines = (_LINE.fullmatch(line) for line in text.splitlines() if not line.startswith("#"))
    return {line["id"].strip(): _SPECIES.get(line["species"]) for line in lines if line}


def _species_by_name(id_: str) -> str:
    """File names of cats start with a capital letter."""
    return "cat" if id_[:1].isupper() else "dog"


def _split(id_: str, test: Collection[str] | None, settings: Data) -> str:
    if test is None:
        if _fraction("test", id_) < settings.test_share:
            return features.TEST
    elif id_ in test:
        return features.TEST
    return features.EVAL if _fraction("eval", id_) < settings.eval_share else features.TRAIN


def _fraction(salt: str, id_: str) -> float:
    """A stable pseudo-random number in [0, 1) for an id; the salt makes splits independent."""
    digest = hashlib.sha256(f"{salt}:{id_}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
