"""A whole broker behind its decoders: connections that say anything, in any order, and leave at any time.

The input is a little language: a byte says who does what, the next ones with which words. So most of what comes out is
a packet that a rule looks at, and coverage leads to the rest. What is sent back is read as a client would read it.
"""

from __future__ import annotations

from farm.broker import admin, asks, dispatch
from farm.broker.broker import Broker, Rules
from farm.broker.effects import Attempt, Effects, Finish, Forget, Progress, Revive, Save
from farm.broker.invariants import check
from farm.broker.peer import Peer
from farm.protocol.decoder import Decoder
from farm.protocol.packets import ERROR, JOB_CREATED, KINDS, MISDIRECTED, REQUEST, RESPONSE, TEXT, split
from farm.store.memory import MemoryStore
from tests.live.test_fuzz import sessions
from tests.unit.test_decoder import raw

CONNECTIONS = 4
RESULT_MAX = 8  # bytes: what is written is often more
CHECK_EVERY = 8  # steps: the invariants look at everything there is
LISTED_MAX = 1 << 20  # bytes of one line, at a client that trusts its server

NUMBERS = sorted(KINDS)
WORDS = {
    "function": [b"f", b"g", b"h\ti", b"\xc3\xa9", b"", b"a b", b"x" * 513],
    "unique": [b"u", b"", b"-", b"v", b"w" * 64, b"w" * 65, b"\t\n"],
    "reducer": [b"r", b"", b"s" * 65],
    "empty": [b""],
    "option": [b"exceptions", b"farm-1", b"farm-sync", b"farm-heartbeat", b"EXCEPTIONS", b"none", b"o" * 64],
    "id": [b"me", b"", b"a b", b"x : f\n9 y", b"i" * 200],
    "terms": [
        b"background=1",
        b"background=1 retries=1 backoff=1",
        b"timeout=1",
        b"background=1 in=1 expires=1",
        b"background=1 after=any:last",
        b"background=1 after=ok:H:1:1 if-exists=replace",
        b"if-exists=skip unique-for=100 queue-timeout=1",
        b"retries=x",
        b"colour=red",
    ],
    "verb": [verb.encode() for verb in asks.VERBS] + [b"nonsense"],
    "request": [
        b"{}",
        b'{"id": "last", "ids": ["H:1:1"], "text": "1", "function": "f", "name": "c", "wait": true}',
        b'{"ids": ["H:1:1", "H:1:2", "H:1:1"], "function": "g", "set": {"retries": "1"}, "states": ["dead"]}',
        b'{"name": "c", "line": "* * * * *", "function": "f", "id": "H:1:1"}',
        b'{"limit": 1, "before": "live:1", "id": "H:1:2"}',
        b"[]",
        b"x",
        b'{"id": 1, "ids": 1, "function": null}',
    ],
}
NUMERALS = [b"0", b"1", b"1000", b"-1", b"", b"x", b"1e9", b"9" * 20, b"9" * 21, b"\xd9\xa3"]
LINES = [
    b"status",
    b"prioritystatus",
    b"workers",
    b"version",
    b"getpid",
    b"verbose",
    b"limits",
    b"show jobs",
    b"show unique jobs",
    b"show",
    b"cancel job %s",
    b"cancel job",
    b"create function %s",
    b"drop function %s",
    b"maxqueue %s",
    b"maxqueue %s %s",
    b"maxqueue %s %s %s %s",
    b"shutdown",
    b"shutdown graceful",
    b"",
    b" %s",
    b"%s %s %s %s %s %s",
]
LISTINGS = {b"status": 3, b"prioritystatus": 4, b"show jobs": 3, b"show unique jobs": 0}  # TABs in each line

_SAYS = 200  # an action below it is a packet
_ADMINISTERS = 225
_BABBLES = 240
_LEAVES = 246

