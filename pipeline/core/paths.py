"""Checks that every library can handle a path that a user gives, including where it links to.

Tested: TFX, Beam, TensorFlow and ML Metadata accept spaces, quotes, # % : , ; & = + @ $ ! ( ) { } ^
~ | < > `, accents and emoji. They pass paths on as UTF-8, and some treat a path as a pattern.
"""

from __future__ import annotations

import codecs
import os
import sys
import unicodedata
from pathlib import Path

from pipeline.core.errors import UserError

# Characters that Beam and TensorFlow read as a pattern in paths they write to or load models from.
PATTERN = "*?[]\\"
PATTERN_NAMES = " ".join(PATTERN)
_PATTERN_WHY = "which Beam and TensorFlow read as a pattern"


def check(path: Path | str) -> None:
    """Check that all libraries can handle the text of a path.

    Args:
      path: the path as it was given, or a URL of a bucket; links are followed and checked, too.

    Raises:
      UserError: if they cannot.
    """
    for text in _texts(path):
        if fault := _fault(text):
            raise UserError(f"{_subject(path, text)} {fault}.")


def text_without_pattern(text: str) -> str:
    """Check and return a path on another machine or in a bucket, which cannot be resolved here.

    Raises:
      ValueError: if it contains a control character or one of `PATTERN`.
    """
    if any(map(_is_control, text)):
        raise ValueError("must not contain a line break or another control character")
    if set(PATTERN) & set(text):
        raise ValueError(f"must not contain any of {PATTERN_NAMES}, {_PATTERN_WHY}")
    return text


def check_no_pattern(path: Path | str) -> None:
    """Check a folder that Beam or TensorFlow work in, whose path must not look like a pattern.

    Raises:
      UserError: if it does, or if `check` refuses it.
    """
    check(path)
    for text in _texts(path):
        if set(PATTERN) & set(text):
            raise UserError(
                f"{_subject(path, text)} contains one of the characters {PATTERN_NAMES}, "
                f"{_PATTERN_WHY}; choose another path."
            )


def _texts(path: Path | str) -> list[str]:
    text = str(path)
    if "://" in text or "\0" in text:
        return [text]
    return [text, os.path.abspath(text), os.path.realpath(text)]


def _subject(path: Path | str, text: str) -> str:
    return f"The path {path}" + ("" if text == str(path) else f", which resolves to {text},")


def _fault(text: str) -> str | None:
    if any(map(_is_control, text)):
        return (
            "contains a line break or another control character; rename it or choose another path"
        )
    if text.isascii():
        return None
    encoding = codecs.lookup(sys.getfilesystemencoding()).name
    if encoding != "utf-8" and (_is_utf8(text) or _is_utf8(_as_bytes(text))):
        return (
            f"is UTF-8, but this process takes file names for {encoding}; set a UTF-8 locale, such "
            "as LC_ALL=C.UTF-8"
        )
    if not _is_utf8(text):
        return "is not UTF-8, as TensorFlow and ML Metadata need; rename it or choose another path"
    return None


def _is_control(character: str) -> bool:
    return unicodedata.category(character) == "Cc"


def _as_bytes(text: str) -> bytes:
    """Return the bytes of a path on disk; bytes that are not UTF-8 if it cannot be encoded."""
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
