"""`farm.aio.Client`: submit jobs from asyncio. The same names as in the blocking client, with `await` before them.

It must not decide what a packet means (`session.py`) nor which server is next (`servers.py`). Tasks of one event loop
share a client; a task that is cancelled while it waits for a job cancels the job.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from types import TracebackType
from typing import ParamSpec

from farm.client import common
from farm.client.aio_links import Links
from farm.client.common import IN_FLIGHT, TIMEOUT_S, Handle, JobView, Names, OnProgress, OnStderr, Payload, Status
from farm.client.pending import Pending
from farm.client.request import NORMAL, Request
from farm.client.servers import ORDERED
from farm.errors import FarmError, NotGearman, Timeout, Unavailable
from farm.protocol import packets
from farm.protocol.address import Address, parse_address

Arguments = ParamSpec("Arguments")


class Job(JobView):
    """A foreground job that was submitted."""

    def __init__(self, links: Links, pending: Pending) -> None:
        super().__init__(pending)
        self._links = links

    async def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for its end; False when it has not come within `timeout_s`."""
        try:
            await self._until_done(timeout_s)
        except Timeout:
            return False
        return True

    async def result(self, timeout_s: float | None = None) -> bytes:
        """Its whole output, as far as `data` has not yielded it already. Raises as `farm.Job.result` does. When the
        last task that waits for the job is cancelled, so is the job."""
        await self._until_done(timeout_s)
        if self._pending.error:
            raise self._pending.error
        return self._pending.output()

    async def _until_done(self, timeout_s: float | None) -> None:
        pending = self._pending
        await self._links.until_job(pending, lambda: pending.done, timeout_s, f"the end of job {self.handle}")

    @property
    def data(self) -> AsyncIterator[bytes]:
        """Its output in pieces, as they come; raises as `result` does."""
        return self.iterate()

    async def iterate(self, timeout_s: float | None = None) -> AsyncIterator[bytes]:
        """As `data`; raises Timeout when there is no next piece, and no end, within `timeout_s`."""
        pending, what = self._pending, f"output of job {self.handle}"
        while True:
            while piece := pending.take():
                yield piece
            if pending.done:
                break
            await self._links.until_job(pending, lambda: pending.held > 0 or pending.done, timeout_s, what)
        if pending.error:
            raise pending.error

    async def cancel(self, timeout_s: float = TIMEOUT_S) -> str:
        """Give it up. Returns what becomes of it, in the words of `farm.Job.cancel`."""
        if self._given_up:
            return "unknown"
        self._given_up = True
        answer = self._links.cancel(self._pending)
        await self._links.until(answer, lambda: answer.done, timeout_s, f"word on the cancelled job {self.handle}")
        return answer.args[1].decode() if answer.args else ""


