"""Several servers that keep jobs: all are asked for a listing, and the one that has a job is found by its handle.

They are asked side by side. Whoever does not answer is no reason to fail while another one does; `failures` tells who
that was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeVar

from farm.client.ask import Answer, JobServer
from farm.client.connection import CONNECT_TIMEOUT_S, NEXT_TIMEOUT_S, Connection, Silent, silent
from farm.client.side_by_side import Talk, side_by_side
from farm.errors import (
    FarmError,
    JobNotFound,
    NotGearman,
    NotPermitted,
    Unavailable,
    UsageError,
)
from farm.protocol.address import Address
from farm.protocol.names import shown

LAST = "last"
CANDIDATES_MAX = 10  # shown of what an ID may mean


T = TypeVar("T")


class JobServers:
    """The servers at these addresses; each is connected to when it is first needed, and once.

    notify: as for Connection, told of each at most once. deadline: monotonic seconds; no server is waited for any
    longer than that.
    """

    def __init__(
        self,
        addresses: Iterable[Address],
        insecure: bool = False,
        notify: Callable[[str, str], None] | None = None,
        deadline: float | None = None,
    ) -> None:
        self.addresses = list(dict.fromkeys(addresses))
        self.failures: dict[str, FarmError] = {}
        self.deadline = deadline
        self._insecure = insecure
        self._notify = notify
        self._open: dict[str, JobServer] = {}
        self._candidates: dict[str, list[tuple[JobServer, str]]] = {}  # what an ID may mean, of those looked up
        self._heard: set[str] = set()  # that have answered, once at least

    def __enter__(self) -> JobServers:
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._open.values():
            server.close()

    @property
    def several(self) -> bool:
        """Whether there is more than one, so that a listing has to say which."""
        return len(self.addresses) > 1

    def talk_to_each(
        self, work: Callable[[JobServer], T], *, enough: Callable[[T], bool] | None = None, others: bool = False
    ) -> list[tuple[JobServer, T]]:
        """The same with each that is there, side by side: what came of it, in the order in which they were named.
        Raises the first failure when no server answers. enough, others: as for side_by_side."""
        addresses = [address for address in self.addresses if str(address) not in self.failures]
        came = side_by_side(
            [partial(self._talk_to, address, work) for address in addresses],
            lambda said: isinstance(said, tuple),
            enough=enough and (lambda said: isinstance(said, tuple) and enough(said[1])),
            others=others,
            deadline=self.deadline,
        )
        found: list[tuple[JobServer, T]] = []
        for address, said in zip(addresses, came, strict=True):
            if isinstance(said, tuple):
                self._open[str(address)] = said[0]
                self._heard.add(str(address))
                found.append(said)
            else:
                self.failures[str(address)] = said or silent(address)
                self._open.pop(str(address), None)
        if len(self.failures) == len(self.addresses):
            raise self.failure
        return found

    def ask_each(self, verb: str, asked: Answer | None = None) -> list[tuple[JobServer, Answer]]:
        """The same, for one question."""
        return self.talk_to_each(lambda server: server.ask(verb, asked))

    def _talk_to(
        self, address: Address, work: Callable[[JobServer], T], talk: Talk[tuple[JobServer, T] | FarmError]
    ) -> tuple[JobServer, T] | FarmError:
        """In a thread of its own: nothing of this object is changed."""
        server = self._open.get(str(address))
        timeout_s = NEXT_TIMEOUT_S if self.several else CONNECT_TIMEOUT_S
        try:
            server = server or JobServer(address, self._insecure, timeout_s, self._notify, talk.on)
        except (Unavailable, NotGearman, NotPermitted) as failure:
            return failure
        talk.on(server.connection)
        try:
            return server, work(server)
        except Unavailable as failure:
            server.close()
            return failure

    @property
    def failure(self) -> FarmError:
        """That of the first server that has failed."""
        return next(iter(self.failures.values()))

    def failed(self, server: JobServer, failure: FarmError) -> None:
        """It answered first, and then no more."""
        self.failures[server.address] = failure
        self.lost(server.address)

    @property
    def away(self) -> list[str]:
        """The addresses of those that have failed and may well come back: they are silent, but there, or had answered
        before."""
        return [
            address
            for address, failure in self.failures.items()
            if isinstance(failure, Silent) or (address in self._heard and isinstance(failure, Unavailable))
        ]

    def ask_again(self) -> None:
        """The next question is for those too that are away. A person has been told of them."""
        for address in self.away:
            del self.failures[address]
        self._notify = None

    def opened(self, address: str, on: Callable[[Connection], None] | None = None) -> JobServer:
        """The connection to one of them, a new one when the last was lost. on: is told of it. Raises FarmError when it
        does not answer."""
        if address not in self._open:
            self._open[address] = JobServer(self._address(address), self._insecure, opened=on)
        elif on:
            on(self._open[address].connection)
        return self._open[address]

    def _address(self, text: str) -> Address:
        return next(each for each in self.addresses if str(each) == text)

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
        if text not in self._candidates:
            self.look_up([text])
        found = self._candidates[text]
        exact = [(server, id) for server, id in found if id == text]
        if found and not exact and self.failures:
            raise Unavailable(
                f"{text!r} may be a job of a server that cannot be asked: {self.failure.message}",
                "write the whole handle, or name with --server only those that are there",
            )
        found = exact or found
        if text == LAST and len(found) > 1:
            return self._newest(dict(found))
        if len(found) > 1:
            ids = ", ".join(id for _, id in found[:CANDIDATES_MAX])
            raise UsageError(f"{text!r} may mean several jobs: {ids}", "write more of the handle")
        if found:
            return found[0]
        if self.failures:
            raise self.failure
        what = "there are no jobs" if text == LAST else f"no job {text!r}"
        raise JobNotFound(what, "`farm jobs` lists those that there are; ended ones are kept for a while only")

    def look_up(self, texts: Iterable[str], others: bool = False) -> None:
        """Ask for all the jobs that will be looked for with `find`, in one conversation with each server. others: as
        for side_by_side."""
        wanted = [text for text in dict.fromkeys(texts) if text]
        if not wanted:
            return
        found_whole: set[str] = set()

        def found_all(found: list[list[str]]) -> bool:
            found_whole.update(text for text, ids in zip(wanted, found, strict=True) if text in ids)
            return len(found_whole) == len(wanted)

        came = self.talk_to_each(
            lambda server: [_find(server, text) for text in wanted], enough=found_all, others=others
        )
        for index, text in enumerate(wanted):
            self._candidates[text] = [(server, id) for server, found in came for id in found[index]]

    def _newest(self, last: dict[JobServer, str]) -> tuple[JobServer, str]:
        """Of the last job of each server."""
        came = self.talk_to_each(lambda server: _created_at(server, last[server]) if server in last else -1.0)
        server = max(came, key=lambda each: each[1])[0]
        if self.failures:
            raise self.failure
        return server, last[server]


def _find(server: JobServer, text: str) -> list[str]:
    ids = server.ask("find", {"text": text}).get("ids")
    if not isinstance(ids, list):
        raise NotGearman(f"the server at {server.address} sent a strange list of jobs")
    return [shown(str(id).encode(errors="replace")) for id in ids]


def _created_at(server: JobServer, id: str) -> float:
    job = server.ask("job", {"id": id}).get("job")
    created = job.get("created_at") if isinstance(job, dict) else None
    return created if isinstance(created, int | float) else 0.0
