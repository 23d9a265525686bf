"""Whether a path can be used: one look at whatever folder or file a person names, links followed.

What was tried: TFX, Beam, TensorFlow and ML Metadata take spaces, quotes, # % : , ; & = + @ $ ! ( )
{ } ^ ~ | < > `, accents and emoji. They hand paths on as UTF-8, and some take a path for a pattern.
"""

from __future__ import annotations

import codecs
import os
import sys
import unicodedata
from pathlib import Path

from pipeline.core.errors import UserError

# What Beam and TensorFlow read as a pattern, in paths that they write to or load models from.
PATTERN = "*?[]\\"
PATTERN_NAMES = " ".join(PATTERN)
_PATTERN_WHY = "which Beam and TensorFlow take for a pattern"


def check(path: Path | str) -> None:
    """Checks that the text of a path is one that all libraries read alike.

    Args:
      path: as it was given; where it leads is looked at, too. A bucket's address is text alone.

    Raises:
      UserError: if it is not.
    """
    for text in _texts(path):
        fault = _fault(text)
        if fault:
            raise UserError(f"{_subject(path, text)} {fault}.")


def text_without_pattern(text: str) -> str:
    """Returns a path on another machine, or a bucket's address, of which the text alone counts.

    Raises:
      ValueError: if it has a control character or one of `PATTERN` in it.
    """
    if any(map(_is_control, text)):
        raise ValueError("must have no line break and no other control character in it")
    if set(PATTERN) & set(text):
        raise ValueError(f"must have none of the characters {PATTERN_NAMES}, {_PATTERN_WHY}")
    return text


def check_no_pattern(path: Path | str) -> None:
    """The same for a folder that Beam or TensorFlow work in: nothing in it looks like a pattern.

    Raises:
      UserError: if it does, or `check` refuses it.
    """
    check(path)
    for text in _texts(path):
        if set(PATTERN) & set(text):
            raise UserError(
                f"{_subject(path, text)} has one of the characters {PATTERN_NAMES} in it, "
                f"{_PATTERN_WHY}; give another."
            )


def _texts(path: Path | str) -> list[str]:
    text = str(path)
    if "://" in text or "\0" in text:
        return [text]
    return [text, os.path.abspath(text), os.path.realpath(text)]


def _subject(path: Path | str, text: str) -> str:
    return f"The path {path}" + ("" if text == str(path) else f", which is {text},")


def _fault(text: str) -> str | None:
    if any(map(_is_control, text)):
        return "has a line break or another control character in it; rename it, or give another"
    if text.isascii():
        return None
    encoding = codecs.lookup(sys.getfilesystemencoding()).name
    if encoding != "utf-8" and (_is_utf8(text) or _is_utf8(_as_bytes(text))):
        return (
            f"cannot be read here, where the names of files are taken for {encoding}; set a UTF-8 "
            "locale, such as LC_ALL=C.UTF-8"
        )
    if not _is_utf8(text):
        return "is not UTF-8, which TensorFlow and ML Metadata need; rename it, or give another"
    return None


def _is_control(character: str) -> bool:
    return unicodedata.category(character) == "Cc"


def _as_bytes(text: str) -> bytes:
    """The bytes of a path's name on disk; some that are not UTF-8 where it can have none."""
    try:
        return os.fsencode(text)
    except UnicodeError:
        return b"\xff"


def _is_utf8(text: str | bytes) -> bool:
    try:
        text.encode() if isinstance(text, str) else text.decode()
    except UnicodeError:
        return False
    return True
