"""What simulated clients and workers have in common: a connection that comes and goes, and packets read from it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from farm.protocol import packets
from farm.protocol.decoder import Decoder
from farm.protocol.packets import RESPONSE, request
from tests.sim.ledger import shown
from tests.sim.wire import Link

if TYPE_CHECKING:
    from tests.sim.world import World


class End(ABC):
    """One program on the other side of the wire. `link` is None while it is not connected."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.rng = world.rng
        self.name = name
        self.farm = self.rng.random() < 0.5  # asks for farm's extension
        self.link: Link | None = None
        self._decoder = Decoder(RESPONSE)

    def connect(self) -> None:
        """Connect now, or as soon as the server is up."""
        if self.link is not None:
            return
        link = self.world.server.open(self)
        if link is None:
            self.world.later(self.rng.uniform(0.05, 0.5), self.connect)
            return
        self.link = link
        self._decoder = Decoder(RESPONSE)
        self.world.note("connects", f"{self.name} as {link.id}")
        self.begin()

    def send(self, number: int, *parts: bytes) -> None:
        """One packet; it is lost where there is no connection."""
        if self.link is not None:
            self.link.to_server.write(request(number, *parts))

    def leave(self, cut: bool) -> None:
        """Close the connection, orderly or in the middle of whatever is being sent; come back later."""
        if self.link is None:
            return
        self.world.note("leaves", f"{self.name} as {self.link.id} {'abruptly' if cut else ''}")
        self.link.close_by_end(cut)
        self._gone()

    def chunk(self, data: bytes) -> None:
        """See Sink."""
        link = self.link
        for number, body in self._decoder.feed(data):
            if self.link is not link:  # it left over one of these packets
                return
            self.world.note("reads", shown, 0, number, body)
            if number != packets.TEXT:
                assert packets.KINDS[number].sender in (packets.SERVER, packets.WORKER), number
            self.receive(number, body)

    def eof(self) -> None:
        """See Sink."""
        assert self.link is not None
        self.link.close_by_end(cut=False)
        self._gone()

    def _gone(self) -> None:
        self.link = None
        self.lost()
        self.world.later(self.rng.uniform(0.02, 0.8), self.connect)

    # -- for clients and workers to fill in

    @abstractmethod
    def begin(self) -> None:
        """A connection is open."""

    @abstractmethod
    def receive(self, number: int, body: bytes) -> None:
        """A packet of the server."""

    @abstractmethod
    def lost(self) -> None:
        """The connection is gone."""

    @abstractmethod
    def act(self) -> None:
        """Do something of its own accord, and plan to do so again."""
