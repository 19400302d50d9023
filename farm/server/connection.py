"""One connection: its socket, the decoder of what comes in, and a queue of what goes out (`pressure.py` bounds it)."""

from __future__ import annotations

import contextlib
import socket
from functools import partial
from typing import TYPE_CHECKING

from farm.loop import READ, WRITE
from farm.protocol.limits import JOIN_MAX

if TYPE_CHECKING:
    from collections.abc import Callable

    from farm.broker.peer import Peer
    from farm.loop import Loop, Timer
    from farm.protocol.decoder import Decoder, Packet

READ_SIZE = 64 * 1024  # below malloc's threshold for a mapping of its own: larger buffers cost two system calls a read
READ_SIZE_BULK = 256 * 1024  # inside a large payload, where they pay
WRITE_PIECES = 64  # buffers handed to one sendmsg, well below the system's IOV_MAX of 1024


Audience = tuple["Peer", ...]  # everybody who waits for one job


class Connection:
    """A socket that is never waited for."""

    def __init__(self, sock: socket.socket, peer: Peer, loop: Loop, decoder: Decoder) -> None:
        self.sock = sock
        self.peer = peer
        self.decoder = decoder
        self.heard_at = loop.now  # when it sent something last
        self.out_size = 0
        self.blocked_since = 0.0  # it took something last, or began to wait, while more was queued; 0: nothing is
        self.closing = False  # nothing more is taken from it; it is closed once everything is sent
        self.lingers = False  # all is sent; what still comes in is read and dropped
        self.gone = False  # the other side has closed, or the socket failed
        self.end: Timer | None = None  # it is closed then, whatever is still to be sent
        self.held = False  # not read from, because of some that it waits for
        # Packets that came and are still to be taken; until they are, nothing more is read.
        self.untaken: list[Packet] = []
        self.watched = False  # the watchdog waits for something of it
        self.listed = 0  # bytes of listings that it has been answered since it was read from last
        # Readers that are too far behind what this one sends, each with the audiences that it is part of.
        self.waits_for: dict[Connection, tuple[Audience, ...]] = {}
        self.holds_up: dict[Connection, tuple[Audience, ...]] = {}  # those that wait for this one when it is behind
        self._quick_ack = sock.family != socket.AF_UNIX and hasattr(socket, "TCP_QUICKACK")  # Linux has it
        self._loop = loop
        self._out: list[bytes | memoryview] = []
        self._watching = 0
        self._ready: Callable[[int], None] = _not_started

    def __repr__(self) -> str:
        return f"<Connection {self.peer.id} fd {self.sock.fileno()}>"

    def start(self, call: Callable[[Connection, int], None]) -> None:
        """From now on `call(self, events)` is called whenever there is something to read or room to write."""
        self._ready = partial(call, self)
        self.watch()

    def watch(self) -> None:
        """Wait for what is of use now, and only that."""
        wanted = 0 if self.held or self.untaken or self.gone else READ
        if self._out:
            wanted |= WRITE
        if wanted != self._watching:
            self._watching = wanted
            self._loop.watch(self.sock.fileno(), wanted, self._ready)

    @property
    def unread(self) -> bool:
        """Whether it is this server that does not read what the other side may have sent."""
        return self.held or bool(self.untaken)

    @property
    def settled(self) -> bool:
        """Whether it has been sent all, is read from, and nobody waits for it: there is nothing to look after."""
        return self._watching == READ and not (self._out or self.gone or self.closing or self.untaken or self.holds_up)

    def read(self) -> bytes | None:
        """What has come in: b"" when nothing has, None when the other side has closed or the connection broke."""
        try:
            chunk = self.sock.recv(READ_SIZE_BULK if self.decoder.missing > READ_SIZE else READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return b""
        except OSError:
            return None
        return chunk or None

    def acknowledge(self) -> None:
        """Say at once that what was read has come in, where no answer says so: a peer that has not turned Nagle's
        algorithm off, as several libraries have not, would wait 40 ms for it with every packet."""
        if self._quick_ack:
            with contextlib.suppress(OSError):  # broken: the next read says so
                self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def queue(self, packet: bytes) -> None:
        """Send this after everything queued before; `flush` does it."""
        if packet:  # `flush` would never be done with an empty piece at the end
            self._out.append(packet)
            self.out_size += len(packet)

    @property
    def late(self) -> int:
        """How far behind its reader is, without the packet that is on its way: one may be larger than any limit."""
        return self.out_size - len(self._out[0]) if self._out else 0

    def flush(self) -> None:
        """Hand the system as much as it takes. A broken connection drops what is left and is `gone`."""
        sent, out = 0, self._out
        while out:
            try:
                if len(out) == 1:
                    sent = self.sock.send(out[0])
                elif self.out_size <= JOIN_MAX:
                    sent = self.sock.send(b"".join(out))
                else:
                    sent = self.sock.sendmsg(out[:WRITE_PIECES])
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                out.clear()
                self.out_size = 0
                self.gone = True
                break
            self._sent(sent)
        if not out:
            self.blocked_since = 0.0
        elif sent or not self.blocked_since:
            self.blocked_since = self._loop.now

    def _sent(self, size: int) -> None:
        if size == self.out_size:
            self._out.clear()
            self.out_size = 0
            return
        self.out_size -= size
        whole = 0  # pieces that are gone
        while size >= len(piece := self._out[whole]):
            size -= len(piece)
            whole += 1
        if size:
            self._out[whole] = memoryview(piece)[size:]
        del self._out[:whole]

    def close(self) -> None:
        """Give the descriptor back."""
        if self._watching:
            self._loop.watch(self.sock.fileno(), 0, self._ready)
            self._watching = 0
        self._ready = _not_started  # it refers to this connection, which would wait for the garbage collector
        self.sock.close()


def _not_started(events: int) -> None:
    raise AssertionError("nobody watches this connection yet")
