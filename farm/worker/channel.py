"""A library worker's connection to one server: made, kept, and made again after a while; never waited for."""

from __future__ import annotations

import logging
import os
import random
import select
import socket
import time

from farm.errors import FarmError, Unavailable
from farm.net import Target, reason, resolve, tune
from farm.protocol.address import Address
from farm.stream import Stream
from farm.worker.session import LEFT, Session

CONNECT_TIMEOUT_S = 4.0
ANSWER_TIMEOUT_S = 30.0  # a server answers at once; one that takes this long hangs
RETRY_MIN_S = 0.1
RETRY_MAX_S = 10.0

log = logging.getLogger("farm.worker")


class Channel:
    """One server. session: the conversation while there is one. due: when `tick` has something to do, monotonic."""

    def __init__(self, address: Address, insecure: bool, name: bytes, functions: dict[bytes, int]) -> None:
        self.address = address
        self.session: Session | None = None
        self.due = 0.0
        self._insecure = insecure
        self._name = name
        self._functions = functions
        self._targets: list[Target] = []
        self._sock: socket.socket | None = None  # being connected
        self._stream: Stream | None = None
        self._retry_s = RETRY_MIN_S
        self._up: bool | None = None

    # -- for the poll

    def fileno(self) -> int:
        """What to poll; -1: nothing."""
        holder = self._sock or self._stream
        return holder.fileno() if holder else -1

    @property
    def wants(self) -> int:
        """What to poll for."""
        return select.POLLOUT if self._sock or not self._stream else self._stream.wants

    @property
    def unsent(self) -> int:
        """Bytes that the server has not taken."""
        return self._stream.unsent if self._stream else 0

    def ready(self, events: int) -> None:
        """The descriptor is ready: connect, send and receive what can be without waiting."""
        if self._sock:
            self._connected(self._sock)
            return
        assert self._stream and self.session
        if events & select.POLLOUT:
            self._stream.flush()
        if not events & ~select.POLLOUT:
            return
        try:
            for number, body in self._stream.read():
                greeting = not self._up
                self.session.receive(number, body)
                if greeting:
                    self._greeted()
        except FarmError as failure:
            self._failed(failure.message)
            return
        if self.session.complaint:
            log.warning("the server at %s says: %s", self.address, self.session.complaint)
            self.session.complaint = ""
        if self._stream.closed:
            self._failed(self._stream.closed)

    def tick(self, now: float) -> None:
        """What is due: connect again, or give up waiting for an answer. Raises NotPermitted."""
        if now < self.due:
            return
        if self._sock or self._stream:
            self._failed("no answer")
            return
        if not self._targets:
            try:
                self._targets = resolve(self.address, self._insecure)
            except Unavailable as failure:
                self._failed(failure.message)
                return
        self._connect()

    def send(self, pieces: tuple[bytes, ...]) -> None:
        """Queue a packet; it is dropped when there is no connection."""
        if self._stream:
            self._stream.send(pieces)

    def close(self) -> None:
        """Close it; a job that its server gave goes to another worker."""
        for holder in (self._sock, self._stream):
            if holder:
                holder.close()
        self._sock = self._stream = self.session = None

    # -- inside

    def _connect(self) -> None:
        family, where = self._targets.pop(0)
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setblocking(False)
        self._sock = sock
        self.due = time.monotonic() + CONNECT_TIMEOUT_S
        try:
            sock.connect(where)
        except BlockingIOError:
            return
        except OSError as error:
            self._failed(reason(error))
            return
        self._connected(sock)

    def _connected(self, sock: socket.socket) -> None:
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            self._failed(os.strerror(error).lower())
            return
        tune(sock)
        self._sock, self._targets = None, []
        self._stream = Stream(sock)
        self.session = Session(str(self.address), self._stream.send)
        self.due = time.monotonic() + ANSWER_TIMEOUT_S
        self.session.greet(self._name, self._functions)

    def _greeted(self) -> None:
        self.due = float("inf")
        self._retry_s = RETRY_MIN_S
        self._up = True
        log.info("working for the server at %s", self.address)

    def _failed(self, words: str) -> None:
        """There is no connection, or no more: the other targets of the address, then again after a while."""
        left = self.session is not None and self.session.state == LEFT
        self.close()
        if self._targets:
            self.due = 0.0
            return
        if self._up is not False and not left:  # once until it is back, however often it is tried
            log.warning("no server at %s: %s; trying again until there is one", self.address, words)
        self._up = False
        self.due = time.monotonic() + self._retry_s * random.uniform(0.5, 1.0)
        self._retry_s = min(self._retry_s * 2, RETRY_MAX_S)
