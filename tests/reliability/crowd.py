"""The submitters and workers of a run: started, killed and replaced, with what they write read all the time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from random import Random
from typing import Any

from farm.protocol import packets as p
from tests.reliability.daemon import jobs_in_all
from tests.reliability.ends import CLOCKED, CONNECTIONS, FLAKY, IN_FLIGHT_MAX, JOBS, LATER
from tests.reliability.ledger import Ledger
from tests.support import CHECKOUT, PATIENCE_S, Wire

ENTRIES = 40  # of cron, each with a job every minute: more than are looked after in one turn


class Crowd:
    """Ends against the server on `port`. Their pipes belong to this process, and so survive them."""

    def __init__(self, port: int, ledger: Ledger, submitters: int = 2, workers: int = 2) -> None:
        self._port = port
        self._ledger = ledger
        self._started = 0
        self._heard: list[tuple[str, bytes]] = []
        self._readers: list[threading.Thread] = []
        self._ends: dict[str, list[tuple[subprocess.Popen[bytes], str]]] = {"submitter": [], "worker": []}
        self.in_flight_max = workers * CONNECTIONS * IN_FLIGHT_MAX
        for role, number in (("submitter", submitters), ("worker", workers)):
            for _ in range(number):
                self._start(role)

    def _start(self, role: str) -> None:
        self._started += 1
        name = f"{role[0]}{self._started}"
        argv = [sys.executable, "-P", "-m", "tests.reliability.ends", role, name, str(self._port)]
        env = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
        read, write = os.pipe()
        process = subprocess.Popen(argv, cwd=CHECKOUT, env=env, stdin=subprocess.DEVNULL, stdout=write)
        os.close(write)
        reader = threading.Thread(target=self._read, args=(name, read), daemon=True)
        reader.start()
        self._readers.append(reader)
        self._ends[role].append((process, name))

    def _read(self, name: str, fd: int) -> None:
        with open(fd, "rb", buffering=0) as pipe:
            while data := pipe.read(1 << 16):
                self._heard.append((name, data))

    def kill_one(self, chance: Random) -> None:
        """kill -9 for one of them, and another one in its place."""
        role = chance.choice(list(self._ends))
        process, _ = self._ends[role].pop(0)
        process.kill()
        process.wait(PATIENCE_S)
        self._start(role)

    def note(self) -> None:
        """Pass on to the ledger what was read."""
        heard, self._heard = self._heard, []
        for name, data in heard:
            self._ledger.feed(name, data)

    def failed(self) -> str:
        """Which end has ended by itself: a fault of the test."""
        ends = [end for ends in self._ends.values() for end in ends]
        return " ".join(f"{name}: {process.poll()}" for process, name in ends if process.poll() is not None)

    def send(self, role: str, number: int) -> None:
        """A signal to all of a role."""
        for process, _ in self._ends[role]:
            process.send_signal(number)

    def end(self, role: str) -> None:
        """SIGTERM for all of a role, and the rest of what they wrote."""
        ends, self._ends[role] = self._ends[role], []
        for process, _ in ends:
            process.send_signal(signal.SIGTERM)
        for process, name in ends:
            status = process.wait(PATIENCE_S)
            assert status in (0, -signal.SIGTERM), f"{name}: {status}"  # the latter: it had not come so far as to begin

    def end_all(self) -> None:
        """Also their pipes."""
        for role in self._ends:
            self.end(role)
        for reader in self._readers:
            reader.join(PATIENCE_S)
            assert not reader.is_alive()
        self.note()

    def add_entries(self) -> None:
        """Of cron: every minute a job, whatever becomes of the server meanwhile."""
        ways = {"line": "* * * * *", "function": CLOCKED.decode(), "overlap": "queue", "catch_up": "all"}
        with Wire(("127.0.0.1", self._port)) as wire:
            wire.send(p.OPTION_REQ, b"farm-1")
            wire.expect(p.OPTION_RES, b"farm-1")
            for number in range(ENTRIES):
                name = f"c.{number}."
                wire.send(p.FARM_ASK, b"cron add", json.dumps({"name": name, **ways}).encode(), name.encode())
                assert wire.packet()[0] == p.FARM_ANSWER
                self._ledger.entry(name, time.time())

    def drain(self, patience_s: float) -> bool:
        """Wait until the server has no job left, and tell the ledger how each of those that were tried again has ended,
        and what has become of the times of cron entries. False: it still has some."""
        deadline = time.monotonic() + patience_s
        with Wire(("127.0.0.1", self._port)) as wire:
            while (left := _left(wire)) and time.monotonic() < deadline:
                time.sleep(0.05)
            wire.send(p.OPTION_REQ, b"farm-sync")
            wire.expect(p.OPTION_RES, b"farm-sync")
            wire.expect_nothing()  # a job whose end is not durable yet is in no listing
            for job in _listed(wire, FLAKY):
                self._ledger.ended(job["id"], job["state"], job["failures"])
            wire.send(p.FARM_ASK, b"cron", b"{}", b"")
            for entry in json.loads(wire.packet()[1].partition(b"\0")[2])["entries"]:
                self._ledger.came(entry["name"], time.time(), [(run["at"], run["id"]) for run in entry["last"]])
        return not left

    def abandon(self) -> None:
        """However they are."""
        for ends in self._ends.values():
            for process, _ in ends:
                process.kill()
                process.wait(PATIENCE_S)


def _left(wire: Wire) -> int:
    """How many jobs there are, with the one that a cron entry has as soon as a minute begins."""
    return jobs_in_all(wire, (JOBS, LATER, FLAKY, CLOCKED)) + (-time.time() % 60 < 1)


def _listed(wire: Wire, function: bytes) -> Iterator[dict[str, Any]]:
    """All that the server knows of a function's jobs."""
    wire.send(p.OPTION_REQ, b"farm-1")
    wire.expect(p.OPTION_RES, b"farm-1")
    request = {"function": function.decode()}
    while True:
        wire.send(p.FARM_ASK, b"jobs", json.dumps(request).encode(), b"")
        number, body = wire.packet()
        assert number == p.FARM_ANSWER, body
        answer = json.loads(body.partition(b"\0")[2])
        yield from answer["jobs"]
        if answer["more"] is None:
            return
        request["before"] = answer["more"]
