"""Who is given up for being silent where something had to come: one timer for each rule, not for each connection."""

from __future__ import annotations

from collections.abc import Callable
from logging import getLogger
from typing import TYPE_CHECKING

from farm.errors import PacketRefused
from farm.protocol.limits import SMALL_PACKET_MAX
from farm.server.config import MUTE_S

if TYPE_CHECKING:
    from farm.loop import Loop, Timer
    from farm.server.config import ServerConfig
    from farm.server.connection import Connection

log = getLogger("farm.server")

Refuse = Callable[["Connection", PacketRefused], None]


class Watchdog:
    """`refuse` answers a connection with an ERROR and closes it. Of each table the oldest entry comes first, because
    whatever is renewed is put at its end; so a timer for the first one is enough."""

    def __init__(self, config: ServerConfig, loop: Loop, refuse: Refuse) -> None:
        self._config = config
        self._loop = loop
        self._refuse = refuse
        self._mute: dict[Connection, float] = {}  # has never sent anything whole; connected since
        self._mute_timer: Timer | None = None
        self._stalling: dict[Connection, float] = {}  # inside a packet since
        self._stall_timer: Timer | None = None

    def connected(self, connection: Connection) -> None:
        """From now on it may be expected to say something."""
        self._mute[connection] = self._loop.now
        connection.watched = True
        if self._config.first_packet_s and not self._mute_timer:
            self._mute_timer = self._loop.call_in(self._config.first_packet_s, self._end_mute)

    def came(self, connection: Connection, whole: bool) -> None:
        """Bytes came: if they end inside a packet, the rest must follow. whole: something was complete; a first packet
        that is large and on its way counts as much. Need not be called for one that is not `watched` and not inside a
        packet."""
        if whole or connection.decoder.buffered > SMALL_PACKET_MAX:
            self._mute.pop(connection, None)
        self._stalling.pop(connection, None)
        connection.watched = connection in self._mute
        if connection.decoder.inside_packet and not connection.closing:
            self._stalling[connection] = self._loop.now
            connection.watched = True
            if not self._stall_timer:
                self._stall_timer = self._loop.call_in(self._config.stall_s, self._end_stalls)

    def forget(self, connection: Connection) -> None:
        """Nothing of it is waited for any more."""
        self._mute.pop(connection, None)
        self._stalling.pop(connection, None)

    def in_the_way(self) -> Connection | None:
        """The connection that gives its place to a new one when there is no other: the one that has been open longest
        without having said anything, if that is long enough."""
        for connection, since in self._mute.items():
            return connection if since <= self._loop.now - MUTE_S else None
        return None

    def _end_mute(self) -> None:
        self._mute_timer = None
        patience_s = self._config.first_packet_s
        for connection, since in list(self._mute.items()):
            if since > self._loop.now - patience_s:
                self._mute_timer = self._loop.call_at(since + patience_s, self._end_mute)
                return
            del self._mute[connection]
            self._give_up(connection, "has never said anything", f"No packet for {patience_s:g} seconds")

    def _end_stalls(self) -> None:
        self._stall_timer = None
        limit = self._loop.now - self._config.stall_s
        for connection, since in list(self._stalling.items()):
            if since > limit:
                self._stall_timer = self._loop.call_at(since + self._config.stall_s, self._end_stalls)
                return
            if connection.unread:
                self._stalling.pop(connection)
                self._stalling[connection] = self._loop.now  # it is we who do not read
                continue
            del self._stalling[connection]
            self._give_up(
                connection, "stalled inside a packet", f"No more of a packet for {self._config.stall_s:g} seconds"
            )
        if self._stalling:  # all that is left was held up
            self._stall_timer = self._loop.call_in(self._config.stall_s, self._end_stalls)

    def _give_up(self, connection: Connection, what: str, answer: str) -> None:
        log.info("peer %d at %s: %s", connection.peer.id, connection.peer.address, what)
        self._refuse(connection, PacketRefused(b"INVALID_PACKET", answer.encode()))
