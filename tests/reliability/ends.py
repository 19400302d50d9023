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
from tests.reliability.asker import Asker
from tests.support import req

JOBS = b"job"  # the function of all but delayed jobs
LATER = b"later"  # of delayed ones: one that waits must not be joined by one that is due at once
FLAKY = b"flaky"  # of those that are tried again: each attempt fails or not by chance
CLOCKED = b"clocked"  # of cron entries: each job's payload is its entry's name
CONNECTIONS = 3  # of each worker
WINDOW = 64  # submissions without an answer on a connection
CALLS = 8  # foreground jobs without a result on a connection
BURST, BURST_EVERY_S = 16, 0.02  # so that submitters do not leave the workers too far behind
KEYS = 40
DELAY_MAX_S = 3
RETRIES_MAX = 3
BACKOFF_S = 2.0  # longer than a restart takes
HELD_S = 3600  # a key that counts for so long counts for the whole run
HELD_TIMES = 3  # a submitter says each such key so often, and every submitter says the same ones
TERMS_BURST = 4
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

    connections = CONNECTIONS

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self.port = port
        self.links = [Link(index) for index in range(self.connections)]
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


CALLING, PLAIN, TERMS, ASKING = range(4)  # a submitter's connections


class Submitter(End):
    """Foreground jobs on one connection, which now and then leaves them; background jobs on the next; those with terms
    on the third; and on the last it asks about these, and cancels some."""

    connections = 4

    def __init__(self, name: str, port: int) -> None:
        super().__init__(name, port)
        self._numbers = count(1)
        self._held = count(0)
        self._asked: list[deque[bytes]] = [deque() for _ in self.links]  # names in order, without an answer
        self._calls = 0
        self._next = [0.0 for _ in self.links]
        self._asker = Asker(self.chance, self.say)

    def opened(self, link: Link) -> None:
        """What was asked on the last connection may have been heard or not: it is not asked again."""
        self._asked[link.index].clear()
        if link.index == CALLING:
            self._calls = 0
        elif link.index == TERMS:
            link.out += req(p.OPTION_REQ, b"farm-1")
        elif link.index == ASKING:
            link.out += self._asker.opened()

    def took(self, link: Link, number: int, body: bytes) -> None:
        """JOB_CREATED, FARM_EXISTS and ERROR answer in order; a foreground job's result comes any time."""
        asked = self._asked[link.index]
        if link.index == ASKING:
            self._asker.took(number, body)
        elif number in (p.JOB_CREATED, p.FARM_EXISTS):
            name, handle = asked.popleft(), body.partition(b"\0")[0]
            self.say(b"A" if link.index != CALLING else b"G", name, handle)
            if link.index == TERMS and name.endswith(b"."):
                self._asker.knows(handle)
        elif number == p.ERROR:
            asked.popleft()
            self._calls -= link.index == CALLING
        elif number in (p.WORK_COMPLETE, p.WORK_FAIL):
            self._calls -= 1

    def act(self, link: Link) -> None:
        """Submit what the window and the pace allow."""
        if link.index == ASKING:
            link.out += self._asker.ask()
            return
        if link.index == CALLING:
            self._call(link)
            return
        now = time.monotonic()
        if now < self._next[link.index]:
            return
        self._next[link.index] = now + BURST_EVERY_S
        for _ in range(BURST if link.index == PLAIN else TERMS_BURST):
            if len(self._asked[link.index]) < WINDOW:
                (self._submit_plain if link.index == PLAIN else self._submit_terms)(link)

    def _call(self, link: Link) -> None:
        if self.chance.random() < 0.02:
            link.close()
            return
        while self._calls < CALLS:
            self._calls += 1
            key = self._key()
            self._submit(link, key, 0.0, self.chance.choice(CALL_SUBMITS), JOBS, key)

    def _key(self) -> bytes:
        return b"k%d" % self.chance.randrange(KEYS)

    def _submit_plain(self, link: Link) -> None:
        chance = self.chance.random()
        if chance > 0.95:
            due = int(time.time()) + self.chance.randint(1, DELAY_MAX_S)
            self._submit(link, b"", due, p.SUBMIT_JOB_EPOCH, LATER, b"", b"%d" % due)
        else:
            key = self._key() if chance < 0.2 else b""
            self._submit(link, key, 0.0, self.chance.choice(SUBMITS), JOBS, key)

    def _submit_terms(self, link: Link) -> None:
        """A key that counts when its job has ended may have to wait for that end to be durable, and others are answered
        first: so it is alone."""
        asked = self._asked[link.index]
        if asked and not asked[0].endswith(b"."):
            return
        if not asked and self.chance.random() < 0.7:
            key = b"u%d" % (next(self._held) // HELD_TIMES)
            words = b"background=1 unique-for=%d if-exists=%s" % (HELD_S, self.chance.choice((b"attach", b"skip")))
            self._submit(link, key, 0.0, p.FARM_SUBMIT, JOBS, key, words)
            return
        retries, delay_s = self.chance.randint(0, RETRIES_MAX), self.chance.choice((0.0, 0.0, 0.0, 1.0))
        words = b"background=1 retries=%d backoff=%g backoff-max=%g" % (retries, BACKOFF_S, BACKOFF_S)
        words += b" in=%g" % delay_s if delay_s else b""
        due = time.time() + delay_s if delay_s else 0.0
        self._submit(link, b"", due, p.FARM_SUBMIT, FLAKY, b"", words, b"%d %g" % (retries, BACKOFF_S))

    def _submit(
        self, link: Link, key: bytes, due: float, number: int, function: bytes, unique: bytes, *more: bytes
    ) -> None:
        """more: the packet's further arguments, and for the ledger, of a job that is tried again, how."""
        again = more[1:]
        name = b"%s.%d.%s" % (self.name.encode(), next(self._numbers), key)
        link.out += req(number, function, unique, *more[:1], name)
        self.say(b"S", name, b"%.6f" % due, *again)
        self._asked[link.index].append(name)


Ended = tuple[bytes, bytes, float]


class Worker(End):
    """Does jobs: every sixteenth fails, and every second attempt of the flaky ones. On the first connection, which can
    be told that a job is cancelled, each end is followed by a barrier, on the others every eighth."""

    def __init__(self, name: str, port: int) -> None:
        super().__init__(name, port)
        self._life: list[bytes] = [b""] * len(self.links)
        # Since the last barrier, and before each that is not answered: (the line's kind, a handle, when reported)
        self._ended: list[list[Ended]] = [[] for _ in self.links]
        self._barriers: list[deque[list[Ended]]] = [deque() for _ in self.links]

    def opened(self, link: Link) -> None:
        """Ask whose life it is, and register."""
        self._ended[link.index] = []
        self._barriers[link.index].clear()
        link.out += b"getpid\n" + req(p.OPTION_REQ, b"farm-sync")
        link.out += b"" if link.index else req(p.OPTION_REQ, b"farm-1")
        link.out += b"".join(req(p.CAN_DO, function) for function in (JOBS, LATER, FLAKY, CLOCKED)) + req(p.GRAB_JOB)

    def took(self, link: Link, number: int, body: bytes) -> None:
        """X before the attempt's end goes out, F or B once it is durable."""
        index = link.index
        if number == p.TEXT:
            self._life[index] = body
        elif number == p.JOB_ASSIGN:
            self._do(link, *body.split(b"\0", 2))
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
            for kind, handle, reported in self._barriers[index].popleft():
                self.say(kind, handle, b"%.6f %.6f" % (reported, time.monotonic()), self._life[index])

    def _do(self, link: Link, handle: bytes, function: bytes, name: bytes) -> None:
        now = time.monotonic()
        good = self.chance.random() < 0.5 if function == FLAKY else crc32(name) % 16 > 0
        said = b"%.6f %.6f" % (time.time(), now)
        self.say(b"X", handle, name, said, self._life[link.index], b"done" if good else b"failed")
        link.out += req(p.WORK_COMPLETE, handle, b"done " + name) if good else req(p.WORK_FAIL, handle)
        self._ended[link.index].append((b"B" if function == FLAKY and not good else b"F", handle, now))

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
