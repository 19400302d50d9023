"""When a backlog counts as gone."""

from __future__ import annotations

from farm.server.garbage import BACKLOG_MIN, LEFT_PART, Backlog


def gone(*jobs: int) -> list[int]:
    """How many jobs were left each time."""
    backlog = Backlog()
    return [left for left in jobs if backlog.has_gone(left)]


def test_a_backlog_goes_once() -> None:
    assert gone(0, 100_000, 50_000, 1001, 1000, 999, 5, 0, 0, 7) == [1000]


def test_each_backlog_goes() -> None:
    assert gone(100_000, 0, 40_000, 20_000, 400, 0) == [0, 400]


def test_what_is_left_of_a_large_one_may_be_another() -> None:
    assert gone(10_000_000, 100_000, 50_000, 1000, 10) == [100_000, 1000]


def test_a_few_jobs_are_no_backlog() -> None:
    assert gone(BACKLOG_MIN, 0, BACKLOG_MIN - 1, 1, BACKLOG_MIN // LEFT_PART, 0) == []
