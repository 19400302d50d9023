"""Several servers that keep jobs: all are asked for a listing, and the one that has a job is found by its handle.

Whoever does not answer is no reason to fail while another one does; `failures` tells who that was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from farm.client.ask import JobServer
from farm.client.connection import CONNECT_TIMEOUT_S, NEXT_TIMEOUT_S
from farm.errors import FarmError, JobNotFound, NotGearman, NotPermitted, Unavailable, UsageError
from farm.protocol.address import Address
from farm.protocol.names import shown

LAST = "last"
CANDIDATES_MAX = 10  # shown of what an ID may mean


class JobServers:
    """The servers at these addresses; each is connected to when it is first needed, and once.

    notify: as for Connection, told of each at most once.
    """

    def __init__(
        self, addresses: Iterable[Address], insecure: bool = False, notify: Callable[[str, str], None] | None = None
    ) -> None:
        self.addresses = list(dict.fromkeys(addresses))
        self.failures: dict[str, FarmError] = {}
        self._insecure = insecure
        self._notify = notify
        self._open: dict[str, JobServer] = {}

    def __enter__(self) -> JobServers:
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._open.values():
            server.close()

    @property
    def several(self) -> bool:
        """Whether there is more than one, so that a listing has to say which."""
        return len(self.addresses) > 1

    def each(self) -> Iterator[JobServer]:
        """Those that answer, in the order in which they were named. Raises the first failure when none does."""
        for address in self.addresses:
            if server := self._connect(address):
                yield server
        if len(self.failures) == len(self.addresses):
            raise next(iter(self.failures.values()))

    def failed(self, server: JobServer, failure: FarmError) -> None:
        """It answered first, and then no more."""
        self.failures[server.address] = failure
        self.lost(server.address)

    def opened(self, address: str) -> JobServer:
        """The connection to one of them, a new one when the last was lost. Raises FarmError when it does not answer."""
        if address not in self._open:
            found = next(each for each in self.addresses if str(each) == address)
            self._open[address] = JobServer(found, self._insecure)
        return self._open[address]

    def lost(self, address: str) -> None:
        """Its connection is good for nothing any more."""
        if server := self._open.pop(address, None):
            server.close()

    def find(self, text: str) -> tuple[JobServer, str]:
        """The job that `text` means, and its server. Raises JobNotFound, UsageError where it may mean several, and the
        failure of a server that could not be asked when no other one has the job, or when what was not said of the
        handle may make it one of that server's."""
        if not text:
            raise UsageError("an empty ID was given", "is a variable of the script not set?")
        found = self._candidates(text)
        exact = [(server, id) for server, id in found if id == text]
        if found and not exact and self.failures:
            failure = next(iter(self.failures.values()))
            raise Unavailable(
                f"{text!r} may be a job of a server that cannot be asked: {failure.message}",
                "write the whole handle, or name with --server only those that are there",
            )
        found = exact or found
        if text == LAST and len(found) > 1:
            return max(found, key=lambda each: _created_at(*each))
        if len(found) > 1:
            ids = ", ".join(id for _, id in found[:CANDIDATES_MAX])
            raise UsageError(f"{text!r} may mean several jobs: {ids}", "write more of the handle")
        if found:
            return found[0]
        if self.failures:
            raise next(iter(self.failures.values()))
        what = "there are no jobs" if text == LAST else f"no job {text!r}"
        raise JobNotFound(what, "`farm jobs` lists those that there are; ended ones are kept for a while only")

    def _candidates(self, text: str) -> list[tuple[JobServer, str]]:
        found: list[tuple[JobServer, str]] = []
        for server in self.each():
            try:
                ids = server.ask("find", {"text": text}).get("ids")
            except Unavailable as failure:
                self.failed(server, failure)
                continue
            if not isinstance(ids, list):
                raise NotGearman(f"the server at {server.address} sent a strange list of jobs")
            found += [(server, shown(str(id).encode())) for id in ids]
        return found

    def _connect(self, address: Address) -> JobServer | None:
        """None: it does not answer, and `failures` says why."""
        name = str(address)
        if name not in self._open and name not in self.failures:
            try:
                timeout_s = NEXT_TIMEOUT_S if self.several else CONNECT_TIMEOUT_S
                self._open[name] = JobServer(address, self._insecure, timeout_s, self._notify)
            except (Unavailable, NotGearman, NotPermitted) as failure:
                self.failures[name] = failure
        return self._open.get(name)


def _created_at(server: JobServer, id: str) -> float:
    job = server.ask("job", {"id": id}).get("job")
    created = job.get("created_at") if isinstance(job, dict) else None
    return created if isinstance(created, int | float) else 0.0
