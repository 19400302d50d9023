"""Starts `farm server`, as it is shipped, on what power cuts have left of a recorded one, and asks it what it has.

cuts.py does the same with farm's store alone, some hundred times as fast; this is for what only the whole server does.
"""

from __future__ import annotations

import json
import os
import random
import tempfile
from collections import Counter
from pathlib import Path

from farm.protocol import packets as p
from tests.cli.rig import Rig
from tests.reliability.power.book import Book, id_of
from tests.reliability.power.cuts import moments
from tests.reliability.power.disk import Disk, read_log
from tests.reliability.power.record import OPTIONS
from tests.support import Wire, req

FUNCTIONS = (b"f0", b"f1", b"f2")
PAGE = 1000  # jobs in one answer


def start_on_all(records: Path, count: int, seed: int) -> Counter[str]:
    """That many cuts, each with a server of its own; returns the figures, of the names that cuts.py has."""
    wanted = Counter(moments(records, count, seed))
    disk, book, found = Disk(), Book(), Counter[str]()
    shm = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    for number, op in enumerate(read_log(records), 1):
        (book if op.kind in "A<>" else disk).do(op)
        for cut in range(wanted[number]):
            found["cuts"] += 1
            with tempfile.TemporaryDirectory(dir=shm, prefix="farm-start-") as home:
                store = Path(home) / "store"
                store.mkdir(mode=0o700)
                for name, content in disk.image(random.Random(f"{seed} {number} {cut}")).items():
                    (store / os.fsdecode(name)).write_bytes(content)
                found += _start(Path(home), store, book)
    return found


def _start(home: Path, store: Path, book: Book) -> Counter[str]:
    found: Counter[str] = Counter()
    rig = Rig(home)
    try:
        try:
            server = rig.server("--store", str(store), *OPTIONS)
        except AssertionError:  # it has ended
            return Counter(refused=1)
        found["put aside"] += server.err().count("is damaged")
        with server.connect() as wire:
            listed = _listed(wire)
            found["lost"] += len(book.due() - listed)
            found["phantom"] += len(listed & book.ended.keys())
            for id, function, payload in _given_out(wire):
                known = [(function, payload) == (content[0], content[3]) for content in book.submitted]
                kept = book.acknowledged.get(id)
                found["phantom"] += not any(known) or (kept is not None and (kept[0], kept[3]) != (function, payload))
                found["given out"] += 1
        server.kill()
    finally:
        rig.end()
    return found


def _listed(wire: Wire) -> set[int]:
    """The jobs that have not ended."""
    wire.send(p.OPTION_REQ, b"farm-1")
    wire.expect(p.OPTION_RES, b"farm-1")
    states = ["waiting", "delayed", "queued", "running"]
    request = {"states": states, "limit": PAGE}
    wire.send(p.FARM_ASK, b"jobs", json.dumps(request).encode(), b"")
    number, body = wire.packet()
    assert number == p.FARM_ANSWER, (number, body)
    answer = json.loads(body.partition(b"\0")[2])
    assert len(answer["jobs"]) < PAGE
    return {id_of(job["id"].encode()) for job in answer["jobs"]}


def _given_out(wire: Wire) -> list[tuple[int, bytes, bytes]]:
    """All that a worker gets: id, function, payload."""
    wire.raw(b"".join(req(p.CAN_DO, function) for function in FUNCTIONS))
    found = []
    while body := wire.grab():
        handle, function, payload = body.split(b"\0", 2)
        found.append((id_of(handle), function, payload))
    return found
