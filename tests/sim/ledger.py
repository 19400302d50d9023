"""The oracle: sees every packet that reaches the server, everything it decides to send, and what it stores; says Wrong.

It knows nothing of the broker's inside. It must stay slower and simpler than the broker: plain lists, no wake-ups, no
counters to go wrong.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from itertools import takewhile

from farm.broker.broker import DEFAULT, WAKE_PATIENCE_S, Rules
from farm.broker.effects import Change, CronRow, Save
from farm.protocol import packets
from farm.protocol.decoder import Decoder
from farm.protocol.packets import RESPONSE
from farm.server.promises import Send
from tests.sim import course, cron
from tests.sim.asks import answered
from tests.sim.book import Book
from tests.sim.entry import restored
from tests.sim.kept import handle_of
from tests.sim.model import CLOSE, Item, Later, Out, Owed, Party, PutOff, Wrong, age, error
from tests.sim.rules import RULES

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
    """What is compared of a packet: of an ERROR only the code, of a restart only whose, of JSON what it says."""
    if number in (packets.ERROR, packets.FARM_JOB_RESTARTED):
        return body.partition(b"\0")[0]
    if number == packets.FARM_ENDED:
        handle, _, data = body.partition(b"\0")
        return handle + b"\0" + json.dumps(json.loads(data), sort_keys=True).encode()
    return answered(body) if number == packets.FARM_ANSWER else body


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

    def connected(self, id: int, may_change: bool) -> None:
        """The server accepted a connection. may_change: and takes commands from it."""
        self.book.parties[id] = Party(id, may_change)

    def received(self, id: int, number: int, body: bytes, outs: list[Out], put_off: bool, now: float) -> None:
        """A whole packet or line reached the rules. put_off: it is to be put to them again."""
        self._look_at_clocks(now)
        party = self.book.parties[id]
        try:
            expected = self._expected(party, number, body, outs)
        except PutOff:
            if outs or not put_off:
                raise Wrong(f"{shown(id, number, body)} is answered though it is not durable how a job ended") from None
            party.later.append(Later(number, body))
            self.book.saw("question put off until an end is durable")
            return
        if put_off:
            raise Wrong(f"{shown(id, number, body)} is put off, and could be answered")
        if self._compare(expected, outs, now) and number in _WAKING:
            self.book.saw(_WAKING[number])

    def _expected(self, party: Party, number: int, body: bytes, outs: list[Out]) -> list[Out]:
        if party.refused:
            self.book.saw("packet after a fatal one")
            return []
        if number == packets.MISDIRECTED:
            return error(party, b"INVALID_MAGIC")
        if number not in RULES:
            return error(party, b"INVALID_COMMAND")
        return RULES[number](self.book, party, number, body, outs)

    def put_again(self, id: int, number: int, body: bytes) -> None:
        """A packet that was put off is about to be put to the rules once more."""
        party = self.book.parties[id]
        first = next((later for later in party.later if (later.number, later.body) == (number, body)), None)
        if first is None or not first.due:
            raise Wrong(f"{shown(id, number, body)} is put again for nothing")
        party.later.remove(first)

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
        party = book.parties[id]
        expected: list[Out] = []
        for item in book.jobs.values():
            if id in item.waiters:
                item.waiters.remove(id)
                book.saw("waiter left")
        while party.watches:  # one that ends may take others along, which wait for it
            before = len(party.watches)
            expected += book.unwatch(next(iter(party.watches.values())), party)[1]
            if len(party.watches) < before - 1:
                book.saw("left several jobs, of which one waited for another")
        del book.parties[id]
        for handle in [handle for handle, stop in book.stops.items() if stop.worker == id]:
            book.saw("stopped by a worker that left")
            expected += book.stop_over(handle)
        for item in reversed(list(party.holds.values())):
            expected += book.lose(item)
        if len(party.holds) > 1:
            book.saw("several jobs requeued at once")
        if self._compare(expected, outs, now):
            book.saw("another worker woken when one was lost")

    def ticked(self, outs: list[Out], changes: list[Change], now: float) -> None:
        """The rules were told the time. changes: what is to be kept because of that."""
        book = self.book
        self._look_at_clocks(now)
        late = any(
            party.notified and now - party.notified_at > WAKE_PATIENCE_S - 1e-6 for party in book.parties.values()
        )
        for other in book.parties.values():
            for later in other.later:
                later.due = later.batch is not None and later.batch <= book.kept.known
        over = self._stops_over()
        due = self._due()
        on_time = not self._clock_set
        expired = self._waited_too_long()
        fired = self._changed_crons(changes)
        expired += cron.ticked(book, fired, on_time)
        for item in book.jobs.values():
            book.note_if_long(item)
        late_ones, told = self._timed_out()
        woken = self._compare(over + expired + told, outs, now)
        if woken and due:
            book.saw("due job woke a sleeper")
        if woken and late_ones:
            book.saw("timed out, another worker woken")
        quiet = not self._ended_waiting and not self._stop_ended and not fired
        if woken and not due and not late_ones and quiet:
            book.saw("wake-up passed on after patience")
            if not late:
                raise Wrong("a worker was woken in place of one that still had time to come")

    def _changed_crons(self, changes: list[Change]) -> list[tuple[str, list[bytes]]]:
        """Each entry that the server has something to keep of, with the new jobs that are kept before it."""
        found: list[tuple[str, list[bytes]]] = []
        handles: list[bytes] = []
        for change in changes:
            if isinstance(change, Save) and handle_of(change.id) not in self.book.handles:
                handles.append(handle_of(change.id))
            elif isinstance(change, CronRow):
                found.append((change.name.decode(), handles))
                handles = []
        if handles:
            raise Wrong(f"jobs {handles} belong to no cron entry")
        return found

    def asked(self, busy: bool) -> None:
        """The rules were asked whether there is anything to wait for before the server leaves."""
        paused = self.book.paused
        could = any(i.holder is not None or (i.queued and i.function not in paused) for i in self.book.jobs.values())
        if busy != could:
            raise Wrong("the server would wait for jobs of later" if busy else "the server would not wait for its jobs")

    def _stops_over(self) -> list[Out]:
        """Nobody waits any longer for commands that have had their time to end."""
        book, told = self.book, list[Out]()
        over = [handle for handle, stop in book.stops.items() if stop.until <= book.now]
        self._stop_ended = bool(over)
        for handle in over:
            if book.now - book.stops[handle].until > LATE_S:
                raise Wrong(f"{handle!r} is waited for though its worker has had its time to stop it")
            book.saw("stop had its time")
            told += book.stop_over(handle)
        return told

    def _due(self) -> list[Item]:
        """The delayed jobs whose time has come stand in line from now on."""
        book = self.book
        due = [item for item in book.jobs.values() if item.delayed and item.due <= book.wall]
        for item in [item for item in due if item.handle in book.stops]:
            book.saw("attempt held back while the one before is being stopped")
            due.remove(item)
        for item in sorted(due, key=lambda item: (item.due, age(item.handle))):
            if book.wall - max(item.due, item.held_until) > LATE_S and not self._clock_set:
                raise Wrong(f"{item.handle!r} was due {book.wall - item.due:.3f} s ago")
            book.saw("job tried again after its pause" if item.failures else "delayed job became due")
            item.delayed = False
            book.stand(item)
            course.limit(book, item)
        return due

    def _waited_too_long(self) -> list[Out]:
        """What must be sent because jobs have waited for too long: one after the other, for each may release others."""
        book, told = self.book, list[Out]()
        self._ended_waiting = False
        while True:
            late = [item for item in book.jobs.values() if item.deadline and item.holder is None]
            late = [item for item in late if item.deadline <= book.wall and not item.over]
            if not late:
                self._clock_set = False
                return told
            item = min(late, key=lambda item: (item.deadline, age(item.handle)))
            if book.wall - max(item.deadline, item.limited_at) > LATE_S and not self._clock_set:
                raise Wrong(f"{item.handle!r} was to expire {book.wall - item.deadline:.3f} s ago")
            told += book.waited_too_long(item)
            self._ended_waiting = True

    def _timed_out(self) -> tuple[list[Item], list[Out]]:
        """The jobs whose workers took too long, and what must be sent because of that."""
        book, outs = self.book, list[Out]()
        expired = [item for item in book.jobs.values() if item.expires and item.expires <= book.now]
        # Those that stood in one line stand there in the same order again: the last one is put in front first.
        for item in sorted(expired, key=lambda item: (item.expires, age(item.handle)), reverse=True):
            if book.now - item.expires > LATE_S:
                raise Wrong(f"the time for {item.handle!r} was up {book.now - item.expires:.3f} s ago")
            outs += book.time_out(item)
        if len(expired) > 1:
            book.saw("several jobs timed out at once")
        return expired, outs

    def _compare(self, expected: list[Out], outs: list[Out], now: float) -> int:
        """Each connection must be sent exactly this, in this order. Returns how many sleepers were woken besides."""
        book = self.book
        parties = book.parties
        self._owe(outs)
        rest = [out for out in outs if out[0] in parties and not (out[1] == packets.NOOP and self._wakes(out[0], now))]
        wanted = [out for out in expected if out[0] in parties]
        rest.sort(key=_receiver)  # stable: the order of one connection's packets stays
        wanted.sort(key=_receiver)
        if rest != wanted:
            wanted, rest = _differing(wanted, rest)
            raise Wrong(f"expected {_listed(wanted)}, decided {_listed(rest)}")
        book.promised.clear()
        book.lined_up.clear()
        return sum(out[0] in parties for out in outs) - len(wanted)

    def _owe(self, outs: list[Out]) -> None:
        book = self.book
        promises = dict.fromkeys(book.promised)
        for out in outs:
            id, number, body = out
            party = book.parties.get(id)
            if party is not None:
                promised = out in promises
                owed = Owed(number, body, book.kept.latest if promised else 0, None if promised else 0)
                party.owed.append(owed)
                if promised:
                    self._unfinished.append(owed)

    def _wakes(self, id: int, now: float) -> bool:
        """Whether a NOOP to this connection wakes a sleeper, once in a sleep, for a job that it can do."""
        party = self.book.parties[id]
        book = self.book
        if book.stopping or not party.asleep or party.notified:
            return False
        # Or for one that went again at once, by the same packet that had brought it into its line.
        passing = any(item.function in party.abilities and item.function not in book.paused for item in book.lined_up)
        if book.best_priority(party) is None and not passing:
            return False
        party.notified = True
        party.notified_at = now
        return True

    def turn_ended(self, now: float) -> None:
        """While a worker sleeps and was sent nothing, another is on its way for each job that it could do."""
        book = self.book
        self._nothing_lies_about()
        self._nothing_is_forgotten()
        if book.stopping:
            return
        waiting = Counter(item.function for item in book.waiting() if item.function not in book.paused)
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
            safe = book.kept.stored >= owed.needs
            if not safe or (number == packets.JOB_CREATED and not self._is_safe(body)):
                raise Wrong(f"{shown(id, number, body)} is sent before it is durable")
            if owed.waited:
                book.saw(_WAITED.get(number, "promise waited for a commit"))
        elif owed.waited:
            book.saw("packet waited behind a promise")
        if number == CLOSE:
            party.closed = True
            party.owed.clear()

    def _is_safe(self, handle: bytes) -> bool:
        """Whether a background job, if it is one, may be acknowledged."""
        return not self.book.handles[handle].stored or self.book.kept.is_safe(handle)

    def acknowledged(self, handle: bytes) -> None:
        """Its client was told that it has this background job. (It may be a foreground one, that has ended.)"""
        if self.book.handles[handle].stored:
            self.acked[handle] = None

    def seal(self, handles: Iterable[bytes]) -> None:
        """A worker was told that what it said of these is durable."""
        self.sealed.update(dict.fromkeys(handle for handle in handles if handle in self.book.counted))

    def _nothing_is_forgotten(self) -> None:
        """What was put off is answered when it can be."""
        for party in self.book.parties.values():
            for later in party.later:
                if later.due and not party.refused:
                    raise Wrong(f"{shown(party.id, later.number, later.body)} could be answered, and is not")
                if later.batch is None:
                    later.batch = self.book.kept.written

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

    def restarted(self, handles: Collection[bytes], functions: Collection[bytes], now: float) -> None:
        """A new life on the same journal: exactly the promised jobs are there, oldest first."""
        book = self.book
        book.forget()
        self._unfinished.clear()
        self._look_at_clocks(now)
        self._clock_set = True
        self._restore_functions(functions)
        book.crons = {name.decode(): restored(row, after) for name, (row, after) in book.kept.crons.items()}
        if book.crons:
            book.saw("cron: entries restored after a restart")
        for handle in sorted(book.kept.durable, key=age):
            item = book.restored(handle)
            book.saw("restored after a restart")
            book.jobs[item.handle] = item
            course.lives_again(book, item)
            if item.key is not None:
                book.joinable.setdefault(item.key, item)
            if not book.is_poison(item):
                book.line_up(item)
                book.saw_restored(item)
        for item in [item for item in book.jobs.values() if book.is_poison(item)]:
            book.poisoned_at_start(item)
        course.restart_settles(book)
        if sorted(handles) != sorted(book.jobs):
            raise Wrong(f"restored {sorted(handles)} instead of {sorted(book.jobs)}")
        # The same once more, from what clients and workers were told.
        here = {**book.jobs, **dict.fromkeys(book.kept.decided_ends())}
        lost = [handle for handle in self.acked if handle not in here and handle not in book.kept.finished]
        if lost:
            raise Wrong(f"acknowledged and gone after a restart: {lost}")
        risen = [handle for handle in book.jobs if handle in self.sealed and handle not in book.again]
        if risen:
            raise Wrong(f"restored though the worker was told that their end is durable: {risen}")

    def _restore_functions(self, functions: Collection[bytes]) -> None:
        """What holds for functions, and those that are known; in which order is the server's choice."""
        book = self.book
        for name, (words,) in book.kept.settings.items():
            if b"paused=1" in words:
                book.paused[name] = None
            book.settings[name] = dict(word.split(b"=", 1) for word in sorted(words - {b"paused=1"}))
        for key, (id, until) in book.kept.keys.items():
            if until:
                book.keys[key] = until, handle_of(id)
        if book.kept.settings or book.keys:
            book.saw("settings or keys remembered after a restart")
        jobs = [row[0] for row in book.kept.durable.values()]
        known = {*book.kept.settings, *(name for name, _ in book.keys)}
        if set(functions) != known | {row[0] for row in book.kept.durable.values()}:
            raise Wrong(f"functions {sorted(functions)} after a restart; wanted {sorted(known)} and those of {jobs}")
        book.functions = dict.fromkeys(functions)

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


_WAITED = {
    packets.ECHO_RES: "echo waited for a commit",
    packets.FARM_ENDED: "end told when it is durable",
    packets.FARM_EXISTS: "same key: told when it is durable",
    packets.FARM_ANSWER: "command answered when it is durable",
}


def _receiver(out: Out) -> int:
    return out[0]


def _differing(wanted: list[Out], rest: list[Out]) -> tuple[list[Out], list[Out]]:
    """Both from where they part."""
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(wanted, rest, strict=False)))
    return wanted[same:], rest[same:]


def _listed(outs: list[Out]) -> str:
    return ", ".join(shown(id, number, body, SHOWN) for id, number, body in outs) or "nothing"


SHOWN = 400  # bytes of a packet that was not expected


def shown(id: int, number: int, body: bytes, most: int = 40) -> str:
    """One packet for the trace; a long body is cut."""
    name = {CLOSE: "close", packets.TEXT: "line", packets.MISDIRECTED: "misdirected"}.get(number)
    name = name or packets.KINDS[number].name
    return f"{id} {name} {body[:most]!r}" if body else f"{id} {name}"
