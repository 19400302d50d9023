"""When a client that waits asks a silent server whether it lives, and when it stops believing so. Pure: time is given.

On the start-up path of `farm submit`: it imports nothing slow.
"""

from __future__ import annotations

from farm.protocol.extension import HEARTBEAT_S, HEARTBEATS_MISSED

FINE, ASK, DEAD = "fine", "ask", "dead"

SILENCE_MAX_S = HEARTBEAT_S * HEARTBEATS_MISSED


class Silence:
    """Of one server, while something of it is waited for. due: when to look again, monotonic seconds."""

    __slots__ = ("_asked", "_received", "due")

    def __init__(self, now: float) -> None:
        self._received = -1
        self.fresh(now)

    def fresh(self, now: float) -> None:
        """There is nothing to wait for, or nobody has looked: it counts from now on."""
        self._asked = 0
        self.due = now + HEARTBEAT_S

    def look(self, now: float, received: int) -> str:
        """FINE, ASK (send an ECHO_REQ) or DEAD. received: how many bytes have come so far, after having read what is
        there: whoever has not looked for a while must not take that for silence."""
        if received != self._received:
            self._received = received
            self.fresh(now)
        if now < self.due:
            return FINE
        if self._asked == HEARTBEATS_MISSED - 1:
            return DEAD
        self._asked += 1
        self.due = now + HEARTBEAT_S
        return ASK
