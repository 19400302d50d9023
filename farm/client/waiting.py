"""Waiting for the ends of jobs, at one server or at several, and on when a server goes away and comes back.

Nothing is polled: each server says when a job has ended (FARM_ENDED). A server that goes away is asked again, with
longer and longer pauses, until it is back.
"""

from __future__ import annotations

import math
import select
import time
from collections.abc import Callable

from farm.client.ask import JobServer, StockServer
from farm.client.connection import chance, silent
from farm.client.job_servers import JobServers
from farm.client.outcome import End, end_of, wait_for
from farm.client.side_by_side import Talk, side_by_side
from farm.errors import EXIT_NO_INPUT, Unavailable

PAUSE_MIN_S = 0.2
PAUSE_MAX_S = 5.0  # how late a server that is back may be noticed

UNKNOWN = "unknown"  # the state of a job that its server has forgotten


class Waiter:
    """The jobs that are waited for. notify(message) is called when a server goes away, and when it is back."""

    def __init__(self, servers: JobServers, notify: Callable[[str], None]) -> None:
        self._servers = servers
        self._notify = notify
        self._places: dict[str, _Place] = {}
        self._known: set[tuple[str, str]] = set()

    def add(self, jobs: list[tuple[JobServer, str]]) -> None:
        """Wait for these too, each once."""
        for server, id in jobs:
            if (server.address, id) not in self._known:
                self._known.add((server.address, id))
                place = self._places.setdefault(server.address, _Place(self._servers, server.address, self._notify))
                place.wait_for(id)

    @property
    def left(self) -> int:
        """How many have not ended yet."""
        return sum(len(place.ids) for place in self._places.values())

    def ends(self, deadline: float | None, until: float = math.inf) -> list[End]:
        """Those that have ended since, at least one unless the deadline has passed, or `until`, at which the caller has
        something else to do, or none is left. Both in monotonic seconds.
        Raises FarmError when a server does not know what is asked, or does not speak as it should."""
        others = len(self._places) > 1 or until < math.inf
        until = until if deadline is None else min(deadline, until)
        while self.left:
            places = [place for place in self._places.values() if place.ids]
            if ends := [end for place in places for end in place.look(deadline, others)]:
                return ends
            now = time.monotonic()
            if now >= until:
                return []
            _sleep(places, min([place.next_look for place in places] + [until]) - now)
        return []


def _sleep(places: list[_Place], timeout_s: float) -> None:
    """Until one of them has something to say."""
    poller = select.poll()
    for place in places:
        if place.server:
            poller.register(place.server, select.POLLIN)
    poller.poll(max(0.0, timeout_s) * 1000 + 1)


class _Place:
    """One server, and those of its jobs that have not ended."""

    def __init__(self, servers: JobServers, address: str, notify: Callable[[str], None]) -> None:
        self.ids: dict[str, None] = {}
        self.server: JobServer | None = None
        self._servers = servers
        self._address = address
        self._notify = notify
        self._away = False
        self._pause_s = PAUSE_MIN_S
        self._next_try = 0.0

    def wait_for(self, id: str) -> None:
        """For this one too, which its server is asked about as about all that are left."""
        self.ids[id] = None
        self._next_try = 0.0
        self.server = None

    @property
    def next_look(self) -> float:
        """When `look` wants to be called though nothing came."""
        return self.server.next_look if self.server else self._next_try

    def look(self, deadline: float | None, others: bool) -> list[End]:
        """What has ended. Connects, and asks, where need be, until the deadline at the latest. others: there are other
        servers, which may have something to say meanwhile."""
        ends: list[End] = []
        try:
            if not self.server and time.monotonic() >= self._next_try:
                ends += self._ask(deadline, others)
            if self.server:
                ends += [end_of(self._address, id, fields) for id, fields in self.server.take_ended()]
        except StockServer:
            raise
        except Unavailable as failure:
            self._lose(failure)
        ends = [end for end in ends if end.id in self.ids]
        for end in ends:
            del self.ids[end.id]
        return ends

    def _ask(self, deadline: float | None, others: bool) -> list[End]:
        """Returns those that the server knows no more: that is an end too."""
        (asked,) = side_by_side([self._talk], lambda _: True, others=others, deadline=deadline)
        if asked is None:
            raise silent(self._address)
        self.server, unknown = asked
        self._pause_s = PAUSE_MIN_S
        if self._away:
            self._notify(f"the server at {self._address} is back")
            self._away = False
        return [
            End(self._address, id, UNKNOWN, "its server does not know it any more", None, EXIT_NO_INPUT)
            for id in unknown
        ]

    def _talk(self, talk: Talk[tuple[JobServer, list[str]]]) -> tuple[JobServer, list[str]]:
        server = self._servers.opened(self._address, talk.on)
        return server, wait_for(server, list(self.ids))

    def _lose(self, failure: Unavailable) -> None:
        if not self._away:
            self._notify(f"{failure.message}; waiting for it to come back")
            self._away = True
        self._servers.lost(self._address)
        self.server = None
        self._next_try = time.monotonic() + self._pause_s * (0.5 + chance() / 2)
        self._pause_s = min(self._pause_s * 2, PAUSE_MAX_S)
