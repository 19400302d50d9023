"""A worker's heartbeats, with a clock to turn."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from farm.loop import Timer
from farm.worker.pulse import Pulse


class Clock:
    """As much of a loop as a pulse needs."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[Timer] = []

    def call_in(self, delay_s: float, call: Callable[[], None]) -> Timer:
        self.timers.append(Timer(self.now + delay_s, call))
        return self.timers[-1]

    def turn(self, seconds: float) -> None:
        """Time passes; what was due meanwhile is called once, at its end."""
        self.now += seconds
        due = [timer for timer in self.timers if timer.call and timer.due <= self.now]
        self.timers = [timer for timer in self.timers if timer.call and timer.due > self.now]
        for timer in due:
            assert timer.call
            timer.call()


class Beating:
    """A pulse that counts."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.beats = 0
        self.lost: list[str] = []
        self.pulse = Pulse(self.clock, self._beat, self._lost)  # type: ignore[arg-type]
        self.come(b"1000")

    def come(self, milliseconds: bytes) -> None:
        self.pulse.heard()
        self.pulse.follow(milliseconds)

    def _beat(self) -> None:
        self.beats += 1

    def _lost(self, words: str) -> None:
        self.lost.append(words)
        self.pulse.stop()


def test_it_beats_at_once_and_as_often_as_the_server() -> None:
    beating = Beating()
    assert beating.beats == 1
    for n in range(10):
        beating.clock.turn(1.0)
        beating.come(b"1000")
        assert beating.beats == n + 2
    assert not beating.lost
    assert len(beating.clock.timers) == 1


def test_three_intervals_without_a_byte_are_the_end() -> None:
    beating = Beating()
    beating.clock.turn(1.0)
    beating.clock.turn(1.0)
    assert not beating.lost
    beating.clock.turn(1.0)
    assert beating.lost == ["no sign of life for 3s"]
    assert not beating.clock.timers


def test_any_byte_is_a_sign() -> None:
    beating = Beating()
    for _ in range(10):
        beating.clock.turn(1.0)
        beating.pulse.heard()
    assert not beating.lost


def test_who_was_stopped_itself_waits_for_what_has_come_meanwhile() -> None:
    beating = Beating()
    beating.clock.turn(50.0)
    assert not beating.lost
    for _ in range(3):
        assert not beating.lost
        beating.clock.turn(1.0)
    assert beating.lost


def test_the_server_may_change_its_mind() -> None:
    beating = Beating()
    beating.come(b"5000")
    assert beating.beats == 2
    beating.clock.turn(4.9)
    assert beating.beats == 2
    beating.clock.turn(0.1)
    assert beating.beats == 3


@pytest.mark.parametrize("text", [b"", b"x", b"-", b"1.5", b"9" * 400, b"9" * 5000])
def test_what_is_no_number(text: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 int() says it in several ways
        Beating().come(text)


@pytest.mark.parametrize(("text", "timeout_s"), [(b"0", 0.01), (b"-5", 0.01), (b"9" * 20, 3600.0)])
def test_an_interval_that_makes_no_sense_is_bounded(text: bytes, timeout_s: float) -> None:
    beating = Beating()
    beating.come(text)
    (timer,) = (timer for timer in beating.clock.timers if timer.call)
    assert timer.due == beating.clock.now + timeout_s
