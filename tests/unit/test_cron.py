"""What a cron entry does about times that come, that were missed, and that overlap."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farm.broker import cron
from farm.broker.cron import (
    ALL,
    CATCH_UP_MAX,
    LAST,
    LIVE_MAX,
    NONE,
    QUEUE,
    REPLACE,
    SKIP,
    Drop,
    Entry,
    Run,
    Skip,
    Submit,
    from_words,
    to_words,
)
from farm.broker.cron import due as decide

HOUR, DAY = 3600.0, 86400.0
START = 1_800_000_000.0  # a whole quarter of an hour


def entry(line: str = "*/5 * * * *", overlap: str = SKIP, catch_up: str = NONE, live: tuple[bytes, ...] = ()) -> Entry:
    found = Entry("e", line, "UTC", b"f")
    found.overlap, found.catch_up = overlap, catch_up
    found.created = START
    found.live = list(live)
    found.plan(START)
    return found


def due(entry: Entry, wall: float, live: tuple[bytes, ...] = ()) -> list[cron.Action]:
    return decide(entry, wall, live.__contains__)


def test_its_time() -> None:
    each = entry()
    assert each.next == START + 300
    assert due(each, START + 299.999) == []
    assert due(each, START + 300) == [Submit(START + 300)]
    assert due(each, START + 301.5) == [Submit(START + 300)]


def test_decided_about_once() -> None:
    each = entry()
    each.seen = START + 301
    each.plan(START + 301)
    assert each.next == START + 600
    assert due(each, START + 301) == []


def test_paused_it_is_never_due() -> None:
    each = entry()
    each.paused = True
    each.plan(START)
    assert each.next is None
    assert due(each, START + DAY) == []


# -- missed


def test_none_runs_only_what_is_at_most_a_minute_old() -> None:
    assert due(entry(), START + 360) == [Submit(START + 300)]
    assert due(entry(), START + 360.5) == [Skip(START + 300, "was missed")]
    assert due(entry(), START + 900) == [Skip(START + 600, "2 were missed"), Submit(START + 900)]
    assert due(entry(), START + 1100) == [Skip(START + 900, "3 were missed")]


def test_last_makes_up_for_the_newest() -> None:
    assert due(entry(catch_up=LAST), START + 361) == [Submit(START + 300, note="61 s late")]
    found = due(entry(catch_up=LAST), START + 1100)
    assert found == [Skip(START + 600, "2 were missed"), Submit(START + 900, note="200 s late")]


def test_all_makes_up_for_each_one_after_the_other() -> None:
    found = due(entry(catch_up=ALL), START + 900)
    assert found == [
        Submit(START + 300, note="600 s late"),
        Submit(START + 600, behind=True, note="300 s late"),
        Submit(START + 900, behind=True),
    ]


def test_all_has_a_bound_and_says_so() -> None:
    found = due(entry(catch_up=ALL), START + 300 * 100)
    assert len(found) == 100 == CATCH_UP_MAX and found[0] == Submit(START + 300, note="29700 s late")
    found = due(entry(catch_up=ALL), START + 300 * 101)
    assert found[0] == Skip(START + 300, "more than 100 were missed")
    assert [action.at for action in found[1:] if isinstance(action, Submit)] == [START + 300 * n for n in range(2, 102)]
    found = due(entry(catch_up=ALL), START + 365 * DAY)
    assert len(found) == 101


# -- overlapping


def test_skip() -> None:
    each = entry(live=(b"H:1:1", b"H:1:2"))
    assert due(each, START + 300, live=(b"H:1:2",)) == [Skip(START + 300, "H:1:2 has not ended")]
    assert due(each, START + 300) == [Submit(START + 300)]


def test_queue() -> None:
    each = entry(overlap=QUEUE, live=(b"H:1:1",))
    assert due(each, START + 300, live=(b"H:1:1",)) == [Submit(START + 300, behind=True)]
    assert due(each, START + 300) == [Submit(START + 300)]


def test_a_queue_has_an_end() -> None:
    handles = tuple(b"H:1:%d" % number for number in range(LIVE_MAX))
    each = entry(overlap=QUEUE, live=handles)
    assert due(each, START + 300, live=handles) == [Skip(START + 300, "100 of its jobs have not ended")]
    assert due(each, START + 300, live=handles[1:]) == [Submit(START + 300, behind=True)]


def test_replace() -> None:
    each = entry(overlap=REPLACE, live=(b"H:1:1", b"H:1:2"))
    assert due(each, START + 300, live=(b"H:1:2",)) == [Drop(b"H:1:2"), Submit(START + 300)]
    assert due(each, START + 300) == [Submit(START + 300)]


def test_what_is_too_late_replaces_nothing() -> None:
    each = entry(overlap=REPLACE, live=(b"H:1:1",))
    assert due(each, START + 400, live=(b"H:1:1",)) == [Skip(START + 300, "was missed")]


# -- clocks


def test_a_clock_set_back_never_runs_a_time_twice() -> None:
    each = entry()
    assert due(each, START + 300)
    each.seen = START + 300
    each.plan(START + 300)
    for wall in (START, START + 299, START + 300, START + 599):
        each.plan(wall)
        assert each.next == START + 600
        assert due(each, wall) == []


def test_a_clock_that_was_ten_years_ahead() -> None:
    each = entry()
    each.seen = START + 3650 * DAY
    each.plan(each.seen)
    each.start_afresh(START + HOUR)
    assert (each.next, each.newest) == (START + HOUR + 300, START + HOUR)
    assert each.last[0].note == "the clock was set back by more than a day: starts afresh"


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["* * * * *", "*/7 * * * *", "0 * * * *", "30 2 * * *"]),
    st.sampled_from(cron.CATCH_UPS),
    st.lists(st.floats(-DAY, 3 * DAY), max_size=12),
)
def test_no_time_is_decided_about_twice(line: str, catch_up: str, steps: list[float]) -> None:
    """Whatever the clock does within a day of what it once was."""
    each = entry(line, catch_up=catch_up)
    wall, decided = START, []
    for step in steps:
        wall = max(wall + step, each.newest - DAY)
        actions = due(each, wall)
        times = [action.at for action in actions if isinstance(action, Submit | Skip)]
        assert times == sorted(times) and all(time <= wall for time in times)
        decided += times
        if actions:
            each.seen = wall
            each.plan(wall)
        assert each.next is not None and each.next > max(decided, default=0.0)
    assert decided == sorted(set(decided))


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(cron.OVERLAPS), st.sampled_from(cron.CATCH_UPS), st.floats(0, 30 * DAY), st.integers(0, 120))
def test_it_does_something_about_every_time(overlap: str, catch_up: str, late: float, jobs: int) -> None:
    handles = tuple(b"H:1:%d" % number for number in range(jobs))
    each = entry(overlap=overlap, catch_up=catch_up, live=handles)
    assert each.next is not None
    actions = due(each, each.next + late, live=handles)
    assert any(isinstance(action, Submit | Skip) for action in actions)
    submits = [action for action in actions if isinstance(action, Submit)]
    assert len(submits) <= CATCH_UP_MAX and (overlap == REPLACE or len(submits) + jobs <= max(LIVE_MAX, jobs))


# -- kept


def test_kept_and_read_again() -> None:
    each = Entry("nächtlich", "30 2 * * *", "Europe/Berlin", b"f\xff", b"\x80key", b"payload")
    each.terms = {"retries": "3", "priority": "high"}
    each.overlap, each.catch_up, each.created, each.seen = QUEUE, LAST, 12.5, 17.25
    each.plan(START)
    each.live = [b"H:1:1", b"H:1:2"]
    each.remember(Run(17.0, b"H:1:1", ""))
    each.remember(Run(18.0, b"", "was missed"))
    again = from_words("nächtlich".encode(), to_words(each), b"payload")
    for slot in Entry.__slots__:
        if slot != "schedule":
            assert getattr(again, slot) == getattr(each, slot), slot
    assert again.words == b"retries=3 priority=high background=1"


def test_a_zone_that_is_no_more_does_not_stop_the_server() -> None:
    words = to_words(entry()).replace(b'"UTC"', b'"Mars/Olympus"')
    again = from_words(b"e", words, b"")
    assert again.fault == "there is no time zone 'Mars/Olympus'"
    assert again.next is None and due(again, START + DAY) == []
    again.plan(START)
    assert again.next is None


def test_only_the_newest_runs_are_kept() -> None:
    each = entry()
    for number in range(30):
        each.remember(Run(float(number), b"", ""))
    assert [run.at for run in each.last] == [float(number) for number in range(29, 19, -1)]


@pytest.mark.parametrize("field", ["line", "zone", "function", "unique", "payload", "terms", "overlap", "catch_up"])
def test_what_makes_it_another(field: str) -> None:
    one, other = entry(), entry()
    assert one.same_as(other)
    other.last, other.seen, other.paused = [Run(1.0, b"", "")], 5.0, True
    assert one.same_as(other)
    setattr(other, field, "something else")
    assert not one.same_as(other)
