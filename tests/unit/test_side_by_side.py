"""Several conversations at a time: who is waited for, and for how long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from farm.client import side_by_side as module
from farm.client.connection import Connection
from farm.client.side_by_side import Talk, side_by_side
from farm.errors import UsageError

LIMIT_S = 0.3
LONG_S = 20.0


@pytest.fixture(autouse=True)
def short_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SILENT_S", LIMIT_S)
    monkeypatch.setattr(module, "TWIN_S", LIMIT_S / 3)


class Line:
    """In a connection's place: until it is broken off."""

    def __init__(self) -> None:
        self.heard = 0.0
        self.broken = threading.Event()

    def break_off(self) -> None:
        self.broken.set()


@pytest.fixture
def line() -> Iterator[Line]:
    line = Line()
    yield line
    line.break_off()


def silent(line: Line) -> Callable[[Talk[str]], str]:
    """A server that says nothing."""

    def work(talk: Talk[str]) -> str:
        talk.on(cast(Connection, line))
        line.broken.wait(LONG_S)
        return "too late"

    return work


def says(word: str) -> Callable[[Talk[str]], str]:
    return lambda talk: word


def answered(word: str) -> bool:
    return word != "no"


def run(*works: Callable[[Talk[str]], str], **options: Any) -> tuple[list[str | None], float]:
    begun = time.monotonic()
    return side_by_side(works, answered, **options), time.monotonic() - begun


def test_one_is_silent_and_another_has_answered(line: Line) -> None:
    found, took_s = run(silent(line), says("a"), says("no"))
    assert found == [None, "a", "no"]
    assert LIMIT_S <= took_s < LONG_S / 2
    assert line.broken.is_set()


def test_it_is_waited_for_when_nobody_has(line: Line) -> None:
    timer = threading.Timer(LIMIT_S * 3, line.break_off)
    timer.start()
    found, _ = run(silent(line), says("no"))
    timer.join()
    assert found[0] == "too late"


def test_one_that_says_something_now_and_then_is_waited_for(line: Line) -> None:
    def slow(talk: Talk[str]) -> str:
        talk.on(cast(Connection, line))
        for _ in range(20):
            line.heard = time.monotonic()
            if line.broken.wait(LIMIT_S / 10):
                return "broken off"
        return "b"

    found, took_s = run(says("a"), slow)
    assert found == ["a", "b"]
    assert took_s > LIMIT_S


def test_what_was_sought_is_there(line: Line) -> None:
    found, took_s = run(silent(line), says("a"), enough=lambda word: word == "a")
    assert found == [None, "a"]
    assert took_s < LONG_S / 2


@pytest.mark.parametrize("count", [1, 2])
def test_nobody_is_waited_for_beyond_the_deadline(line: Line, count: int) -> None:
    found, took_s = run(*[silent(line)] * count, deadline=time.monotonic() + LIMIT_S)
    assert found == [None] * count
    assert LIMIT_S * 0.9 <= took_s < LONG_S / 2


def test_others_that_have_answered_already_count(line: Line) -> None:
    found, took_s = run(silent(line), others=True)
    assert (found, took_s < LONG_S / 2) == ([None], True)


def test_what_one_raises_is_raised() -> None:
    def wrong(talk: Talk[str]) -> str:
        raise UsageError("no")

    with pytest.raises(UsageError):
        run(says("a"), wrong)
    with pytest.raises(UsageError):
        run(wrong)
