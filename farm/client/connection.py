"""A blocking connection to one Gearman server, stock or farm's; any number of servers may be given to find it.

It reads while it sends, so that neither side can wait for the other, and every wait has a bound.
"""

from __future__ import annotations

import _socket as socket  # see farm.net
import os
import select
import time

from farm.client.servers import ServerList
from farm.errors import NO_SERVER_HINT, FarmError, NotGearman, Unavailable
from farm.net import Target, reason, resolve, tune
from farm.protocol.address import Address
from farm.protocol.decoder import Decoder, Packet
from farm.protocol.limits import PAYLOAD_HEADER_MAX
from farm.protocol.names import quoted
from farm.protocol.packets import RESPONSE, TEXT

CONNECT_TIMEOUT_S = 4.0  # libgearman's default too
NEXT_TIMEOUT_S = 1.5  # while there is another server to try; a lost first packet is sent again after 1 s
ANSWER_TIMEOUT_S = 30.0  # a server answers at once; one that takes this long hangs
NOTICE_S = 1.0  # nobody should look at a silent terminal for longer
READ_SIZE = 256 * 1024

TYPE_CHECKING = False
if TYPE_CHECKING:  # `typing` itself would cost a third of the start-up time
    from collections.abc import Callable
    from typing import Protocol

    class Holder(Protocol):
        """Of what a signal handler raises."""

        def hold(self) -> None:
            """Raise nothing from now on."""

        def let(self) -> None:
            """Raise at once again, also what was held back."""


