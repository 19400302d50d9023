"""Submitters and workers as processes of their own, with many packets outstanding on several raw connections.

`python -P -m tests.reliability.ends ROLE NAME PORT` writes the ledger's lines (ledger.py) to stdout. A line that must
come before an act is written before the act's packet is sent: in each turn all lines go out first, then all packets.
They hold on through every end of the server, and may themselves be killed at any moment.
"""

from __future__ import annotations

import os
import random
import select
import signal
import socket
import struct
import sys
import time
from collections import deque
from itertools import count
from zlib import crc32

from farm.protocol import packets as p
from tests.support import req

JOBS = b"job"  # the function of all but delayed jobs
LATER = b"later"  # of delayed ones: one that waits must not be joined by one that is due at once
CONNECTIONS = 3  # of each process
WINDOW = 64  # submissions without an answer on a connection
CALLS = 8  # foreground jobs without a result on a connection
BURST, BURST_EVERY_S = 16, 0.02  # so that submitters do not leave the workers too far behind
KEYS = 40
DELAY_MAX_S = 3
BARRIER_EVERY = 8  # jobs; on a worker's first connection it is after each
IN_FLIGHT_MAX = BARRIER_EVERY + 1  # of a worker's connection: what may run again when the server is killed

SUBMITS = (p.SUBMIT_JOB_BG, p.SUBMIT_JOB_HIGH_BG, p.SUBMIT_JOB_LOW_BG)
CALL_SUBMITS = (p.SUBMIT_JOB, p.SUBMIT_JOB_HIGH, p.SUBMIT_JOB_LOW)


