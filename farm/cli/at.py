"""The time of `--at`: a time of day, today's or tomorrow's, or a date with one, in the local time zone or its own."""

from __future__ import annotations

import time
from datetime import date, datetime, timedelta

from farm.errors import UsageError

_HINT = "write 17:00, 'tomorrow 9:00', '2026-12-01 09:30' or 2026-12-01T09:30+01:00"


def parse_at(text: str, now: float) -> float:
    """Seconds since 1970. now: the same. A time of day that is past means tomorrow's. Raises UsageError for what is no
    time, and for one that is past.

    A time that the clocks skip in spring is as long after midnight as it would be without; of an hour that comes twice
    in autumn the first is meant.
    """
    words = text.split()
    day = words.pop(0).lower() if words and words[0].lower() in ("today", "tomorrow") else ""
    try:
        due = _time_of_day(words, day, now) if day or (len(words) == 1 and _is_time(words[0])) else _date(text)
    except (ValueError, OverflowError, OSError):
        raise UsageError(f"--at is not a time: {text[:60]!r}", _HINT) from None
    if due < now - 1:
        raise UsageError(f"--at is past: {text[:60]!r}", f"it is {time.strftime('%Y-%m-%d %H:%M:%S', _local(now))} now")
    return due


def _local(now: float) -> time.struct_time:
    return time.localtime(now)


def _is_time(word: str) -> bool:
    return word.replace(":", "").isdecimal() and word.isascii() and word.count(":") in (1, 2)


def _time_of_day(words: list[str], day: str, now: float) -> float:
    """Raises ValueError."""
    (word,) = words
    if not _is_time(word):
        raise ValueError
    numbers = [int(part) for part in word.split(":")]
    today = date(*_local(now)[:3])
    due = _at(today + timedelta(days=day == "tomorrow"), numbers)
    return due if day or due > now else _at(today + timedelta(days=1), numbers)


def _at(day: date, numbers: list[int]) -> float:
    hour, minute, second = [*numbers, 0][:3]
    return datetime(day.year, day.month, day.day, hour, minute, second).timestamp()


def _date(text: str) -> float:
    """ISO 8601, with a blank or a T; without a zone: local. Raises ValueError."""
    return datetime.fromisoformat(text.strip()).timestamp()
