"""The heartbeats of a worker's connection, as often as its server says; WIRE.md says why."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from farm.protocol.extension import HEARTBEATS_MISSED
from farm.protocol.limits import NUMBER_MAX

if TYPE_CHECKING:
    from farm.loop import Loop, Timer

INTERVAL_MIN_S = 0.01  # whatever the server says
INTERVAL_MAX_S = 3600.0


class Pulse:
    """beat() sends one; lost(words) is called when the server has been silent for too long."""

    def __init__(self, loop: Loop, beat: Callable[[], None], lost: Callable[[str], None]) -> None:
        self._loop = loop
        self._beat = beat
        self._lost = lost
        self._interval_s = 0.0
        self._heard_at = 0.0
        self._timer: Timer | None = None

    def heard(self) -> None:
        """Something came."""
        self._heard_at = self._loop.now

    def follow(self, milliseconds: bytes) -> None:
        """The server's own heartbeat, with its time between two. Raises ValueError for what is no number."""
        if len(milliseconds) > NUMBER_MAX:
            raise ValueError
        interval_s = min(max(int(milliseconds) / 1000, INTERVAL_MIN_S), INTERVAL_MAX_S)
        if interval_s != self._interval_s:
            self.stop()
            self._interval_s = interval_s
            self._again()

    def stop(self) -> None:
        """There is no connection any more."""
        self._interval_s = 0.0
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _again(self) -> None:
        self._beat()
        if self._interval_s:  # the connection may have been lost over it
            self._timer = self._loop.call_in(self._interval_s, self._tick)

    def _tick(self) -> None:
        assert self._timer
        now = self._loop.now
        if now - self._timer.due > self._interval_s:  # this process was stopped: what came meanwhile is not read yet
            self._heard_at = now
        silent_s = now - self._heard_at
        if silent_s >= HEARTBEATS_MISSED * self._interval_s:
            self._lost(f"no sign of life for {silent_s:.3g}s")
        else:
            self._again()
