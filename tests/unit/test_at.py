"""The times of --at, in a zone with two changes of the clock a year."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.cli.at import parse_at
from farm.errors import UsageError


@pytest.fixture(autouse=True, scope="module")
def berlin() -> Iterator[None]:
    """This process is in Berlin: an hour before UTC, two in summer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "Europe/Berlin")
        time.tzset()
        yield
    time.tzset()


def local(text: str) -> float:
    """Seconds since 1970 of a time with its zone."""
    return datetime.fromisoformat(text).timestamp()


NOW = local("2026-11-29T12:00:00+01:00")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("17:00", "2026-11-29T17:00:00+01:00"),
        ("17:00:30", "2026-11-29T17:00:30+01:00"),
        ("9:00", "2026-11-30T09:00:00+01:00"),
        ("12:00", "2026-11-30T12:00:00+01:00"),
        ("12:00:01", "2026-11-29T12:00:01+01:00"),
        ("0:00", "2026-11-30T00:00:00+01:00"),
        (" 23:59 ", "2026-11-29T23:59:00+01:00"),
        ("today 17:00", "2026-11-29T17:00:00+01:00"),
        ("tomorrow 9:00", "2026-11-30T09:00:00+01:00"),
        ("Tomorrow 13:00", "2026-11-30T13:00:00+01:00"),
        ("2026-12-01 09:30", "2026-12-01T09:30:00+01:00"),
        ("2026-12-01T09:30", "2026-12-01T09:30:00+01:00"),
        ("2026-12-01 09:30:15", "2026-12-01T09:30:15+01:00"),
        ("2026-12-01", "2026-12-01T00:00:00+01:00"),
        ("2027-07-01 09:30", "2027-07-01T09:30:00+02:00"),
        ("2026-12-01T09:30Z", "2026-12-01T10:30:00+01:00"),
        ("2026-12-01 09:30-05:00", "2026-12-01T15:30:00+01:00"),
    ],
)
def test_times(text: str, wanted: str) -> None:
    assert parse_at(text, NOW) == local(wanted)


@pytest.mark.parametrize(
    ("now", "text", "wanted"),
    [
        # the night of 29 March 2026 has no 2:30, and the day has 23 hours
        ("2026-03-28T12:00:00+01:00", "tomorrow 12:00", "2026-03-29T12:00:00+02:00"),
        ("2026-03-28T12:00:00+01:00", "11:00", "2026-03-29T11:00:00+02:00"),
        ("2026-03-28T12:00:00+01:00", "2026-03-29 02:30", "2026-03-29T03:30:00+02:00"),
        # the night of 25 October 2026 has 2:30 twice, and the day has 25 hours
        ("2026-10-24T12:00:00+02:00", "tomorrow 12:00", "2026-10-25T12:00:00+01:00"),
        ("2026-10-24T12:00:00+02:00", "2026-10-25 02:30", "2026-10-25T02:30:00+02:00"),
        ("2026-12-31T12:00:00+01:00", "tomorrow 0:30", "2027-01-01T00:30:00+01:00"),
    ],
)
def test_days_that_are_not_of_24_hours(now: str, text: str, wanted: str) -> None:
    assert parse_at(text, local(now)) == local(wanted)


NO_TIMES = [
    "",
    " ",
    "soon",
    "25:00",
    "12:60",
    "12",
    "12:0:0:0",
    "tomorrow",
    "tomorrow 9",
    "tomorrow tomorrow",
    "9:00 9:00",
]
NO_TIMES += ["2026-13-01", "2026-02-30 10:00", "tomorrow 2026-12-01", "17:00+01:00", ":", "12:", "٩:00", "-9:00", "1e3"]


@pytest.mark.parametrize("text", NO_TIMES)
def test_no_times(text: str) -> None:
    with pytest.raises(UsageError, match=r"^--at is not a time: ") as caught:
        parse_at(text, NOW)
    assert "tomorrow 9:00" in caught.value.hint


@pytest.mark.parametrize("text", ["today 9:00", "2026-11-29 11:59", "2025-12-01", "0001-01-01", "2026-11-29T10:30Z"])
def test_what_is_past(text: str) -> None:
    with pytest.raises(UsageError, match=r"^--at is (past|not a time): ") as caught:
        parse_at(text, NOW)
    assert "2026-11-29 12:00:00" in caught.value.hint or text.startswith("0001")


@given(st.text(max_size=30) | st.datetimes().map(str), st.floats(0, 1e10))
def test_any_text_is_a_time_to_come_or_an_error(text: str, now: float) -> None:
    message = ""
    try:
        assert parse_at(text, now) >= now - 1
    except UsageError as error:
        message = error.message
    assert "\n" not in message
