"""When cron lines come: calendars, both daylight-saving nights on both halves of the world, and lines that are none."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from farm.broker.schedule import WORDS, Schedule
from farm.errors import UsageError

BERLIN, SYDNEY, LORD_HOWE = "Europe/Berlin", "Australia/Sydney", "Australia/Lord_Howe"
HAVANA, SANTIAGO, APIA, NEW_YORK = "America/Havana", "America/Santiago", "Pacific/Apia", "America/New_York"


def seconds(text: str, zone: str = "UTC") -> float:
    """Seconds since 1970 of a time as the zone's clock shows it; `+` behind it: for the second time."""
    time = datetime.fromisoformat(text.rstrip("+")).replace(tzinfo=ZoneInfo(zone), fold=int(text.endswith("+")))
    return time.timestamp()


def shown(wall_s: float, zone: str) -> str:
    """What the zone's clock shows then, as in `seconds`."""
    time = datetime.fromtimestamp(wall_s, ZoneInfo(zone))
    return time.strftime("%Y-%m-%d %H:%M") + ("+" if time.fold else "")


def times(line: str, zone: str, begin: str, end: str) -> list[str]:
    """All times of a line from `begin` on, before `end`."""
    schedule = Schedule(line, zone)
    found = schedule.missed(seconds(begin, zone) - 1, seconds(end, zone) - 1, 100_000)
    return [shown(time, zone) for time in found]


@pytest.mark.parametrize(
    ("line", "after", "wanted"),
    [
        ("*/5 * * * *", "2026-11-24 10:02", "2026-11-24 10:05"),
        ("*/5 * * * *", "2026-11-24 10:05", "2026-11-24 10:10"),
        ("59 23 31 12 *", "2026-12-31 23:59", "2027-12-31 23:59"),
        ("0 0 29 2 *", "2096-02-29 00:00", "2104-02-29 00:00"),  # 2100 is no leap year
        ("0 0 29 2 *", "2026-01-01 00:00", "2028-02-29 00:00"),
        ("0 0 31 * *", "2026-01-31 00:00", "2026-03-31 00:00"),
        ("0 9 * * mon-fri", "2026-11-27 09:00", "2026-11-30 09:00"),
        ("0 9 * jan,JUL 7", "2026-11-24 00:00", "2027-01-03 09:00"),
        ("0 9 * * 0", "2026-11-24 00:00", "2026-11-29 09:00"),
        ("0 9 13 * 5", "2026-11-24 00:00", "2026-11-27 09:00"),  # the 13th or a Friday, as in cron
        ("0 9 */2 * 1", "2026-11-24 00:00", "2026-12-07 09:00"),  # a star: an odd day and a Monday
        ("0 9 L * *", "2028-02-01 00:00", "2028-02-29 09:00"),
        ("0 9 * * mon#1", "2026-11-24 00:00", "2026-12-07 09:00"),
        ("@hourly", "2026-11-24 10:02", "2026-11-24 11:00"),
        ("@daily", "2026-11-24 10:02", "2026-11-25 00:00"),
        ("@midnight", "2026-11-24 10:02", "2026-11-25 00:00"),
        ("@weekly", "2026-11-24 10:02", "2026-11-29 00:00"),
        ("@monthly", "2026-11-24 10:02", "2026-12-01 00:00"),
        ("@Yearly", "2026-11-24 10:02", "2027-01-01 00:00"),
        ("@annually", "2026-11-24 10:02", "2027-01-01 00:00"),
    ],
)
def test_next(line: str, after: str, wanted: str) -> None:
    found = Schedule(line).next_after(seconds(after))
    assert found == seconds(wanted)


def test_a_fraction_before_it_comes() -> None:
    schedule = Schedule("* * * * *")
    assert schedule.next_after(119.999) == 120.0
    assert schedule.next_after(120.0) == 180.0
    assert schedule.next_after(-0.5) == 0.0


@pytest.mark.parametrize("wall_s", [1e12, 1e300, float("inf"), float("nan"), -1e12])
def test_a_clock_beyond_every_calendar(wall_s: float) -> None:
    assert Schedule("* * * * *").next_after(wall_s) is None
    assert Schedule("30 2 * * *", BERLIN).next_after(wall_s) is None


def test_the_calendar_ends() -> None:
    for zone in ("UTC", BERLIN):
        assert Schedule("0 0 1 1 *", zone).next_after(seconds("9999-11-01 00:00")) is None


