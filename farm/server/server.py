"""The server: turns of reading, deciding, storing and sending, in that order.

One turn: every ready socket is read and its whole packets go through the rules, which append what must happen; then the
journal's changes are applied in one transaction; only then the packets go out, in order. If the journal fails, nothing
of the turn is sent and the server stops.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from logging import INFO, getLevelName, getLogger

from farm.broker import dispatch
from farm.broker.broker import About, Broker
from farm.broker.dispatch import receive
from farm.broker.effects import Effects, Note
from farm.errors import PacketRefused
from farm.loop import READ, WRITE, Loop, Timer
from farm.net import tune
from farm.protocol import packets
from farm.protocol.address import is_loopback
from farm.protocol.decoder import Decoder
from farm.protocol.limits import ARGUMENTS_MAX
from farm.protocol.names import shown
from farm.protocol.packets import TEXT, response
from farm.server.config import LISTED_MAX, ServerConfig
from farm.server.connection import Connection
from farm.server.listener import listen
from farm.server.logs import NOTICE
from farm.server.pressure import Pressure
from farm.server.watchdog import Watchdog
from farm.store.contract import Store, StoreError

log = getLogger("farm.server")

ACCEPT_BATCH = 64  # connections taken in one turn, so that a flood of them does not starve those that are open
CLOCK_CHECK_S = 1.0  # how soon a wall clock that was set forward is noticed while jobs wait for their time
FLOOD_OVER = 0.9  # of the limit on connections: only with fewer, the next flood is a new one
ACCEPT_PAUSE_S = 1.0  # when there is no descriptor left


class Server:
    """Sockets, the broker and the store of one server process. Nothing else touches the broker or the store."""

    def __init__(self, config: ServerConfig, store: Store, loop: Loop) -> None:
        self.config = config
        self.failure: StoreError | None = None
        self._store = store
        self._loop = loop
        self._broker = Broker(store.open(), config.rules)
        self._broker.wall_offset = time.time() - loop.now
        level = getLevelName(log.getEffectiveLevel())
        self._broker.about = About(os.getpid(), level, config.limits())
        self._broker.narrate = log.isEnabledFor(INFO)
        for saved in store.load():
            self._broker.restore(saved, loop.now)
        self._listeners: list[socket.socket] = []
        self._connections: dict[int, Connection] = {}
        self._next_peer = 1
        self._limit = config.connection_limit()
        self._workers: list[Connection] = []  # of this turn, to be read from when all others were
        self._touched: dict[Connection, None] = {}  # to be looked after at the end of the turn
        self._pressure = Pressure(config, self._connections, loop)
        self._watchdog = Watchdog(config, loop, self._refuse)
        self._due: Timer | None = None  # for the broker's next deadline
        self._stop_timer: Timer | None = None
        self._draining = False
        self._full = False  # said so: one line for each flood, not one for each connection
        loop.end_of_turn = self._end_turn

    # -- life

    def listen(self) -> list[str]:
        """Open every configured address; returns them as they turned out (port 0 has become a number)."""
        for address in self.config.listen:
            self._listeners += listen(address, self.config.insecure, self.config.backlog)
        for sock in self._listeners:
            self._loop.watch(sock.fileno(), READ, lambda events, sock=sock: self._accept(sock))  # type: ignore[misc]
        return [_name(sock) for sock in self._listeners]

    def stop(self) -> None:
        """First call: take nothing new, let running foreground jobs end and their clients read, then leave, at the
        latest after `stop_grace_s`. Second call: leave at once."""
        if self._stop_timer:
            log.warning("stopping at once")
            self._loop.stop()
            return
        self._broker.stopping = True
        self._stop_listening()
        self._stop_timer = self._loop.call_in(self.config.stop_grace_s, self._stop_late)
        log.log(
            NOTICE,
            "stopping: clients wait for %d running jobs; leaving in %gs at the latest",
            self._awaited(),
            self.config.stop_grace_s,
        )

    def _awaited(self) -> int:
        """How many jobs run for which a client waits."""
        return sum(bool(job.watchers) for peer in self._broker.peers.values() for job in peer.holds.values())

    def drain(self) -> None:
        """Listen no more, but serve those who are connected until the last job has ended: gearmand's SIGUSR1."""
        if not self._draining:
            self._draining = True
            self._stop_listening()
            log.log(NOTICE, "draining: no new connections; leaving when the last job has ended")

    def _stop_late(self) -> None:
        log.warning("stopping with work under way: its time is up")
        self._loop.stop()

    def _stop_listening(self) -> None:
        for sock in self._listeners:
            self._loop.watch(sock.fileno(), 0, lambda events: None)
            path = sock.getsockname() if sock.family == socket.AF_UNIX else ""
            sock.close()
            if path:
                with contextlib.suppress(OSError):
                    os.unlink(path)
        self._listeners.clear()

    def _stopped(self) -> bool:
        """Whether nobody waits any more for a running job or for the rest of an answer."""
        if self._awaited():
            return False
        return not any(connection.out_size for connection in self._connections.values())

    def close(self) -> None:
        """Close every connection and the store; says what is lost with a store that does not last."""
        self._stop_listening()
        for connection in list(self._connections.values()):
            connection.close()
        self._connections.clear()
        if left := len(self._broker.jobs):
            log.warning("%d jobs had not ended; the memory store does not keep them", left)
        self._store.close()

    # -- connections

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(ACCEPT_BATCH):
            try:
                sock, where = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                # No descriptor or memory left; or an error of the new connection, which Linux passes on here.
                self._pause_accepting(listener, error)
                return
            self._connect(sock, where)

    def _pause_accepting(self, listener: socket.socket, error: OSError) -> None:
        log.error("cannot accept a connection: %s; trying again in %gs", error.strerror, ACCEPT_PAUSE_S)
        self._loop.watch(listener.fileno(), 0, lambda events: None)

        def resume() -> None:
            if listener in self._listeners:
                self._loop.watch(listener.fileno(), READ, lambda events: self._accept(listener))

        self._loop.call_in(ACCEPT_PAUSE_S, resume)

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
        sends = self._broker.effects.sends
        before = len(sends)
        broker, decoder, peer, now = self._broker, connection.decoder, connection.peer, self._loop.now
        audiences = self._pressure.audiences_before(connection)
        listed = 0
        decoded = decoder.feed(chunk)
        for number, body in decoded:
            receive(broker, peer, number, body, now)
            if number == TEXT:
                listed += len(sends[-1][1] or b"")
                if listed > LISTED_MAX:
                    too_much = PacketRefused(b"ARGUMENT_TOO_LARGE", b"More answers at once than can be held")
                    dispatch.refuse(broker, peer, too_much)
                    break
        if decoder.failed:
            log.info("peer %d at %s: %s", peer.id, peer.address, decoder.failed)
            dispatch.refuse(broker, peer, decoder.failed)
        self._watchdog.came(connection, bool(decoded))
        sent = sends[before:]
        for id, _ in sent:
            if id == peer.id:
                break
        else:
            connection.acknowledge()
        self._pressure.hold_back(connection, audiences, sent)

    def _lost(self, connection: Connection) -> None:
        """The other side has closed. What it was sent before (the answer to `echo status | nc`) may still be read."""
        if not connection.closing and connection.decoder.inside_packet:
            cut = PacketRefused(b"INVALID_PACKET", b"Connection closed in the middle of a packet")
            self._refuse(connection, cut)
        connection.gone = True
        self._loop.call_in(self.config.stall_s, lambda: self._end_linger(connection))
        self._pressure.release(connection)
        self._forget(connection)
        self._touched[connection] = None

    def _refuse(self, connection: Connection, refused: PacketRefused) -> None:
        dispatch.refuse(self._broker, connection.peer, refused)

    def _forget(self, connection: Connection) -> None:
        """No packet of it counts any more; the rules hear of it once."""
        self._watchdog.forget(connection)
        if connection.peer.id in self._broker.peers:
            self._broker.disconnect(connection.peer, self._loop.now)

    def _close(self, connection: Connection) -> None:
        self._forget(connection)
        self._pressure.forget(connection)
        connection.close()
        self._connections.pop(connection.peer.id, None)
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
        self._broker.wall_offset = time.time() - self._loop.now
        self._broker.tick(self._loop.now)
        while self._touched or self._broker.effects:  # closing a connection may be news for the rules
            effects, self._broker.effects = self._broker.effects, Effects()
            try:
                if effects.changes:
                    self._store.apply(effects.changes)
            except StoreError as error:
                self._fail(error)
                return
            self._send(effects)
            if effects.shutdown == "now":
                self.stop()
            elif effects.shutdown:
                self.drain()
            for note in effects.notes:
                _log(note)
        self._schedule_tick()
        if (self._stop_timer and self._stopped()) or (self._draining and not self._broker.jobs):
            self._loop.stop()

    def _fail(self, error: StoreError) -> None:
        """Nobody may be told of what is not stored: leave without sending this turn."""
        log.critical("the store failed: %s; stopping", error)
        self.failure = error
        self._loop.stop()

    def _send(self, effects: Effects) -> None:
        touched, self._touched = self._touched, {}
        for id, packet in effects.sends:
            connection = self._connections.get(id)
            if connection is None:
                continue
            touched[connection] = None
            if packet is None:
                self._begin_closing(connection)
            elif not connection.closing:
                connection.queue(packet)
        for connection in touched:
            connection.flush()
            self._after_write(connection)

    def _begin_closing(self, connection: Connection) -> None:
        """Close it when everything is sent, or when it is not taken for so long that it never will be."""
        if not connection.closing:
            connection.closing = True
            self._loop.call_in(self.config.stall_s, lambda: self._end_linger(connection))

    def _after_write(self, connection: Connection) -> None:
        """Whatever follows from bytes that went out, or will not."""
        if connection.peer.id not in self._connections:
            return
        if connection.gone:
            self._forget(connection)
            if not connection.out_size:
                self._close(connection)
                return
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
        self._loop.call_in(self.config.linger_s, lambda: self._end_linger(connection))

    def _end_linger(self, connection: Connection) -> None:
        if connection.peer.id in self._connections:
            self._close(connection)

    def _schedule_tick(self) -> None:
        deadline = self._broker.next_deadline()
        if self._broker.delayed and deadline is not None:
            deadline = min(deadline, self._loop.now + CLOCK_CHECK_S)
        if self._due and (deadline is None or self._due.due != deadline):
            self._due.cancel()
            self._due = None
        if deadline is not None and not self._due:
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


def _name(sock: socket.socket) -> str:
    where = sock.getsockname()
    if isinstance(where, str):
        return f"unix:{where}"
    host, port = where[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
