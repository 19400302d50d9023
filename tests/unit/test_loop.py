"""The event loop: what is ready, timers, signals, and the end of a turn."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

import farm.loop
from farm.loop import READ, WRITE, Loop


@pytest.fixture(params=["epoll", "poll"])
def loop(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loop]:
    """A loop, also as it is where there is no epoll; its descriptors and signal handlers are given back."""
    if request.param == "poll":
        monkeypatch.setattr(farm.loop, "_EPOLL", False)
        monkeypatch.setattr(farm.loop, "_UNIT_S", 0.001)
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture
def pipes() -> Iterator[Callable[[], tuple[int, int]]]:
    """Makes pipes; closes them."""
    fds: list[int] = []

    def make() -> tuple[int, int]:
        ends = os.pipe()
        fds.extend(ends)
        return ends

    yield make
    for fd in fds:
        os.close(fd)


Pipes = Callable[[], tuple[int, int]]


def turn(loop: Loop) -> None:
    """One turn that cannot wait for ever."""
    loop.call_in(0.2, lambda: None)
    loop.turn()


def test_a_callback_gets_what_is_ready(loop: Loop, pipes: Pipes) -> None:
    read, write = pipes()
    seen: list[tuple[str, int]] = []
    loop.watch(read, READ, lambda events: seen.append(("read", events)))
    loop.watch(write, WRITE, lambda events: seen.append(("write", events)))
    turn(loop)
    assert seen == [("write", WRITE)]
    os.write(write, b"x")
    turn(loop)
    assert sorted(seen[1:]) == [("read", READ), ("write", WRITE)]


def test_watching_again_replaces_and_zero_stops(loop: Loop, pipes: Pipes) -> None:
    read, write = pipes()
    os.write(write, b"x")
    seen: list[str] = []
    loop.watch(read, READ, lambda events: seen.append("old"))
    loop.watch(read, READ, lambda events: seen.append("new"))
    turn(loop)
    assert seen == ["new"]
    loop.watch(read, 0, lambda events: None)
    loop.watch(read, 0, lambda events: None)  # what is not watched need not be stopped
    turn(loop)
    assert seen == ["new"]


def test_a_callback_may_stop_another_that_is_ready_too(loop: Loop, pipes: Pipes) -> None:
    """As when one connection's packet closes another: the closed one must not be called in the same turn."""
    ends = [pipes() for _ in range(2)]
    seen: list[int] = []

    def call(mine: int, other: int) -> Callable[[int], None]:
        def ready(events: int) -> None:
            seen.append(mine)
            loop.watch(other, 0, lambda events: None)

        return ready

    for (read, write), (other, _) in zip(ends, reversed(ends), strict=True):
        os.write(write, b"x")
        loop.watch(read, READ, call(read, other))
    turn(loop)
    assert len(seen) == 1


def test_timers_come_in_order_of_time_and_not_early(loop: Loop) -> None:
    seen: list[str] = []
    begin = time.monotonic()
    loop.call_in(0.03, lambda: seen.append("third"))
    loop.call_in(0.02, lambda: seen.append("second"))
    loop.call_at(begin, lambda: seen.append("first"))
    while len(seen) < 3:
        loop.turn()
    assert seen == ["first", "second", "third"]
    assert time.monotonic() - begin >= 0.03


@given(st.lists(st.tuples(st.integers(0, 100), st.booleans()), max_size=30))
def test_any_timers(timers: list[tuple[int, bool]]) -> None:
    """Each that was not cancelled is called once, in order of time."""
    loop = Loop()
    seen: list[int] = []
    base = time.monotonic()
    for offset, cancelled in timers:
        timer = loop.call_at(base + offset * 1e-6, lambda offset=offset: seen.append(offset))
        if cancelled:
            timer.cancel()
    wanted = sorted(offset for offset, cancelled in timers if not cancelled)
    loop.call_at(base + 200e-6, loop.stop)
    loop.run()
    loop.close()
    assert seen == wanted


def test_a_cancelled_timer_does_not_wake_the_loop(loop: Loop) -> None:
    """Else a loop full of time-outs that never happen would spin."""
    turns: list[None] = []
    loop.end_of_turn = lambda: turns.append(None)
    for _ in range(10):
        loop.call_in(0.001, lambda: pytest.fail("cancelled")).cancel()
    loop.call_in(0.02, loop.stop)
    loop.run()
    assert len(turns) == 1


def test_a_timer_set_by_a_timer_waits_for_the_next_turn(loop: Loop) -> None:
    """So a timer that sets itself again at once cannot keep sockets from being served."""
    seen: list[int] = []

    def again() -> None:
        seen.append(len(seen))
        loop.call_in(0, again)

    loop.call_in(0, again)
    loop.turn()
    assert seen == [0]
    loop.turn()
    assert seen == [0, 1]


@pytest.mark.parametrize("delay_s", [30 * 86400.0, 1e15])
def test_a_timer_far_away(loop: Loop, pipes: Pipes, delay_s: float) -> None:
    """epoll_wait(2) cannot wait for more than 24 days; the loop can."""
    read, write = pipes()
    seen: list[int] = []
    loop.watch(read, READ, seen.append)
    loop.call_in(delay_s, lambda: pytest.fail("too early"))
    os.write(write, b"x")
    loop.turn()
    assert seen == [READ]


def test_the_end_of_a_turn_comes_once_after_everything(loop: Loop, pipes: Pipes) -> None:
    """Group commit rests on it."""
    seen: list[str] = []
    for _ in range(3):
        read, write = pipes()
        os.write(write, b"x")
        loop.watch(read, READ, lambda events: seen.append("read"))
    loop.call_in(0, lambda: seen.append("timer"))
    loop.end_of_turn = lambda: seen.append("end")
    loop.turn()
    assert seen == ["read", "read", "read", "timer", "end"]


def test_now_is_the_time_of_the_turn(loop: Loop) -> None:
    times: list[float] = []
    for _ in range(2):
        loop.call_in(0, lambda: times.append(loop.now))
    before = time.monotonic()
    loop.turn()
    assert times[0] == times[1] >= before


def test_a_signal_is_handled_in_the_loop(loop: Loop) -> None:
    """Not inside whatever it interrupted; and a signal that comes while the loop sleeps wakes it."""
    seen: list[int] = []
    loop.on_signal(signal.SIGUSR1, lambda: seen.append(1))
    loop.on_signal(signal.SIGUSR2, lambda: seen.append(2))
    os.kill(os.getpid(), signal.SIGUSR1)
    os.kill(os.getpid(), signal.SIGUSR2)
    assert seen == []
    while len(seen) < 2:
        turn(loop)
    assert sorted(seen) == [1, 2]


def test_closing_gives_everything_back() -> None:
    before = len(os.listdir("/proc/self/fd"))
    loop = Loop()
    loop.on_signal(signal.SIGUSR1, lambda: None)
    assert signal.getsignal(signal.SIGUSR1) is not signal.SIG_DFL
    loop.close()
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
    assert len(os.listdir("/proc/self/fd")) == before


def test_stop_ends_run_after_the_turn(loop: Loop) -> None:
    seen: list[str] = []
    loop.call_in(0, loop.stop)
    loop.call_in(0, lambda: seen.append("still this turn"))
    loop.end_of_turn = lambda: seen.append("end")
    loop.run()
    assert seen[-1] == "end"
