"""The workbench with a past: what the rules decide is kept at once in a memory store, which they can ask."""

from __future__ import annotations

import json
from typing import Any

from farm.broker import restart
from farm.broker.broker import Rules
from farm.broker.dispatch import receive
from farm.protocol import packets as p
from farm.protocol.packets import request
from farm.store.memory import MemoryJournal, MemoryStore
from tests.unit.bench import Rig, Wire

KEEPING = Rules(result_max=1000, losses_max=6)
WALL = 1_000_000.0  # of the wall clock when the monotonic one shows 0


class Life(Rig):
    """A rig whose changes go into a journal, and which can be started again on it."""

    def __init__(self, rules: Rules = KEEPING, journal: MemoryJournal | None = None, now: float = 100.0) -> None:
        self.journal = journal or MemoryJournal()
        self.store = MemoryStore(self.journal)
        super().__init__(self.store.open(), rules)
        self.now = now
        self.broker.wall_offset = WALL
        self.broker.history = self.store
        self._kept = 0
        for known in self.store.known():
            restart.know(self.broker, known)
        for save in self.store.load():
            restart.restore(self.broker, save, now)
        restart.restored(self.broker, now)
        self.turn()

    @property
    def wall(self) -> float:
        """Seconds since 1970."""
        return self.now + WALL

    def turn(self) -> None:
        """See Rig. Packets that were put off are put again."""
        super().turn()
        self.store.apply(self.changes[self._kept :])
        self._kept = len(self.changes)
        while self.broker.later:
            later, self.broker.later = self.broker.later, []
            for id, number, body in later:
                if id in self.broker.peers:
                    receive(self.broker, self.broker.peers[id], number, body, self.now)
            super().turn()

    def again(self, rules: Rules = KEEPING) -> Life:
        """A new life on the same journal, after kill -9."""
        return Life(rules, self.journal, self.now)

    def farm_client(self) -> Asker:
        """A connection that speaks the extension."""
        client = Asker(self, self.client(b"farm-1"))
        client.wire.received()
        return client

    def farm_worker(self, *functions: bytes) -> Wire:
        """A worker that speaks the extension."""
        worker = self.worker(*functions)
        worker.send(request(p.OPTION_REQ, b"farm-1"))
        worker.received()
        return worker


class Asker:
    """A connection with farm's extension."""

    def __init__(self, life: Life, wire: Wire) -> None:
        self.life = life
        self.wire = wire

    def submit(
        self, function: bytes, terms: bytes = b"background=1", unique: bytes = b"", payload: bytes = b""
    ) -> bytes:
        """Submit with terms; returns the handle."""
        self.wire.send(request(p.FARM_SUBMIT, function, unique, terms, payload))
        number, body = packet(self.wire.received()[-1])
        assert number == p.JOB_CREATED, (number, body)
        return body

    def ask(self, verb: str, **fields: object) -> Any:
        """The answer, as an object."""
        self.wire.send(request(p.FARM_ASK, verb.encode(), json.dumps(fields).encode(), b""))
        for reply in self.wire.received():
            number, body = packet(reply)
            if number == p.FARM_ANSWER:
                name, _, data = body.partition(b"\0")
                assert name == verb.encode()
                return json.loads(data)
            assert number in (p.FARM_OUTPUT, p.FARM_ENDED), (number, body)
        return None

    def job(self, handle: bytes) -> Any:
        """Its record."""
        return self.ask("job", id=handle.decode())["job"]

    def state(self, handle: bytes) -> str:
        """Its state."""
        return str(self.job(handle)["state"])

    def refused(self, verb: str, **fields: object) -> bytes:
        """The code of the ERROR."""
        self.wire.send(request(p.FARM_ASK, verb.encode(), json.dumps(fields).encode(), b""))
        number, body = packet(self.wire.received()[-1])
        assert number == p.ERROR, (number, body)
        return body.partition(b"\0")[0]


def packet(raw: bytes) -> tuple[int, bytes]:
    """Number and body."""
    return int.from_bytes(raw[4:8], "big"), raw[12:]


def fails(worker: Wire, handle: bytes, code: int = 0, farm: bool = False) -> None:
    """The worker reports that its job failed."""
    if code:
        trailer = b"farm: exit %d%s\n" % (code, b" farm" if farm else b"")
        worker.send(request(p.WORK_WARNING, handle, trailer))
    worker.send(request(p.WORK_FAIL, handle))


def completes(worker: Wire, handle: bytes, result: bytes = b"") -> None:
    """The worker reports that its job is done."""
    worker.send(request(p.WORK_COMPLETE, handle, result))
