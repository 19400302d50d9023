"""Plays a script against a server, step by step, and writes down what every connection got.

A script is text, one step a line, so that a failing one can be read, cut and played again:

    c1 SUBMIT_JOB f|unique|payload    a packet; arguments with Python's escapes; #1 is the first handle that appeared
    a: status                         an admin line
    c1 raw \\0REQ...                   any bytes
    c1 closes                         the connection leaves; the next step of that name opens a new one
    sleep 1.5                         for what takes time; @+2 in an argument is the clock's time two seconds from now

After each step the player sends an ECHO_REQ on every connection and reads until its answer: by then both servers have
answered everything that came before.
"""

from __future__ import annotations

import contextlib
import re
import select
import socket
import struct
import time
from typing import NamedTuple

from farm.protocol.packets import KINDS
from tests.support import PATIENCE_S, req

# Not farm's names: the numbers of the protocol's own table, written down once more.
_NAMES = """
    CAN_DO CANT_DO RESET_ABILITIES PRE_SLEEP UNUSED NOOP SUBMIT_JOB JOB_CREATED GRAB_JOB NO_JOB JOB_ASSIGN WORK_STATUS
    WORK_COMPLETE WORK_FAIL GET_STATUS ECHO_REQ ECHO_RES SUBMIT_JOB_BG ERROR STATUS_RES SUBMIT_JOB_HIGH SET_CLIENT_ID
    CAN_DO_TIMEOUT ALL_YOURS WORK_EXCEPTION OPTION_REQ OPTION_RES WORK_DATA WORK_WARNING GRAB_JOB_UNIQ JOB_ASSIGN_UNIQ
    SUBMIT_JOB_HIGH_BG SUBMIT_JOB_LOW SUBMIT_JOB_LOW_BG SUBMIT_JOB_SCHED SUBMIT_JOB_EPOCH SUBMIT_REDUCE_JOB
    SUBMIT_REDUCE_JOB_BACKGROUND GRAB_JOB_ALL JOB_ASSIGN_ALL GET_STATUS_UNIQUE STATUS_RES_UNIQUE
"""
NUMBERS = {name: number for number, name in enumerate(_NAMES.split(), 1)}
NAMES = {number: name for name, number in NUMBERS.items()}
assert all(KINDS[number].name == name for name, number in NUMBERS.items() if number in KINDS)

SILENCE_S = 0.4  # a server that has not answered an echo by then waits for more: seen in the table's scripts only
_MARK = b"\0barrier\0"


class Got(NamedTuple):
    """Something that a connection got after a step: a packet, a line, "closed", or "silent" where no echo came back."""

    connection: str
    what: str  # the packet's name, "line", "closed" or "silent"
    args: tuple[bytes, ...] = ()


def escape(data: bytes) -> str:
    """Bytes as a script has them."""
    return data.decode("latin-1").encode("unicode_escape").decode().replace("|", "\\x7c").replace("#", "\\x23")


def unescape(text: str) -> bytes:
    """And back."""
    return text.encode("latin-1").decode("unicode_escape").encode("latin-1")


class _Connection:
    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self.sock = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.open = True
        self.deaf = False  # the server waits for the rest of something
        self._in = b""

    def send(self, data: bytes) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.sock.sendall(data)

    def until(self, mark: bytes, patience_s: float) -> list[Got]:
        """All that comes before the echo of `mark`."""
        got: list[Got] = []
        deadline = time.monotonic() + patience_s
        while True:
            while (one := self._next()) is not None:
                if one.what == "ECHO_RES" and one.args == (mark,):
                    return got
                got.append(one)
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.sock], [], [], left)[0]:
                self.deaf = True
                return [*got, Got(self.name, "silent")]
            try:
                chunk = self.sock.recv(1 << 16)
            except ConnectionResetError:
                chunk = b""
            if not chunk:
                self.open = False
                self.sock.close()
                return [*got, Got(self.name, "closed")]
            self._in += chunk

    def _next(self) -> Got | None:
        if not self._in:
            return None
        if self._in[0]:
            line, end, rest = self._in.partition(b"\n")
            if not end:
                return None
            self._in = rest
            return Got(self.name, "line", (line + end,))
        if len(self._in) < 12:
            return None
        magic, number, length = struct.unpack(">4sII", self._in[:12])
        assert magic == b"\0RES", magic
        if len(self._in) < 12 + length:
            return None
        body, self._in = self._in[12 : 12 + length], self._in[12 + length :]
        kind = KINDS[number]
        count = len(kind.args) + kind.data
        args = tuple(body.split(b"\0", count - 1)) if count else ((body,) if body else ())
        return Got(self.name, NAMES[number], args)


