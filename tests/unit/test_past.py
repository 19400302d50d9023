"""--since: how long ago, a time of day, a date."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.cli.past import past
from farm.errors import UsageError

HERE = timezone(timedelta(hours=2))
NOW = datetime(2026, 11, 24, 10, 30, tzinfo=HERE)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("10m", datetime(2026, 11, 24, 10, 20, tzinfo=HERE)),
        ("2h ago", datetime(2026, 11, 24, 8, 30, tzinfo=HERE)),
        ("90", datetime(2026, 11, 24, 10, 28, 30, tzinfo=HERE)),
        ("today", datetime(2026, 11, 24, tzinfo=HERE)),
        ("Yesterday", datetime(2026, 11, 23, tzinfo=HERE)),
        ("09:00", datetime(2026, 11, 24, 9, tzinfo=HERE)),
        ("17:00", datetime(2026, 11, 23, 17, tzinfo=HERE)),
        ("17:00:30", datetime(2026, 11, 23, 17, 0, 30, tzinfo=HERE)),
        ("2026-11-20", datetime(2026, 11, 20, tzinfo=HERE)),
        ("2026-11-20T17:00", datetime(2026, 11, 20, 17, tzinfo=HERE)),
        ("2026-11-20 17:00:01.5", datetime(2026, 11, 20, 17, 0, 1, 500000, tzinfo=HERE)),
        ("2026-11-20T17:00:00Z", datetime(2026, 11, 20, 17, tzinfo=UTC)),
        ("2026-11-20T17:00:00+02:00", datetime(2026, 11, 20, 17, tzinfo=HERE)),
    ],
)
def test_times(text: str, moment: datetime) -> None:
    assert past(text, NOW) == moment.timestamp()


@pytest.mark.parametrize(
    "text", ["", "now", "25:00", "2026-13-01", "10 m", "-1h", "tomorrow", "2026-11-24T", "99:99", "10000-01-01"]
)
def test_no_times(text: str) -> None:
    with pytest.raises(UsageError, match="--since is not a time"):
        past(text, NOW)


@given(st.text(max_size=30))
def test_any_text_is_a_time_or_an_error(text: str) -> None:
    message = ""
    try:
        assert past(text, NOW) > -1e12
    except UsageError as error:
        message = error.message
    assert len(message.splitlines()) <= 1
