"""The simulated server: farm's decoder, rules and memory store, in the turns that farm/server/server.py makes of them.

Whatever `_receive`, `_lost`, `_end_turn` and `_send` there do about order, closing and ticks is done here too, and
nothing else; sockets, back-pressure and stalls are left out. It can die between any two steps of a turn's end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from farm.broker import dispatch
from farm.broker.broker import Broker
from farm.broker.effects import Effects
from farm.errors import PacketRefused
from farm.protocol.decoder import Decoder
from farm.server.server import CLOCK_CHECK_S
from farm.store.memory import MemoryJournal, MemoryStore
from tests.sim.ledger import read_sends, shown
from tests.sim.model import Out
from tests.sim.wire import Link, Sink

if TYPE_CHECKING:
    from farm.broker.peer import Peer
    from tests.sim.world import World

OVERSLEPT_S = 0.03  # of a machine with other work to do; with a turn's length less than the ledger lets pass
CRASH_POINTS = ("before the commit", "after the commit", "while sending")


class CheckFailed(Exception):
    """broker.check() objects."""


class Door:
    """The server's side of one connection."""

    def __init__(self, server: SimServer, peer: Peer) -> None:
        self.peer = peer
        self.decoder = Decoder()
        self.closing = False
        self.link: Link | None = None
        self._server = server

    def chunk(self, data: bytes) -> None:
        """See Sink."""
        self._server.receive(self, data)

    def eof(self) -> None:
        """See Sink."""
        self._server.lost(self)


