"""Back-pressure: who is not read from while somebody else does not read.

When a reader is further behind than `out_high`, the connections whose output it should read are not read from until it
has caught up to `out_low`. So a client that does not read holds up its own job's worker, and the server does not grow.

Where several watch one job, one that does not read at all must not starve the others: after `out_stall_s` they are no
longer held up for it, and when it is further behind than `out_max` it is dropped, for nothing else would bound what is
kept for it. Who is merely slow is always waited for; so is a reader that speaks farm's extension (it may be a pipe into
a pager), and one that is alone.

It must not know what a packet means.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from farm.protocol.limits import JOIN_MAX

if TYPE_CHECKING:
    from collections.abc import Sequence

    from farm.broker.peer import Peer
    from farm.loop import Loop, Timer
    from farm.server.config import ServerConfig
    from farm.server.connection import Audience, Connection
    from farm.server.promises import Send

FEW: Final = 4  # small packets: they alone, some 64 KB, cannot put a reader behind that has read everything


def audiences(peer: Peer) -> list[Audience]:
    """Who waits for each of the jobs that a worker runs."""
    return [tuple(job.watchers) for job in peer.holds.values()]


class Pressure:
    """The rules about it, over all connections of a server."""

    def __init__(self, config: ServerConfig, connections: dict[int, Connection], loop: Loop) -> None:
        self._config = config
        self._connections = connections
        self._loop = loop
        self._late: set[Connection] = set()  # readers that are too far behind
        self._unread: set[int] = set()  # peers' ids of those that have not read everything
        self._held: set[Connection] = set()
        self._timer: Timer | None = None  # while anybody is held, for those whom it is held for may read no more

    def audiences_before(self, sender: Connection) -> list[Audience]:
        """For `hold_back`; empty when nobody at all is too far behind."""
        return audiences(sender.peer) if self._late else []

    def hold_back(self, sender: Connection, before: list[Audience], sends: Sequence[Send]) -> None:
        """Stop reading from a connection while a reader of what it sends is too far behind (checked after the turn).

        before: who waited for its jobs before this turn. One result may wait for its reader while the worker goes on
        to the next job; for a reader that was too far behind before, the worker waits, or results pile up.
        """
        sent_to = self._at_risk(sends)
        if not sent_to:
            return
        feeds: dict[int, tuple[Audience, ...]] = {}
        for audience in audiences(sender.peer):
            for peer in audience:
                feeds[peer.id] = (*feeds.get(peer.id, ()), audience)
        for id in sent_to:
            reader = self._connections.get(id)
            if reader is None:
                continue
            found = feeds.get(id, ())
            if not found and reader.out_size > self._config.out_high:
                found = tuple(audience for audience in before if reader.peer in audience)
            if found or reader is sender:
                reader.holds_up[sender] = found

    def _at_risk(self, sends: Sequence[Send]) -> set[int]:
        """Who may be too far behind once this is sent: not who has read everything and is sent little."""
        if len(sends) > FEW:
            return {id for id, _ in sends}
        found: set[int] = set()
        for id, packet in sends:
            size = JOIN_MAX + 1 if isinstance(packet, int) else len(packet or b"")  # a payload that is still to be read
            if size > JOIN_MAX or id in self._unread:
                found.add(id)
        return found

    def apply(self, reader: Connection) -> bool:
        """After bytes went out to `reader`, or did not: hold up those who feed it, or let them go on. False: it has to
        be dropped, because somebody feeds it who cannot be held up for it."""
        if reader.out_size:
            self._unread.add(reader.peer.id)
        elif self._unread:
            self._unread.discard(reader.peer.id)
        if reader.out_size > self._config.out_high:
            self._late.add(reader)
            for sender, found in reader.holds_up.items():
                sender.waits_for[reader] = found
                self._update(sender)
            if reader.late > self._config.out_max:
                return all(sender.held for sender in reader.holds_up)
            return True
        if self._late:
            self._late.discard(reader)
        if reader.holds_up and reader.out_size <= self._config.out_low:
            self.release(reader)
        return True

    def release(self, reader: Connection) -> None:
        """Nobody waits for `reader` any more."""
        for sender in reader.holds_up:
            if reader in sender.waits_for:
                del sender.waits_for[reader]
                self._update(sender)
        reader.holds_up.clear()

    def forget(self, connection: Connection) -> None:
        """It closes: it holds nobody up, and waits for nobody."""
        self.release(connection)
        self._late.discard(connection)
        self._unread.discard(connection.peer.id)
        self._held.discard(connection)
        for reader in connection.waits_for:
            reader.holds_up.pop(connection, None)

    def _update(self, sender: Connection) -> None:
        held = any(self._must_wait(sender, reader, found) for reader, found in sender.waits_for.items())
        if held == sender.held or sender.sock.fileno() < 0:
            return
        sender.held = held
        sender.watch()
        if not held:
            self._held.discard(sender)
            return
        self._held.add(sender)
        if not self._timer:
            self._timer = self._loop.call_in(self._config.out_stall_s, self._look_again)

    def _look_again(self) -> None:
        self._timer = None
        for sender in list(self._held):
            self._update(sender)
        if self._held and not self._timer:
            self._timer = self._loop.call_in(self._config.out_stall_s, self._look_again)

    def _must_wait(self, sender: Connection, reader: Connection, found: tuple[Audience, ...]) -> bool:
        """Whether `sender` must wait for this reader, who is too far behind, or may go on for others who keep up."""
        if reader is sender or reader.peer.extension:
            return True
        if reader.blocked_since > self._loop.now - self._config.out_stall_s:
            return True
        return any(all(self._behind(sender, peer) for peer in audience) for audience in found)

    def _behind(self, sender: Connection, peer: Peer) -> bool:
        connection = self._connections.get(peer.id)
        return connection is None or connection in sender.waits_for
