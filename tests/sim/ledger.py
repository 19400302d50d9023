"""The oracle: sees every packet that reaches the server, everything it decides to send, and what it stores; says Wrong.

It knows nothing of the broker's inside. It must stay slower and simpler than the broker: plain lists, no wake-ups, no
counters to go wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable

from farm.broker.broker import DEFAULT, WAKE_PATIENCE_S, Rules
from farm.protocol import packets
from farm.protocol.decoder import Decoder
from farm.protocol.packets import RESPONSE
from farm.server.promises import Send
from tests.sim.book import Book
from tests.sim.kept import handle_of
from tests.sim.model import CLOSE, SUBMITS, Item, Out, Owed, Party, Wrong, age
from tests.sim.rules import RULES, error

LATE_S = 0.04  # how late the server may look at its clocks
ON_ITS_WAY_S = WAKE_PATIENCE_S + LATE_S  # so long a woken worker counts as on its way


def read_sends(sends: Iterable[Send], payload: Callable[[int], bytes]) -> list[Out]:
    """Decided sends as whole packets: pieces joined, payloads of stored jobs put in, an ERROR reduced to its code."""
    outs: list[Out] = []
    decoders: dict[int, Decoder] = {}
    for id, piece in sends:
        if piece is None:
            outs.append((id, CLOSE, b""))
            continue
        decoder = decoders.setdefault(id, Decoder(RESPONSE))
        for number, body in decoder.feed(payload(piece) if isinstance(piece, int) else piece):
            outs.append((id, number, heard(number, body)))
        if decoder.failed:
            raise Wrong(f"the server sends what is no packet: {decoder.failed}")
    for id, decoder in decoders.items():
        if decoder.inside_packet:
            raise Wrong(f"the server sends {id} a part of a packet")
    return outs


def heard(number: int, body: bytes) -> bytes:
    """What is compared of a packet: of an ERROR only the code."""
    return body.partition(b"\0")[0] if number == packets.ERROR else body


class Ledger:
    """Judges one simulated server over all its lives. Every method raises Wrong."""

    def __init__(self, rules: Rules = DEFAULT) -> None:
        self.book = Book(rules)
        self._wall_offset = 0.0
        self._clock_set = True  # since the last tick
        self.acked: dict[bytes, None] = {}  # background jobs whose JOB_CREATED reached its client
        self.sealed: dict[bytes, None] = {}  # jobs whose worker was told by an ECHO_RES that their end is durable
        self._unfinished: list[Owed] = []  # decided in this turn

    def clock(self, wall_offset: float) -> None:
        """The server looked at the wall clock."""
        if wall_offset != self._wall_offset:
            if any(item.delayed for item in self.book.jobs.values()):
                self.book.saw("clock set back" if wall_offset < self._wall_offset else "clock set forward")
            self._wall_offset = wall_offset
            self._clock_set = True

    def _look_at_clocks(self, now: float) -> None:
        self.book.now, self.book.wall, self.book.wall_offset = now, now + self._wall_offset, self._wall_offset

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
        if self._compare(expected, outs, now, _promise(party, number)) and number in _WAKING:
            self.book.saw(_WAKING[number])

    def broke(self, id: int, outs: list[Out], cut: bool) -> None:
        """The stream broke the protocol, or stopped (`cut`) inside a packet: one ERROR, and the connection closes."""
        if [(out[0], out[1]) for out in outs] != [(id, packets.ERROR), (id, CLOSE)]:
            raise Wrong(f"a broken stream was answered with {_listed(outs)}")
        self._owe(outs)
        self.book.parties[id].refused = True
        self.book.saw("stream stopped inside a packet" if cut else "broken stream refused")

    def disconnected(self, id: int, outs: list[Out], now: float) -> None:
        """The rules heard that a connection is gone."""
        book = self.book
        self._look_at_clocks(now)
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

    def asked(self, busy: bool) -> None:
        """The rules were asked whether there is anything to wait for before the server leaves."""
        if busy != any(not item.delayed for item in self.book.jobs.values()):
            raise Wrong("the server would wait for jobs of later" if busy else "the server would not wait for its jobs")

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
        # Those that stood in one line stand there in the same order again: the last one is put in front first.
        for item in sorted(expired, key=lambda item: (item.expires, age(item.handle)), reverse=True):
            if book.now - item.expires > LATE_S:
                raise Wrong(f"the time for {item.handle!r} was up {book.now - item.expires:.3f} s ago")
            outs += book.expire(item)
        if len(expired) > 1:
            book.saw("several jobs timed out at once")
        return expired, outs

    def _compare(self, expected: list[Out], outs: list[Out], now: float, promise: tuple[int, int] | None = None) -> int:
        """Each connection must be sent exactly this, in this order. Returns how many sleepers were woken besides.
        promise: (connection, packet number) of what must wait until all changes up to now are durable."""
        parties = self.book.parties
        self._owe(outs, promise)
        rest = [out for out in outs if out[0] in parties and not (out[1] == packets.NOOP and self._wakes(out[0], now))]
        wanted = [out for out in expected if out[0] in parties]
        rest.sort(key=_receiver)  # stable: the order of one connection's packets stays
        wanted.sort(key=_receiver)
        if rest != wanted:
            raise Wrong(f"expected {_listed(wanted)}, decided {_listed(rest)}")
        return sum(out[0] in parties for out in outs) - len(wanted)

    def _owe(self, outs: list[Out], promise: tuple[int, int] | None = None) -> None:
        kept = self.book.kept
        for id, number, body in outs:
            party = self.book.parties.get(id)
            if party is not None:
                promised = (id, number) == promise
                owed = Owed(number, body, kept.latest if promised else 0, None if promised else 0)
                party.owed.append(owed)
                if promised:
                    self._unfinished.append(owed)

    def _wakes(self, id: int, now: float) -> bool:
        """Whether a NOOP to this connection wakes a sleeper, once in a sleep, for a job that it can do."""
        party = self.book.parties[id]
        if self.book.stopping or not party.asleep or party.notified or self.book.best_priority(party) is None:
            return False
        party.notified = True
        party.notified_at = now
        return True

    def turn_ended(self, now: float) -> None:
        """While a worker sleeps and was sent nothing, another is on its way for each job that it could do."""
        book = self.book
        self._nothing_lies_about()
        if book.stopping:
            return
        waiting = Counter(item.function for item in book.waiting())
        sleepers = [party for party in book.parties.values() if party.asleep]
        for function, jobs in waiting.items():
            able = [party for party in sleepers if function in party.abilities]
            if book.rules.wake_all and not all(party.notified for party in able):
                raise Wrong(f"a job of {function!r} waits, all sleepers are to be woken, and one sleeps on")
            coming = sum(party.notified and now - party.notified_at <= ON_ITS_WAY_S for party in able)
            if coming < jobs and not all(party.notified for party in able):
                raise Wrong(f"{jobs} jobs of {function!r} wait, {coming} workers are on their way, and one sleeps on")

    # -- storing and telling

    def payload(self, id: int) -> bytes:
        """Of a job that is given to a worker, whom only the store can tell."""
        item = self.book.jobs.get(handle_of(id))
        if item is None:
            raise Wrong(f"the payload of job {id} is sent, which is none")
        return item.payload

    def given(self, changes: bool) -> None:
        """The server has given the turn's changes to its journal, if there were any."""
        kept = self.book.kept
        kept.given(changes)
        for owed in self._unfinished:
            owed.waits_for = kept.written
        self._unfinished.clear()

    def told(self, id: int, number: int, body: bytes) -> None:
        """A packet leaves the server: in its order, and a promise not before it is kept."""
        book = self.book
        party = book.parties.get(id)
        if party is None or party.closed:
            return
        if not party.owed:
            raise Wrong(f"{shown(id, number, body)} is sent, and nothing was decided")
        owed = party.owed.popleft()
        if (owed.number, owed.body) != (number, heard(number, body)):
            raise Wrong(f"{shown(id, number, body)} is sent before {shown(id, owed.number, owed.body)}")
        if owed.needs:
            safe = book.kept.is_safe(body) if number == packets.JOB_CREATED else book.kept.stored >= owed.needs
            if not safe:
                raise Wrong(f"{shown(id, number, body)} is sent before it is durable")
            if owed.waited:
                book.saw("echo waited for a commit" if number == packets.ECHO_RES else "promise waited for a commit")
        elif owed.waited:
            book.saw("packet waited behind a promise")
        if number == CLOSE:
            party.closed = True
            party.owed.clear()

    def _nothing_lies_about(self) -> None:
        """What does not wait for a commit is sent by the end of its turn."""
        known = self.book.kept.known
        for party in self.book.parties.values():
            if party.owed and not party.closed:
                first = party.owed[0]
                if first.waits_for is None or first.waits_for <= known:
                    raise Wrong(f"{shown(party.id, first.number, first.body)} waits for nothing and is not sent")
                for owed in party.owed:
                    owed.waited = True

    def restarted(self, handles: Collection[bytes], now: float) -> None:
        """A new life on the same journal: exactly the promised jobs are there, oldest first."""
        book = self.book
        durable = [book.handles[handle].afresh() for handle in sorted(book.kept.durable, key=age)]
        book.forget()
        self._unfinished.clear()
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
        # The same once more, from what clients and workers were told.
        lost = [handle for handle in self.acked if handle not in book.jobs and handle not in book.kept.finished]
        if lost:
            raise Wrong(f"acknowledged and gone after a restart: {lost}")
        risen = [handle for handle in book.jobs if handle in self.sealed]
        if risen:
            raise Wrong(f"restored though the worker was told that their end is durable: {risen}")

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
        if book.jobs or book.kept.durable:
            raise Wrong(f"left over at the end: {list(book.jobs) or list(book.kept.durable)}")
        lost = [handle for handle in self.acked if handle not in book.kept.finished]
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


def _promise(party: Party, number: int) -> tuple[int, int] | None:
    """What of the answers to this packet must wait until it is kept."""
    if number in SUBMITS and SUBMITS[number][1]:
        return party.id, packets.JOB_CREATED
    return (party.id, packets.ECHO_RES) if number == packets.ECHO_REQ and party.sync else None


def _receiver(out: Out) -> int:
    return out[0]


def _listed(outs: list[Out]) -> str:
    return ", ".join(shown(id, number, body) for id, number, body in outs) or "nothing"


def shown(id: int, number: int, body: bytes) -> str:
    """One packet for the trace; a long body is cut."""
    name = {CLOSE: "close", packets.TEXT: "line", packets.MISDIRECTED: "misdirected"}.get(number)
    name = name or packets.KINDS[number].name
    return f"{id} {name} {body[:40]!r}" if body else f"{id} {name}"