class Link:
    """One connection: closed, or with what came in and what shall go out."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.sock: socket.socket | None = None
        self.out = bytearray()
        self._in = bytearray()

    def open(self, port: int) -> bool:
        """Try to."""
        sock = socket.socket()
        try:
            sock.connect(("127.0.0.1", port))
        except OSError:
            sock.close()
            return False
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        return True

    def close(self) -> None:
        """What is not sent or not read is lost."""
        if self.sock:
            self.sock.close()
        self.sock = None
        self.out.clear()
        self._in.clear()

    def receive(self) -> tuple[list[tuple[int, bytes]], bool]:
        """The packets that have come (an admin's line counts as p.TEXT), and whether the connection is still there."""
        assert self.sock
        alive = True
        try:
            while chunk := self.sock.recv(1 << 16):
                self._in += chunk
            alive = False
        except BlockingIOError:
            pass
        except OSError:
            alive = False
        found = []
        while True:
            if self._in.startswith(b"OK"):
                end = self._in.find(b"\n") + 1
                packet = p.TEXT, bytes(self._in[3 : end - 1])
            else:
                if len(self._in) < 12:
                    break
                number, size = struct.unpack(">II", self._in[4:12])
                end = 12 + size if len(self._in) >= 12 + size else 0
                packet = number, bytes(self._in[12:end])
            if not end:
                break
            del self._in[:end]
            found.append(packet)
        return found, alive

    def flush(self) -> bool:
        """Send what can be sent. False: the connection has gone."""
        assert self.sock
        try:
            while self.out:
                del self.out[: self.sock.send(self.out)]
        except BlockingIOError:
            pass
        except OSError:
            return False
        return True


class End:
    """What all roles share: links that come back, and the turn."""

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self.port = port
        self.links = [Link(index) for index in range(CONNECTIONS)]
        self.chance = random.Random(name)
        self._lines: list[bytes] = []

    def say(self, *words: bytes) -> None:
        """One line for the ledger."""
        self._lines.append(b" ".join(words) + b"\n")

    def opened(self, link: Link) -> None:
        """A new connection is there."""

    def took(self, link: Link, number: int, body: bytes) -> None:
        """A packet came."""

    def act(self, link: Link) -> None:
        """Once in a turn, on an open link."""

    def turn(self) -> None:
        """Wait, read, write lines, write packets."""
        for link in self.links:
            if link.sock is None and link.open(self.port):
                self.opened(link)
        there = {link.sock.fileno(): link for link in self.links if link.sock}
        poll = select.poll()
        for fd, link in there.items():
            poll.register(fd, select.POLLIN | (select.POLLOUT if link.out else 0))
        for fd, _ in poll.poll(BURST_EVERY_S * 1000 if there else 5):
            found, alive = there[fd].receive()
            for number, body in found:
                self.took(there[fd], number, body)
            if not alive:
                there[fd].close()
        for link in there.values():
            if link.sock:
                self.act(link)
        data = memoryview(b"".join(self._lines))
        while data:
            data = data[os.write(1, data) :]
        self._lines.clear()
        for link in there.values():
            if link.sock and not link.flush():
                link.close()


class Submitter(End):
    """Background jobs on all connections but the first, which submits foreground jobs and now and then leaves them."""

    def __init__(self, name: str, port: int) -> None:
        super().__init__(name, port)
        self._numbers = count(1)
        self._asked: list[deque[bytes]] = [deque() for _ in self.links]  # names in order, without an answer
        self._calls = 0
        self._next = [0.0 for _ in self.links]

    def opened(self, link: Link) -> None:
        """What was asked on the last connection may have been heard or not: it is not asked again."""
        self._asked[link.index].clear()
        if not link.index:
            self._calls = 0

    def took(self, link: Link, number: int, body: bytes) -> None:
        """JOB_CREATED and ERROR answer in order; a foreground job's result comes any time."""
        asked = self._asked[link.index]
        if number == p.JOB_CREATED:
            self.say(b"A" if link.index else b"G", asked.popleft(), body)
        elif number == p.ERROR:
            asked.popleft()
            self._calls -= not link.index
        elif number in (p.WORK_COMPLETE, p.WORK_FAIL):
            self._calls -= 1

    def act(self, link: Link) -> None:
        """Submit what the window and the pace allow."""
        if not link.index:
            if self.chance.random() < 0.02:
                link.close()
                return
            while self._calls < CALLS:
                self._calls += 1
                self._submit(link, CALL_SUBMITS)
            return
        now = time.monotonic()
        if now < self._next[link.index]:
            return
        self._next[link.index] = now + BURST_EVERY_S
        for _ in range(BURST):
            if len(self._asked[link.index]) < WINDOW:
                self._submit(link, SUBMITS)

    def _submit(self, link: Link, numbers: tuple[int, ...]) -> None:
        chance = self.chance.random()
        key = b"k%d" % self.chance.randrange(KEYS) if chance < 0.2 or numbers is CALL_SUBMITS else b""
        name = b"%s.%d.%s" % (self.name.encode(), next(self._numbers), key)
        due = 0
        if chance > 0.95 and numbers is SUBMITS:
            due = int(time.time()) + self.chance.randint(1, DELAY_MAX_S)
            link.out += req(p.SUBMIT_JOB_EPOCH, LATER, b"", b"%d" % due, name)
        else:
            link.out += req(self.chance.choice(numbers), JOBS, key, name)
        self.say(b"S", name, b"%d" % due)
        self._asked[link.index].append(name)


class Worker(End):
    """Does jobs: every sixteenth fails. On the first connection each end is followed by a barrier, on the others every
    eighth."""

    def __init__(self, name: str, port: int) -> None:
        super().__init__(name, port)
        self._life: list[bytes] = [b""] * len(self.links)
        self._ended: list[list[bytes]] = [[] for _ in self.links]  # since the last barrier
        self._barriers: list[deque[list[bytes]]] = [deque() for _ in self.links]

    def opened(self, link: Link) -> None:
        """Ask whose life it is, and register."""
        self._ended[link.index] = []
        self._barriers[link.index].clear()
        link.out += b"getpid\n" + req(p.OPTION_REQ, b"farm-sync")
        link.out += req(p.CAN_DO, JOBS) + req(p.CAN_DO, LATER) + req(p.GRAB_JOB)

    def took(self, link: Link, number: int, body: bytes) -> None:
        """X before the job's end goes out, F once it is durable."""
        index = link.index
        if number == p.TEXT:
            self._life[index] = body
        elif number == p.JOB_ASSIGN:
            handle, _, name = body.split(b"\0", 2)
            self.say(b"X", handle, name, b"%.6f %.6f" % (time.time(), time.monotonic()), self._life[index])
            if crc32(name) % 16:
                link.out += req(p.WORK_COMPLETE, handle, b"done " + name)
            else:
                link.out += req(p.WORK_FAIL, handle)
            self._ended[index].append(handle)
            if not index or len(self._ended[index]) >= BARRIER_EVERY:
                self._barrier(link)
            link.out += req(p.GRAB_JOB)
        elif number == p.NO_JOB:
            if self._ended[index]:
                self._barrier(link)
            link.out += req(p.PRE_SLEEP)
        elif number == p.NOOP:
            link.out += req(p.GRAB_JOB)
        elif number == p.ECHO_RES:
            for handle in self._barriers[index].popleft():
                self.say(b"F", handle, b"%.6f" % time.monotonic(), self._life[index])

    def _barrier(self, link: Link) -> None:
        self._barriers[link.index].append(self._ended[link.index])
        self._ended[link.index] = []
        link.out += req(p.ECHO_REQ, b"")


ROLES = {"submitter": Submitter, "worker": Worker}


def main() -> None:
    """Until SIGTERM."""
    end = ROLES[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
    ending: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: ending.append(number))
    while not ending:
        end.turn()


if __name__ == "__main__":
    main()
