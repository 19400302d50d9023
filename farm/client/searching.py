"""The jobs that IDs mean, found as soon as their servers answer: one that is frozen may have them, and may go on."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from farm.client.ask import JobServer
from farm.client.job_servers import JobServers
from farm.client.waiting import PAUSE_MAX_S, PAUSE_MIN_S
from farm.errors import FarmError, JobNotFound, UsageError


class Search:
    """Goes on until every ID has its job. notify(message) is called when a server is away, and when it is back.

    left: the IDs that none was found for yet. failure: why.
    """

    def __init__(self, servers: JobServers, ids: list[str], notify: Callable[[str], None]) -> None:
        self.left = list(dict.fromkeys(ids))
        self.failure: FarmError | None = None
        self._servers = servers
        self._notify = notify
        self._away: list[str] = []
        self._some = False  # have been found: their ends are to be heard, whoever else is silent
        self._pause_s = PAUSE_MIN_S
        self._next_try = -math.inf

    @property
    def next_look(self) -> float:
        """When `look` wants to be called: monotonic seconds."""
        return self._next_try if self.left else math.inf

    def look(self) -> list[tuple[JobServer, str]]:
        """Those that have been found since. Takes as long as the servers do, but not beyond their deadline.
        Raises JobNotFound and UsageError for an ID that means no job, or several, and another FarmError when no server
        that may have it can be expected to come back."""
        if time.monotonic() < self.next_look:
            return []
        wanted, self.left = self.left, []
        found: list[tuple[JobServer, str]] = []
        try:
            self._servers.look_up(wanted, others=self._some)
        except FarmError as failure:
            self._missing(failure)
            self.left = wanted
        else:
            for text in wanted:
                try:
                    found.append(self._servers.find(text))
                except FarmError as failure:
                    self._missing(failure)
                    self.left.append(text)
        self._some = self._some or bool(found)
        self._say_who_is_away()
        self._next_try = time.monotonic() + self._pause_s
        self._pause_s = min(self._pause_s * 2, PAUSE_MAX_S)
        return found

    def _missing(self, failure: FarmError) -> None:
        if isinstance(failure, JobNotFound | UsageError) or not self._servers.away:
            raise failure
        self.failure = failure

    def _say_who_is_away(self) -> None:
        """And ask them again the next time."""
        away = self._servers.away if self.left else []
        for address in self._away:
            if address not in self._servers.failures:
                self._notify(f"the server at {address} is back")
        for address in away:
            if address not in self._away:
                self._notify(f"{self._servers.failures[address].message}; waiting for it to come back")
        self._away = away
        self._servers.ask_again()
