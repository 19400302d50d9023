"""When a cron line comes, from a clock that is looked at every minute: what farm/docs/cron.md says of it, in the
plainest way. It shares no code with the rules.

Only days around a night on which clocks are set are looked at; a world with cron takes place in them.
"""

from __future__ import annotations

from bisect import bisect_right
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

BEFORE_S, AFTER_S = 3 * 86_400, 9 * 86_400  # of the night: longer than a week from any clock of a world
_MINUTE = timedelta(minutes=1)
_WORDS = {"@hourly": "0 * * * *", "@daily": "0 0 * * *"}
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


class Night(NamedTuple):
    """zone: whose clocks are set. change: when, in seconds since 1970. skips: whether they skip an hour or show it
    twice."""

    zone: str
    change: float
    skips: bool


def _night(zone: str, change: str, skips: bool) -> Night:
    return Night(zone, datetime.fromisoformat(change).replace(tzinfo=UTC).timestamp(), skips)


NIGHTS = (
    _night("Europe/Berlin", "2026-03-29 01:00", True),
    _night("Europe/Berlin", "2026-10-25 01:00", False),
    _night("America/New_York", "2026-03-08 07:00", True),
    _night("America/New_York", "2026-11-01 06:00", False),
)
# Each comes at least once a week. Whose times are certain, and in the hours that are skipped or come twice; others.
CERTAIN = ("30 2 * * *", "0,30 2 * * *", "30 1 * * *", "15 1-3 * * *", "0 3 * * *", "45 2 * * sun", "@daily")
SHOWN = ("* * * * *", "*/5 * * * *", "*/15 * * * *", "30 * * * *", "*/20 2 * * *", "*/20 1 * * *", "@hourly")
EVERY_MINUTE = SHOWN[0]


def between(night: Night, line: str, zone: str, after: float, until: float) -> list[float]:
    """Its times later than `after`, not later than `until`."""
    times = moments(night, line, zone)
    return list(times[bisect_right(times, after) : bisect_right(times, until)])


def next_after(night: Night, line: str, zone: str, after: float) -> float:
    """Its first time later than that."""
    times = moments(night, line, zone)
    return times[bisect_right(times, after)]


@cache
def moments(night: Night, line: str, zone: str) -> tuple[float, ...]:
    """All its times in those days, in order."""
    minute, hour, *_, weekday = _WORDS.get(line, line).split()
    minutes = {number for number in range(60) if _fits(minute, number)}
    hours = {number for number in range(24) if _fits(hour, number)}
    weekdays = {number for number, name in enumerate(_WEEKDAYS) if weekday in ("*", name)}

    def fits(shown: datetime) -> bool:
        return shown.minute in minutes and shown.hour in hours and shown.isoweekday() % 7 in weekdays

    if minute.startswith("*") or hour.startswith("*"):
        return tuple(moment for moment, shown in _clock(night, zone) if fits(shown))
    found = []
    newest = _clock(night, zone)[0][1]
    for moment, shown in _clock(night, zone):  # what it has come to, or jumped over, since it last showed what is new
        passed = (newest + _MINUTE * number for number in range(1, (shown - newest) // _MINUTE + 1))
        if any(fits(time) for time in passed):
            found.append(moment)
        newest = max(newest, shown)
    return tuple(found)


@cache
def _clock(night: Night, zone: str) -> list[tuple[float, datetime]]:
    """Each minute, and what a clock shows then."""
    first = int(night.change) - BEFORE_S
    there = ZoneInfo(zone)
    times = range(first, first + BEFORE_S + AFTER_S, 60)
    return [(float(time), datetime.fromtimestamp(time, there).replace(tzinfo=None, fold=0)) for time in times]


def _fits(field: str, number: int) -> bool:
    """Whether a minute or an hour is among those of a field."""
    for part in field.split(","):
        low, _, high = part.partition("-")
        if part == "*" or (part.startswith("*/") and number % int(part[2:]) == 0):
            return True
        if low.isdigit() and int(low) <= number <= int(high or low):
            return True
    return False