# -- the nights on which clocks are set

NIGHTS = [
    # What does not exist comes at the first minute after it, once; what exists twice comes once.
    ("30 2 * * *", BERLIN, "2026-03-28", ["03-28 02:30", "03-29 03:00", "03-30 02:30"]),
    ("30 2 * * *", BERLIN, "2026-10-24", ["10-24 02:30", "10-25 02:30", "10-26 02:30"]),
    ("30 2 * * *", SYDNEY, "2026-10-03", ["10-03 02:30", "10-04 03:00", "10-05 02:30"]),
    ("30 2 * * *", SYDNEY, "2026-04-04", ["04-04 02:30", "04-05 02:30", "04-06 02:30"]),
    ("15 2 * * *", LORD_HOWE, "2026-10-03", ["10-03 02:15", "10-04 02:30", "10-05 02:15"]),  # half an hour
    ("45 1 * * *", LORD_HOWE, "2026-04-04", ["04-04 01:45", "04-05 01:45", "04-06 01:45"]),
    ("0 0 * * *", HAVANA, "2026-03-07", ["03-07 00:00", "03-08 01:00", "03-09 00:00"]),  # there is no midnight
    ("30 0 * * *", HAVANA, "2026-10-31", ["10-31 00:30", "11-01 00:30", "11-02 00:30"]),
    ("30 23 * * *", SANTIAGO, "2026-04-03", ["04-03 23:30", "04-04 23:30", "04-05 23:30"]),
    ("0 0 * * *", SANTIAGO, "2026-09-05", ["09-05 00:00", "09-06 01:00", "09-07 00:00"]),
    ("30 2 * * *", APIA, "2011-12-29", ["12-29 02:30", "12-31 00:00", "12-31 02:30"]),  # a day that never was
    ("0,30 2 * * *", BERLIN, "2026-03-29", ["03-29 03:00", "03-30 02:00", "03-30 02:30"]),
    ("30 2,3 * * *", BERLIN, "2026-03-29", ["03-29 03:00", "03-29 03:30", "03-30 02:30"]),
    # By the hour and by the minute: whatever the clock shows.
    ("30 * 29 3 *", BERLIN, "2026-03-29 01:00", ["03-29 01:30", "03-29 03:30", "03-29 04:30"]),
    ("30 * * * *", BERLIN, "2026-10-25 01:00", ["10-25 01:30", "10-25 02:30", "10-25 02:30+", "10-25 03:30"]),
    ("0 */2 * * *", NEW_YORK, "2026-11-01 00:00", ["11-01 00:00", "11-01 02:00", "11-01 04:00"]),
    ("30 */1 * * *", LORD_HOWE, "2026-04-05 00:40", ["04-05 01:30", "04-05 01:30+", "04-05 02:30"]),
    ("30 * * * *", LORD_HOWE, "2026-10-04 01:00", ["10-04 01:30", "10-04 02:30", "10-04 03:30"]),
    ("*/30 3 * * *", LORD_HOWE, "2026-10-04 01:00", ["10-04 03:00", "10-04 03:30", "10-05 03:00"]),
]


@pytest.mark.parametrize(("line", "zone", "begin", "wanted"), NIGHTS)
def test_nights(line: str, zone: str, begin: str, wanted: list[str]) -> None:
    schedule = Schedule(line, zone)
    time: float | None = seconds(begin, zone) - 1
    found = []
    for _ in wanted:
        assert time is not None
        time = schedule.next_after(time)
        assert time is not None
        found.append(shown(time, zone)[5:])
    assert found == wanted


@pytest.mark.parametrize("asked", ["2026-10-25 02:30", "2026-10-25 02:40", "2026-10-25 02:10+", "2026-10-25 02:30+"])
def test_whoever_asks_within_the_hour_that_comes_twice(asked: str) -> None:
    """A server that starts in the middle of it does not run the job again."""
    time = Schedule("30 2 * * *", BERLIN).next_after(seconds(asked, BERLIN))
    assert time == seconds("2026-10-26 02:30", BERLIN)


