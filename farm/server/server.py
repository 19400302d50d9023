"""The server: turns of reading, deciding, storing and sending, in that order.

One turn: every ready socket is read and its whole packets go through the rules, which append what must happen; then the
changes go to the journal and the packets go out, in order; those that promise that something is kept wait for its
commit. If the journal fails, they are never sent and the server stops.
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
import time
from collections import deque
from collections.abc import Sequence
from logging import INFO, getLevelName, getLogger
from typing import Final

from farm.broker import dispatch, reports, restart
from farm.broker.broker import About, Broker
from farm.broker.dispatch import receive
from farm.broker.effects import Effects, Note
from farm.errors import PacketRefused, PacketTooLarge
from farm.loop import READ, WRITE, Loop, Timer
from farm.net import tune
from farm.protocol import packets
from farm.protocol.address import is_loopback
from farm.protocol.decoder import Decoder, Packet
from farm.protocol.limits import ARGUMENTS_MAX
from farm.protocol.names import shown
from farm.protocol.packets import FARM_ASK, TEXT, response
from farm.server.config import LISTED_MAX, TURN_S, ServerConfig
from farm.server.connection import Connection
from farm.server.door import Door
from farm.server.garbage import Backlog
from farm.server.heartbeat import Heartbeats
from farm.server.journal import Journal, Past
from farm.server.logs import NOTICE
from farm.server.pressure import Pressure
from farm.server.promises import Promises, Send
from farm.server.upkeep import Upkeep
from farm.server.watchdog import Watchdog
from farm.store.contract import Store, StoreError

log = getLogger("farm.server")

CLOCK_CHECK_S = 1.0  # how soon a wall clock that was set forward is noticed while jobs wait for their time
FLOOD_OVER = 0.9  # of the limit on connections: only with fewer, the next flood is a new one
CLOCK_EVERY: Final = 16  # packets of one connection between two looks at the clock: a packet takes some microseconds
LISTING: Final = frozenset((TEXT, FARM_ASK))  # the packets whose answers may be long, and take long


_NOT_STORED = response(packets.ERROR, b"QUEUE_ERROR", b"The job cannot be stored; the server stops")


class Server:
    """Sockets, the broker and the store of one server process. Nothing else touches the broker or the store."""

    def __init__(self, config: ServerConfig, store: Store, loop: Loop) -> None:
        self.config = config
        self.failure: StoreError | None = None
        self._store = store
        self._loop = loop
        self._journal = Journal(store, loop, self._keep_promises, self._fail)
        self._promises = Promises()
        self._broker = Broker(store.open(), config.rules)
        self._clocks_read_at = 0.0  # the turn in which they were
        self._read_clocks()
        heartbeat_ms = math.ceil(config.heartbeat_s * 1000)
        level = getLevelName(log.getEffectiveLevel())
        self._broker.about = About(os.getpid(), level, config.limits(), heartbeat_ms)
        self._broker.narrate = log.isEnabledFor(INFO)
        self._broker.history = Past(store, self._journal, lambda: self._broker.effects.changes)
        for known in store.known():
            restart.know(self._broker, known)
        broker, now = self._broker, loop.now
        for saved in store.load():
            restart.restore(broker, saved, now)
        restart.restored(broker, now)
        for name in self._broker.crons.strange:
            log.error(
                "cron entry %s in the store is not understood; it is left as it is, and does not run", shown(name)
            )
        self._later: deque[tuple[int, int, int, bytes]] = deque()  # (batch, peer's id, number, body)
        self._door = Door(config, loop, self._connect)
        self._connections: dict[int, Connection] = {}
        self._next_peer = 1
        self._limit = config.connection_limit()
        self._workers: list[Connection] = []  # of this turn, to be read from when all others were
        self._unfinished: dict[Connection, None] = {}  # those with packets that are still to be taken, in their order
        self._touched: dict[Connection, None] = {}  # to be looked after at the end of the turn
        self._pressure = Pressure(config, self._connections, loop)
        self._watchdog = Watchdog(config, loop, self._refuse)
        self._heartbeats = Heartbeats(config.heartbeat_s, loop, self._broker, self._connections, self._close)
        self._due: Timer | None = None  # for the broker's next deadline
        self._stop_timer: Timer | None = None
        self._draining = False
        self._backlog = Backlog()
        self._full = False  # said so: one line for each flood, not one for each connection
        loop.end_of_turn = self._end_turn
        self._upkeep = Upkeep(config, loop, self._broker, store, self._journal)

    # -- life

    def listen(self) -> list[str]:
        """Open every configured address; returns them as they turned out (port 0 has become a number)."""
        if note := self.config.connections_note():
            log.warning("--max-connections %d: %s", self.config.connections_max, note)
        return self._door.open()

    def stop(self) -> None:
        """First call: take nothing new, let running jobs end and their clients read, then leave, at the latest
        after `stop_grace_s`. Second call: leave at once."""
        if self._stop_timer:
            log.warning("stopping at once")
            self._loop.stop()
            return
        self._broker.stopping = True
        self._door.close()
        self._stop_timer = self._loop.call_in(self.config.stop_grace_s, self._stop_late)
        log.log(
            NOTICE,
            "stopping: waiting for %d running jobs; leaving in %gs at the latest",
            self._running(),
            self.config.stop_grace_s,
        )

    def _running(self) -> int:
        """How many jobs run that somebody wants. Background jobs too, though they are kept: one that is cut off runs
        again from its beginning, and what it had done already is done twice."""
        held = (job for peer in self._broker.peers.values() for job in peer.holds.values())
        return sum(job.background or bool(job.watchers) for job in held)

    def drain(self) -> None:
        """Listen no more, but serve those who are connected until the last job has ended: gearmand's SIGUSR1. Unlike
        there, jobs whose time has not come are not waited for: that may take days."""
        if not self._draining:
            self._draining = True
            self._door.close()
            log.log(NOTICE, "draining: no new connections; leaving when the last job has ended")

    def _stop_late(self) -> None:
        log.warning("stopping with work under way: its time is up")
        self._loop.stop()

    def _stopped(self) -> bool:
        """Whether no job runs any more that is wanted, and nobody waits for the rest of an answer."""
        if self._running():
            return False
        return not any(
            connection.out_size or connection.peer.id in self._promises for connection in self._connections.values()
        )

    def _drained(self) -> bool:
        """Whether the last job has ended, and none is among what has come."""
        return not self._broker.busy() and not self._unfinished

    def close(self) -> None:
        """Close every connection and the store; says what is lost with a store that does not last."""
        self._door.close()
        if self.failure:
            self._break_promises(Effects())
        for connection in list(self._connections.values()):
            connection.close()
        self._connections.clear()
        self._hand_back()
        try:
            self._journal.close()
        except StoreError as error:
            if not self.failure:
                self._fail(error)
        left = sum(1 for job in self._broker.jobs.values() if job.background or not self._store.waits)
        if left and self._store.waits and not self.failure:  # else nobody knows how many of them are
            log.log(NOTICE, "%d background jobs have not ended; they are kept", left)
        elif left and not self._store.waits:
            log.warning("%d jobs had not ended; the memory store does not keep them", left)
        self._store.close()

    def _hand_back(self) -> None:
        """What runs at the workers goes on at the next start, and nobody is to blame for that."""
        restart.hand_back(self._broker)
        changes, self._broker.effects.changes = self._broker.effects.changes, []
        if changes and not self.failure:
            self._journal.keep(changes)

    # -- connections

    def _connect(self, sock: socket.socket, where: object) -> None:
        try:
            sock.setblocking(False)
            tune(sock, self.config.keepalive_s)
        except OSError:  # it has gone again
            sock.close()
            return
        if len(self._connections) >= self._limit and not self._make_room():
            self._refuse_connection(sock)
            return
        address = str(where[0]) if isinstance(where, tuple) else "unix"
        peer = self._broker.connect(self._next_peer, sock.fileno(), address)
        peer.may_stop = address == "unix"
        peer.may_change = peer.may_stop or self.config.remote_admin or is_loopback(address)
        self._next_peer += 1
        decoder = Decoder(payload_max=self.config.max_job_size + ARGUMENTS_MAX, line_max=self.config.line_max)
        connection = Connection(sock, peer, self._loop, decoder)
        self._connections[peer.id] = connection
        connection.start(self._ready)
        self._watchdog.connected(connection)

    def _make_room(self) -> bool:
        """There is no place for a new connection: one that has never said anything may have to go."""
        mute = self._watchdog.in_the_way()
        if mute is not None:
            self._say_full("closing those that have never said anything")
            _send_full(mute.sock)
            self._close(mute)
        return mute is not None

    def _refuse_connection(self, sock: socket.socket) -> None:
        self._say_full("refusing more")
        _send_full(sock)
        sock.close()

    def _say_full(self, measure: str) -> None:
        """Once for each flood: a new one begins when the connections have become fewer again."""
        if not self._full:
            log.error("too many connections: %d are open; %s", self._limit, measure)
        self._full = True

    def _ready(self, connection: Connection, events: int) -> None:
        if events & READ:
            if connection.peer.can_do:
                self._workers.append(connection)
            else:
                self._receive(connection)
        if events & WRITE:
            connection.flush()
            self._touched[connection] = None

    def _receive(self, connection: Connection) -> None:
        chunk = connection.read()
        if chunk is None:
            self._lost(connection)
            return
        if not chunk or connection.closing:
            return
        now = connection.heard_at = self._loop.now
        connection.listed = 0
        decoder = connection.decoder
        decoded = decoder.feed(chunk)
        if connection.watched or decoder.inside_packet:
            self._watchdog.came(connection, bool(decoded))
        self._take(connection, decoded, now + TURN_S)

    def _take(self, connection: Connection, packets: list[Packet], until: float) -> None:
        """The first of these packets, and the others while there is time; what is left comes in a later turn."""
        broker, decoder, peer, now = self._broker, connection.decoder, connection.peer, self._loop.now
        if now != self._clocks_read_at:
            self._read_clocks()
        sends = broker.effects.sends
        before = len(sends)
        audiences = self._pressure.audiences_before(connection)
        if now >= self._upkeep.look_at:  # before anything is taken, for one job may be larger than what is left
            self._upkeep.look()
        position = 0
        for number, body in packets:
            position += 1
            if number in LISTING and connection.listed > LISTED_MAX:  # a single answer may be as long as it is
                too_much = PacketRefused(b"ARGUMENT_TOO_LARGE", b"More answers at once than can be held")
                dispatch.refuse(broker, peer, too_much)
                break
            told = len(sends)
            receive(broker, peer, number, body, now)
            if number in LISTING:
                connection.listed += sum(len(piece) for _, piece in sends[told:] if isinstance(piece, bytes))
            if (position % CLOCK_EVERY == 0 or number in LISTING) and time.monotonic() > until:
                break
        if position < len(packets) and not peer.refused:
            self._put_off(connection, packets[position:])
        elif decoder.failed:
            log.info("peer %d at %s: %s", peer.id, peer.address, decoder.failed)
            if isinstance(decoder.failed, PacketTooLarge):
                reports.fail_for_size(broker, peer, decoder.failed, now)
            dispatch.refuse(broker, peer, decoder.failed)
        sent = sends[before:]
        for id, _ in sent:
            if id == peer.id:
                break
        else:
            connection.acknowledge()
        self._pressure.hold_back(connection, audiences, sent)

    def _put_off(self, connection: Connection, packets: list[Packet]) -> None:
        connection.untaken = packets
        connection.watch()
        self._unfinished[connection] = None

    def _take_unfinished(self) -> None:
        """More of the connection that has waited longest. In the end of the turn, so that whoever sends little is
        served before, and only one, so that the turn has an end."""
        if not self._unfinished:
            return
        connection = next(iter(self._unfinished))
        del self._unfinished[connection]
        packets, connection.untaken = connection.untaken, []
        self._take(connection, packets, time.monotonic() + TURN_S)
        connection.watch()

    def _lost(self, connection: Connection) -> None:
        """The other side has closed. What it was sent before (the answer to `echo status | nc`) may still be read."""
        if not connection.closing and connection.decoder.inside_packet:
            cut = PacketRefused(b"INVALID_PACKET", b"Connection closed in the middle of a packet")
            self._refuse(connection, cut)
        connection.gone = True
        self._pressure.release(connection)
        self._forget(connection)
        self._touched[connection] = None

    def _refuse(self, connection: Connection, refused: PacketRefused) -> None:
        dispatch.refuse(self._broker, connection.peer, refused)

    def _forget(self, connection: Connection) -> None:
        """No packet of it counts any more; the rules hear of it once."""
        self._watchdog.forget(connection)
        self._unfinished.pop(connection, None)
        connection.untaken = []
        if connection.peer.id in self._broker.peers:
            self._broker.disconnect(connection.peer, self._loop.now)

    def _close(self, connection: Connection) -> None:
        self._forget(connection)
        self._pressure.forget(connection)
        if connection.end:
            connection.end.cancel()
        connection.close()
        self._connections.pop(connection.peer.id, None)
        self._promises.drop(connection.peer.id)
        self._door.has_room()
        if len(self._connections) < self._limit * FLOOD_OVER:
            self._full = False

    # -- the end of a turn

    def _receive_from_workers(self) -> None:
        """After everybody else, so that a worker that asks for a job finds those that came in the same turn, and need
        not be sent to sleep and woken for them."""
        workers, self._workers = self._workers, []
        for connection in workers:
            if connection.peer.id in self._connections:
                self._receive(connection)

    def _end_turn(self) -> None:
        self._receive_from_workers()
        self._take_unfinished()
        self._read_clocks()
        self._broker.tick(self._loop.now)
        self._put_again()
        if self._upkeep.has_too_much:
            self._upkeep.expire()
        while self._touched or self._broker.effects:  # closing a connection may be news for the rules
            effects, self._broker.effects = self._broker.effects, Effects()
            if effects.reads:
                self._read_payloads(effects)
            if effects.changes and not self.failure:
                self._journal.keep(effects.changes)
                self._upkeep.written()
            if not self.failure:
                self._send(effects)
            if self.failure:
                self._break_promises(effects)
                return
            if effects.shutdown == "now":
                self.stop()
            elif effects.shutdown:
                self.drain()
            for note in effects.notes:
                _log(note)
        self._defer()
        self._schedule_tick()
        self._backlog.look(len(self._broker.jobs), self._broker.memory + self._store.held)
        if (self._stop_timer and self._stopped()) or (self._draining and self._drained()):
            self._loop.stop()

    def _fail(self, error: StoreError) -> None:
        """Nobody may be told of what is not stored: leave without sending this turn."""
        log.critical("the store failed: %s; stopping", error)
        self.failure = error
        self._loop.stop()

    def _break_promises(self, effects: Effects) -> None:
        """The store has failed: who waits to hear that something is kept hears that it is not, where the system takes
        that at once. Of the turn's effects nothing else is sent."""
        self._deliver(self._promises.refuse(_NOT_STORED, effects.sends, effects.promises))
        for connection in self._touched:
            connection.flush()

    def _send(self, effects: Effects) -> None:
        batch = self._journal.written if self._journal.behind else 0
        self._deliver(self._promises.take(effects.sends, effects.promises, batch))
        touched, self._touched = self._touched, {}
        for connection in touched:
            connection.flush()
            if not connection.settled:
                self._after_write(connection)

    def _deliver(self, sends: Sequence[Send]) -> None:
        for id, packet in sends:
            connection = self._connections.get(id)
            if connection is None:
                continue
            self._touched[connection] = None
            if packet is None:
                self._begin_closing(connection)
            elif not connection.closing:
                assert not isinstance(packet, int)
                connection.queue(packet)

    def _keep_promises(self) -> None:
        """The journal has caught up with some of what it was given."""
        self._upkeep.committed()
        self._deliver(self._promises.release(self._journal.durable))

    def _defer(self) -> None:
        """Packets that cannot be answered yet wait for what has been decided so far to be durable."""
        if self._broker.later:
            later, self._broker.later = self._broker.later, []
            self._later.extend((self._journal.written, *packet) for packet in later)
            if not self._journal.behind:
                self._loop.call_in(0.0, lambda: None)  # another turn

    def _put_again(self) -> None:
        """Those for which that is so now, while there is time; but not of who does not read what it has asked for."""
        until = time.monotonic() + TURN_S
        for _ in range(len(self._later)):
            batch, id, number, body = self._later.popleft()
            connection = self._connections.get(id)
            if connection is None or id not in self._broker.peers:
                continue
            if batch > self._journal.durable or connection.out_size > self.config.out_high or time.monotonic() > until:
                self._later.append((batch, id, number, body))
            else:
                receive(self._broker, connection.peer, number, body, self._loop.now)

    def _read_payloads(self, effects: Effects) -> None:
        """Put the payloads that only the store has into what is sent: before this turn's changes are kept, for a job
        may be given to a worker and end in the same turn, and then its row goes."""
        try:
            effects.sends = [
                (id, self._journal.payload(piece, effects.changes) if isinstance(piece, int) else piece)
                for id, piece in effects.sends
            ]
        except StoreError as error:
            self._fail(error)

    def _begin_closing(self, connection: Connection) -> None:
        """Close it when everything is sent, or when it is not taken for so long that it never will be."""
        if not connection.closing:
            connection.closing = True
            self._end_in(self.config.stall_s, connection)

    def _after_write(self, connection: Connection) -> None:
        """Whatever follows from bytes that went out, or will not."""
        if connection.peer.id not in self._connections:
            return
        if connection.gone:
            self._forget(connection)
            if not connection.out_size and connection.peer.id not in self._promises:
                self._close(connection)
                return
            if not connection.end:
                self._end_in(self.config.stall_s, connection)
        elif connection.closing:
            self._forget(connection)
            if not connection.out_size:
                self._linger(connection)
        if self._pressure.apply(connection):
            connection.watch()
        else:
            peer = connection.peer
            log.warning("peer %d at %s: dropped, %d bytes behind", peer.id, peer.address, connection.out_size)
            self._close(connection)

    def _linger(self, connection: Connection) -> None:
        """Say that nothing more comes, and go on reading for a moment: closing with unread input resets the connection,
        and the reset would overtake the ERROR that was just sent."""
        if connection.lingers:
            return
        connection.lingers = True
        with contextlib.suppress(OSError):
            connection.sock.shutdown(socket.SHUT_WR)
        self._end_in(self.config.linger_s, connection)

    def _end_in(self, delay_s: float, connection: Connection) -> None:
        """Close it then, however it is. One that closes before takes its timer along, which would keep it, and all that
        has come of a packet, in memory for so long."""
        if connection.end:
            connection.end.cancel()
        connection.end = self._loop.call_in(delay_s, lambda: self._close(connection))

    def _read_clocks(self) -> None:
        """Before a packet is taken too: while nobody came the wall clock may have been set. One clock right after the
        other, for a turn can be long, or the process be stopped within it; the wall clock first, so that a stop between
        the two makes a delayed job late for this turn, and never early. Once at the first packet of a turn and once at
        its end."""
        self._clocks_read_at = self._loop.now
        self._broker.wall_offset = time.time() - time.monotonic()

    def _schedule_tick(self) -> None:
        self._heartbeats.schedule()
        deadline = self._loop.now if self._unfinished else self._broker.next_deadline()
        if (self._broker.delayed or self._broker.expiring or self._broker.crons.entries) and deadline is not None:
            deadline = min(deadline, self._loop.now + CLOCK_CHECK_S)
        if deadline is None or (self._due is not None and self._due.due <= deadline):
            return  # a turn that comes too early sets the next: cheaper than a new timer for every turn
        if self._due is not None:
            self._due.cancel()
        self._due = self._loop.call_at(deadline, self._ticked)

    def _ticked(self) -> None:
        self._due = None  # the turn's end does what is due


def _send_full(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.send(response(packets.ERROR, b"TOO_MANY_CONNECTIONS", b"The server has no room for more connections"))


def _log(note: Note) -> None:
    fields = {
        "job": note.handle.decode(),
        "function": shown(note.function),
        "event": note.event,
        "detail": note.detail,
    }
    log.info("%s", " ".join(fields.values()), extra={"fields": fields})