class SimServer:
    """One server, over all its lives. `up` is False between two of them."""

    def __init__(self, world: World) -> None:
        self.up = False
        self.doom = ""  # one of CRASH_POINTS: die there at the end of the next turn that has something to do
        self._world = world
        self._ledger = world.ledger
        self._journal = MemoryJournal()
        self._journal.shard = world.rng.randrange(1 << 31)  # else it is the system's randomness
        self._life = 0

    def start(self) -> None:
        """A new life on the same journal."""
        self._life += 1
        self._store = MemoryStore(self._journal)
        self.broker = Broker(self._store.open(), self._world.rules)
        self._look_at_clock()
        self.broker.narrate = True
        for saved in self._store.load():
            self.broker.restore(saved, self._world.now)
        self._doors: dict[int, Door] = {}
        self._next_peer = 1
        self._touched: dict[Door, None] = {}
        self._turn_open = False
        self._due: float | None = None
        self.up = True
        self.doom = ""
        self._world.note("server starts", f"life {self._life}, {len(self.broker.jobs)} jobs restored")
        self._ledger.restarted(self.broker.jobs, self._world.now)

    def _look_at_clock(self) -> None:
        self.broker.wall_offset = self._world.wall_offset
        self._ledger.clock(self._world.wall_offset)

    def stop(self) -> None:
        """The first SIGTERM: nothing new is taken, nothing more is given."""
        if self.up:
            self._world.note("server stops", "gracefully")
            self.broker.stopping = True
            self._ledger.book.stopping = True

    def die(self) -> None:
        """kill -9: connections drop with whatever was on its way, memory is gone, the journal stays."""
        if not self.up:
            return
        self.up = False
        self._world.note("server dies", self.doom or "between turns")
        for door in self._doors.values():
            assert door.link
            door.link.close_by_server(cut=True)
        self._store.close()
        self._world.later(self._world.rng.uniform(0.05, 1.0), self.start)

    def open(self, end: Sink) -> Link | None:
        """Accept a connection; None: the server is down, or takes no more."""
        if not self.up or self.broker.stopping:
            return None
        peer = self.broker.connect(self._next_peer, 100 + self._next_peer, "127.0.0.1")
        self._next_peer += 1
        self._ledger.connected(peer.id)
        door = self._doors[peer.id] = Door(self, peer)
        door.link = Link(self._world, peer.id, end, door)
        return door.link

    # -- what comes in

    def receive(self, door: Door, data: bytes) -> None:
        """A chunk of bytes: every packet that became whole goes through the rules."""
        if door.closing:
            return
        id, now = door.peer.id, self._world.now
        for number, body in door.decoder.feed(data):
            self._world.note("received", shown, id, number, body)
            outs = self._decide(lambda n=number, b=body: dispatch.receive(self.broker, door.peer, n, b, now))  # type: ignore[misc]
            self._ledger.received(id, number, body, outs, now)
        if refused := door.decoder.failed:
            self._ledger.broke(id, self._decide(lambda: dispatch.refuse(self.broker, door.peer, refused)), cut=False)
        self._open_turn()
        self._check()

    def lost(self, door: Door) -> None:
        """The other side has closed."""
        id = door.peer.id
        self._world.note("lost", f"{id} {'inside a packet' if door.decoder.inside_packet else ''}")
        if not door.closing and door.decoder.inside_packet:
            cut = PacketRefused(b"INVALID_PACKET", b"Connection closed in the middle of a packet")
            self._ledger.broke(id, self._decide(lambda: dispatch.refuse(self.broker, door.peer, cut)), cut=True)
        self._forget(door)
        self._close(door)
        self._open_turn()
        self._check()

    def _forget(self, door: Door) -> None:
        if door.peer.id in self.broker.peers:
            outs = self._decide(lambda: self.broker.disconnect(door.peer, self._world.now))
            self._ledger.disconnected(door.peer.id, outs, self._world.now)

    def _close(self, door: Door) -> None:
        assert door.link
        self._doors.pop(door.peer.id, None)
        door.link.close_by_server(cut=False)

    def _decide(self, rule: Callable[[], object]) -> list[Out]:
        """Call one rule; returns what it wants sent."""
        before = len(self.broker.effects.sends)
        rule()
        return read_sends(self.broker.effects.sends[before:])

    # -- the end of a turn

    def _open_turn(self) -> None:
        """What else arrives until the turn ends is decided in the same turn and committed with it."""
        if not self._turn_open:
            self._turn_open = True
            rng = self._world.rng
            self._world.later(0.0 if rng.random() < 0.5 else rng.uniform(0, 0.004), self._end_turn, self._life)

    def _end_turn(self, life: int) -> None:
        if life != self._life or not self.up:
            return
        self._turn_open = False
        now = self._world.now
        self._look_at_clock()
        self._ledger.ticked(self._decide(lambda: self.broker.tick(now)), now)
        self._ledger.asked(self.broker.busy())
        while self._touched or self.broker.effects:
            effects, self.broker.effects = self.broker.effects, Effects()
            if not self._carry_out(effects):
                self._world.ledger.book.saw(f"crash {self.doom}")
                self.die()
                return
        self._ledger.turn_ended(now)
        self._schedule_tick()
        self._check()

    def _carry_out(self, effects: Effects) -> bool:
        """Disk first, then wire. False: the server died on the way."""
        return self._commit(effects) and self._deliver(effects)

    def _commit(self, effects: Effects) -> bool:
        if self.doom == "before the commit":
            return False
        if effects.changes:
            self._store.apply(effects.changes)
        self._ledger.committed(self._journal.jobs)
        return self.doom != "after the commit"

    def _deliver(self, effects: Effects) -> bool:
        stop_at = self._world.rng.randint(0, len(effects.sends)) if self.doom else -1
        touched, self._touched = self._touched, {}
        for index, (id, packet) in enumerate(effects.sends):
            if index == stop_at:
                return False
            door = self._doors.get(id)
            if door is None:
                continue
            touched[door] = None
            if packet is None:
                door.closing = True
            elif not door.closing:
                self._send(door, packet)
        for door in touched:
            if door.closing and door.peer.id in self._doors:
                self._forget(door)
                self._close(door)
        return not self.doom

    def _send(self, door: Door, packet: bytes) -> None:
        assert door.link
        for id, number, body in _heads(door.peer.id, packet):
            self._ledger.told(number, body)
            self._world.note("sent", shown, id, number, body)
        door.link.to_end.write(packet)

    def _schedule_tick(self) -> None:
        deadline = self.broker.next_deadline()
        if self.broker.delayed and deadline is not None:
            deadline = min(deadline, self._world.now + CLOCK_CHECK_S)
        if deadline is not None and (self._due is None or deadline < self._due):
            self._due = deadline
            rng = self._world.rng
            overslept_s = 0.0 if rng.random() < 0.5 else rng.uniform(0, OVERSLEPT_S)
            self._world.later(max(0.0, deadline - self._world.now) + overslept_s, self._ticked, self._life)

    def _ticked(self, life: int) -> None:
        if life == self._life and self.up:
            self._due = None
            self._end_turn(life)

    def _check(self) -> None:
        if self._world.check and self.up:
            try:
                self.broker.check()
            except AssertionError as error:
                raise CheckFailed(str(error)) from error


def _heads(id: int, piece: bytes) -> list[Out]:
    """The packets that are whole in one piece; the parts of a large one are left out."""
    decoder = Decoder(b"\0RES")
    return [(id, number, body) for number, body in decoder.feed(piece)] if piece[:4] == b"\0RES" else []