@pytest.mark.parametrize(
    ("zone", "begin", "hours"),
    [
        (BERLIN, "2026-03-29", 23), (BERLIN, "2026-10-25", 25), (SYDNEY, "2026-10-04", 23), (SYDNEY, "2026-04-05", 25),
        (LORD_HOWE, "2026-10-04", 23.5), (LORD_HOWE, "2026-04-05", 24.5), (HAVANA, "2026-03-08 01:00", 23),
        (SANTIAGO, "2026-04-04", 25), (NEW_YORK, "2026-11-01", 25),
    ],
)  # fmt: skip
def test_every_quarter_of_an_hour_neither_stops_nor_doubles(zone: str, begin: str, hours: float) -> None:
    start = seconds(begin, zone)
    found = Schedule("*/15 * * * *", zone).missed(start - 1, start + hours * 3600 - 1, 1000)
    assert found == [start + 900 * n for n in range(int(hours * 4))]
    after = datetime.fromtimestamp(start + hours * 3600, ZoneInfo(zone))
    assert (after.hour, after.minute) == (0, 0)


def test_a_month_of_one_weekday_over_both_nights() -> None:
    assert times("0 2 * * sun", BERLIN, "2026-03-22", "2026-04-06") == [
        "2026-03-22 02:00",
        "2026-03-29 03:00",
        "2026-04-05 02:00",
    ]


# -- against the plainest way to say it: every minute, one after the other

_minutes = st.sampled_from(["*", "*/15", "*/7", "0", "30", "5,45", "10-20/5", "59"])
_hours = st.sampled_from(["*", "*/2", "*/3", "0", "1", "2", "3", "1-3", "23", "0,23", "2,14"])
_days = st.sampled_from(["* * *", "* * 0", "* * sun", "*/2 * *", "1-8 * *", "29 3 *", "4 10 *", "25 10 6", "L * *"])
_nights = st.sampled_from(
    [(zone, night) for _, zone, begin, _ in NIGHTS for night in [begin[:10]]]
    + [("UTC", "2026-03-28"), ("Asia/Kolkata", "2026-10-24"), ("Africa/Casablanca", "2026-02-14")]
)


def shows(fields: CronSim, time: datetime) -> bool:
    """Whether a clock that shows this shows a time of the line."""
    return (
        time.second == 0
        and time.minute in fields.minutes
        and time.hour in fields.hours
        and time.month in fields.months
        and fields.match_day(time.date())
    )


