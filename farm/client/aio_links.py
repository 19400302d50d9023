"""The asyncio client's connections: found, kept, and replaced when they are lost. The counterpart of `links.py`.

Everything happens in the event loop of the client; the only task of its own looks for a server for strays.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable

from farm.client import strays
from farm.client.aio_link import Bell, Link, open_link
from farm.client.common import HELD_MAX, no_server
from farm.client.connection import CONNECT_TIMEOUT_S
from farm.client.links import PLACE_AGAIN_S, PROBE_TIMEOUT_S
from farm.client.pending import Pending
from farm.client.servers import ServerList
from farm.client.session import Answer, answered
from farm.client.strays import Stray
from farm.errors import FarmError, JobCancelled, NotGearman, Timeout, Unavailable
from farm.protocol import extension, packets
from farm.protocol.address import Address


class Links:
    """Every connection of one client. `current` gets the next job; others are kept while jobs are out on them."""

    def __init__(self, servers: ServerList, insecure: bool) -> None:
        self.current: Link | None = None
        self._servers = servers
        self._insecure = insecure
        self._links: list[Link] = []
        self._strays: list[Stray] = []
        self._connecting = asyncio.Lock()
        self._placing: asyncio.Task[None] | None = None
        self._waiting = 0  # tasks that wait for something to come
        self._closed = False

    async def close(self) -> None:
        """Close everything; jobs that are out end."""
        self._closed = True
        if self._placing:
            self._placing.cancel()
            await asyncio.gather(self._placing, return_exceptions=True)
        gone = [stray.job for stray in self._strays]
        self._strays = []
        links, self._links, self.current = self._links, [], None
        for link in links:
            gone += link.session.lose("the client was closed")
            link.close()
        for job in gone:
            job.end(JobCancelled(f"the client was closed while job {job.handle.decode()} was out"))
        for link in links:
            await link.closed()

    # -- waiting

    async def until(
        self, subject: Pending | Answer, done: Callable[[], bool], timeout_s: float | None, what: str
    ) -> None:
        """Wait until `done()`, which can only change when `subject` does. Raises Timeout."""
        if done():
            return
        bell = subject.bell
        if not isinstance(bell, Bell):
            subject.bell = bell = Bell()
        self._waiting += 1
        for link in self._links:
            link.pause(False)
        try:
            async with asyncio.timeout(timeout_s):
                while not done():
                    await bell.heard()
        except TimeoutError:
            raise Timeout(f"waited {timeout_s:g} s in vain for {what}") from None
        finally:
            self._waiting -= 1

    async def until_job(self, job: Pending, done: Callable[[], bool], timeout_s: float | None, what: str) -> None:
        """As `until`; when the last task that waits for the job is cancelled, so is the job."""
        try:
            await self.until(job, done, timeout_s, what)
        except asyncio.CancelledError:
            if not (isinstance(job.bell, Bell) and job.bell.waiting):
                self.cancel(job)
            raise

    def _changed(self, link: Link) -> None:
        """Something came on a connection, or it was lost."""
        now = time.monotonic()
        found = strays.of_refused(link.session, now)
        if link.lost and link in self._links:
            found += strays.of_lost(link.session, link.lost, now)
        if found or (link.lost and link in self._links):
            self._servers.failed(link.address, now, random.random)
        self._tidy()
        if found:
            self._strays += found
            self._place_soon()
        if not self._waiting and sum(job.held for job in link.session.jobs.values()) > HELD_MAX:
            link.pause(True)

    def _tidy(self) -> None:
        """As in `links.py`."""
        for link in list(self._links):
            session = link.session
            if link.lost or (session.idle and (link is not self.current or session.leaving or session.jobs)):
                link.close()
                self._links.remove(link)
                if link is self.current:
                    self.current = None

    # -- jobs

    async def start(self, job: Pending) -> Pending:
        """Submit a job, or find the one that is out already with the same key; waits only for a connection and for room
        in its outbox."""
        self._look()
        if twin := self._twin(job):
            return twin
        stray = Stray(job, 0.0)
        self._strays.append(stray)  # whoever comes with the same key meanwhile finds it here
        try:
            link = await self.connected()
        except FarmError as failure:
            self._strays.remove(stray)
            stray.give_up(failure)
            return job
        except asyncio.CancelledError:
            if job.shares > 1:
                stray.error = Unavailable("the task that looked for a server was cancelled")
                self._place_soon()
            raise
        if stray in self._strays:  # else another task with the same key gave it up
            self._strays.remove(stray)
        if not job.done:
            link.session.submit(job)
            await link.drained()
        return job

    def _look(self) -> None:
        for link in list(self._links):
            link.look()

    def _twin(self, job: Pending) -> Pending | None:
        if job.key:
            for link in self._links:
                if twin := link.session.twin(job):
                    return twin
            for stray in self._strays:
                if stray.job.key == job.key:
                    stray.job.shares += 1
                    return stray.job
        return None

    def _place_soon(self) -> None:
        if (self._placing is None or self._placing.done()) and not self._closed:
            self._placing = asyncio.create_task(self._place_strays())

    async def _place_strays(self) -> None:
        """Look for a server for the jobs that have lost theirs, until there is one or their patience is at its end."""
        while waiting := [stray for stray in self._strays if stray.error]:
            link: Link | None = None
            failure: FarmError = Unavailable("no server answers")
            try:
                link = await self.connected()
            except FarmError as found:
                failure = found
            now = time.monotonic()
            for stray in waiting:
                if stray not in self._strays:
                    continue  # cancelled meanwhile
                if link:
                    self._strays.remove(stray)
                    link.session.submit(stray.job)
                elif stray.until <= now:
                    self._strays.remove(stray)
                    stray.give_up(failure)
            if not link:
                await asyncio.sleep(max(self._servers.next_try(now) - now, PLACE_AGAIN_S))

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

    async def ask(self, address: Address, number: int, expects: int, name: bytes, timeout_s: float) -> list[bytes]:
        """Ask one server, on the connection that there is, or else on one for this question alone. Raises Unavailable,
        NotGearman, Timeout."""
        self._look()
        for link in self._links:
            if link.address == address:
                return await self.answer(link.session.ask(number, expects, name), timeout_s)
        link = await open_link(address, self._insecure, min(timeout_s, CONNECT_TIMEOUT_S))
        try:
            answer = link.session.ask(number, expects, name)
            async with asyncio.timeout(timeout_s):
                await link.until(lambda: answer.done)
        except TimeoutError:
            raise Timeout(f"waited {timeout_s:g} s in vain for the server at {address}") from None
        finally:
            link.close()
            await link.closed()
        if not answer.done:
            raise Unavailable(f"the server at {address} does not answer: {link.lost}")
        return answer.args

    async def answer(self, answer: Answer, timeout_s: float) -> list[bytes]:
        """Wait for it. Raises its error, or Timeout."""
        await self.until(answer, lambda: answer.done, timeout_s, "the server's answer")
        if answer.error:
            raise answer.error
        return answer.args

    async def connected(self) -> Link:
        """The connection for the next job: the current one unless a better server is back. Raises what the servers
        failed with when none can be reached."""
        async with self._connecting:
            if self._closed:
                raise Unavailable("this client was closed")
            self._look()
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
                    link = await open_link(address, self._insecure, patience_s)
                except (Unavailable, NotGearman) as failure:
                    self._servers.failed(address, time.monotonic(), random.random)
                    failures.append(failure)
                    continue
                self._servers.worked(address)
                link.on_change = self._changed
                self._links.append(link)
                self.current = link
                return link
            if current is None or current.lost:
                raise no_server(failures)
            return current
