"""Hints for data folders that are not in the layout: what is there instead, and what to do.

Files with other names and extensions are only mentioned, never used as data.
"""

from __future__ import annotations

import difflib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from pipeline.core.formatting import listed

# Endings of images from other tools; `layout` says which of them are read.
PICTURES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif"),
    *(".heic", ".heif", ".avif", ".jp2", ".npy", ".dcm"),
)
_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".7z", ".rar", ".gz")
_MOST_FOLDERS, _DEPTH, _SHOWN = 500, 3, 4
_SEPARATORS = re.compile(r"[._\- ]")
# Names that other tools give to lists of ids.
_LIST_NAME = re.compile(r"(train|val|test|valid|list|split)", re.IGNORECASE)


def instead_of_root(root: Path) -> str | None:
    """Return a hint for a data folder that is not a folder."""
    if root.is_file():
        what = "an archive" if _is_archive(root.name) else "a file"
        return f"it is {what}, not a folder{': unpack it' if _is_archive(root.name) else ''}"
    parent = root.parent
    folders = [each.name for each in parent.iterdir() if each.is_dir()] if parent.is_dir() else []
    close = difflib.get_close_matches(root.name, folders, 1, 0.8)
    return f"did you mean {parent / close[0]}?" if close else None


def instead_of_layout(
    root: Path, parts: Iterable[Path], is_layout: Callable[[Path], bool]
) -> str | None:
    """Return a hint for a folder that lacks a part of the layout, if there is any.

    Args:
      root: the folder.
      parts: the parts of the layout, as paths below the folder.
      is_layout: returns whether a folder has all of them.
    """
    missing = [f"{part}/" for part in parts if not (root / part).is_dir()]
    expected = {root / part for part in parts}
    resolved = Path(os.path.abspath(root))
    for above in list(resolved.parents)[:2]:
        if is_layout(above):
            return f"did you mean {above}?"
    inside = [folder for folder in _folders(root) if folder != root]
    matches = [folder for folder in inside if is_layout(folder)]
    if matches:
        shown = [str(folder) for folder in matches[:_SHOWN]]
        return f"did you mean {listed(shown, 'or')}?"
    places = [
        f"{_relative(folder, root)} ({_counted(counts)})"
        for folder in (root, *inside)
        # A folder of the layout counts too if it may contain both photos and masks.
        if (counts := _pictures(folder)) and (folder not in expected or len(counts) > 1)
    ]
    if places:
        more = f", {len(places) - _SHOWN} more" if len(places) > _SHOWN else ""
        where = ", ".join(places[:_SHOWN]) + more
        return f"images are in {where}, but must be in {listed(missing)}"
    archives = [f for folder in (root, *inside) for f in _names(folder) if _is_archive(f)]
    if archives:
        return f"it contains {listed(archives[:_SHOWN])}: unpack {_pronoun(archives)} there"
    return None


def instead_of_photos(folder: Path, endings: Collection[str]) -> str | None:
    """Return a hint for a folder of photos without any file that is read."""
    others = {end: n for end, n in _pictures(folder).items() if end not in endings}
    if others:
        return f"it contains {_counted(others)}: convert them to JPEG or PNG"
    nested = [
        f"{each.name}/ ({_counted(counts)})"
        for each in _folders(folder)
        if each != folder and (counts := _pictures(each))
    ]
    if nested:
        return f"photos are in {', '.join(nested[:_SHOWN])} below it: move them up into the folder"
    archives = [name for name in _names(folder) if _is_archive(name)]
    if archives:
        return f"it contains {listed(archives[:_SHOWN])}: unpack {_pronoun(archives)} there"
    return None


def _pronoun(names: Sequence[str]) -> str:
    return "them" if len(names) > 1 else "it"


def by_id(folder: Path, read: Collection[str]) -> dict[str, str]:
    """Return the images in a folder whose extensions are not read, by name without extension."""
    return {
        unicodedata.normalize("NFC", Path(name).stem): name
        for name in _names(folder)
        if (ending := Path(name).suffix.lower()) in PICTURES and ending not in read
    }


