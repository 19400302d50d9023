"""What tests need around real sockets and processes: waiting, a raw Gearman connection, a server process.

Packets are built and taken apart here by hand, never by farm's own encoder or decoder: a fault in those must not hide
itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from farm.protocol import packets as p

CHECKOUT = Path(__file__).parent.parent
PATIENCE_S = 20.0  # nothing in these tests takes so long unless it hangs; a loaded machine may need a part of it

Packet = tuple[int, bytes]

PORTS = range(10_000, 32_768)  # below those that the system gives to whoever asks for any


def wait_until(condition: Callable[[], object], timeout_s: float = PATIENCE_S, what: str = "") -> None:
    """Return once `condition()` is true; fail when it is not in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s:g}s: {what or condition}"
        time.sleep(0.005)


def free_port() -> int:
    """A port that was free a moment ago, and stays so until it is used: the system gives none of these to a connection
    or to who listens on port 0, and another test hardly ever draws the same."""
    while True:
        port = random.SystemRandom().choice(PORTS)
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


def req(number: int, *parts: bytes) -> bytes:
    """A packet to a server."""
    body = b"\0".join(parts)
    return b"\0REQ" + struct.pack(">II", number, len(body)) + body


class Wire:
    """A raw connection: bytes out, packets and lines in. Every wait is bounded, so a hang is a failure."""

    def __init__(self, where: tuple[str, int] | str, receive_buffer: int = 0) -> None:
        unix = isinstance(where, str)
        self.sock = socket.socket(socket.AF_UNIX if unix else socket.AF_INET, socket.SOCK_STREAM)
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.settimeout(PATIENCE_S)
        try:
            self.sock.connect(where)
        except OSError:
            self.sock.close()
            raise
        if not unix:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._in = b""

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave."""
        self.sock.close()

    def raw(self, data: bytes) -> None:
        """Any bytes. A server that has closed already is no error here: what it answered is what counts."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.sock.sendall(data)

    def raw_all(self, pieces: list[bytes]) -> None:
        """Any bytes, in pieces."""
        for piece in pieces:
            self.raw(piece)

    def send(self, number: int, *parts: bytes) -> None:
        """One packet."""
        self.sock.sendall(req(number, *parts))

    def half_close(self) -> None:
        """Say that nothing more comes, and still read."""
        self.sock.shutdown(socket.SHUT_WR)

    def _more(self) -> bool:
        chunk = self.sock.recv(1 << 18)
        self._in += chunk
        return bool(chunk)

    def take(self, size: int) -> bytes:
        """Exactly so many bytes."""
        pieces, have = [self._in], len(self._in)
        while have < size:
            chunk = self.sock.recv(1 << 20)
            assert chunk, f"the server closed the connection after {have} of {size} bytes: {b''.join(pieces)[:200]!r}"
            pieces.append(chunk)
            have += len(chunk)
        whole = b"".join(pieces)
        self._in = whole[size:]
        return whole[:size]

    def packet(self) -> Packet:
        """The next packet from the server."""
        magic, number, length = struct.unpack(">4sII", self.take(12))
        assert magic == b"\0RES", magic
        return number, self.take(length)

    def line(self) -> bytes:
        """The next line of text, with its end."""
        while b"\n" not in self._in:
            assert self._more(), f"the server closed the connection within a line: {self._in!r}"
        line, _, self._in = self._in.partition(b"\n")
        return line + b"\n"

    def listing(self, command: bytes) -> list[bytes]:
        """The lines that an admin command lists, without the dot."""
        self.raw(command + b"\n")
        lines: list[bytes] = []
        while (line := self.line()) != b".\n":
            lines.append(line)
        return lines

    def expect(self, number: int, *parts: bytes) -> None:
        """The next packet is exactly this."""
        assert self.packet() == (number, b"\0".join(parts))

    def expect_error(self, code: bytes) -> bytes:
        """The next packet is an ERROR of this code; returns its text."""
        number, body = self.packet()
        assert number == p.ERROR, (number, body)
        found, _, text = body.partition(b"\0")
        assert found == code
        assert text
        return text

    def expect_end(self) -> None:
        """The server has closed in good order, which is no reset, and sends nothing before that."""
        assert not self._in, self._in
        assert not self._more(), self._in

    def expect_nothing(self) -> None:
        """The server has answered everything, and the connection works: the very next packet answers this echo."""
        self.send(p.ECHO_REQ, b"nothing else?")
        self.expect(p.ECHO_RES, b"nothing else?")

    # -- a client and a worker in short

    def submit(self, function: bytes, payload: bytes = b"", unique: bytes = b"", number: int = p.SUBMIT_JOB) -> bytes:
        """Submit; returns the handle."""
        self.send(number, function, unique, payload)
        number, handle = self.packet()
        assert number == p.JOB_CREATED, (number, handle)
        return handle

    def grab(self, number: int = p.GRAB_JOB) -> bytes:
        """Grab; returns the body of the assignment, or b"" when there is no job."""
        self.send(number)
        got, body = self.packet()
        if got == p.NO_JOB:
            return b""
        assert got == (p.JOB_ASSIGN if number == p.GRAB_JOB else p.JOB_ASSIGN_UNIQ)
        return body


