"""A load for the server that is recorded: jobs come and end all the time, and many are always waiting."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

from farm.protocol import packets as p
from tests.support import Wire, req, wait_until

CLIENTS, WORKERS = 4, 3
WAITING_MAX = 400  # jobs; each cut loads all of them
BATCH_MAX = 24  # submissions that one client has outstanding
_NUMBERS = (p.SUBMIT_JOB_BG, p.SUBMIT_JOB_BG, p.SUBMIT_JOB_HIGH_BG, p.SUBMIT_JOB_LOW_BG, p.SUBMIT_JOB_EPOCH)
_FAR = b"4000000000"  # an epoch that no test lives to see


class Load:
    """`jobs` background jobs by CLIENTS clients, most of them done by WORKERS workers. Call `run`."""

    def __init__(self, connect: Callable[[], Wire], jobs: int, seed: int) -> None:
        self._connect = connect
        self._jobs = jobs
        self._seed = seed
        self._lock = threading.Lock()
        self._submitted = self._ended = 0
        self._failures: list[BaseException] = []
        self._clients_left = CLIENTS

    def run(self) -> None:
        """Until every client has submitted its share and the workers have no more to do."""
        ends = [self._client] * CLIENTS + [self._worker] * WORKERS
        threads = [threading.Thread(target=self._guard, args=(end, number)) for number, end in enumerate(ends)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._failures:
            raise self._failures[0]

    def _guard(self, end: Callable[[Wire, random.Random, int], None], number: int) -> None:
        try:
            with self._connect() as wire:
                end(wire, random.Random(self._seed * 100 + number), number)
        except BaseException as error:  # noqa: BLE001 - it is raised again by `run`
            self._failures.append(error)
        finally:
            with self._lock:
                self._clients_left -= number < CLIENTS

    def _waiting(self) -> int:
        with self._lock:
            return self._submitted - self._ended

    def _client(self, wire: Wire, chance: random.Random, number: int) -> None:
        left = self._jobs // CLIENTS
        while left > 0 and not self._failures:
            wait_until(lambda: self._waiting() < WAITING_MAX or self._failures, what="the workers come along")
            count = min(left, chance.randrange(1, BATCH_MAX))
            left -= count
            packets = []
            for _ in range(count):
                packets += self._submission(chance, number)
            with self._lock:
                self._submitted += count
            wire.raw(b"".join(packets))
            answers = 0
            while answers < len(packets):  # between them, news of the foreground jobs
                got, body = wire.packet()
                assert got != p.ERROR, body
                answers += got == p.JOB_CREATED

    def _submission(self, chance: random.Random, client: int) -> list[bytes]:
        size = 6000 if chance.random() < 0.02 else chance.randrange(500)  # a few do not fit into one page
        payload = chance.randbytes(size)
        function = b"f%d" % chance.randrange(3)
        kind = chance.random()
        if kind < 0.05:  # a job that somebody waits for, and then one in the background joins
            unique = b"joined-%d-%s" % (client, chance.randbytes(6).hex().encode())
            return [
                req(p.SUBMIT_JOB, function, unique, payload),
                req(p.SUBMIT_JOB_BG, function, unique, payload),
            ]
        unique = b"u-%s" % chance.randbytes(6).hex().encode() if kind < 0.2 else b""
        if kind > 0.99:
            return [req(p.SUBMIT_JOB_EPOCH, function, unique, _FAR, payload)]
        return [req(chance.choice(_NUMBERS[:4]), function, unique, payload)]

    def _worker(self, wire: Wire, chance: random.Random, number: int) -> None:
        wire.send(p.OPTION_REQ, b"farm-sync")
        wire.expect(p.OPTION_RES, b"farm-sync")
        for function in (b"f0", b"f1", b"f2"):
            wire.send(p.CAN_DO, function)
        idle = 0
        while idle < 20 and not self._failures:
            body = wire.grab()
            if not body:
                idle += not self._clients_left
                time.sleep(0.01)
                continue
            handle, _, payload = body.split(b"\0", 2)
            if chance.random() < 0.1:
                wire.send(p.WORK_FAIL, handle)
            else:
                wire.send(p.WORK_COMPLETE, handle, payload[::-1][:200])
            if chance.random() < 0.15:
                wire.send(p.ECHO_REQ, b"durable?")
                wire.expect(p.ECHO_RES, b"durable?")
            with self._lock:
                self._ended += 1