def unread(names: Iterable[str], folder: Path, read: Collection[str], advice: str) -> str | None:
    """Return a hint about images whose extensions are not read."""
    counts = Counter(Path(name).suffix.lower() for name in names)
    if not counts:
        return None
    return (
        f"{folder}/ contains {_counted(counts)}, but only {listed(sorted(read))} files are read:"
        f" {advice}"
    )


def renamed(photos: set[str], masks: set[str]) -> str | None:
    """Return a hint if photos and masks would match but for a part of their names.

    Args:
      photos: names, without extension, of photos that have no mask.
      masks: names, without extension, of masks that have no photo.
    """
    for names, others, what in ((masks, photos, "masks"), (photos, masks, "photos")):
        affixes = Counter(affix for name in names for affix in _affixes(name, others))
        for (before, after), count in affixes.most_common(1):
            if count > 1 or count == len(names):
                other = "photos" if what == "masks" else "masks"
                return (
                    f"{count} {what} are named like their {other} with "
                    f"{listed([repr(part) for part in (before, after) if part])} added: give each "
                    "photo and its mask the same name"
                )
    folded = {name.casefold() for name in photos}
    count = sum(name.casefold() in folded for name in masks)
    if count:
        return (
            f"the names of {count} masks differ from their photos only in case: give each photo and"
            " its mask the same name"
        )
    return None


def _affixes(name: str, others: set[str]) -> Iterator[tuple[str, str]]:
    """Yield pairs of prefix and suffix without which the name is one of the others."""
    for match in _SEPARATORS.finditer(name):
        if name[: match.start()] in others:
            yield "", name[match.start() :]
        if name[match.end() :] in others:
            yield name[: match.end()], ""


def unread_lists(folder: Path, read: Sequence[str]) -> str | None:
    """Return a hint about lists whose names are not read."""
    lists = [
        name
        for name in _names(folder)
        if Path(name).suffix.lower() in (".txt", ".csv", ".tsv")
        and _LIST_NAME.search(Path(name).stem)
        and name not in read
    ]
    if not lists:
        return None
    verb = "is" if len(lists) == 1 else "are"
    return (
        f"{listed(lists[:_SHOWN])} in {folder.name}/ {verb} not read; lists must be named"
        f" {listed(read, 'or')}"
    )


def unknown_ids(name: str, ids: Mapping[str, object], known: Collection[str]) -> str | None:
    """Return a hint about a list if most of its lines match no file."""
    strange = [id_ for id_ in ids if id_ not in known]
    if len(strange) < 2 or len(strange) <= len(ids) / 2:
        return None
    return (
        f"{len(strange)} of {len(ids)} lines of {name} match no photo or mask, such as "
        f"{strange[0]!r}: each line must be the file name of a photo without its extension"
    )


def _folders(root: Path) -> list[Path]:
    """Return a folder and its subfolders, up to `_MOST_FOLDERS` and `_DEPTH`."""
    folders = [root]
    for folder in folders:  # grows meanwhile
        if len(folders) > _MOST_FOLDERS or len(folder.relative_to(root).parts) == _DEPTH:
            continue
        folders += [Path(e.path) for e in _entries(folder) if e.is_dir(follow_symlinks=False)]
    return folders


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:  # unreadable folders give no hints
        return []
    return [entry for entry in entries if not entry.name.startswith(".")]


def _names(folder: Path) -> list[str]:
    return [entry.name for entry in _entries(folder) if not _is_folder(entry)]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a symbolic link to itself
        return False


def _pictures(folder: Path) -> Counter[str]:
    """Count the images in a folder by extension."""
    endings = (Path(name).suffix.lower() for name in _names(folder))
    return Counter(ending for ending in endings if ending in PICTURES)


def _counted(endings: Mapping[str, int]) -> str:
    return listed([f"{n} {ending} file{'s' if n > 1 else ''}" for ending, n in endings.items()])


def _relative(folder: Path, root: Path) -> str:
    return "the folder itself" if folder == root else f"{folder.relative_to(root)}/"


def _is_archive(name: str) -> bool:
    return name.lower().endswith(_ARCHIVES)
