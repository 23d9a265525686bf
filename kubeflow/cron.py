"""Cron expressions as Kubeflow Pipelines reads them: six fields, seconds first.

croniter computes when a schedule triggers and cron-descriptor puts it in words. The rest is about
the server's parser, github.com/robfig/cron v1.2.0 (``parser.go`` and ``spec.go``), which differs
from both:

* Six fields are the rule. It also takes five, but as seconds to months. The usual five (minutes
  first) therefore get their seconds here, so that "0 2 * * *" means two at night, not every hour.
* It refuses what croniter takes: 7 for Sunday, "fri-mon", "L", "#", "@daily".
* A star with a step ("*/2") counts as a star when it combines the two fields for days.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass

import cron_descriptor
import croniter

from pipeline.core.errors import UserError

_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]


@dataclass(frozen=True)
class _Kind:
    name: str
    lowest: int
    highest: int
    names: dict[str, int]


_KINDS = (
    _Kind("seconds", 0, 59, {}),
    _Kind("minutes", 0, 59, {}),
    _Kind("hours", 0, 23, {}),
    _Kind("day of month", 1, 31, {}),
    _Kind("month", 1, 12, {name: number for number, name in enumerate(_MONTHS, 1)}),
    _Kind("day of week", 0, 6, {name: number for number, name in enumerate(_DAYS)}),
)


@dataclass(frozen=True)
class Cron:
    """A parsed expression.

    Attributes:
      expression: the six fields, as the server wants them.
    """

    expression: str
    _values: str  # the six fields as plain lists, which every parser reads alike
    _either_day: bool  # a day matches by either of its fields, since neither is a star

    def next(self, after: datetime.datetime) -> datetime.datetime:
        """The first trigger after a time, in that time's zone."""
        times = croniter.croniter(
            self._values, after, day_or=self._either_day, second_at_beginning=True
        )
        trigger: datetime.datetime = times.get_next(datetime.datetime)
        return trigger


def parse(text: str) -> Cron:
    """Parses six fields, or the usual five, which get the second 0.

    Example: ``parse("0 2 * * mon-fri").expression == "0 0 2 * * mon-fri"``.

    Raises:
      UserError: if the server would refuse the expression, or it never triggers.
    """
    fields = text.split()
    if len(fields) == 5:
        fields = ["0", *fields]
    if len(fields) != 6:
        raise UserError(
            f"--cron {text!r} has {len(fields)} fields; it takes six (seconds, minutes, hours, day "
            f"of month, month, day of week) or the usual five, such as '0 2 * * *'."
        )
    values = [_values(field, kind, text) for field, kind in zip(fields, _KINDS, strict=True)]
    starred = any(part[0] in "*?" for at in (3, 5) for part in fields[at].split(","))
    cron = Cron(" ".join(fields), " ".join(values), not starred)
    try:
        cron.next(datetime.datetime(2024, 1, 1))
    except croniter.CroniterBadDateError:
        raise UserError(
            f"--cron {text!r} names a day that never comes; choose another day or month."
        ) from None
    return cron


def describe(expression: str) -> str:
    """An expression in words, such as "At 02:00, Monday through Friday".

    Args:
      expression: six fields, as `Cron` holds them.
    """
    options = cron_descriptor.Options()
    options.use_24hour_time_format = True
    words: str = cron_descriptor.get_description(expression, options)
    return words


def _values(field: str, kind: _Kind, text: str) -> str:
    """All values that a field stands for, separated by commas."""
    values: set[int] = set()
    for part in field.split(","):
        values.update(_range(part, kind, text))
    return ",".join(str(value) for value in sorted(values))


def _range(part: str, kind: _Kind, text: str) -> range:
    def wrong(why: str) -> UserError:
        allowed = f"{kind.lowest} to {kind.highest}"
        if kind.names:
            allowed += f" or {'-'.join((next(iter(kind.names)), list(kind.names)[-1]))}"
        return UserError(
            f"--cron {text!r}: {part!r} is not a valid {kind.name}: {why}; allowed are {allowed}, "
            f"as *, a, a-b, */n, a-b/n, and lists with commas."
        )

    def number(word: str) -> int:
        if word.lower() in kind.names:
            return kind.names[word.lower()]
        if not (word.isascii() and word.isdigit()):
            raise wrong(f"{word!r} is not a number")
        return int(word)

    span, slash, step_text = part.partition("/")
    low, hyphen, high = span.partition("-")
    if low in ("*", "?") and not hyphen:
        start, end = kind.lowest, kind.highest
    else:
        start = number(low)
        end = number(high) if hyphen else kind.highest if slash else start
    step = number(step_text) if slash else 1
    if step == 0:
        raise wrong("a step must be at least 1")
    if start < kind.lowest or end > kind.highest:
        raise wrong("out of range")
    if start > end:
        raise wrong("the range ends before it begins")
    return range(start, end + 1, step)
