"""Who is given up for being silent where something had to come: one timer for each rule, not for each connection."""

from __future__ import annotations

from collections.abc import Callable
from logging import getLogger
from typing import TYPE_CHECKING

from farm.errors import PacketRefused

if TYPE_CHECKING:
    from farm.loop import Loop, Timer
    from farm.server.config import ServerConfig
    from farm.server.connection import Connection

log = getLogger("farm.server")

Refuse = Callable[["Connection", PacketRefused], None]


class Watchdog:
    """`refuse` answers a connection with an ERROR and closes it."""

    def __init__(self, config: ServerConfig, loop: Loop, refuse: Refuse) -> None:
        self._config = config
        self._loop = loop
        self._refuse = refuse
        self._stalling: dict[Connection, float] = {}  # inside a packet since; in order of time
        self._stall_timer: Timer | None = None

    def came(self, connection: Connection) -> None:
        """Bytes came: if they end inside a packet, the rest must follow."""
        self._stalling.pop(connection, None)
        if connection.decoder.inside_packet and not connection.closing:
            self._stalling[connection] = self._loop.now
            if not self._stall_timer:
                self._stall_timer = self._loop.call_in(self._config.stall_s, self._end_stalls)

    def forget(self, connection: Connection) -> None:
        """Nothing of it is waited for any more."""
        self._stalling.pop(connection, None)

    def _end_stalls(self) -> None:
        self._stall_timer = None
        limit = self._loop.now - self._config.stall_s
        for connection, since in list(self._stalling.items()):
            if since > limit:
                self._stall_timer = self._loop.call_at(since + self._config.stall_s, self._end_stalls)
                return
            if connection.waits_for:
                self._stalling.pop(connection)
                self._stalling[connection] = self._loop.now  # it is we who do not read
                continue
            del self._stalling[connection]
            log.info("peer %d at %s: stalled inside a packet", connection.peer.id, connection.peer.address)
            words = f"No more of a packet for {self._config.stall_s:g} seconds"
            self._refuse(connection, PacketRefused(b"INVALID_PACKET", words.encode()))
        if self._stalling:  # all that is left was held up
            self._stall_timer = self._loop.call_in(self._config.stall_s, self._end_stalls)
