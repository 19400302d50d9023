"""One connection of the blocking client: a stream and the conversation on it."""

from __future__ import annotations

import select
import time
from collections import deque
from collections.abc import Callable

from farm.client.connection import CONNECT_TIMEOUT_S, open_socket
from farm.client.session import Session
from farm.errors import FarmError, NotGearman, Unavailable
from farm.net import reason, resolve
from farm.protocol.address import Address
from farm.protocol.decoder import Packet
from farm.protocol.silence import ASK, DEAD, SILENCE_MAX_S, Silence
from farm.stream import Stream


class Link:
    """An open connection that was greeted. lost: why it is no more, in words; "" while it is there."""

    def __init__(self, address: Address, stream: Stream) -> None:
        self.address = address
        self.stream = stream
        self.session = Session(str(address), stream.send)
        self.lost = ""
        self._silence = Silence(time.monotonic())
        self.inbox: deque[Packet] = deque()  # left over when a program's callback, or Ctrl-C, has raised half-way

    def turn(self, events: int) -> None:
        """The descriptor is ready: send and receive what can be without waiting."""
        if events & select.POLLOUT:
            self.stream.flush()
        if events & ~select.POLLOUT:
            self.inbox += self.stream.read()
        try:
            while self.inbox:
                self.session.receive(*self.inbox.popleft())
        except NotGearman as failure:
            self.lost = failure.message
            return
        self.lost = self.stream.closed

    @property
    def due(self) -> float:
        """When `check` has something to do, if nothing comes."""
        return self._silence.due if self.session.watchful else float("inf")

    def check(self, now: float) -> None:
        """After having read what is there: ask a server that is silent for long, and do not wait for one for ever."""
        if not self.session.watchful or self.stream.unsent:
            self._silence.fresh(now)
            return
        found = self._silence.look(now, self.stream.received)
        if found == ASK:
            self.session.ask_for_life()
        elif found == DEAD:
            self.lost = self.lost or f"no sign of life for {SILENCE_MAX_S:g} s"

    def wait(self, done: Callable[[], bool], deadline: float) -> bool:
        """Serve this connection alone until `done()`; False when it is lost, or the monotonic `deadline` passed."""
        poller = select.poll()
        while not done():
            left = deadline - time.monotonic()
            if left <= 0 or self.lost:
                return False
            poller.register(self.stream.fileno(), self.stream.wants)
            for _, events in poller.poll(left * 1000):
                self.turn(events)
        return True

    def close(self) -> None:
        """Close it. A foreground job that only it waits for ends with it."""
        self.stream.close()
        self.lost = self.stream.closed


def open_link(address: Address, insecure: bool, timeout_s: float) -> Link:
    """Connect and greet. Raises FarmError when the server does not answer within `timeout_s`, or not as it should."""
    deadline = time.monotonic() + timeout_s
    failure: FarmError | None = None
    for target in resolve(address, insecure):
        left = max(0.001, deadline - time.monotonic())
        try:
            sock = open_socket(target, min(left, CONNECT_TIMEOUT_S))
        except (OSError, OverflowError) as error:
            failure = Unavailable(f"no server at {address}: {reason(error)}")
            continue
        link = Link(address, Stream(sock))
        try:
            greeting = link.session.greet()
            link.wait(lambda greeting=greeting: greeting.done, deadline)  # type: ignore[misc]
            failure = greeting.error
            if not greeting.done:
                failure = Unavailable(f"the server at {address} does not answer: {link.lost or 'is it overloaded?'}")
                if link.stream.foreign or (link.lost and not link.stream.closed):
                    failure = NotGearman(f"the server at {address} does not speak Gearman", "check the address")
        except BaseException:
            link.close()
            raise
        if failure is None:
            return link
        link.close()
    assert failure
    raise failure
