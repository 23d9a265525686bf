"""What is wrong with the value of a setting, in plain words."""

from __future__ import annotations

import datetime
import re
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

_MUST = "it must "
# By pydantic's type of error, whose own words are for programmers; {...} are facts of the error.
_MEANINGS = {
    **dict.fromkeys(
        ("int_type", "int_parsing", "int_from_float", "int_parsing_size"), "be a whole number"
    ),
    **dict.fromkeys(("float_type", "float_parsing"), "be a number"),
    "finite_number": "be a finite number",
    **dict.fromkeys(("bool_type", "bool_parsing"), "be true or false"),
    "string_type": "be text, in quotes where it looks like something else",
    "string_too_short": "have at least {min_length} character(s)",
    **dict.fromkeys(("tuple_type", "list_type"), "be a list, such as [{example}]"),
    "too_short": "have at least {min_length} item(s)",
    "too_long": "have at most {max_length} item(s)",
    **dict.fromkeys(("dict_type", "mapping_type"), "hold keys with values, such as {{a: b}}"),
    **dict.fromkeys(
        ("model_type", "model_attributes_type"),
        "hold keys with values, as --help-settings lists them",
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


def shown(value: Any) -> str:
    """A value that was given, cut short where it is long or deep."""
    if isinstance(value, datetime.date):
        return str(value)
    return _short.repr(value)


def meaning(errors: Sequence[Mapping[str, Any]]) -> str:
    """A clause about a value, from pydantic's errors: one for each kind that would be allowed."""
    clauses = list(dict.fromkeys(map(_clause, errors)))
    return " or ".join([clauses[0], *(each.removeprefix(f"{_MUST}be ") for each in clauses[1:])])


def _clause(error: Mapping[str, Any]) -> str:
    text = _MEANINGS.get(error["type"])
    if error["type"] == "int_parsing" and re.fullmatch(_WITH_EXPONENT, str(error["input"])):
        text = "be a whole number in digits alone"
    if text is None:
        message = error["msg"].removeprefix("Value error, ").rstrip(".")
        message = message.replace("Input should be", f"{_MUST}be")
        return f"{message[:1].lower()}{message[1:]}"
    facts = {name: _plain_number(value) for name, value in error.get("ctx", {}).items()}
    one = error["input"]
    word = isinstance(one, str) and re.fullmatch(r"[\w-]{1,40}", one)
    facts["example"] = one if word else "a, b"
    return _MUST + text.format_map(facts)


def _plain_number(value: Any) -> Any:
    return f"{value:.12g}" if isinstance(value, float) else value
