"""The oracle: sees every packet that reaches the server, everything it decides to send, and what it stores; says Wrong.

It knows nothing of the broker's inside. It must stay slower and simpler than the broker: plain lists, no wake-ups, no
counters to go wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from farm.broker.broker import DEFAULT, WAKE_PATIENCE_S, Rules
from farm.broker.effects import Save
from farm.protocol import packets
from farm.protocol.decoder import Decoder
from farm.protocol.packets import RESPONSE
from tests.sim.book import Book
from tests.sim.model import CLOSE, Item, Out, Party, Wrong, age
from tests.sim.rules import RULES, error

# A woken worker counts as on its way for so long; the rest is the length of a turn.
ON_ITS_WAY_S = WAKE_PATIENCE_S + 0.02
LATE_S = 0.02


def read_sends(sends: Iterable[tuple[int, bytes | None]]) -> list[Out]:
    """Decided sends as whole packets: pieces joined, an ERROR reduced to its code."""
    outs: list[Out] = []
    decoders: dict[int, Decoder] = {}
    for id, piece in sends:
        if piece is None:
            outs.append((id, CLOSE, b""))
            continue
        decoder = decoders.setdefault(id, Decoder(RESPONSE))
        for number, body in decoder.feed(piece):
            outs.append((id, number, body.partition(b"\0")[0] if number == packets.ERROR else body))
        if decoder.failed:
            raise Wrong(f"the server sends what is no packet: {decoder.failed}")
    for id, decoder in decoders.items():
        if decoder.inside_packet:
            raise Wrong(f"the server sends {id} a part of a packet")
    return outs


class Ledger:
    """Judges one simulated server over all its lives. Every method raises Wrong."""

    def __init__(self, rules: Rules = DEFAULT) -> None:
        self.book = Book(rules)
        self._wall_offset = 0.0
        self._clock_set = True  # since the last tick
        self.acked: dict[bytes, None] = {}  # background jobs whose JOB_CREATED reached its client

    def clock(self, wall_offset: float) -> None:
        """The server looked at the wall clock."""
        if wall_offset != self._wall_offset:
            if any(item.delayed for item in self.book.jobs.values()):
                self.book.saw("clock set back" if wall_offset < self._wall_offset else "clock set forward")
            self._wall_offset = wall_offset
            self._clock_set = True

    def _look_at_clocks(self, now: float) -> None:
        self.book.now, self.book.wall = now, now + self._wall_offset

    # -- what goes in, with what the server decided because of it

    def connected(self, id: int) -> None:
        """The server accepted a connection."""
        self.book.parties[id] = Party(id)

    def received(self, id: int, number: int, body: bytes, outs: list[Out], now: float) -> None:
        """A whole packet or line reached the rules."""
        self._look_at_clocks(now)
        party = self.book.parties[id]
        if party.refused:
            expected: list[Out] = []
            self.book.saw("packet after a fatal one")
        elif number == packets.MISDIRECTED:
            expected = error(party, b"INVALID_MAGIC")
        elif number not in RULES:
            expected = error(party, b"INVALID_COMMAND")
        else:
            expected = RULES[number](self.book, party, number, body, outs)
        if self._compare(expected, outs, now) and number in _WAKING:
            self.book.saw(_WAKING[number])

    def broke(self, id: int, outs: list[Out], cut: bool) -> None:
        """The stream broke the protocol, or stopped (`cut`) inside a packet: one ERROR, and the connection closes."""
        if [(out[0], out[1]) for out in outs] != [(id, packets.ERROR), (id, CLOSE)]:
            raise Wrong(f"a broken stream was answered with {_listed(outs)}")
        self.book.parties[id].refused = True
        self.book.saw("stream stopped inside a packet" if cut else "broken stream refused")

    def disconnected(self, id: int, outs: list[Out], now: float) -> None:
        """The rules heard that a connection is gone."""
        book = self.book
        party = book.parties.pop(id)
        expected: list[Out] = []
        for item in list(party.watches.values()):
            expected += book.unwatch(item, party)[1]
        for item in reversed(list(party.holds.values())):
            expected += book.lose(item)
        if len(party.holds) > 1:
            book.saw("several jobs requeued at once")
        if self._compare(expected, outs, now):
            book.saw("another worker woken when one was lost")

    def ticked(self, outs: list[Out], now: float) -> None:
        """The rules were told the time."""
        book = self.book
        self._look_at_clocks(now)
        late = any(
            party.notified and now - party.notified_at > WAKE_PATIENCE_S - 1e-6 for party in book.parties.values()
        )
        due, expected = self._due(), self._expired()
        expired = bool(expected[0])
        woken = self._compare(expected[1], outs, now)
        if woken and due:
            book.saw("due job woke a sleeper")
        if woken and expired:
            book.saw("timed out, another worker woken")
        if woken and not due and not expired:
            book.saw("wake-up passed on after patience")
            if not late:
                raise Wrong("a worker was woken in place of one that still had time to come")

    def _due(self) -> list[Item]:
        """The delayed jobs whose time has come stand in line from now on."""
        book = self.book
        due = [item for item in book.jobs.values() if item.delayed and item.due <= book.wall]
        for item in sorted(due, key=lambda item: (item.due, age(item.handle))):
            if book.wall - item.due > LATE_S and not self._clock_set:
                raise Wrong(f"{item.handle!r} was due {book.wall - item.due:.3f} s ago")
            book.saw("delayed job became due")
            book.line_up(item)
        self._clock_set = False
        return due

    def _expired(self) -> tuple[list[Item], list[Out]]:
        """The jobs whose workers took too long, and what must be sent because of that."""
        book, outs = self.book, list[Out]()
        expired = [item for item in book.jobs.values() if item.expires and item.expires <= book.now]
        for item in sorted(expired, key=lambda item: (item.expires, age(item.handle))):
            if book.now - item.expires > LATE_S:
                raise Wrong(f"the time for {item.handle!r} was up {book.now - item.expires:.3f} s ago")
            outs += book.expire(item)
        return expired, outs

    def _compare(self, expected: list[Out], outs: list[Out], now: float) -> int:
        """Each connection must be sent exactly this, in this order. Returns how many sleepers were woken besides."""
        parties = self.book.parties
        rest = [out for out in outs if out[0] in parties and not (out[1] == packets.NOOP and self._wakes(out[0], now))]
        wanted = [out for out in expected if out[0] in parties]
        rest.sort(key=_receiver)  # stable: the order of one connection's packets stays
        wanted.sort(key=_receiver)
        if rest != wanted:
            raise Wrong(f"expected {_listed(wanted)}, decided {_listed(rest)}")
        return sum(out[0] in parties for out in outs) - len(wanted)

    def _wakes(self, id: int, now: float) -> bool:
        """Whether a NOOP to this connection wakes a sleeper, once in a sleep, for a job that it can do."""
        party = self.book.parties[id]
        if not party.asleep or party.notified or self.book.best_priority(party) is None:
            return False
        party.notified = True
        party.notified_at = now
        return True

    def turn_ended(self, now: float) -> None:
        """While a worker sleeps and was sent nothing, another is on its way for each job that it could do."""
        book = self.book
        if book.stopping:
            return
        waiting = Counter(item.function for item in book.waiting())
        sleepers = [party for party in book.parties.values() if party.asleep]
        for function, jobs in waiting.items():
            able = [party for party in sleepers if function in party.abilities]
            coming = sum(party.notified and now - party.notified_at <= ON_ITS_WAY_S for party in able)
            if coming < jobs and not all(party.notified for party in able):
                raise Wrong(f"{jobs} jobs of {function!r} wait, {coming} workers are on their way, and one sleeps on")

    # -- storing and telling

    def committed(self, journal: dict[int, Save]) -> None:
        """The turn's changes are stored: what is promised must be in the journal, and nothing else."""
        book = self.book
        if not book.dirty and len(journal) == len(book.durable):
            return
        book.dirty = False
        for handle in book.ending:
            book.finished[handle] = None
        book.ending.clear()
        book.durable = {handle: item for handle, item in book.jobs.items() if item.background}
        stored = sorted(tuple(save[1:7]) for save in journal.values())
        wanted = sorted(
            (item.function, item.unique, item.priority, item.payload, item.reducer, item.due)
            for item in book.durable.values()
        )
        if stored != wanted:
            raise Wrong(f"the journal holds {len(stored)} jobs and should hold {list(book.durable)}")

    def told(self, number: int, body: bytes) -> None:
        """A packet leaves the server: a promise must not leave before it is kept."""
        book = self.book
        if number != packets.JOB_CREATED or body in book.durable or body in book.finished:
            return
        item = book.jobs.get(body)
        if item is not None and item.background:
            raise Wrong(f"{body!r} was acknowledged before it was stored")

    def restarted(self, handles: Iterable[bytes], now: float) -> None:
        """A new life on the same journal: exactly the promised jobs are there, oldest first."""
        book = self.book
        durable = [book.durable[handle].afresh() for handle in sorted(book.durable, key=age)]
        book.forget()
        self._look_at_clocks(now)
        self._clock_set = True
        for item in durable:
            book.saw("restored after a restart")
            book.jobs[item.handle] = item
            book.functions[item.function] = None
            if item.key is not None:
                book.joinable.setdefault(item.key, item)
            book.line_up(item)
            if item.delayed:
                book.saw("delayed job restored after a restart")
        if sorted(handles) != sorted(book.jobs):
            raise Wrong(f"restored {sorted(handles)} instead of {sorted(book.jobs)}")

    # -- the end

    def backlog(self, deaf: list[int]) -> list[Item]:
        """Jobs that run, or that wait although a worker who is not among the `deaf` can do them."""
        able = {
            function: None
            for party in self.book.parties.values()
            if party.id not in deaf
            for function in party.abilities
        }
        running = [item for item in self.book.jobs.values() if item.holder is not None]
        return running + [item for item in self.book.waiting() if item.function in able]

    def closed(self) -> None:
        """Everything has drained: nothing acknowledged may be missing."""
        book = self.book
        if book.jobs or book.durable:
            raise Wrong(f"left over at the end: {list(book.jobs) or list(book.durable)}")
        lost = [handle for handle in self.acked if handle not in book.finished]
        if lost:
            raise Wrong(f"acknowledged and never run to an end: {lost}")


_PASSED_ON = "wake-up passed on by a worker that came"
_WAKING = {
    packets.CAN_DO: "woken by CAN_DO while asleep",
    packets.CAN_DO_TIMEOUT: "woken by CAN_DO while asleep",
    packets.CANT_DO: "wake-up passed on by CANT_DO",
    packets.RESET_ABILITIES: "wake-up passed on by CANT_DO",
    packets.PRE_SLEEP: "wake-up passed on by PRE_SLEEP",
    packets.GRAB_JOB: _PASSED_ON,
    packets.GRAB_JOB_UNIQ: _PASSED_ON,
    packets.GRAB_JOB_ALL: _PASSED_ON,
}


def _receiver(out: Out) -> int:
    return out[0]


def _listed(outs: list[Out]) -> str:
    return ", ".join(shown(id, number, body) for id, number, body in outs) or "nothing"


def shown(id: int, number: int, body: bytes) -> str:
    """One packet for the trace; a long body is cut."""
    name = {CLOSE: "close", packets.TEXT: "line", packets.MISDIRECTED: "misdirected"}.get(number)
    name = name or packets.KINDS[number].name
    return f"{id} {name} {body[:40]!r}" if body else f"{id} {name}"
