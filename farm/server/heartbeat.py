"""Heartbeats to farm's own workers, and an end to those that owe theirs: WIRE.md says who promises what.

One timer, and only while somebody has asked for heartbeats.
"""

from __future__ import annotations

from collections.abc import Callable
from logging import getLogger
from typing import TYPE_CHECKING

from farm.protocol import packets
from farm.protocol.extension import HEARTBEATS_MISSED
from farm.protocol.packets import response

if TYPE_CHECKING:
    from farm.broker.broker import Broker
    from farm.loop import Loop, Timer
    from farm.server.connection import Connection

log = getLogger("farm.server")


class Heartbeats:
    """`lost` is called with a connection whose other end is taken for dead."""

    def __init__(
        self,
        interval_s: float,
        loop: Loop,
        broker: Broker,
        connections: dict[int, Connection],
        lost: Callable[[Connection], None],
    ) -> None:
        self._interval_s = interval_s
        self._loop = loop
        self._broker = broker
        self._connections = connections
        self._lost = lost
        self._packet = response(packets.FARM_HEARTBEAT, b"%d" % broker.about.heartbeat_ms)
        self._timer: Timer | None = None

    def schedule(self) -> None:
        """After each turn: see to it that there is a next time, if anybody wants one."""
        if self._broker.beating and not self._timer:
            # From the beginning of this turn: where the process is stopped within it, the next beat comes so late that
            # it sees that.
            self._timer = self._loop.call_at(self._loop.now + self._interval_s, self._beat)

    def _beat(self) -> None:
        assert self._timer
        now = self._loop.now
        # This process was stopped, or far too busy: what the others sent meanwhile may not have been read yet.
        asleep = now - self._timer.due > self._interval_s
        self._timer = None
        for id in list(self._broker.beating):
            connection = self._connections[id]
            if asleep or connection.unread:  # it is we who do not read
                connection.heard_at = now
            silent_s = now - connection.heard_at
            if silent_s >= HEARTBEATS_MISSED * self._interval_s:
                log.warning("peer %d at %s: no sign of life for %.3gs", id, connection.peer.address, silent_s)
                self._lost(connection)
            elif not connection.out_size:  # what waits to be taken is as good a sign, and must not grow
                self._broker.effects.send(id, self._packet)
