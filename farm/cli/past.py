"""A time in the past as a person writes it: how long ago, a time of day, a date."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from datetime import time as time_of_day

from farm.client.where import seconds
from farm.errors import UsageError

_HINT = "write 10m or 2h (ago), 17:00, today, yesterday, 2026-11-24 or 2026-11-24T17:00"


def past(text: str, now: datetime) -> float:
    """Seconds since 1970. now: with its time zone, which is that of a time without one. Raises UsageError."""
    word = text.strip().lower().removesuffix(" ago")
    if (ago := seconds(word)) is not None:
        return max(0.0, now.timestamp() - ago)
    try:
        return _moment(word, now).timestamp()
    except (ValueError, OverflowError):
        raise UsageError(f"--since is not a time: {text[:60]!r}", _HINT) from None


def _moment(word: str, now: datetime) -> datetime:
    today = datetime.combine(now.date(), time_of_day(), now.tzinfo)
    if word in ("today", "yesterday"):
        return today - timedelta(days=word == "yesterday")
    if ":" in word and "-" not in word:
        moment = datetime.combine(now.date(), time_of_day.fromisoformat(word), now.tzinfo)
        return moment if moment <= now else moment - timedelta(days=1)
    if "t" not in word and ":" not in word:
        return datetime.combine(date.fromisoformat(word), time_of_day(), now.tzinfo)
    moment = datetime.fromisoformat(word.upper())
    return moment if moment.tzinfo else moment.replace(tzinfo=now.tzinfo)
