"""Cron expressions as Kubeflow Pipelines reads them: six fields, seconds first.

The server parses them with github.com/robfig/cron v1.2.0; ``parser.go`` and ``spec.go`` there say
what holds. Its trap: it takes five fields too, but reads them as seconds to months. The usual five
(minutes first) get their seconds here, so that "0 2 * * *" is two at night and not every hour.
"""

from __future__ import annotations

import calendar
import datetime
from dataclasses import dataclass

from pipeline.core.errors import UserError

_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]


@dataclass(frozen=True)
class _Kind:
    name: str
    least: int
    most: int
    names: dict[str, int]


_KINDS = (
    _Kind("seconds", 0, 59, {}),
    _Kind("minutes", 0, 59, {}),
    _Kind("hours", 0, 23, {}),
    _Kind("day of month", 1, 31, {}),
    _Kind("month", 1, 12, {name: number for number, name in enumerate(_MONTHS, 1)}),
    _Kind("day of week", 0, 6, {name: number for number, name in enumerate(_DAYS)}),
)
# After so many the calendar repeats; a day like 30 February never comes.
_YEARS = 28


@dataclass(frozen=True)
class Cron:
    """A parsed expression.

    Attributes:
      expression: the six fields, as the server wants them.
    """

    expression: str
    _allowed: tuple[frozenset[int], ...]
    _any_day: bool

    def next(self, after: datetime.datetime) -> datetime.datetime | None:
        """The first trigger later than the given time, in its time zone; None if none comes."""
        seconds, minutes, hours, days, months, weekdays = self._allowed
        start = after.replace(microsecond=0) + datetime.timedelta(seconds=1)
        midnight = start.replace(hour=0, minute=0, second=0)
        for offset in range(_YEARS * 366):
            day = midnight + datetime.timedelta(days=offset)
            if day.month not in months:
                continue
            in_month, in_week = day.day in days, day.isoweekday() % 7 in weekdays
            # Two restrictions on the day are either-or; a star on one of them leaves the other.
            if not (in_month and in_week if self._any_day else in_month or in_week):
                continue
            for hour in sorted(hours):
                if offset == 0 and hour < start.hour:
                    continue
                for minute in sorted(minutes):
                    for second in sorted(seconds):
                        time = day.replace(hour=hour, minute=minute, second=second)
                        if time >= start:
                            return time
        return None


def parse(text: str) -> Cron:
    """Reads six fields, or the usual five, which get the second 0.

    Example: ``parse("0 2 * * mon-fri").expression == "0 0 2 * * mon-fri"``.

    Raises:
      UserError: for another number of fields, or a field that the server would not take.
    """
    fields = text.split()
    if len(fields) == 5:
        fields = ["0", *fields]
    if len(fields) != 6:
        raise UserError(
            f"--cron {text!r} has {len(fields)} fields; it takes six (seconds, minutes, hours, day "
            f"of month, month, day of week) or the usual five, such as '0 2 * * *'."
        )
    allowed = tuple(_field(field, kind, text) for field, kind in zip(fields, _KINDS, strict=True))
    starred = [
        any(part[0] in "*?" for part in field.split(",")) for field in (fields[3], fields[5])
    ]
    cron = Cron(" ".join(fields), allowed, any(starred))
    if cron.next(datetime.datetime(2024, 1, 1)) is None:
        raise UserError(
            f"--cron {text!r} names a day that never comes; choose another day or month."
        )
    return cron


def words(expression: str) -> str | None:
    """A simple schedule in words, such as "every night at 02:00"; None for any other.

    Args:
      expression: six fields, as `Cron` holds them.
    """
    second, minute, hour, day, month, weekday = expression.lower().replace("?", "*").split()
    if second != "0" or month != "*" or not minute.isdigit():
        return None
    if (hour, day, weekday) == ("*", "*", "*"):
        return f"every hour at minute {int(minute)}"
    if not hour.isdigit():
        return None
    time = f"{int(hour):02}:{int(minute):02}"
    if (day, weekday) == ("*", "*"):
        return f"every {'night' if int(hour) < 6 else 'day'} at {time}"
    if day == "*" and weekday == "mon-fri":
        return f"Monday to Friday at {time}"
    if day == "*" and (weekday in _DAYS or weekday.isdigit()):
        number = _DAYS.index(weekday) if weekday in _DAYS else int(weekday)
        return f"every {calendar.day_name[number - 1]} at {time}"
    if weekday == "*" and day.isdigit():
        return f"on day {int(day)} of every month at {time}"
    return None


def _field(field: str, kind: _Kind, text: str) -> frozenset[int]:
    values: set[int] = set()
    for part in field.split(","):
        values.update(_range(part, kind, text))
    return frozenset(values)


def _range(part: str, kind: _Kind, text: str) -> range:
    def wrong(why: str) -> UserError:
        allowed = f"{kind.least} to {kind.most}"
        if kind.names:
            allowed += f" or {'-'.join((next(iter(kind.names)), list(kind.names)[-1]))}"
        return UserError(
            f"--cron {text!r}: {part!r} is no valid {kind.name}: {why}; allowed are {allowed}, "
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
        start, end = kind.least, kind.most
    else:
        start = number(low)
        end = number(high) if hyphen else kind.most if slash else start
    step = number(step_text) if slash else 1
    if step == 0:
        raise wrong("a step must be at least 1")
    if start < kind.least or end > kind.most:
        raise wrong("out of range")
    if start > end:
        raise wrong("the range ends before it begins")
    return range(start, end + 1, step)
