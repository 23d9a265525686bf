"""The layout of the Oxford-IIIT Pet data set: lists the items of a folder and their splits.

    images/*.{jpg,jpeg,png}          photos
    annotations/trimaps/*.png        masks: 8-bit greyscale, 1 pet, 2 background, 3 border
    annotations/list.txt             optional; one id per line: id, class id, species (1 cat, 2
                                     dog), number within the species; see `lists`
    annotations/{trainval,test}.txt  optional; the official split, lines as above or just the id

Source: Parkhi, Vedaldi, Zisserman, Jawahar, "Cats and Dogs", CVPR 2012.

A data folder may also contain spans, each in this layout; see `spans`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.core import features, formatting
from pipeline.core.errors import DataError
from pipeline.data import duplicates, lists, near_misses, spans
from pipeline.data.items import Item, Row, UnusableItemError, faulty, noted
from pipeline.settings import Data

IMAGES = Path("images")
ANNOTATIONS = Path("annotations")
TRIMAPS = ANNOTATIONS / "trimaps"
LISTS = ("list.txt", "trainval.txt", "test.txt")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
MASK_SUFFIX = ".png"

UNKNOWN_BREED = "unknown"  # if the file name has no underscore


@dataclass(frozen=True)
class Scan:
    """The contents of a data folder."""

    items: list[Item] = field(default_factory=list)
    quarantined: list[Row] = field(default_factory=list)  # rows from `items.faulty`
    notes: list[Row] = field(default_factory=list)  # on used items, rows from `items.noted`
    unlisted: list[str] = field(default_factory=list)  # ids that are not listed, left out
    spans: list[str] = field(default_factory=list)  # names of the spans in use, newest first
    hints: list[str] = field(default_factory=list)  # on the folder: sentences without full stop


def scan(root: Path, settings: Data) -> Scan:
    """List the items of a data folder; opens photos only to find duplicates.

    Args:
      root: a folder in the layout above, or with spans in that layout. If an id is in several
        spans, the newest is used.
      settings: which items are used, and for which split.

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
        part = _scan_folder(folder, settings)
        items += [item for item in part.items if item.id not in seen]
        result.quarantined.extend(row for row in part.quarantined if row["id"] not in seen)
        result.notes.extend(row for row in part.notes if row["id"] not in seen)
        result.unlisted.extend(id_ for id_ in part.unlisted if id_ not in seen)
        result.hints.extend(part.hints)
        seen |= {item.id for item in part.items} | {row["id"] for row in part.quarantined}
        seen.update(part.unlisted)
    kept, copies, notes = duplicates.quarantine_duplicates(items, settings)
    result.items.extend(kept)
    result.quarantined.extend(copies)
    result.notes.extend(notes)
    return result


def fingerprint(root: Path, span_count: int = 1) -> str:
    """Return the hex digest of names, sizes and times of all files in a scan; opens none of them.

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
    """Return the folders with the items of a run: the data folder, or its newest spans.

    Raises:
      DataError: if the folder is not a data set.
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
        raise DataError(
            _sentence(f"There is no data folder {root}", near_misses.instead_of_root(root))
        )
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
    """Count the photos in a folder, and the ids with photo and mask on each list."""
    images, masks = _files(root / IMAGES, IMAGE_SUFFIXES), _files(root / TRIMAPS, (MASK_SUFFIX,))
    counts = {"photos": len(images)}
    for name in LISTS:
        listed = lists.read(root / ANNOTATIONS / name, {*images, *masks}) or {}
        counts[f"pairs on {name}"] = sum(id_ in images and id_ in masks for id_ in listed)
    return counts


def _check_folder(root: Path) -> None:
    for folder, what in ((IMAGES, "photos"), (TRIMAPS, "masks")):
        if not (root / folder).is_dir():
            raise DataError(
                _sentence(
                    f"The data folder {root} has no {folder}/ folder with {what} "
                    f"(the layout is {IMAGES}/*.jpg and {TRIMAPS}/*{MASK_SUFFIX})",
                    near_misses.instead_of_layout(root, (IMAGES, TRIMAPS), _has_layout),
                )
            )
    if not any(Path(n).suffix.lower() in IMAGE_SUFFIXES for n in os.listdir(root / IMAGES)):
        raise DataError(
            _sentence(
                f"The folder {root / IMAGES} contains no photos ({', '.join(IMAGE_SUFFIXES)})",
                near_misses.instead_of_photos(root / IMAGES, IMAGE_SUFFIXES),
            )
        )


def _has_layout(folder: Path) -> bool:
    return (folder / IMAGES).is_dir() and (folder / TRIMAPS).is_dir()


def _sentence(what: str, hint: str | None) -> str:
    """Join an error and a hint about what is there instead, if any, to one sentence."""
    end = "" if hint and hint.endswith("?") else "."
    return f"{what}; {hint}{end}" if hint else f"{what}."


