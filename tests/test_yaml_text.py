"""Settings as one line of YAML, as the tasks of a compiled pipeline get them."""

from __future__ import annotations

from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from pipeline import settings
from pipeline.core import yaml_text

PLAIN = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text()
FINITE = st.floats(allow_nan=False, allow_infinity=False)


@given(st.recursive(PLAIN | FINITE, lambda each: st.lists(each, max_size=4), max_leaves=8))
@example("😀")
@example(["a: b", "#", "\x85\u2028", ""])
@example(1e-05)
def test_a_line_is_read_as_the_value_it_was_made_of(value: Any) -> None:
    line = yaml_text.line(value)
    assert "\n" not in line
    assert yaml_text.load(line) == value


def test_a_pinned_setting_may_hold_any_text() -> None:
    breeds = ("Käse", "猫", "😀")
    loaded = settings.load(overrides=[f"data.breeds={yaml_text.line(list(breeds))}"])
    assert loaded.data.breeds == breeds
