"""What is there instead, where a data folder is not in the layout: one clause that says what to do.

Nothing here is understood as data: files under other names and endings are named, not taken.
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

# Endings of photos and masks that other tools write; which of them are read says `layout`.
PICTURES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif"),
    *(".heic", ".heif", ".avif", ".jp2", ".npy", ".dcm"),
)
_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".7z", ".rar", ".gz")
_MOST_FOLDERS, _DEPTH, _SHOWN = 500, 3, 4
_SEPARATORS = re.compile(r"[._\- ]")
# What other tools call lists of ids.
_LIST_NAME = re.compile(r"(train|val|test|valid|list|split)", re.IGNORECASE)


def instead_of_root(root: Path) -> str | None:
    """What to do about a data folder that is no folder."""
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
    """What to do about a folder that lacks a part of the layout, where something can be said.

    Args:
      root: the folder.
      parts: of the layout, as paths below the folder.
      is_layout: whether a folder has all of them.
    """
    missing = [f"{part}/" for part in parts if not (root / part).is_dir()]
    taken = {root / part for part in parts}
    resolved = Path(os.path.abspath(root))
    for above in list(resolved.parents)[:2]:
        if is_layout(above):
            return f"did you mean {above}?"
    inside = [folder for folder in _folders(root) if folder != root]
    whole = [folder for folder in inside if is_layout(folder)]
    if whole:
        shown = [str(folder) for folder in whole[:_SHOWN]]
        return f"did you mean {listed(shown, 'or')}?"
    held = [
        f"{_relative(folder, root)} ({_counted(found)})"
        for folder in (root, *inside)
        # A folder in its place is named too if photos and masks may both lie there.
        if (found := _pictures(folder)) and (folder not in taken or len(found) > 1)
    ]
    if held:
        more = f", {len(held) - _SHOWN} more" if len(held) > _SHOWN else ""
        where = ", ".join(held[:_SHOWN]) + more
        return f"pictures lie in {where}: they have to lie in {listed(missing)}"
    archives = [f for folder in (root, *inside) for f in _names(folder) if _is_archive(f)]
    if archives:
        return f"it holds {listed(archives[:_SHOWN])}: unpack what is packed, in this place"
    return None


def instead_of_photos(folder: Path, endings: Collection[str]) -> str | None:
    """What to do about a folder of photos that holds none that is read."""
    others = {end: n for end, n in _pictures(folder).items() if end not in endings}
    if others:
        return f"it holds {_counted(others)}: convert them to JPEG or PNG"
    nested = [
        f"{each.name}/ ({_counted(found)})"
        for each in _folders(folder)
        if each != folder and (found := _pictures(each))
    ]
    if nested:
        return f"photos lie in {', '.join(nested[:_SHOWN])} in it: move them into the folder itself"
    archives = [name for name in _names(folder) if _is_archive(name)]
    return f"it holds {listed(archives[:_SHOWN])}: unpack it there" if archives else None


def by_id(folder: Path, read: Collection[str]) -> dict[str, str]:
    """Names of pictures in a folder whose ending is not read, by the name without it."""
    return {
        unicodedata.normalize("NFC", Path(name).stem): name
        for name in _names(folder)
        if (ending := Path(name).suffix.lower()) in PICTURES and ending not in read
    }


def unread(names: Iterable[str], folder: Path, read: Collection[str], advice: str) -> str | None:
    """A sentence on pictures that are there under an ending that is not read."""
    counts = Counter(Path(name).suffix.lower() for name in names)
    if not counts:
        return None
    verb = "are" if len(read) > 1 else "is"
    return (
        f"{folder}/ holds {_counted(counts)}, but only {listed(sorted(read))} {verb} read: {advice}"
    )


def renamed(photos: set[str], masks: set[str]) -> str | None:
    """What photos without a mask and masks without a photo have in common, if it is a name.

    Args:
      photos: names, without ending, of photos that have no mask.
      masks: the same of masks that have no photo.
    """
    for whole, bare, what in ((masks, photos, "masks"), (photos, masks, "photos")):
        found = Counter(decoration for name in whole for decoration in _decorations(name, bare))
        for (before, after), count in found.most_common(1):
            if count > 1 or count == len(whole):
                other = "photos" if what == "masks" else "masks"
                return (
                    f"{count} {what} are named like their {other} with "
                    f"{listed([repr(part) for part in (before, after) if part])} added: give photo "
                    "and mask the same name"
                )
    low = {name.casefold() for name in photos}
    count = sum(name.casefold() in low for name in masks)
    if count:
        return f"{count} masks differ from their photos in capital letters alone: name them alike"
    return None


def _decorations(name: str, bare: set[str]) -> Iterator[tuple[str, str]]:
    for match in _SEPARATORS.finditer(name):
        if name[: match.start()] in bare:
            yield "", name[match.start() :]
        if name[match.end() :] in bare:
            yield name[: match.end()], ""


def unread_lists(folder: Path, read: Sequence[str]) -> str | None:
    """A sentence on lists that are there under names that are not read."""
    found = [
        name
        for name in _names(folder)
        if Path(name).suffix.lower() in (".txt", ".csv", ".tsv")
        and _LIST_NAME.search(Path(name).stem)
        and name not in read
    ]
    if not found:
        return None
    verb = "is" if len(found) == 1 else "are"
    return f"{listed(found[:_SHOWN])} in {folder.name}/ {verb} not read; lists are {listed(read)}"


def unknown_ids(name: str, ids: Mapping[str, object], known: Collection[str]) -> str | None:
    """A sentence on a list most of whose lines name no file."""
    strange = [id_ for id_ in ids if id_ not in known]
    if len(strange) < 2 or len(strange) <= len(ids) / 2:
        return None
    return (
        f"{len(strange)} of {len(ids)} lines of {name} name no photo and no mask, such as "
        f"{strange[0]!r}: a line is the name, without its ending, of a photo that is there"
    )


def _folders(root: Path) -> list[Path]:
    """A folder and those in it, not too many and not too deep."""
    found = [root]
    for folder in found:
        if len(found) > _MOST_FOLDERS or len(folder.relative_to(root).parts) == _DEPTH:
            continue
        found += [Path(e.path) for e in _entries(folder) if e.is_dir(follow_symlinks=False)]
    return found


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:  # a neighbour that may not be read has nothing to say
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
    """Number of pictures in a folder, by ending."""
    endings = (Path(name).suffix.lower() for name in _names(folder))
    return Counter(ending for ending in endings if ending in PICTURES)


def _counted(endings: Mapping[str, int]) -> str:
    return listed([f"{n} {ending} file{'s' if n > 1 else ''}" for ending, n in endings.items()])


def _relative(folder: Path, root: Path) -> str:
    return "the folder itself" if folder == root else f"{folder.relative_to(root)}/"


def _is_archive(name: str) -> bool:
    return name.lower().endswith(_ARCHIVES)