class Player:
    """One server's side of a play. handles: in the order of their first appearance."""

    def __init__(self, port: int, patience_s: float = PATIENCE_S) -> None:
        self.port = port
        self.handles: list[bytes] = []
        self.script: list[str] = []
        self.record: list[list[Got]] = []
        self._patience_s = patience_s
        self._connections: dict[str, _Connection] = {}
        self._barriers = 0

    def __enter__(self) -> Player:
        return self

    def __exit__(self, *_: object) -> None:
        for connection in self._connections.values():
            connection.sock.close()

    def step(self, step: str) -> list[Got]:
        """Play one line; returns what the connections got, in the order of their names."""
        self.script.append(step)
        who, _, rest = step.partition(" ")
        if who == "sleep":
            time.sleep(float(rest))
        elif rest == "closes":
            self._connections.pop(who.rstrip(":")).sock.close()
            # No barrier reaches a connection that is gone: the server has seen its end once nothing else is to come.
            time.sleep(0.02)
        else:
            self._send(who, rest)
        got = self._barrier(who.rstrip(":"))
        self.record.append(got)
        for one in got:
            if one.what.startswith(("JOB_CREATED", "JOB_ASSIGN")) and one.args[0] not in self.handles:
                self.handles.append(one.args[0])
        return got

    def _send(self, who: str, rest: str) -> None:
        name = who.rstrip(":")
        connection = self._connections.get(name)
        if connection is None or not connection.open:
            connection = self._connections[name] = _Connection(name, self.port)
        if who.endswith(":"):
            connection.send(self._bytes(rest) + b"\n")
            return
        kind, _, args = rest.partition(" ")
        if kind == "raw":
            connection.send(unescape(args))
            return
        connection.send(req(NUMBERS[kind], *(self._bytes(arg) for arg in args.split("|"))))

    def _bytes(self, text: str) -> bytes:
        text = re.sub(r"@\+(\d+)", lambda found: str(int(time.time()) + int(found[1])), text)
        return re.sub(rb"#(\d+)", lambda found: self.handles[int(found[1]) - 1], unescape(text))

    def _barrier(self, first: str) -> list[Got]:
        """The connection that acted first: what its step did to others is queued for them by then."""
        self._barriers += 1
        mark = _MARK + b"%d" % self._barriers
        echo = req(NUMBERS["ECHO_REQ"], mark)
        got: list[Got] = []
        if first in self._connections:
            got += self._ask(self._connections[first], echo, mark)
        others = [c for name, c in self._connections.items() if name != first and c.open and not c.deaf]
        for connection in others:
            connection.send(echo)
        for connection in others:
            got += connection.until(mark, self._patience_s)
        return sorted(got, key=lambda one: one.connection)  # stable: the order on a connection stays

    def _ask(self, connection: _Connection, echo: bytes, mark: bytes) -> list[Got]:
        connection.send(echo)
        return connection.until(mark, self._patience_s)


def play(port: int, script: list[str], patience_s: float = PATIENCE_S) -> Player:
    """A whole script."""
    with Player(port, patience_s) as player:
        for step in script:
            player.step(step)
        return player
