"""Explains in plain words why the value of a setting is not allowed."""

from __future__ import annotations

import datetime
import re
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

_MUST = "it must "
# By pydantic's error type, since its own messages are for programmers. {...} is from `ctx`.
_MEANINGS = {
    **dict.fromkeys(
        ("int_type", "int_parsing", "int_from_float", "int_parsing_size"), "be a whole number"
    ),
    **dict.fromkeys(("float_type", "float_parsing"), "be a number"),
    "finite_number": "be a finite number",
    **dict.fromkeys(("bool_type", "bool_parsing"), "be true or false"),
    "string_type": "be text, so put it in quotes",
    "string_too_short": "have at least {min_length} character(s)",
    **dict.fromkeys(("tuple_type", "list_type"), "be a list, such as [{example}]"),
    "too_short": "have at least {min_length} item(s)",
    "too_long": "have at most {max_length} item(s)",
    **dict.fromkeys(("dict_type", "mapping_type"), "be a mapping, such as {{a: b}}"),
    **dict.fromkeys(
        ("model_type", "model_attributes_type"),
        "be a section of settings, as in --help-settings",
    ),
    "greater_than": "be above {gt}",
    "greater_than_equal": "be at least {ge}",
    "less_than": "be below {lt}",
    "less_than_equal": "be at most {le}",
    "literal_error": "be {expected}",
}

_WITH_EXPONENT = r"\d[\d.]*[eE][+-]?\d+"

_short = reprlib.Repr()
_short.maxlevel, _short.maxstring, _short.maxother, _short.maxlong = 3, 60, 60, 30


def shown(value: object) -> str:
    """Format a value for an error message; cuts long and deep ones short."""
    if isinstance(value, datetime.date):
        return str(value)
    return _short.repr(value)


def meaning(errors: Sequence[Mapping[str, Any]]) -> str:
    """Turn pydantic's errors on one value, one for each allowed type, into a clause."""
    clauses = list(dict.fromkeys(map(_clause, errors)))
    return " or ".join([clauses[0], *(each.removeprefix(f"{_MUST}be ") for each in clauses[1:])])


def _clause(error: Mapping[str, Any]) -> str:
    text = _MEANINGS.get(error["type"])
    if error["type"] == "int_parsing" and re.fullmatch(_WITH_EXPONENT, str(error["input"])):
        text = "be a whole number without an exponent"
    if text is None:
        message = error["msg"].removeprefix("Value error, ").rstrip(".")
        message = message.replace("Input should be", f"{_MUST}be")
        message = f"{message[:1].lower()}{message[1:]}"
        return f"it {message}" if message.startswith("must ") else message
    context = {name: _plain_number(value) for name, value in error.get("ctx", {}).items()}
    value = error["input"]
    is_word = isinstance(value, str) and re.fullmatch(r"[\w-]{1,40}", value)
    context["example"] = value if is_word else "a, b"
    return _MUST + text.format_map(context)


def _plain_number(value: object) -> object:
    return f"{value:.12g}" if isinstance(value, float) else value