# Every packet in a row from one connection, and a life of two; recorded sessions come in raw.
SEEDS = [
    bytes([0])
    + b"".join(bytes([0, 10, i, 0, *[0] * (len(KINDS[number].args) + 1)]) for i, number in enumerate(NUMBERS)),
    bytes([1]) + b"".join(bytes([1, 210, index, 1, 2, 3, 4]) for index in range(len(LINES))),
    *(
        bytes([0]) + b"".join(bytes([2, 230, len(part)]) + part for part in cut_up)
        for cut_up in ([s[i : i + 99] for i in range(0, len(s), 99)] for s in sessions(b"H:1:1"))
    ),
]


class Script:
    """The input, taken byte by byte; after its end there are zeros."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def over(self) -> bool:
        """Whether nothing is left."""
        return self._at >= len(self._data)

    def byte(self) -> int:
        """The next byte."""
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0

    def bytes(self, size: int) -> bytes:
        """So many bytes, or what is left."""
        self._at += size
        return self._data[self._at - size : self._at]


class End:
    """One connection: what the server reads from it, and what it reads from the server."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.inward = Decoder(REQUEST)
        self.outward = Decoder(RESPONSE, line_max=LISTED_MAX)


class Desk:
    """The broker, its connections and its journal."""

    def __init__(self, choice: int) -> None:
        rules = Rules(
            bool(choice & 1),
            bool(choice & 2),
            bool(choice & 4),
            losses_max=choice >> 3 & 3,
            result_max=RESULT_MAX if choice & 64 else 0,
            payload_memory_max=1 if choice & 128 else 0,
        )
        self.broker = Broker(1, rules)
        self.broker.narrate = bool(choice & 32)
        self.now = 0.0
        self.ends: list[End | None] = [None] * CONNECTIONS
        self.handles = [b"H:1:1"]
        self.store = MemoryStore()
        self.store.open()
        self.broker.history = self.store
        self.journal: dict[int, Save] = {}
        self.ended: dict[int, Save] = {}
        self._opened = 0

    def step(self, script: Script) -> None:
        """Somebody does something."""
        which, action = script.byte() % CONNECTIONS, script.byte()
        end = self.ends[which]
        if end is None:
            self._opened += 1
            end = self.ends[which] = End(self.broker.connect(self._opened, which, "127.0.0.1"))
            end.peer.may_change = which != CONNECTIONS - 1
        if action < _SAYS:
            kind = KINDS[NUMBERS[script.byte() % len(NUMBERS)]]
            count = script.byte()  # how many of its arguments it has: most often all
            names = kind.args[:count] if 0 < count < 5 else kind.args
            words = [self._word(name, script) for name in names]
            body = b"\0".join(words + ([script.bytes(script.byte() % 9)] if kind.data else []))
            self._hear(end, raw(kind.number, body))
        elif action < _ADMINISTERS:
            line = LINES[script.byte() % len(LINES)]
            self._hear(end, line % tuple(self._any(script) for _ in range(line.count(b"%s"))) + b"\n")
        elif action < _BABBLES:
            self._hear(end, script.bytes(script.byte()))
        elif action < _LEAVES:
            self._leave(end)
        else:
            self.now += (0.1, 0.6, 1.5, 100.0)[script.byte() % 4]
            self.broker.tick(self.now)
        self._settle()

    def _word(self, name: str, script: Script) -> bytes:
        choice = script.byte()
        if choice > 240:
            return script.bytes(choice - 240)
        words = self.handles if name == "handle" else WORDS.get(name, NUMERALS)
        return words[choice % len(words)]

    def _any(self, script: Script) -> bytes:
        """A word of an admin line: a function's name, a handle or a number."""
        choice = script.byte()
        words = (WORDS["function"], WORDS["function"], self.handles, NUMERALS)[choice % 4]
        return words[choice // 4 % len(words)]

    def _hear(self, end: End, data: bytes) -> None:
        """As the server does with what it has read."""
        for number, body in end.inward.feed(data):
            dispatch.receive(self.broker, end.peer, number, body, self.now)
        if end.inward.failed and not end.peer.refused:
            dispatch.refuse(self.broker, end.peer, end.inward.failed)

    def _leave(self, end: End) -> None:
        self.broker.disconnect(end.peer, self.now)
        self.ends[self.ends.index(end)] = None

    def _settle(self) -> None:
        """Journal first, then the wire; and what could not be answered is asked again."""
        while self.broker.effects or self.broker.later:
            later, self.broker.later = self.broker.later, []
            for id, number, body in later:
                if id in self.broker.peers:
                    dispatch.receive(self.broker, self.broker.peers[id], number, body, self.now)
            effects, self.broker.effects = self.broker.effects, Effects()
            payloads = {id: save.payload for id, save in self.journal.items()}
            for change in effects.changes:
                if isinstance(change, Save):
                    assert change.id not in self.journal and change.id not in self.ended, f"{change} twice"
                    self.journal[change.id] = change
                    payloads[change.id] = change.payload
                elif isinstance(change, Finish | Forget):
                    assert change.id in self.journal, f"{change} of nothing"
                    assert not isinstance(change, Finish) or len(change.result) <= RESULT_MAX, change
                    self.ended[change.id] = self.journal.pop(change.id)
                elif isinstance(change, Revive):
                    self.journal[change.id] = self.ended.pop(change.id)
                elif isinstance(change, Progress | Attempt):
                    assert change.id in self.journal, f"{change} of nothing"
            self.store.apply(effects.changes)
            assert all(0 <= index < len(effects.sends) for index in effects.promises), effects.promises
            for peer_id, piece in effects.sends:
                packet = payloads[piece] if isinstance(piece, int) else piece
                end = next((end for end in self.ends if end and end.peer.id == peer_id), None)
                if end and packet is None:
                    self._leave(end)
                elif end and packet:
                    self._read(end, packet)

    def _read(self, end: End, packet: bytes) -> None:
        for number, body in end.outward.feed(packet):
            assert number != MISDIRECTED, "a request from the server"
            if number != TEXT:
                args = split(KINDS[number], body)
                assert number != ERROR or (args[0].isupper() and args[1]), f"an error without words: {args}"
                if number == JOB_CREATED and args[0] not in self.handles:
                    self.handles.append(args[0])
        assert end.outward.failed is None, f"the client cannot read {packet[:80]!r}"

    def look(self) -> None:
        """Whether everything is as it must be."""
        check(self.broker)
        kept = {job.id for job in self.broker.jobs.values() if job.background}
        assert kept == self.journal.keys(), "the journal is not what is kept"
        rows = {b"show jobs": len(self.broker.jobs), b"show unique jobs": len(self.broker.jobs)}
        for command, tabs in LISTINGS.items():
            *lines, end = self._listing(command)
            assert end == b"." and len(lines) == rows.get(command, len(self.broker.functions)), f"{command!r}: {lines}"
            assert all(line.count(b"\t") == tabs for line in lines), f"{command!r}: {lines}"
        assert len(self._listing(b"workers")) == len(self.broker.peers) + 1, "a line of `workers` is forged"

    def _listing(self, command: bytes) -> list[bytes]:
        admin.answer(self.broker, Peer(0, 0, ""), command, self.now)
        _, text = self.broker.effects.sends.pop()
        assert text and text.endswith(b"\n")
        return text[:-1].split(b"\n")


def one_input(data: bytes) -> None:
    """Play it. Raises whatever is wrong."""
    script = Script(data)
    desk = Desk(script.byte())
    steps = 0
    while not script.over:
        desk.step(script)
        steps += 1
        if steps % CHECK_EVERY == 0:
            desk.look()
    desk.look()
    for end in desk.ends:
        if end:
            desk._leave(end)
            desk._settle()
    desk.look()
    assert not any(job.worker for job in desk.broker.jobs.values()), "a job runs, and nobody is there"
