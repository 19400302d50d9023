"""Back-pressure: who is not read from while somebody else does not read.

When a reader is further behind than `out_high`, the connections whose output it should read are not read from until it
has caught up to `out_low`. So a client that does not read holds up its own job's worker, and the server does not grow.
It must not know what a packet means.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from farm.server.config import ServerConfig
    from farm.server.connection import Connection


class Pressure:
    """The rules about it, over all connections of a server."""

    def __init__(self, config: ServerConfig, connections: dict[int, Connection]) -> None:
        self._config = config
        self._connections = connections

    def hold_back(self, connection: Connection, readers: set[int], sent_to: set[int]) -> None:
        """Stop reading from a connection while a reader of what it sends is too far behind (checked after the turn).

        readers: those who waited for its jobs before this turn. One result may wait for its reader while the worker
        goes on to the next job; for a reader that was too far behind before, the worker waits, or results pile up.
        """
        for id in sent_to:
            reader = self._connections.get(id)
            if reader is None:
                continue
            behind = id in readers and reader.out_size > self._config.out_high
            if behind or reader is connection or _feeds(connection, reader):
                reader.holds_up.add(connection)

    def apply(self, reader: Connection) -> None:
        """After bytes went out to `reader`, or did not: hold up those who feed it, or let them go on."""
        if reader.out_size > self._config.out_high:
            for sender in reader.holds_up:
                if reader not in sender.waits_for:
                    sender.waits_for.add(reader)
                    sender.watch()
        elif reader.out_size <= self._config.out_low:
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
        for reader in connection.waits_for:
            reader.holds_up.discard(connection)


def _feeds(sender: Connection, reader: Connection) -> bool:
    """Whether `reader` waits for a job that `sender` runs."""
    return any(reader.peer in job.watchers for job in sender.peer.holds.values())
