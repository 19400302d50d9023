"""Servers that are not as they should be: each says what a test tells it to, and nothing else."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

from farm.protocol import packets as p
from tests.support import PATIENCE_S


def res(number: int, *parts: bytes) -> bytes:
    """A packet from a server."""
    body = b"\0".join(parts)
    return header(number, len(body)) + body


def header(number: int, length: int) -> bytes:
    """Of a packet from a server, whatever follows it."""
    return b"\0RES" + struct.pack(">II", number, length)


CREATED = res(p.JOB_CREATED, b"H:fake:1")


class Caller:
    """One connection to a fake server, as the server sees it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.got = b""

    def until(self, words: bytes) -> None:
        """Read until `words` has come."""
        while words not in self.got:
            chunk = self.sock.recv(1 << 16)
            assert chunk, f"closed before {words!r} came: {self.got!r}"
            self.got += chunk

    def say(self, data: bytes) -> None:
        """Send it."""
        self.sock.sendall(data)

    def until_closed(self) -> None:
        """Read whatever comes until the other side closes."""
        with contextlib.suppress(ConnectionResetError):
            while chunk := self.sock.recv(1 << 16):
                self.got += chunk


@contextlib.contextmanager
def fake_server(talk: Callable[[Caller], None]) -> Iterator[tuple[str, list[Caller]]]:
    """A server that has `talk` with each connection, then closes it. Gives its address and the connections so far."""
    listener = socket.create_server(("127.0.0.1", 0))
    callers: list[Caller] = []
    failures: list[BaseException] = []

    def serve() -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            with sock:
                sock.settimeout(PATIENCE_S)
                callers.append(Caller(sock))
                try:
                    talk(callers[-1])
                except (OSError, AssertionError) as failure:
                    failures.append(failure)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}", callers
    finally:
        listener.shutdown(socket.SHUT_RDWR)  # wakes accept
        listener.close()
        thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert not failures, failures


@contextlib.contextmanager
def http_server() -> Iterator[str]:
    """A real HTTP server, as somebody might have on the port; gives its address."""

    class Quiet(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Quiet)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join(PATIENCE_S)
        server.server_close()