class Connection:
    """One open connection. `address` is the server that answered.

    notify(message, hint), where it is set, is told once when the server lets a person wait for an answer. holder: where
    it is set, interruptions come while this waits for the server, and not while what came is taken apart, where they
    would lose it.
    """

    def __init__(self, sock: socket.socket, address: Address) -> None:
        self.address = address
        self._sock = sock
        self._decoder = Decoder(RESPONSE, payload_max=PAYLOAD_HEADER_MAX, line_max=READ_SIZE)
        self._inbox: list[Packet] = []
        self._closed = False
        self.received = 0  # bytes
        self.heard = 0.0  # when the last ones came: monotonic seconds
        self.notify: Callable[[str, str], None] | None = None
        self.holder: Holder | None = None
        sock.setblocking(False)

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._sock.fileno()

    def close(self) -> None:
        """Close the socket; a foreground job that only this connection waits for ends with it."""
        self._sock.close()

    def break_off(self) -> None:
        """Another thread may be waiting for an answer: it finds the connection closed."""
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it is closed already

    def send(self, *pieces: bytes) -> bool:
        """Send everything, and take in what comes meanwhile. Stops early, and returns False, when the server has closed
        its side: what it said last is in the inbox. Raises Unavailable when nothing moves for ANSWER_TIMEOUT_S."""
        poller = select.poll()
        poller.register(self._sock, select.POLLIN | select.POLLOUT)
        for piece in pieces:
            rest = memoryview(piece)
            while rest and not self._closed:
                try:
                    rest = rest[self._sock.send(rest) :]
                    continue
                except (BlockingIOError, InterruptedError):
                    pass
                except OSError:
                    self._drain()
                    return False
                ready = self._poll(poller, ANSWER_TIMEOUT_S * 1000)
                if not ready:
                    raise Unavailable(f"the server at {self.address} takes no data", "is it overloaded or stopped?")
                if ready[0][1] & select.POLLIN:
                    self._take()
            if rest:
                return False
        return True

    def receive(self, timeout_s: float | None, watch: int = -1) -> list[Packet]:
        """The packets that have come, at least one unless the time is up (then none) or `watch` has a say.

        watch: a descriptor whose reader may leave (-1: none); when it does, BrokenPipeError is raised.
        Raises Unavailable when the server has closed the connection, NotGearman for what is not Gearman.
        """
        poller = select.poll()
        poller.register(self._sock, select.POLLIN)
        if watch >= 0:
            poller.register(watch, 0)
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not self._inbox:
            if self._decoder.failed:
                raise NotGearman(
                    f"the server at {self.address} does not speak Gearman: {self._decoder.failed.text.decode()}",
                    "check the address: is another program listening there?",
                )
            if self._closed:
                raise Unavailable(f"the server at {self.address} closed the connection")
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            ready = self._poll(poller, None if left is None else left * 1000)
            if any(fd == watch for fd, _ in ready):
                raise BrokenPipeError
            if ready:
                self._take()
            elif left == 0.0:
                return []
        packets, self._inbox = self._inbox, []
        return packets

    def answer(self, timeout_s: float, watch: int = -1) -> list[Packet]:
        """As `receive`, for what a server that is well says at once: after NOTICE_S without it `notify` is told."""
        if self.notify and timeout_s > NOTICE_S:
            if came := self.receive(NOTICE_S, watch):
                return came
            self.notify(f"waiting: the server at {self.address} does not answer yet", "")
            self.notify = None
            timeout_s -= NOTICE_S
        return self.receive(timeout_s, watch)

    def silent(self) -> Silent:
        """What to raise when no answer has come in time."""
        return silent(self.address)

    def status_lines(self, timeout_s: float = ANSWER_TIMEOUT_S) -> list[bytes]:
        """The rows of the admin command `status`. Other packets that come meanwhile are kept for `receive`."""
        return self.ask(b"status", timeout_s)

    def ask(self, command: bytes, timeout_s: float = ANSWER_TIMEOUT_S) -> list[bytes]:
        """The rows of an admin command that answers with a list. Raises Unavailable when no answer comes in time."""
        self.send(command + b"\n")
        rows: list[bytes] = []
        others: list[Packet] = []
        deadline = time.monotonic() + timeout_s
        try:
            while True:
                came = self.answer(max(0.0, deadline - time.monotonic()))
                if not came:
                    raise self.silent()
                for index, (number, line) in enumerate(came):
                    if number != TEXT:
                        others.append((number, line))
                    elif line == b".":
                        others += came[index + 1 :]
                        return rows
                    else:
                        rows.append(line)
        finally:
            self._inbox = others + self._inbox

    def ask_line(self, command: bytes, timeout_s: float = ANSWER_TIMEOUT_S) -> bytes:
        """The one line that an admin command such as `version` answers with."""
        self.send(command + b"\n")
        for number, line in self.answer(timeout_s):
            if number == TEXT:
                return line
        raise self.silent()

    def version(self, timeout_s: float = ANSWER_TIMEOUT_S) -> bytes:
        """The server's version. Raises NotGearman for what does not answer as a Gearman server does."""
        line = self.ask_line(b"version", timeout_s)
        if not line.startswith(b"OK "):
            raise NotGearman(
                f"the server at {self.address} does not speak Gearman; it said {quoted(line[:40])}",
                "check the address: is another program listening there?",
            )
        return line[3:]

    def _poll(self, poller: select.poll, timeout_ms: float | None) -> list[tuple[int, int]]:
        if self.holder is None:
            return poller.poll(timeout_ms)
        self.holder.let()
        try:
            return poller.poll(timeout_ms)
        finally:
            self.holder.hold()

    def _take(self) -> None:
        try:
            chunk = self._sock.recv(READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            chunk = b""
        if chunk:
            self.received += len(chunk)
            self.heard = time.monotonic()
            self._inbox += self._decoder.feed(chunk)
        else:
            self._closed = True

    def _drain(self) -> None:
        """The server has closed: read what it said last."""
        while not self._closed:
            before = len(self._inbox)
            self._take()
            if len(self._inbox) == before:
                break
        self._closed = True


def connect(servers: ServerList, insecure: bool) -> Connection:
    """A connection to the first server that answers, and the list knows what was found. Raises Unavailable (none does)
    or NotPermitted.

    While there is another server to try, one that is silent gets NEXT_TIMEOUT_S; CONNECT_TIMEOUT_S when none answers.
    """
    candidates = servers.candidates(time.monotonic(), chance)
    failures: list[FarmError] = []
    attempts = [(address, NEXT_TIMEOUT_S) for address in candidates[:-1]] + [(candidates[-1], CONNECT_TIMEOUT_S)]
    for address, timeout_s in attempts:
        try:
            connection = open_connection(address, insecure, timeout_s)
        except Silent as failure:
            if timeout_s < CONNECT_TIMEOUT_S:
                attempts.append((address, CONNECT_TIMEOUT_S))  # behind the others
            failures.append(failure)
        except Unavailable as failure:
            failures.append(failure)
        else:
            servers.worked(address)
            return connection
        servers.failed(address, time.monotonic(), chance)
    message = "; ".join(dict.fromkeys(failure.message for failure in failures))
    if len(candidates) > 1:
        message = f"no server answers: {message}"
    raise Unavailable(message, NO_SERVER_HINT)


class Silent(Unavailable):
    """A server did not answer in the time that it was given: it may be slow, not down."""


def silent(address: object) -> Silent:
    """A server that has taken the connection and says nothing."""
    return Silent(f"the server at {address} does not answer", "is it overloaded or stopped?")


def open_connection(address: Address, insecure: bool, timeout_s: float = CONNECT_TIMEOUT_S) -> Connection:
    """A connection to this server, by the first of its addresses that answers. Raises Silent, Unavailable or
    NotPermitted."""
    messages: dict[str, None] = {}
    silent = False
    for target in resolve(address, insecure):
        try:
            return Connection(open_socket(target, timeout_s), address)
        except (OSError, OverflowError) as error:
            messages[f"no server at {address}: {reason(error)}"] = None
            silent = silent or isinstance(error, TimeoutError)
    raise (Silent if silent else Unavailable)("; ".join(messages), NO_SERVER_HINT)


def chance() -> float:
    """From 0 up to but excluding 1. (The module `random` takes longer to import than all of this.)"""
    return int.from_bytes(os.urandom(6), "big") / 2**48


def open_socket(target: Target, timeout_s: float = CONNECT_TIMEOUT_S) -> socket.socket:
    """A connected socket. Raises OSError."""
    family, where = target
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout_s)
        sock.connect(where)
        tune(sock)
    except BaseException:
        sock.close()
        raise
    return sock