def minute_by_minute(line: str, zone: str, start: float, end: float) -> list[float]:
    """All times later than `start`, not later than `end`, of which both are whole minutes."""
    fields = CronSim(line, datetime(2000, 1, 1))
    minute, hour, *_ = line.split()
    moments = [datetime.fromtimestamp(start + 60 * n, ZoneInfo(zone)) for n in range(1, int(end - start) // 60 + 1)]
    if minute.startswith("*") or hour.startswith("*"):
        return [moment.timestamp() for moment in moments if shows(fields, moment.replace(tzinfo=None, fold=0))]
    found = []
    before = datetime.fromtimestamp(start, ZoneInfo(zone)).replace(tzinfo=None, fold=0)
    latest = max(
        datetime.fromtimestamp(start - 60 * n, ZoneInfo(zone)).replace(tzinfo=None, fold=0) for n in range(120)
    )
    before = max(before, latest)
    for moment in moments:  # what the clock has come to, or jumped over, since it last showed something new
        now = moment.replace(tzinfo=None, fold=0)
        passed = int((now - before) / timedelta(minutes=1))
        if any(shows(fields, before + timedelta(minutes=n)) for n in range(1, passed + 1)):
            found.append(moment.timestamp())
        before = max(before, now)
    return found


@settings(max_examples=60, deadline=None)
@given(_minutes, _hours, _days, _nights, st.integers(0, 47))
def test_against_a_clock_that_is_watched(minute: str, hour: str, day: str, night: tuple[str, str], late: int) -> None:
    zone, begin = night
    line = f"{minute} {hour} {day}"
    start = datetime.fromisoformat(begin).replace(tzinfo=UTC).timestamp() - 12 * 3600 + late * 1800
    end = start + 54 * 3600
    assert Schedule(line, zone).missed(start, end, 100_000) == minute_by_minute(line, zone, start, end)


# -- what was missed


@settings(max_examples=40, deadline=None)
@given(_minutes, _hours, _days, _nights, st.integers(1, 40), st.integers(0, 10 * 86400))
def test_the_newest_of_the_missed(
    minute: str, hour: str, day: str, night: tuple[str, str], most: int, span: int
) -> None:
    zone, begin = night
    schedule = Schedule(f"{minute} {hour} {day}", zone)
    start = datetime.fromisoformat(begin).replace(tzinfo=UTC).timestamp()
    every = schedule.missed(start, start + span, 100_000)
    assert schedule.missed(start, start + span, most) == every[-most:]
    assert every == sorted(set(every))


def test_a_year_of_minutes_is_not_counted_for_the_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    def counted(self: Schedule, wall_s: float, really: object = Schedule.next_after) -> float | None:
        nonlocal calls
        calls += 1
        return really(self, wall_s)  # type: ignore[operator,no-any-return]

    monkeypatch.setattr(Schedule, "next_after", counted)
    assert Schedule("* * * * *").missed(0.0, 365 * 86400.0, 1) == [365 * 86400.0]
    assert calls < 100


# -- what is no line, or no zone


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "a cron line has five fields: ''"),
        ("* * * *", "a cron line has five fields: '* * * *'"),
        ("*/5 * * * * *", "a cron line has five fields: '*/5 * * * * *'"),
        ("61 * * * *", "not a cron line: bad minute in '61 * * * *'"),
        ("* 24 * * *", "not a cron line: bad hour in '* 24 * * *'"),
        ("* * 0 * *", "not a cron line: bad day-of-month in '* * 0 * *'"),
        ("* * * 13 *", "not a cron line: bad month in '* * * 13 *'"),
        ("* * * * 8", "not a cron line: bad day-of-week in '* * * * 8'"),
        ("* * * * monday", "not a cron line: bad day-of-week in '* * * * monday'"),
        ("*/0 * * * *", "not a cron line: bad minute in '*/0 * * * *'"),
        ("5-1 * * * *", "not a cron line: bad minute in '5-1 * * * *'"),
        ("-1 * * * *", "not a cron line: bad minute in '-1 * * * *'"),
        ("٣ * * * *", "not a cron line: bad minute in '٣ * * * *'"),
        ("1" * 300 + " * * * *", "a cron line has at most 256 characters"),
        ("30 2 31 2 *", "this cron line never comes: '30 2 31 2 *'"),
        ("0 0 30 feb *", "this cron line never comes: '0 0 30 feb *'"),
        ("0 0 31 4,6,9,11 *", "this cron line never comes: '0 0 31 4,6,9,11 *'"),
        ("* * */20 * 1L", "this cron line never comes: '* * */20 * 1L'"),
        ("@reboot", "@reboot is no time"),
        ("@often", "not a cron line: '@often'"),
        ("@daily now", "not a cron line: '@daily now'"),
    ],
)
def test_no_line(line: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Schedule(line)
    assert caught.value.message == message


def test_reboot_has_a_hint() -> None:
    with pytest.raises(UsageError) as caught:
        Schedule("@reboot")
    assert caught.value.hint == "start what is to run with the machine by its service manager"


@settings(max_examples=400, deadline=None)
@given(st.text(alphabet="0123456789*/-,#LWlw@ \tmonjafeb²x", max_size=40) | st.text(max_size=40))
def test_any_text_is_a_schedule_or_a_clear_error(text: str) -> None:
    try:
        found = Schedule(text).next_after(0.0) is not None
    except UsageError as error:
        found = bool(error.message) and "\n" not in error.message
    assert found


@pytest.mark.parametrize(
    "zone", ["", "Mars/Olympus", "../../etc/passwd", "/etc/localtime", "Europe", "a\0b", "tzdata.zi", "x" * 500]
)
def test_no_zone(zone: str) -> None:
    with pytest.raises(UsageError, match="there is no time zone"):
        Schedule("@daily", zone)


def test_utc_needs_no_database(monkeypatch: pytest.MonkeyPatch) -> None:
    import zoneinfo

    monkeypatch.setitem(sys.modules, "tzdata", None)
    zoneinfo.reset_tzpath(to=())
    zoneinfo.ZoneInfo.clear_cache()
    try:
        assert Schedule("@daily", "UTC").next_after(0.0) == 86400.0
        with pytest.raises(UsageError):
            Schedule("@daily", BERLIN)
    finally:
        zoneinfo.reset_tzpath()


def test_the_words_are_lines() -> None:
    for word, line in WORDS.items():
        assert Schedule(word).next_after(1e9) == Schedule(line).next_after(1e9)
        assert Schedule(word).line == word
