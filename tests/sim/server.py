"""The simulated server: farm's decoder, rules, journal and promises, in the turns that farm/server/server.py makes of
them.

Whatever `_receive`, `_lost`, `_end_turn`, `_send` and `_keep_promises` there do about order, closing and ticks is done
here too, and nothing else; sockets, back-pressure and stalls are left out. It can die between any two effects.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from farm.broker import dispatch, restart
from farm.broker.broker import Broker
from farm.broker.effects import Effects, Finish, Forget
from farm.errors import PacketRefused
from farm.protocol.decoder import Decoder
from farm.server.journal import Past
from farm.server.promises import Promises, Send
from farm.server.server import CLOCK_CHECK_S
from farm.server.upkeep import DISK_CHECK_S
from farm.store.contract import StoreError
from farm.store.memory import MemoryJournal
from tests.sim.disk import COMMIT_KEPT, COMMIT_LOST, DISK_FAILS, SimJournal, SimStore
from tests.sim.ledger import read_sends, shown
from tests.sim.model import CLOSE, Out, Wrong
from tests.sim.wire import Link, Sink

if TYPE_CHECKING:
    from farm.broker.peer import Peer
    from tests.sim.world import World

OVERSLEPT_S = 0.03  # of a machine with other work to do; with a turn's length less than the ledger lets pass
BEFORE_KEEPING, BEFORE_SENDING, SENDING = "before anything is kept", "before anything is sent", "while sending"
BEFORE_PROMISES, SENDING_PROMISES = "before a kept promise is sent", "while promises are sent"
ENDING = "in good order while a commit is under way"
CRASH_POINTS = (
    BEFORE_KEEPING,
    BEFORE_SENDING,
    SENDING,
    COMMIT_LOST,
    COMMIT_KEPT,
    BEFORE_PROMISES,
    SENDING_PROMISES,
    DISK_FAILS,
    ENDING,
)


class CheckFailed(Exception):
    """broker.check() objects."""


class Door:
    """The server's side of one connection."""

    def __init__(self, server: SimServer, peer: Peer) -> None:
        self.peer = peer
        self.decoder = Decoder()
        self.told = Decoder(b"\0RES")  # of what is sent
        self.closing = False
        self.gone = False
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
        self.doom = ""  # one of CRASH_POINTS: die there the next time
        self._world = world
        self._ledger = world.ledger
        self._disk = MemoryJournal()
        self._disk.shard = world.rng.randrange(1 << 22)  # else it is the system's randomness
        self._life = 0

    def start(self) -> None:
        """A new life on the same journal."""
        self._life += 1
        self._store = SimStore(self._disk, self._world, self._world.waits)
        self.journal = SimJournal(self, self._store, self._world)
        self._promises = Promises()
        self._look_at_disk_at = 0.0
        self.broker = Broker(self._store.open(), self._world.rules)
        self._look_at_clock()
        self.broker.narrate = True
        self.broker.history = Past(self._store, self.journal, lambda: self.broker.effects.changes)
        for known in self._store.known():
            restart.know(self.broker, known)
        for saved in self._store.load():
            restart.restore(self.broker, saved, self._world.now)
        restart.restored(self.broker, self._world.now)
        self._later: deque[tuple[int, int, int, bytes]] = deque()  # (batch, peer's id, number, body)
        self._doors: dict[int, Door] = {}
        self._next_peer = 1
        self._touched: dict[Door, None] = {}
        self._turn_open = False
        self._due: float | None = None
        self.up = True
        self.doom = ""
        self._world.note("server starts", f"life {self._life}, {len(self.broker.jobs)} jobs restored")
        self._ledger.restarted(self.broker.jobs, self.broker.functions, self._world.now)
        self._open_turn()

    def _look_at_clock(self) -> None:
        self.broker.wall_offset = self._world.wall_offset
        self._ledger.clock(self._world.wall_offset)

    def stop(self) -> None:
        """The first SIGTERM: nothing new is taken, nothing more is given."""
        if self.up:
            self._world.note("server stops", "gracefully")
            self.broker.stopping = True
            self._ledger.book.stopping = True

    def end(self) -> None:
        """It leaves in good order: what is kept becomes durable; who waits for a promise hears nothing."""
        if self._turn_open:
            self._end_turn(self._life)
        if self.up:
            self._world.note("server ends", "")
            self._hand_back()
            self.journal.close()
            if not self._ledger.book.kept.settled:
                raise Wrong("not everything is durable after the journal was closed")
            self.die()

    def _hand_back(self) -> None:
        self._ledger.book.hand_back()
        restart.hand_back(self.broker)
        changes, self.broker.effects.changes = self.broker.effects.changes, []
        self._ledger.given(bool(changes))
        if changes:
            self.journal.keep(changes)

    def meet_doom(self) -> None:
        """Die where it was foretold."""
        self._ledger.book.saw(f"crash {self.doom}")
        self.die()

    def die(self) -> None:
        """kill -9: connections drop with whatever was on its way, memory is gone, the journal stays."""
        if not self.up:
            return
        self.up = False
        self._world.note("server dies", self.doom or "between turns")
        self.journal.die()
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
        peer.may_change = self._world.rng.random() < 0.9  # as from the server's own machine
        self._ledger.connected(peer.id, peer.may_change)
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
            self._put(door.peer, number, body, now)
        if refused := door.decoder.failed:
            self._ledger.broke(id, self._decide(lambda: dispatch.refuse(self.broker, door.peer, refused)), cut=False)
        self._open_turn()
        self._check()

    def _put(self, peer: Peer, number: int, body: bytes, now: float) -> None:
        """A packet to the rules, which may put it off."""
        later = len(self.broker.later)
        outs = self._decide(lambda: dispatch.receive(self.broker, peer, number, body, now))
        put_off = self.broker.later[later:]
        if put_off not in ([], [(peer.id, number, body)]):
            raise Wrong(f"{put_off} are put off because of {shown(peer.id, number, body)}")
        self._ledger.received(peer.id, number, body, outs, bool(put_off), now)

    def lost(self, door: Door) -> None:
        """The other side has closed."""
        id = door.peer.id
        self._world.note("lost", f"{id} {'inside a packet' if door.decoder.inside_packet else ''}")
        if not door.closing and door.decoder.inside_packet:
            cut = PacketRefused(b"INVALID_PACKET", b"Connection closed in the middle of a packet")
            self._ledger.broke(id, self._decide(lambda: dispatch.refuse(self.broker, door.peer, cut)), cut=True)
        door.gone = True
        self._forget(door)
        self._touched[door] = None
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
        self._promises.drop(door.peer.id)

    def _decide(self, rule: Callable[[], object]) -> list[Out]:
        """Call one rule; returns what it wants sent."""
        before = len(self.broker.effects.sends)
        rule()
        return read_sends(self.broker.effects.sends[before:], self._ledger.payload)

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
        before = len(self.broker.effects.changes)
        outs = self._decide(lambda: self.broker.tick(now))
        self._ledger.ticked(outs, self.broker.effects.changes[before:], now)
        self._put_again()
        self._ledger.asked(self.broker.busy())
        while self._touched or self.broker.effects:
            effects, self.broker.effects = self.broker.effects, Effects()
            if not self._carry_out(effects):
                self.meet_doom()
                return
        self._put_off()
        self._ledger.turn_ended(now)
        self._schedule_tick()
        self._check()
        if self.doom == ENDING and self.journal.behind:
            self._ledger.book.saw(f"crash {self.doom}")
            self.end()

    def _put_off(self) -> None:
        """Packets that cannot be answered yet wait for what has been decided so far to be durable."""
        later, self.broker.later = self.broker.later, []
        self._later.extend((self.journal.written, *packet) for packet in later)
        if later and not self.journal.behind:
            self._open_turn()

    def _put_again(self) -> None:
        """Those for which that is so now."""
        for _ in range(len(self._later)):
            batch, id, number, body = self._later.popleft()
            if batch > self.journal.durable:
                self._later.append((batch, id, number, body))
            elif id in self.broker.peers:
                self._world.note("put again", shown, id, number, body)
                self._ledger.put_again(id, number, body)
                self._put(self.broker.peers[id], number, body, self._world.now)

    def _carry_out(self, effects: Effects) -> bool:
        """Journal first, then wire. False: the server died on the way."""
        if self.doom == BEFORE_KEEPING:
            return False
        self._read_payloads(effects)
        self._keep(effects)
        if self.doom == BEFORE_SENDING:
            return False
        return self._send(effects)

    def _read_payloads(self, effects: Effects) -> None:
        if not effects.reads:
            return
        book = self._ledger.book
        book.saw("payload read from the store")
        ended = {change.id for change in effects.changes if isinstance(change, (Finish, Forget))}
        sends: list[Send] = []
        for id, piece in effects.sends:
            if isinstance(piece, int):
                if piece in ended:
                    book.saw("payload read though the job's end was decided")
                piece = self._payload(piece, effects)
            sends.append((id, piece))
        effects.sends = sends

    def _payload(self, id: int, effects: Effects) -> bytes:
        try:
            return self.journal.payload(id, effects.changes)
        except StoreError as error:
            raise Wrong(f"a payload cannot be read: {error}") from error

    def _keep(self, effects: Effects) -> None:
        self._ledger.given(bool(effects.changes))
        if effects.changes:
            self.journal.keep(effects.changes)
            if self._world.now >= self._look_at_disk_at:
                self._look_at_disk(self._life)

    def _look_at_disk(self, life: int) -> None:
        if life != self._life or not self.up:
            return
        self._look_at_disk_at = self._world.now + DISK_CHECK_S
        self.broker.no_room = self._store.low()
        self._ledger.book.no_room = bool(self.broker.no_room)
        if self.broker.no_room:
            self._world.later(DISK_CHECK_S, self._look_at_disk, life)

    def _send(self, effects: Effects) -> bool:
        batch = self.journal.written if self.journal.behind else 0
        if not self._deliver(self._promises.take(effects.sends, effects.promises, batch), SENDING):
            return False
        touched, self._touched = self._touched, {}
        for door in touched:
            if door.peer.id in self._doors and (door.closing or door.gone):
                self._forget(door)
                if door.closing or door.peer.id not in self._promises:
                    self._close(door)
        return True

    def _deliver(self, sends: Sequence[Send], doom: str) -> bool:
        """False: it died on the way."""
        stop_at = self._world.rng.randint(0, len(sends)) if self.doom == doom else -1
        for index, (id, packet) in enumerate(sends):
            if index == stop_at:
                return False
            door = self._doors.get(id)
            if door is None:
                continue
            self._touched[door] = None
            if packet is None:
                door.closing = True
                self._ledger.told(id, CLOSE, b"")
            elif not door.closing:
                assert isinstance(packet, bytes)
                self._write(door, packet)
        return stop_at != len(sends)

    def keep_promises(self) -> None:
        """The journal has caught up with some of what it was given."""
        sends = self._promises.release(self.journal.durable)
        if sends and (self.doom == BEFORE_PROMISES or not self._deliver(sends, SENDING_PROMISES)):
            self.meet_doom()
            return
        self._open_turn()
        self._check()

    def fail(self, error: StoreError) -> None:
        """Nothing more is kept, and so nothing more is said."""
        if error is not self.journal.broke:
            raise Wrong(f"the store fails: {error}")
        self.doom = DISK_FAILS  # also where all has grown quiet since
        self.meet_doom()

    def _write(self, door: Door, packet: bytes) -> None:
        assert door.link
        if not packet:
            raise Wrong("nothing is sent as a piece of a packet")  # a socket would take it for ever
        for number, body in door.told.feed(packet):
            self._ledger.told(door.peer.id, number, body)
            self._world.note("sent", shown, door.peer.id, number, body)
        door.link.to_end.write(packet)

    def _schedule_tick(self) -> None:
        deadline = self.broker.next_deadline()
        if (self.broker.delayed or self.broker.expiring or self.broker.crons.entries) and deadline is not None:
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
