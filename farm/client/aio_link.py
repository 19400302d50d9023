"""One connection of the asyncio client: a protocol with the conversation on it, and bells for those who wait.

It must not know jobs' fates; its owner is told when anything came (`on_change`).
"""

from __future__ import annotations

import asyncio
import select
import socket
import time
from collections.abc import Callable

from farm.client.connection import CONNECT_TIMEOUT_S
from farm.client.session import Session
from farm.errors import FarmError, NotGearman, Unavailable
from farm.net import Target, reason, resolve, tune
from farm.protocol.address import Address
from farm.protocol.decoder import Decoder
from farm.protocol.limits import PAYLOAD_HEADER_MAX
from farm.protocol.packets import RESPONSE
from farm.protocol.silence import ASK, DEAD, SILENCE_MAX_S, Silence

_HUNG_UP = getattr(select, "POLLRDHUP", 0)  # elsewhere than on Linux only what is closed both ways shows


class Bell:
    """Wakes every task that waits for something to change."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Future[None]] = set()

    @property
    def waiting(self) -> int:
        """How many tasks wait."""
        return len(self._waiting)

    def ring(self) -> None:
        """Wake them."""
        for future in self._waiting:
            if not future.done():
                future.set_result(None)

    async def heard(self) -> None:
        """Wait for the next ring."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            await future
        finally:
            self._waiting.discard(future)


class Link(asyncio.Protocol):
    """lost: why it is no more, in words; "" while it is there. on_change(link) is called after anything came."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.session = Session(str(address), self._send)
        self.lost = ""
        self.on_change: Callable[[Link], None] = _nothing
        self._bell = Bell()
        self._transport: asyncio.Transport | None = None
        self._decoder = Decoder(RESPONSE, payload_max=PAYLOAD_HEADER_MAX)
        self._full = False  # the outbox: whoever has a large payload waits
        self._paused = False  # reading
        self._received = 0
        self._silence = Silence(time.monotonic())
        self._timer: asyncio.TimerHandle | None = None
        self._gone = False

    # -- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._check()

    def data_received(self, data: bytes) -> None:
        """Bytes from the server."""
        self._received += len(data)
        try:
            for number, body in self._decoder.feed(data):
                self.session.receive(number, body)
            if self._decoder.failed:
                self._drop(f"it does not speak Gearman: {self._decoder.failed.text.decode()}")
        except NotGearman as failure:
            self._drop(failure.message)
        self._changed()

    def connection_lost(self, exc: Exception | None) -> None:
        """Closed, by whomever."""
        self._gone = True
        if self._timer:
            self._timer.cancel()
        self.lost = self.lost or (reason(exc) if exc else "it closed the connection")
        self._changed()

    def pause_writing(self) -> None:
        """The server takes less than is sent."""
        self._full = True

    def resume_writing(self) -> None:
        """It has taken most of it."""
        self._full = False
        self._bell.ring()

    # -- what the client calls

    def pause(self, paused: bool) -> None:
        """Read no more while nobody waits for anything."""
        if self._transport and paused != self._paused and not self.lost:
            self._paused = paused
            if paused:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def look(self) -> None:
        """Notice now that the server has closed an idle connection, though the event loop has not come to it yet."""
        if self._transport and not self.lost and self.session.idle:
            poller = select.poll()
            poller.register(self._transport.get_extra_info("socket").fileno(), _HUNG_UP)
            if poller.poll(0):
                self._drop("it closed the connection")
                self._changed()

    async def drained(self) -> None:
        """Wait until the outbox has room."""
        while self._full and not self.lost:
            await self._bell.heard()

    async def until(self, done: Callable[[], bool]) -> None:
        """Wait until `done()` or the connection is lost."""
        while not (done() or self.lost):
            await self._bell.heard()

    def close(self) -> None:
        """Close it. A foreground job that only it waits for ends with it."""
        self.lost = self.lost or "closed by this side"
        if self._transport:
            self._transport.abort()

    async def closed(self) -> None:
        """Wait until it is, once it was told to."""
        while self._transport and not self._gone:
            await self._bell.heard()

    # -- inside

    def _check(self) -> None:
        """Now and then: ask a server that is silent for long, and do not wait for one for ever."""
        now = time.monotonic()
        assert self._transport
        if not self.session.watchful or self._paused or self._transport.get_write_buffer_size():
            self._silence.fresh(now)
        found = self._silence.look(now, self._received)
        if found == DEAD:
            self._drop(f"no sign of life for {SILENCE_MAX_S:g} s")
            self._changed()
            return
        if found == ASK:
            self.session.ask_for_life()
        self._timer = asyncio.get_running_loop().call_later(self._silence.due - now, self._check)

    def _send(self, pieces: tuple[bytes, ...]) -> None:
        if self._transport and not self.lost:
            for piece in pieces:
                self._transport.write(piece)

    def _drop(self, words: str) -> None:
        self.lost = self.lost or words
        if self._transport:
            self._transport.abort()

    def _changed(self) -> None:
        self._bell.ring()
        self.on_change(self)


def _nothing(link: Link) -> None:
    pass


async def open_link(address: Address, insecure: bool, timeout_s: float) -> Link:
    """Connect and greet. Raises FarmError when the server does not answer within `timeout_s`, or not as it should."""
    failure: FarmError = Unavailable(f"no server at {address}: no answer within {timeout_s:g} s")
    try:
        async with asyncio.timeout(timeout_s):
            # A name is looked up in a thread, for it may take long.
            for target in await asyncio.to_thread(resolve, address, insecure):
                try:
                    return await _greeted(address, await _connect(target))
                except (OSError, OverflowError) as error:
                    failure = Unavailable(f"no server at {address}: {reason(error) or 'no answer'}")
    except TimeoutError:
        pass
    raise failure


async def _connect(target: Target) -> socket.socket:
    family, where = target
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await asyncio.get_running_loop().sock_connect(sock, where)
        tune(sock)
    except BaseException:
        sock.close()
        raise
    return sock


async def _greeted(address: Address, sock: socket.socket) -> Link:
    link = Link(address)
    await asyncio.get_running_loop().create_connection(lambda: link, sock=sock)
    try:
        greeting = link.session.greet()
        await link.until(lambda: greeting.done)
        if not greeting.done:
            raise Unavailable(f"the server at {address} does not answer: {link.lost}")
        if greeting.error:
            raise greeting.error
    except BaseException:
        link.close()
        raise
    return link