class Client:
    """Submits jobs to one server of a list, farm's or stock Gearman's. The arguments are those of `farm.Client`.

    Make it, use it and close it in one event loop. Nothing is connected before it is needed.
    """

    def __init__(
        self,
        servers: Names = None,
        *,
        order: str = ORDERED,
        insecure: bool = False,
        retry_lost: bool = False,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """Raises UsageError."""
        self._servers = common.make_servers(servers, order)
        self._retry_lost = retry_lost
        self._timeout_s = timeout_s
        self._links = Links(self._servers, insecure)

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Leave. Foreground jobs that are out end with this, at a farm server also those that run."""
        await self._links.close()

    @property
    def server(self) -> str:
        """The address of the server that gets the next job; "" when there is no connection."""
        return str(self._links.current.address) if self._links.current else ""

    # -- submitting

    async def run(
        self,
        function: str,
        payload: Payload = b"",
        *,
        unique: str = "",
        priority: str = NORMAL,
        retry_lost: bool | None = None,
        timeout_s: float | None = None,
    ) -> bytes:
        """Submit a job and return its whole output. Raises as `Job.result`; when the time is up, or the task cancelled,
        the job is given up."""
        began = time.monotonic()
        job = await self.submit(function, payload, unique=unique, priority=priority, retry_lost=retry_lost)
        left = None if timeout_s is None else max(0.0, began + timeout_s - time.monotonic())
        try:
            return await job.result(left)
        except Timeout:
            self._links.cancel(job._pending)
            raise

    async def submit(
        self,
        function: str,
        payload: Payload = b"",
        *,
        unique: str = "",
        priority: str = NORMAL,
        retry_lost: bool | None = None,
        on_progress: OnProgress | None = None,
        on_stderr: OnStderr | None = None,
        timeout_s: float | None = None,
    ) -> Job:
        """Submit a foreground job; returns once a server has it. As `farm.Client.submit`."""
        request = common.make_request(function, payload, unique, priority)
        job = self._pending(request, retry_lost)
        job.on_progress = _guarded(on_progress) if on_progress else None
        job.on_stderr = _guarded(on_stderr) if on_stderr else None
        return Job(self._links, await self._created(job, timeout_s))

    async def submit_background(
        self,
        function: str,
        payload: Payload = b"",
        *,
        unique: str = "",
        priority: str = NORMAL,
        at: float | None = None,
        retry_lost: bool | None = None,
        timeout_s: float | None = None,
    ) -> Handle:
        """Submit a job that nobody waits for; returns its handle. As `farm.Client.submit_background`."""
        request = common.make_background(function, payload, unique, priority, at)
        job = self._pending(request, retry_lost, background=True, at=common.epoch(at))
        return Job(self._links, await self._created(job, timeout_s)).handle

    async def map(
        self,
        function: str,
        payloads: Iterable[Payload],
        *,
        priority: str = NORMAL,
        retry_lost: bool | None = None,
        in_flight: int = IN_FLIGHT,
        timeout_s: float | None = None,
    ) -> AsyncIterator[bytes]:
        """The results of many jobs, in the order of their payloads. As `farm.Client.map`."""
        jobs: deque[Job] = deque()
        try:
            for payload in payloads:
                job = self._pending(common.make_request(function, payload, "", priority), retry_lost)
                jobs.append(Job(self._links, job))
                await self._links.start(job)
                if len(jobs) >= in_flight:
                    yield await jobs[0].result(timeout_s)
                    jobs.popleft()
            while jobs:
                yield await jobs[0].result(timeout_s)
                jobs.popleft()
        finally:
            for left in jobs:
                self._links.cancel(left._pending)

    # -- asking

    async def status(self, handle: str, *, timeout_s: float | None = None) -> Status:
        """What is known of a job. As `farm.Client.status`."""
        where = parse_address(handle.server) if isinstance(handle, Handle) and handle.server else None
        name = common.encode_handle(handle)
        return await self._find(packets.GET_STATUS, packets.STATUS_RES, name, [where] if where else None, timeout_s)

    async def status_by_unique(self, unique: str, *, timeout_s: float | None = None) -> Status:
        """What is known of a job with this unique key. As `farm.Client.status_by_unique`."""
        key = common.encode_unique(unique)
        return await self._find(packets.GET_STATUS_UNIQUE, packets.STATUS_RES_UNIQUE, key, None, timeout_s)

    async def echo(self, data: bytes = b"farm", *, timeout_s: float | None = None) -> bytes:
        """What the server sends back for `data`, that is, `data`. Raises Unavailable, Timeout."""
        data = common.encode_echo(bytes(data))
        link = await self._links.connected()
        answer = link.session.ask(packets.ECHO_REQ, packets.ECHO_RES, data)
        return (await self._links.answer(answer, self._patience(timeout_s)))[0]

    async def _find(
        self, number: int, expects: int, name: bytes, where: list[Address] | None, timeout_s: float | None
    ) -> Status:
        failures: list[FarmError] = []
        found = common.UNKNOWN
        for address in where or list(self._servers):
            try:
                args = await self._links.ask(address, number, expects, name, self._patience(timeout_s))
                found = common.status_of(args)
            except (Unavailable, NotGearman) as failure:
                failures.append(failure)
            if found.known:
                return found
        if failures:
            raise common.no_server(failures)
        return found

    # -- inside

    def _pending(
        self, request: Request, retry_lost: bool | None, background: bool = False, at: int | None = None
    ) -> Pending:
        retry = self._retry_lost if retry_lost is None else retry_lost
        return Pending(request, background=background, at=at, retry_lost=retry)

    async def _created(self, job: Pending, timeout_s: float | None) -> Pending:
        """Submit; returns the job, or its twin, once a server has it. Otherwise it is given up."""
        patience_s = self._patience(timeout_s)
        what = "a server to take the job"
        try:
            async with asyncio.timeout(patience_s):
                job = await self._links.start(job)
                await self._links.until(job, lambda: bool(job.handle) or job.done, None, what)
        except TimeoutError:
            self._links.cancel(job)
            raise Timeout(f"waited {patience_s:g} s in vain for {what}") from None
        except asyncio.CancelledError:
            self._links.cancel(job)
            raise
        if job.error and (job.background or not job.handle):
            raise job.error
        return job

    def _patience(self, timeout_s: float | None) -> float:
        return self._timeout_s if timeout_s is None else timeout_s


def _guarded(call: Callable[Arguments, None]) -> Callable[Arguments, None]:
    """What a program's callback raises is its event loop's business, not the connection's."""

    def guarded(*args: Arguments.args, **named: Arguments.kwargs) -> None:
        try:
            call(*args, **named)
        except Exception as error:  # noqa: BLE001 whatever it is, it is not ours
            context = {"message": "a callback of a farm job raised", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)

    return guarded
