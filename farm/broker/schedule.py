"""When a cron line comes, in a time zone. Pure: `now` is an argument; a zone is read from the system's files once, by
`zone_of`.

cronsim knows what a line means on a calendar without zones. How its times become moments is decided here, as in
Debian's cron:

- A job of certain times (neither minute nor hour begins with `*`) runs once for each of them. One that the clock skips
  in spring comes at the first minute after the gap; one that it shows twice in autumn comes the first time only.
- Any other job runs whenever the clock shows a minute that fits: it neither stops nor doubles within an hour, and an
  hour that comes twice has its runs twice.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from farm.errors import UsageError

LINE_MAX = 256  # characters: every minute of an hour, written out, has 169

WORDS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}

_ANY_YEAR = datetime(
    2000, 1, 1
)  # a line without a time in the fifty years from here, two rounds of the calendar, has none
_DAY = timedelta(days=1)
_SECOND = timedelta(seconds=1)
_MINUTE = timedelta(minutes=1)


class Schedule:
    """A cron line in a zone. Raises UsageError for what is none, and for one that never comes.

    line: five fields, or one of WORDS. zone: a name of the time zone database; UTC needs no database.
    """

    __slots__ = ("_certain", "_fields", "_zone", "line", "zone")

    def __init__(self, line: str, zone: str = "UTC") -> None:
        self.line = " ".join(line.split())
        self.zone = zone
        self._zone = zone_of(zone)
        self._fields = _checked(self.line)
        minute, hour, *_ = self._fields.split()
        self._certain = not minute.startswith("*") and not hour.startswith("*")

    def next_after(self, wall_s: float) -> float | None:
        """The first time later than `wall_s`, both in seconds since 1970; None: there is none, within fifty years or
        before the calendar ends."""
        try:
            after = datetime.fromtimestamp(wall_s, UTC)
            found = self._next_certain(after) if self._certain else self._next_shown(after)
        except (StopIteration, OverflowError, ValueError, OSError):  # the last three: the calendar has ended
            return None
        return found.timestamp()

    def missed(self, after_s: float, until_s: float, most: int) -> list[float]:
        """Its times later than `after_s` and not later than `until_s`, in order; only the newest `most` of them."""
        times: list[float] = []
        time = self.next_after(after_s)
        while time is not None and time <= until_s and len(times) <= most:
            times.append(time)
            time = self.next_after(time)
        if len(times) <= most:
            return times
        # There are more: look at the later half first. So a year of minutes is not counted for its last one.
        middle = after_s + (until_s - after_s) / 2
        later = self.missed(middle, until_s, most)
        return self.missed(after_s, middle, most - len(later)) + later if len(later) < most else later

    def _next_certain(self, after: datetime) -> datetime:
        """Each time of the calendar is one moment."""
        for time in CronSim(self._fields, after.astimezone(self._zone).replace(tzinfo=None)):
            moment = self._moment(time)
            if moment > after:  # else it is one that the clock shows for the second time
                return moment
        raise StopIteration

    def _moment(self, time: datetime) -> datetime:
        """When the clock shows this for the first time, or the first minute that it shows afterwards."""
        while True:
            moment = time.replace(tzinfo=self._zone).astimezone(UTC)
            if moment.astimezone(self._zone).replace(tzinfo=None) == time:
                return moment
            time += _MINUTE

    def _next_shown(self, after: datetime) -> datetime:
        """Each moment at which the clock shows a time of the calendar: within a stretch in which the clock is not set
        it is the next time of the calendar; where the stretch ends first, it is looked for from its end."""
        since, inclusive = after, timedelta()
        while True:
            shown = since.astimezone(self._zone)
            offset = shown.utcoffset() or timedelta()
            time = next(CronSim(self._fields, shown.replace(tzinfo=None) - inclusive))
            moment = (time - offset).replace(tzinfo=UTC)
            change = self._change(since, moment)
            if change is None:
                return moment
            since, inclusive = change, _SECOND  # what the clock shows right after the change counts too

    def _change(self, after: datetime, until: datetime) -> datetime | None:
        """When the clock is set first, later than `after` and not later than `until`; None: it is not."""
        if self._zone is UTC:
            return None
        offset = after.astimezone(self._zone).utcoffset()
        low = high = after
        while high < until and high.astimezone(self._zone).utcoffset() == offset:
            low, high = high, min(high + _DAY, until)
        if high.astimezone(self._zone).utcoffset() == offset:
            return None
        while high - low > _SECOND:
            middle = low + (high - low) / 2
            if middle.astimezone(self._zone).utcoffset() == offset:
                low = middle
            else:
                high = middle
        return high.replace(microsecond=0)


def shown_in(wall_s: float, zone: str) -> str:
    """What a clock in the zone shows then, with its distance from UTC: 2026-10-25T02:30:00+02:00. Raises UsageError."""
    return datetime.fromtimestamp(wall_s, zone_of(zone)).isoformat(timespec="seconds")


def zone_of(name: str) -> tzinfo:
    """The zone of this name. Raises UsageError."""
    if name in ("UTC", "Etc/UTC"):
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:  # not there; no name of a zone; a directory
        raise UsageError(f"there is no time zone {name!r:.60}", "a name like Europe/Berlin, or UTC") from error


def _checked(line: str) -> str:
    """The five fields. Raises UsageError."""
    if len(line) > LINE_MAX:
        raise UsageError(f"a cron line has at most {LINE_MAX} characters")
    if line.startswith("@"):
        return _meaning(line)
    if len(line.split()) != 5:
        raise UsageError(
            f"a cron line has five fields: {line!r}",
            "minute, hour, day of the month, month, day of the week, as in '*/5 * * * *'",
        )
    try:
        next(CronSim(line, _ANY_YEAR))
    except StopIteration:
        raise _never(line) from None
    except CronSimError as error:
        if _is_sound_in_any_month(line):
            raise _never(line) from None
        raise UsageError(f"not a cron line: {str(error).lower()} in {line!r}") from error
    return line


def _meaning(word: str) -> str:
    fields = WORDS.get(word.lower())
    if fields is None and word.lower() == "@reboot":
        raise UsageError("@reboot is no time", "start what is to run with the machine by its service manager")
    if fields is None:
        raise UsageError(f"not a cron line: {word!r}", f"one of: {', '.join(WORDS)}")
    return fields


def _is_sound_in_any_month(line: str) -> bool:
    """Whether a line that cronsim refuses lacks only a month that has such a day."""
    minute, hour, day, month, weekday = line.split()
    try:
        CronSim(f"{minute} {hour} {day} * {weekday}", _ANY_YEAR)
        CronSim(f"{minute} {hour} * {month} {weekday}", _ANY_YEAR)
    except CronSimError:
        return False
    return True


def _never(line: str) -> UsageError:
    return UsageError(f"this cron line never comes: {line!r}", "no year has such a day")