def _state(entry: os.DirEntry[str]) -> bytes:
    """Return size and time of a file; nothing for other entries, such as broken links."""
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
    other_images = near_misses.by_id(root / IMAGES, IMAGE_SUFFIXES)
    other_masks = near_misses.by_id(root / TRIMAPS, (MASK_SUFFIX,))
    known = {*images, *masks, *other_images}
    everything, trainval, test = (lists.read(root / ANNOTATIONS / name, known) for name in LISTS)
    species = {**(test or {}), **(trainval or {}), **(everything or {})}
    # One of test.txt and trainval.txt alone does not list all items of the folder.
    complete = everything is not None or (trainval is not None and test is not None)

    result = Scan(hints=_hints(root, images, masks, other_images, other_masks))
    for name, ids in zip(LISTS, (everything, trainval, test), strict=True):
        if hint := near_misses.unknown_ids(name, ids or {}, known):
            result.hints.append(hint)
    unread = {id_ for id_ in other_images if id_ in other_masks}
    for id_ in sorted({*images, *masks, *species, *unread}):
        if not _is_utf8(id_):
            shown = id_.encode(errors="backslashreplace").decode()
            result.quarantined.append(faulty(shown, "the file name is not UTF-8"))
            continue
        if complete and id_ not in species and settings.unlisted == "leave_out":
            result.unlisted.append(id_)
            continue
        try:
            _require_read(id_, images, other_images, IMAGES, IMAGE_SUFFIXES)
            _require_read(id_, masks, other_masks, TRIMAPS, (MASK_SUFFIX,))
            image, mask = _pair(id_, images.get(id_, []), masks.get(id_, []))
        except UnusableItemError as fault:
            result.quarantined.append(faulty(id_, str(fault)))
            continue
        if trainval and test and id_ in trainval and id_ in test:
            note = "listed in both trainval.txt and test.txt; used only in the test split"
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


def _hints(
    root: Path,
    images: Mapping[str, list[str]],
    masks: Mapping[str, list[str]],
    other_images: Mapping[str, str],
    other_masks: Mapping[str, str],
) -> list[str]:
    """Return hints about names in the folder that are near misses."""
    hints = (
        near_misses.unread(
            [name for id_, name in other_images.items() if id_ not in images],
            IMAGES,
            IMAGE_SUFFIXES,
            "convert them to JPEG or PNG",
        ),
        near_misses.unread(
            [name for id_, name in other_masks.items() if id_ not in masks],
            TRIMAPS,
            (MASK_SUFFIX,),
            "save them as 8-bit greyscale PNG files",
        ),
        near_misses.renamed(
            set(images) - set(masks) - set(other_masks),
            set(masks) - set(images) - set(other_images),
        ),
        near_misses.unread_lists(root / ANNOTATIONS, LISTS),
    )
    return [hint for hint in hints if hint]


def _require_read(
    id_: str,
    usable: Mapping[str, list[str]],
    others: Mapping[str, str],
    folder: Path,
    endings: Sequence[str],
) -> None:
    """Raise UnusableItemError if the only file of an id has an extension that is not read."""
    if id_ in others and id_ not in usable:
        raise UnusableItemError(
            f"{folder}/{others[id_]} is not read; only {formatting.listed(endings)} files are"
        )


def _files(folder: Path, suffixes: Collection[str]) -> dict[str, list[str]]:
    """Return the names of files with one of the suffixes, in any case, by id.

    Ids are in Unicode's NFC, since macOS decomposes accented characters in file names.
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
    except UnicodeEncodeError:  # undecodable bytes of the file name, as surrogates
        return False
    return True


def _pair(id_: str, images: list[str], masks: list[str]) -> tuple[str, str]:
    if not images:
        raise UnusableItemError(
            f"{'the mask' if masks else 'the listed id'} has no photo in {IMAGES}/"
        )
    if len(images) > 1:
        raise UnusableItemError(f"several photos have this id: {', '.join(images)}")
    if not masks:
        raise UnusableItemError(f"the photo has no mask {TRIMAPS}/{id_}{MASK_SUFFIX}")
    if len(masks) > 1:
        raise UnusableItemError(f"several masks have this id: {', '.join(masks)}")
    return images[0], masks[0]


def _species_by_name(id_: str) -> str:
    """Return the species by the first letter: file names of cats are capitalised."""
    return "cat" if id_[:1].isupper() else "dog"


def _split(id_: str, test: Collection[str] | None, settings: Data) -> str:
    if test is None:
        if _fraction("test", id_) < settings.test_share:
            return features.TEST
    elif id_ in test:
        return features.TEST
    return features.EVAL if _fraction("eval", id_) < settings.eval_share else features.TRAIN


def _fraction(salt: str, id_: str) -> float:
    """Hash an id to [0, 1); the salt makes the splits independent."""
    digest = hashlib.sha256(f"{salt}:{id_}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
