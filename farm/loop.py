"""A small event loop over epoll or poll: readiness callbacks, timers, signals, and a call at the end of each turn.

The server and the worker are built on it. It is a loop of turns, which is what group commit wants: everything that was
ready is handled, then `end_of_turn` runs once. Why not asyncio: `farm/decisions/0001-own-event-loop.md`.
"""

from __future__ import annotations

import heapq
import os
import select
import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import Final

READ: Final[int] = select.POLLIN  # epoll has the same numbers
WRITE: Final[int] = select.POLLOUT

_READY: Final = READ | WRITE
_EPOLL = hasattr(select, "epoll")  # Linux
_UNIT_S = 1.0 if _EPOLL else 0.001  # of the time that is waited: poll wants milliseconds

SLEEP_MAX_S = 86400.0  # select cannot wait for longer than some weeks; waking once a day for nothing costs nothing


class Timer:
    """A call that is due at a time; `cancel` makes it never happen."""

    __slots__ = ("call", "due")

    def __init__(self, due: float, call: Callable[[], None] | None) -> None:
        self.due = due
        self.call = call

    def __lt__(self, other: Timer) -> bool:
        return self.due < other.due

    def cancel(self) -> None:
        """Never call it. It leaves the heap when its time has come."""
        self.call = None


class Loop:
    """Everything that a single-threaded daemon waits for. Times are `time.monotonic()` in seconds."""

    def __init__(self) -> None:
        self._poll = select.epoll() if _EPOLL else select.poll()
        self._calls: dict[int, tuple[int, Callable[[int], None]]] = {}  # by descriptor: what is waited for, and who
        self._timers: list[Timer] = []
        self._signals: dict[int, Callable[[], None]] = {}
        self._wake_read = self._wake_write = -1
        self._running = False
        self.end_of_turn: Callable[[], None] = _nothing
        self.now = time.monotonic()

    def watch(self, fd: int, events: int, call: Callable[[int], None]) -> None:
        """Call `call(ready events)` whenever `fd` is ready for one of `events`; 0 stops watching."""
        known = fd in self._calls
        if not events:
            if known:
                del self._calls[fd]
                self._poll.unregister(fd)
            return
        self._calls[fd] = events, call
        if known:
            self._poll.modify(fd, events)
        else:
            self._poll.register(fd, events)

    def call_at(self, due: float, call: Callable[[], None]) -> Timer:
        """Call once when the monotonic clock reaches `due`."""
        timer = Timer(due, call)
        heapq.heappush(self._timers, timer)
        return timer

    def call_in(self, delay_s: float, call: Callable[[], None]) -> Timer:
        """Call once after so many seconds."""
        return self.call_at(time.monotonic() + delay_s, call)

    def on_signal(self, number: int, call: Callable[[], None]) -> None:
        """Call from the loop, not from inside whatever the signal interrupted."""
        if self._wake_read < 0:
            self._wake_read, self._wake_write = os.pipe()
            os.set_blocking(self._wake_read, False)
            os.set_blocking(self._wake_write, False)
            signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
            self.watch(self._wake_read, READ, self._signalled)
        self._signals[number] = call
        signal.signal(number, _ignore)

    def run(self) -> None:
        """Turn after turn until `stop`."""
        self._running = True
        while self._running:
            self.turn()

    def stop(self) -> None:
        """Leave `run` at the end of this turn."""
        self._running = False

    def turn(self) -> None:
        """Wait for something, handle everything that is ready, then end the turn."""
        ready = self._poll.poll(self._timeout())
        self.now = now = time.monotonic()
        for fd, events in ready:
            # An earlier callback of this turn may have closed the descriptor, or even reused it; callbacks therefore
            # bear to find that nothing is ready after all.
            known = self._calls.get(fd)
            if known:
                wanted, call = known
                # What is broken is ready for everything: the system's error comes with the next read or write.
                call(events & wanted if events <= _READY else wanted)
        while self._timers and self._timers[0].due <= now:
            due = heapq.heappop(self._timers).call
            if due:
                due()
        self.end_of_turn()

    def close(self) -> None:
        """Give back descriptors and signal handlers."""
        if self._wake_read >= 0:
            signal.set_wakeup_fd(-1)
            os.close(self._wake_read)
            os.close(self._wake_write)
        for number in self._signals:
            signal.signal(number, signal.SIG_DFL)
        if isinstance(self._poll, select.epoll):
            self._poll.close()

    def _timeout(self) -> float | None:
        while self._timers and self._timers[0].call is None:
            heapq.heappop(self._timers)
        if not self._timers:
            return None
        return min(max(0.0, self._timers[0].due - time.monotonic()), SLEEP_MAX_S) / _UNIT_S

    def _signalled(self, events: int) -> None:
        for number in os.read(self._wake_read, 4096):
            call = self._signals.get(number)
            if call:
                call()


def _nothing() -> None:
    pass


def _ignore(number: int, frame: FrameType | None) -> None:
    """The wake-up pipe carries the signal to the loop; a Python handler has to exist for it to be written."""
