"""Back-pressure: who is not read from while somebody else does not read.

When a reader is further behind than `out_high`, the connections whose output it should read are not read from until it
has caught up to `out_low`. So a client that does not read holds up its own job's worker, and the server does not grow.
It must not know what a packet means.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from farm.protocol.limits import JOIN_MAX

if TYPE_CHECKING:
    from collections.abc import Sequence

    from farm.server.config import ServerConfig
    from farm.server.connection import Connection

Sent = tuple[int, bytes | None]  # as in Effects.sends

_NOBODY: set[int] = set()
FEW = 4  # small packets: they alone, some 64 KB, cannot put a reader behind that has read everything


class Pressure:
    """The rules about it, over all connections of a server."""

    def __init__(self, config: ServerConfig, connections: dict[int, Connection]) -> None:
        self._out_high, self._out_low = config.out_high, config.out_low
        self._connections = connections
        self._behind: set[int] = set()  # the ids of the readers that are too far behind

    def readers_behind(self, connection: Connection) -> set[int]:
        """Those who wait for its jobs and are too far behind."""
        if not self._behind:
            return _NOBODY
        return {watcher.id for job in connection.peer.holds.values() for watcher in job.watchers} & self._behind

    def hold_back(self, connection: Connection, behind: set[int], sends: Sequence[Sent]) -> None:
        """Stop reading from a connection while a reader of what it sends is too far behind (checked after the turn).

        behind: `readers_behind` before `sends` were made. One result may wait for its reader while the worker goes on
        to the next job; for a reader that was too far behind before, the worker waits, or results pile up.
        """
        many = len(sends) > FEW
        for id, packet in sends:
            reader = self._connections.get(id)
            if reader is None or not (many or reader.out_size or (packet and len(packet) > JOIN_MAX)):
                continue
            if id in behind or reader is connection or _feeds(connection, reader):
                reader.holds_up.add(connection)

    def apply(self, reader: Connection) -> None:
        """After bytes went out to `reader`, or did not: hold up those who feed it, or let them go on."""
        if reader.out_size > self._out_high:
            self._behind.add(reader.peer.id)
            for sender in reader.holds_up:
                if reader not in sender.waits_for:
                    sender.waits_for.add(reader)
                    sender.watch()
            return
        if self._behind:
            self._behind.discard(reader.peer.id)
        if reader.holds_up and reader.out_size <= self._out_low:
            self.release(reader)

    def release(self, reader: Connection) -> None:
        """Nobody waits for `reader` any more."""
        for sender in reader.holds_up:
            if reader in sender.waits_for:
                sender.waits_for.discard(reader)
                if sender.sock.fileno() >= 0:
                    sender.watch()
        reader.holds_up.clear()

    def forget(self, connection: Connection) -> None:
        """It closes: it holds nobody up, and waits for nobody."""
        self.release(connection)
        self._behind.discard(connection.peer.id)
        for reader in connection.waits_for:
            reader.holds_up.discard(connection)


def _feeds(sender: Connection, reader: Connection) -> bool:
    """Whether `reader` waits for a job that `sender` runs."""
    return any(reader.peer in job.watchers for job in sender.peer.holds.values())
