"""A simulated connection: two byte streams with latency, cut into arbitrary chunks, that may break anywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from tests.sim.world import World


class Sink(Protocol):
    """Whoever reads one direction."""

    def chunk(self, data: bytes) -> None:
        """Some bytes, never none."""

    def eof(self) -> None:
        """The other side has closed, or the connection broke."""


class Pipe:
    """One direction. What is written in one instant may arrive in one chunk or in many, late but in order."""

    def __init__(self, world: World) -> None:
        self.sink: Sink | None = None  # None: nobody reads any more
        self._world = world
        self._buffer = bytearray()
        self._closed = False
        self._scheduled = False

    def write(self, data: bytes) -> None:
        """Bytes written after the end are lost, as with a socket that the other side has reset."""
        if not self._closed:
            self._buffer += data
            self._schedule()

    def close(self, cut: bool) -> None:
        """The writer is gone. cut: what is still under way stops anywhere, also in the middle of a packet."""
        if self._closed:
            return
        self._closed = True
        if cut and self._buffer:
            kept = self._world.rng.randint(0, len(self._buffer))
            del self._buffer[kept:]
        self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._world.later(self._world.latency(), self._deliver)

    def _deliver(self) -> None:
        self._scheduled = False
        if self.sink is None:
            return
        if not self._buffer:
            self.sink.eof()
            return
        rng = self._world.rng
        size = len(self._buffer) if rng.random() < 0.8 else rng.randint(1, len(self._buffer))
        chunk = bytes(self._buffer[:size])
        del self._buffer[:size]
        if self._buffer or self._closed:
            self._schedule()
        self.sink.chunk(chunk)


class Link:
    """A connection between an end (a client or worker) and the server."""

    def __init__(self, world: World, id: int, end: Sink, server: Sink) -> None:
        self.id = id  # the server's number for it
        self.to_server = Pipe(world)
        self.to_end = Pipe(world)
        self.to_server.sink = server
        self.to_end.sink = end

    def close_by_end(self, cut: bool) -> None:
        """The end closes: it reads nothing more, and what it wrote arrives, wholly or in part."""
        self.to_end.sink = None
        self.to_server.close(cut)

    def close_by_server(self, cut: bool) -> None:
        """The server closes, or its process dies."""
        self.to_server.sink = None
        self.to_end.close(cut)