class ServerProcess:
    """A server in a process of its own, on a free port; what it logs is in `log()`."""

    def __init__(self, directory: Path, nofile: int = 0, level: str = "notice", **config: Any) -> None:
        config.setdefault("listen", ["127.0.0.1:0"])
        options = {"nofile": nofile, "level": level, "config": config}
        self._log = directory / f"server-{time.monotonic_ns()}.log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", _MAIN, json.dumps(options)],
                cwd=CHECKOUT,
                env={**os.environ, "PYTHONPATH": str(CHECKOUT), "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stderr=log,
            )

    @property
    def pid(self) -> int:
        """Of the server."""
        return self.process.pid

    def log(self) -> str:
        """Everything logged so far."""
        return self._log.read_text()

    def addresses(self) -> list[str]:
        """Where it listens, as it says itself."""
        words = (line.partition(" listening on ") for line in self.log().splitlines())
        return [where for _, found, where in words if found]

    def started(self) -> ServerProcess:
        """Wait until it listens."""
        wait_until(lambda: "store: " in self.log() or self.process.poll() is not None, what="the server listens")
        assert self.process.poll() is None, self.log()
        return self

    @property
    def where(self) -> tuple[str, int]:
        """Its TCP address."""
        host, _, port = next(a for a in self.addresses() if not a.startswith("unix:")).rpartition(":")
        return host, int(port)

    def connect(self, receive_buffer: int = 0) -> Wire:
        """A new connection to it."""
        return Wire(self.where, receive_buffer)

    def rss(self) -> int:
        """Its resident memory in bytes."""
        return self._memory("VmRSS")

    def vm(self) -> int:
        """Its address space in bytes, touched or not."""
        return self._memory("VmSize")

    def _memory(self, which: str) -> int:
        line = next(line for line in Path(f"/proc/{self.pid}/status").read_text().splitlines() if which in line)
        return int(line.split()[1]) * 1024

    def fds(self) -> int:
        """How many descriptors it holds."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def terminate(self) -> None:
        """SIGTERM."""
        self.process.send_signal(signal.SIGTERM)

    def limit_descriptors(self, count: int) -> None:
        """From now on it may have no more: somebody else has taken the rest."""
        resource.prlimit(self.pid, resource.RLIMIT_NOFILE, (count, count))

    def drain(self) -> None:
        """SIGUSR1."""
        self.process.send_signal(signal.SIGUSR1)

    def wait(self, timeout_s: float = PATIENCE_S) -> int:
        """Its exit status."""
        return self.process.wait(timeout_s)

    def end(self) -> None:
        """End it however it is. It must still have been as it should: a traceback in its log is a failure."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE_S)
        assert "Traceback" not in self.log(), self.log()


_MAIN = """
import json, resource, sys
from farm.errors import FarmError
from farm.protocol.address import parse_address
from farm.server.config import ServerConfig
from farm.server.daemon import serve
from farm.server.logs import LogConfig
from farm.store.memory import MemoryStore
options = json.loads(sys.argv[1])
if options["nofile"]:
    resource.setrlimit(resource.RLIMIT_NOFILE, (options["nofile"],) * 2)
listen = [parse_address(text) for text in options["config"].pop("listen")]
try:
    logs = LogConfig(level=options["level"])
    sys.exit(serve(ServerConfig(listen=listen, **options["config"]), MemoryStore(), logs=logs))
except FarmError as error:
    print("farm: error:", error.message, file=sys.stderr)
    print("hint:", error.hint, file=sys.stderr)
    sys.exit(error.status)
"""


@contextlib.contextmanager
def worker_and_client(server: ServerProcess, function: bytes) -> Iterator[tuple[Wire, Wire]]:
    """A worker that can do `function`, and a client."""
    with server.connect() as worker, server.connect() as client:
        worker.send(p.CAN_DO, function)
        worker.expect_nothing()
        yield worker, client


def do_one_job(worker: Wire, client: Wire, function: bytes, payload: bytes = b"in") -> float:
    """One whole job, exactly as it should be; returns how many seconds it took."""
    begin = time.monotonic()
    handle = client.submit(function, payload)
    assert worker.grab() == b"\0".join((handle, function, payload))
    worker.send(p.WORK_COMPLETE, handle, payload[::-1])
    client.expect(p.WORK_COMPLETE, handle, payload[::-1])
    return time.monotonic() - begin
