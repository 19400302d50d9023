"""The blocking client's connections: found, served while something is waited for, and replaced when they are lost.

It must not know what a job is for, nor what the program's calls look like (`library.py`).
"""

from __future__ import annotations

import random
import select
import time
from collections.abc import Callable

from farm.client import strays
from farm.client.common import no_server
from farm.client.connection import CONNECT_TIMEOUT_S
from farm.client.link import Link, open_link
from farm.client.pending import Pending
from farm.client.servers import ServerList
from farm.client.session import Answer, answered
from farm.client.strays import Stray
from farm.errors import FarmError, JobCancelled, NotGearman, Timeout, Unavailable
from farm.protocol import extension, packets
from farm.protocol.address import Address

PROBE_TIMEOUT_S = 0.5  # for a better server while there is one already
PLACE_AGAIN_S = 0.1  # at least between two looks for a server


class Links:
    """Every connection of one client. `current` gets the next job; others are kept while jobs are out on them."""

    def __init__(self, servers: ServerList, insecure: bool) -> None:
        self.current: Link | None = None
        self._servers = servers
        self._insecure = insecure
        self._links: list[Link] = []
        self._strays: list[Stray] = []
        self._place_at = 0.0  # when to look for a server for the strays
        self._closed = False

    def close(self) -> None:
        """Close everything; jobs that are out end."""
        self._closed = True
        gone = [stray.job for stray in self._strays]
        self._strays = []
        for link in self._links:
            gone += link.session.lose("the client was closed")
            link.close()
        self._links, self.current = [], None
        for job in gone:
            job.end(JobCancelled(f"the client was closed while job {job.handle.decode()} was out"))

    # -- waiting

    def until(self, done: Callable[[], bool], timeout_s: float | None, what: str) -> None:
        """Serve the connections until `done()`. Raises Timeout; what has come already is looked at first."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not done():
            now = time.monotonic()
            if self._strays and now >= self._place_at:
                found, self._strays = self._strays, []
                self.place(found)
                continue
            assert self._links or self._strays
            times = [self._place_at] if self._strays else []
            times += [link.due for link in self._links if link.due < float("inf")]
            if deadline is not None:
                times.append(deadline)
            self.poll(max(0.0, min(times) - now) if times else None)
            if deadline is not None and now >= deadline and not done():
                raise Timeout(f"waited {timeout_s:g} s in vain for {what}")

    def poll(self, wait_s: float | None) -> None:
        """Serve every connection once; wait for something to come at most so long (None: for ever)."""
        poller = select.poll()
        links = {link.stream.fileno(): link for link in self._links}
        for fd, link in links.items():
            poller.register(fd, link.stream.wants)
            if link.inbox:
                link.turn(0)
                wait_s = 0.0
        for fd, events in poller.poll(None if wait_s is None else wait_s * 1000):
            links[fd].turn(events)
        now = time.monotonic()
        for link in self._links:
            link.check(now)
            found = strays.of_refused(link.session, now)
            if link.lost:
                found += strays.of_lost(link.session, link.lost, now)
            if found or link.lost:
                self._servers.failed(link.address, now, random.random)
                self._strays += found
                self._place_at = now
        self._tidy()

    def _tidy(self) -> None:
        """Close connections that are of no more use: lost; or not the current one, and nothing is out on it; or a stock
        server's on which only given-up jobs are out, for that is how such a server is told."""
        for link in list(self._links):
            session = link.session
            if link.lost or (session.idle and (link is not self.current or session.leaving or session.jobs)):
                link.close()
                self._links.remove(link)
                if link is self.current:
                    self.current = None

    # -- jobs

    def start(self, job: Pending) -> Pending:
        """Send a job, as far as that goes without waiting, or find the one that is out already with the same key."""
        self.poll(0)  # a server that has gone meanwhile is noticed now
        if job.key:
            for link in self._links:
                if twin := link.session.twin(job):
                    return twin
            for stray in self._strays:
                if stray.job.key == job.key:
                    stray.job.shares += 1
                    return stray.job
        self.place([Stray(job, 0.0)])
        return job

    def place(self, found: list[Stray]) -> None:
        """Submit jobs to whichever server can be reached. When none can, those that have patience are kept."""
        try:
            link = self.connected(time.monotonic() + CONNECT_TIMEOUT_S * len(self._servers))
        except FarmError as failure:
            now = time.monotonic()
            for stray in found:
                if stray.until <= now:
                    stray.give_up(failure)
                else:
                    self._strays.append(stray)
            self._place_at = max(self._servers.next_try(now), now + PLACE_AGAIN_S)
            return
        for stray in found:
            if not stray.job.done:
                link.session.submit(stray.job)

    def cancel(self, job: Pending) -> Answer:
        """Give a job up, without waiting."""
        if job.shares == 1:
            self._strays = [stray for stray in self._strays if stray.job is not job]
        for link in self._links:
            if link.session.has(job):
                answer = link.session.cancel(job)
                self._tidy()
                return answer
        job.shares -= 1
        if job.shares > 0 and not job.done:
            return answered(packets.FARM_CANCEL_RES, [job.handle, extension.CANCEL_SHARED])
        job.end(JobCancelled("the job was cancelled before a server had it"))
        return answered(packets.FARM_CANCEL_RES, [])

    # -- questions

    def ask(self, address: Address, number: int, expects: int, name: bytes, deadline: float) -> list[bytes]:
        """Ask one server, on the connection that there is, or else on one for this question alone. Raises Unavailable,
        NotGearman, Timeout."""
        self.poll(0)
        for link in self._links:
            if link.address == address:
                return self.answer(link.session.ask(number, expects, name), deadline)
        link = open_link(address, self._insecure, _patience(deadline, CONNECT_TIMEOUT_S))
        try:
            answer = link.session.ask(number, expects, name)
            if not link.wait(lambda: answer.done, deadline):
                raise Unavailable(f"the server at {address} does not answer")
            return answer.args
        finally:
            link.close()

    def answer(self, answer: Answer, deadline: float) -> list[bytes]:
        """Wait for it. Raises its error, or Timeout."""
        self.until(lambda: answer.done, max(0.0, deadline - time.monotonic()), "the server's answer")
        if answer.error:
            raise answer.error
        return answer.args

    def connected(self, deadline: float) -> Link:
        """The connection for the next job: the current one unless a better server is back. Raises what the servers
        failed with when none can be reached."""
        if self._closed:
            raise Unavailable("this client was closed")
        now = time.monotonic()
        current = self.current
        if current and (current.lost or current.session.leaving):
            current = None
        if current:
            candidates, patience_s = self._servers.better_than(current.address, now), PROBE_TIMEOUT_S
        else:
            candidates, patience_s = self._servers.candidates(now, random.random), CONNECT_TIMEOUT_S
        failures: list[FarmError] = []
        for address in candidates:
            try:
                link = open_link(address, self._insecure, _patience(deadline, patience_s))
            except (Unavailable, NotGearman) as failure:
                self._servers.failed(address, time.monotonic(), random.random)
                failures.append(failure)
                continue
            self._servers.worked(address)
            self._links.append(link)
            self.current = link
            return link
        if current is None:
            raise no_server(failures)
        return current


def _patience(deadline: float, most_s: float) -> float:
    return min(most_s, max(0.01, deadline - time.monotonic()))
