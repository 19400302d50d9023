"""The submitters and workers of a run: started, killed and replaced, with what they write read all the time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from random import Random

from tests.reliability.ends import CONNECTIONS, IN_FLIGHT_MAX
from tests.reliability.ledger import Ledger
from tests.support import CHECKOUT, PATIENCE_S


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
            assert status == 0, f"{name}: {status}"

    def end_all(self) -> None:
        """Also their pipes."""
        for role in self._ends:
            self.end(role)
        for reader in self._readers:
            reader.join(PATIENCE_S)
            assert not reader.is_alive()
        self.note()

    def abandon(self) -> None:
        """However they are."""
        for ends in self._ends.values():
            for process, _ in ends:
                process.kill()
                process.wait(PATIENCE_S)
