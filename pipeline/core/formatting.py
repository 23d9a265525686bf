"""Formats names, numbers and times for reports and messages."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Sequence

from pipeline.core.features import OVERALL


def label(name: object) -> str:
    """Format the name of a metric or feature: ``iou_pet`` and ``iou.pet`` are "IoU pet"."""
    words = re.split(r"[_./\s]+", str(name))
    words[0] = words[0][:1].upper() + words[0][1:]
    return " ".join("IoU" if word.lower() == "iou" else word for word in words)


def slice_label(name: object) -> str:
    """Format the name of a slice: ``breed=Bengal`` is "breed Bengal"."""
    return OVERALL if name in (None, "", OVERALL) else str(name).replace("=", " ", 1)


def number(value: object, digits: int = 3, signed: bool = False) -> str:
    """Format a metric with ``digits`` decimals, a count as it is, NaN and None as words."""
    if isinstance(value, float) and math.isfinite(value):
        text = f"{value:{'+' if signed else ''}.{digits}f}"
        return text.replace("-", "\N{MINUS SIGN}")
    if value is None or isinstance(value, float):
        return "not a number"
    return str(value)


def pair(value: object, bound: object, signed: bool) -> tuple[str, str]:
    """Format two numbers with enough decimals to tell them apart."""
    for digits in range(3, 10):
        texts = number(value, digits, signed), number(bound, digits, signed)
        if texts[0] != texts[1] or value == bound:
            break
    return texts


def listed(words: Sequence[str], joined_by: str = "and") -> str:
    """Join words: ``a``, ``a and b``, ``a, b and c``."""
    *others, last = words
    return f"{', '.join(others)} {joined_by} {last}" if others else last


def moment(text: object) -> str:
    """Format an ISO time to the minute."""
    try:
        parsed = datetime.datetime.fromisoformat(str(text).replace("Z", "+00:00"))
    except ValueError:
        return str(text or "")
    return parsed.strftime("%Y-%m-%d %H:%M %Z").strip()


def duration(seconds: float | None) -> str:
    """Format seconds: 4.2 s, 1 min 5 s, 2 h 3 min."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
