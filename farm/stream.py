"""One connection of the libraries: a non-blocking socket with a decoder before it and an outbox behind it.

It never waits: its owner polls. It must not know what a packet means.
"""

from __future__ import annotations

import _socket as socket  # see farm.net
import select
from collections import deque

from farm.net import reason
from farm.protocol.decoder import Decoder, Packet
from farm.protocol.limits import PAYLOAD_HEADER_MAX
from farm.protocol.packets import RESPONSE

READ_SIZE = 256 * 1024


class Stream:
    """A connected socket, owned from now on.

    closed: why nothing more comes, in words; "" while it is open. foreign: the other side does not speak Gearman.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._decoder = Decoder(RESPONSE, payload_max=PAYLOAD_HEADER_MAX)
        self._out: deque[bytes | memoryview] = deque()
        self.unsent = 0  # bytes in the outbox
        self.received = 0  # bytes so far
        self.closed = ""
        self.foreign = False

    def fileno(self) -> int:
        """The descriptor; -1 once closed by this side."""
        return self._sock.fileno()

    @property
    def wants(self) -> int:
        """What to poll for."""
        return select.POLLIN | select.POLLOUT if self._out else select.POLLIN

    def send(self, pieces: tuple[bytes, ...]) -> None:
        """Queue a packet, and send what the system takes."""
        idle = not self._out
        self._out += pieces
        self.unsent += sum(map(len, pieces))
        if idle:
            self.flush()

    def flush(self) -> None:
        """Send what the system takes. A closed connection shows when it is read: what the server said last counts."""
        try:
            while self._out:
                size = self._sock.send(self._out[0])
                self.unsent -= size
                if size == len(self._out[0]):
                    self._out.popleft()
                else:
                    self._out[0] = memoryview(self._out[0])[size:]
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self._out.clear()
            self.unsent = 0

    def read(self) -> list[Packet]:
        """The packets that one read completes."""
        try:
            chunk = self._sock.recv(READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return []
        except OSError as error:
            self.closed = reason(error)
            return []
        if not chunk:
            self.closed = "it closed the connection"
            return []
        self.received += len(chunk)
        packets = self._decoder.feed(chunk)
        if self._decoder.failed:
            self.closed = self._decoder.failed.text.decode()
            self.foreign = True
        return packets

    def close(self) -> None:
        """Close this side."""
        self.closed = self.closed or "closed by this side"
        self._sock.close()
