"""Reads the lists of ids in a data folder, tolerant of how they were written.

A line is an id, or an id and three numbers. Lists made by hand or by tools also have extensions,
paths, commas, a heading, or UTF-16 (Windows PowerShell). If a line as it stands is not the id of a
file in the folder, the reader looks for such an id in it.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Collection, Iterator
from pathlib import Path

# Ids may contain spaces.
_LINE = re.compile(r"(?P<id>.*\S)\s+\d+\s+(?P<species>\d+)\s+\d+")
_SPECIES = {"1": "cat", "2": "dog"}
_ENDING = re.compile(r"\.(jpe?g|png|webp|tiff?|bmp|gif|heic|avif)$", re.IGNORECASE)
_HEADING = re.compile(
    r"\W*(image|img|photo|picture|file|mask|trimap|label|path|id|name|class|species|breed|split|set)"
    r"(s|[-_ ]?(id|name|path|file))?\W*",
    re.IGNORECASE,
)
# UTF-32 comes first, since its mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read(path: Path, known: Collection[str] = ()) -> dict[str, str | None] | None:
    """Return the ids of a list, each with its species if the line has it; None without a file.

    Args:
      path: the list.
      known: ids of the files in the folder, to recognise in lines that are not plain ids.
    """
    if not path.is_file():
        return None
    text = unicodedata.normalize("NFC", _decode(path.read_bytes()))
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    ids: dict[str, str | None] = {}
    for number, line in enumerate(lines):
        id_, species = _read_line(line, known)
        if number == 0 and id_ not in known and _is_heading(line):
            continue
        ids[id_] = species
    return ids


def _decode(contents: bytes) -> str:
    for mark, encoding in _MARKS:
        if contents.startswith(mark):
            return contents.decode(encoding, errors="replace")
    try:
        return contents.decode()
    except UnicodeDecodeError:
        return contents.decode("cp1252", errors="replace")  # Western Windows


def _read_line(line: str, known: Collection[str]) -> tuple[str, str | None]:
    line = line.strip()
    fields = line.rsplit(None, 3)  # on a long line, `_LINE` alone would take quadratic time
    match = _LINE.fullmatch(" ".join(fields)) if len(fields) == 4 else None
    whole = fields[0] if match else line
    species = _SPECIES.get(match["species"] or "") if match else None
    if whole in known:
        return whole, species
    fields = [field.strip().strip("\"'").strip() for field in re.split(r"[,;\t]", whole)]
    numbers = fields[1:4]
    if len(numbers) == 3 and all(number.isdecimal() for number in numbers):
        species = _SPECIES.get(numbers[1])
    candidates = list(_candidates(whole, fields))
    return next((id_ for id_ in candidates if id_ in known), candidates[0]), species


def _candidates(whole: str, fields: list[str]) -> Iterator[str]:
    """Yield the ids that a line may mean, the likeliest first."""
    for text in (fields[0], whole, whole.split()[0], *fields[1:]):
        name = re.split(r"[/\\]", text)[-1]
        yield _ENDING.sub("", name)
        yield name


def _is_heading(line: str) -> bool:
    return all(_HEADING.fullmatch(word) for word in re.split(r"[,;\t ]+", line.strip()))
