"""`farm.Client`: submit jobs from a Python program that blocks. Plain sockets, no threads, no asyncio.

The sockets are read while a call waits, and only then. It must not decide what a packet means (`session.py`) nor which
server is next (`servers.py`). `farm/docs/library.md` shows it at work.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from types import TracebackType

from farm.client import common
from farm.client.common import IN_FLIGHT, TIMEOUT_S, Handle, JobView, Names, OnProgress, OnStderr, Payload, Status
from farm.client.links import Links
from farm.client.pending import Pending
from farm.client.request import NORMAL, Request
from farm.client.servers import ORDERED
from farm.errors import FarmError, NotGearman, Timeout, Unavailable
from farm.protocol import packets
from farm.protocol.address import Address, parse_address


class Job(JobView):
    """A foreground job that was submitted. Its client serves it while something of it is waited for."""

    def __init__(self, client: Client, pending: Pending) -> None:
        super().__init__(pending)
        self._client = client

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for its end; False when it has not come within `timeout_s`."""
        try:
            self._client._links.until(lambda: self._pending.done, timeout_s, "")
        except Timeout:
            return False
        return True

    def result(self, timeout_s: float | None = None) -> bytes:
        """Its whole output, as far as `data` has not yielded it already.

        Raises JobFailed, JobException, JobLost, TryAgain or another FarmError when there is none, and Timeout when it
        has not ended within `timeout_s` (None: wait for ever); the job is then still out.
        """
        pending = self._pending
        self._client._links.until(lambda: pending.done, timeout_s, f"the end of job {self.handle}")
        if pending.error:
            raise pending.error
        return pending.output()

    @property
    def data(self) -> Iterator[bytes]:
        """Its output in pieces, as they come; raises as `result` does. With several jobs on one client, what comes for
        the others meanwhile is held in memory."""
        return self.iterate()

    def iterate(self, timeout_s: float | None = None) -> Iterator[bytes]:
        """As `data`; raises Timeout when there is no next piece, and no end, within `timeout_s`."""
        pending = self._pending
        while True:
            while piece := pending.take():
                yield piece
            if pending.done:
                break
            self._client._links.until(
                lambda: pending.held > 0 or pending.done, timeout_s, f"output of job {self.handle}"
            )
        if pending.error:
            raise pending.error

    def cancel(self, timeout_s: float = TIMEOUT_S) -> str:
        """Give it up. Returns what becomes of it: "dropped" (it was not running), "told" (its worker is told to end
        it), "unheard" (it runs on at a stock worker), "shared" (others wait for it, or it is a background job),
        "unknown" (it has ended), or "" at a stock server, which cannot cancel. Its result is JobCancelled then, unless
        it had ended."""
        if self._given_up:
            return "unknown"
        self._given_up = True
        answer = self._client._links.cancel(self._pending)
        self._client._links.until(lambda: answer.done, timeout_s, f"word on the cancelled job {self.handle}")
        return answer.args[1].decode() if answer.args else ""


class Client:
    """Submits jobs to one server of a list, farm's or stock Gearman's.

    servers: addresses, as for `--server` (a text, or a list of them); None: FARM_SERVER, or this machine.
    order: "ordered", the first server that works, or "random", any that works. A server that failed is left alone for
    a while, unless all others fail too.
    insecure: allow addresses other than loopback, without encryption.
    retry_lost: submit a foreground job again when its server is lost, so that it may run twice; without it the job's
    result is JobLost. timeout_s: for calls that a server answers at once.

    It belongs to one thread. Nothing is connected before it is needed.
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

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave. Foreground jobs that are out end with this, at a farm server also those that run."""
        self._links.close()

    @property
    def server(self) -> str:
        """The address of the server that gets the next job; "" when there is no connection."""
        return str(self._links.current.address) if self._links.current else ""

    # -- submitting

    def run(
        self,
        function: str,
        payload: Payload = b"",
        *,
        unique: str = "",
        priority: str = NORMAL,
        retry_lost: bool | None = None,
        timeout_s: float | None = None,
    ) -> bytes:
        """Submit a job and return its whole output. Raises as `Job.result`; whatever it raises, the job is given up."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        job = self._start(common.make_request(function, payload, unique, priority), retry_lost)
        try:
            self._until_created(job, timeout_s)
            return Job(self, job).result(None if deadline is None else max(0.0, deadline - time.monotonic()))
        except BaseException:
            self._links.cancel(job)
            raise

    def submit(
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
        """Submit a foreground job; returns once a server has it. Raises FarmError when none has.

        unique: a job with the same key that is out already is joined: from this client, it is the same job.
        priority: "high", "normal" or "low". retry_lost: as for the client. on_progress(numerator, denominator) and
        on_stderr(piece) are called when such comes while a call of this client waits.
        """
        job = self._start(common.make_request(function, payload, unique, priority), retry_lost)
        job.on_progress = on_progress or job.on_progress
        job.on_stderr = on_stderr or job.on_stderr
        try:
            self._until_created(job, timeout_s)
        except BaseException:
            self._links.cancel(job)
            raise
        return Job(self, job)

    def submit_background(
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
        """Submit a job that nobody waits for; returns its handle once a server has taken it over.

        at: epoch seconds before which it must not run. Raises JobLost when the server goes before it has answered: it
        may have the job or not; with `retry_lost` the job is submitted again, so that there may be two.
        """
        request = common.make_background(function, payload, unique, priority, at)
        retry = self._retry_lost if retry_lost is None else retry_lost
        job = Pending(request, background=True, at=common.epoch(at), retry_lost=retry)
        self._links.start(job)
        self._links.until(
            lambda: job.done, self._timeout_s if timeout_s is None else timeout_s, "a server to take the job"
        )
        if job.error:
            raise job.error
        return Job(self, job).handle

    def map(
        self,
        function: str,
        payloads: Iterable[Payload],
        *,
        priority: str = NORMAL,
        retry_lost: bool | None = None,
        in_flight: int = IN_FLIGHT,
        timeout_s: float | None = None,
    ) -> Iterator[bytes]:
        """The results of many jobs, in the order of their payloads. Payloads are taken as they are needed: at most
        `in_flight` jobs are out at a time. The first that fails raises as `Job.result` does, and ends the others, as
        does leaving the iterator. timeout_s: for each next result."""
        jobs: deque[Job] = deque()
        try:
            for payload in payloads:
                jobs.append(Job(self, self._start(common.make_request(function, payload, "", priority), retry_lost)))
                if len(jobs) >= in_flight:
                    yield jobs[0].result(timeout_s)
                    jobs.popleft()
            while jobs:
                yield jobs[0].result(timeout_s)
                jobs.popleft()
        finally:
            for job in jobs:
                self._links.cancel(job._pending)

    # -- asking

    def status(self, handle: str, *, timeout_s: float | None = None) -> Status:
        """What is known of a job. A `Handle` of this library knows its server; for any other text every server is
        asked. Raises Unavailable when one of them does not answer and no other knows the job."""
        where = parse_address(handle.server) if isinstance(handle, Handle) and handle.server else None
        name = common.encode_handle(handle)
        return self._find(packets.GET_STATUS, packets.STATUS_RES, name, [where] if where else None, timeout_s)

    def status_by_unique(self, unique: str, *, timeout_s: float | None = None) -> Status:
        """What is known of a job with this unique key, of whichever function; every server is asked. Raises as
        `status`."""
        key = common.encode_unique(unique)
        return self._find(packets.GET_STATUS_UNIQUE, packets.STATUS_RES_UNIQUE, key, None, timeout_s)

    def echo(self, data: bytes = b"farm", *, timeout_s: float | None = None) -> bytes:
        """What the server sends back for `data`, that is, `data`. Raises Unavailable, Timeout."""
        deadline = self._deadline(timeout_s)
        data = common.encode_echo(bytes(data))
        self._links.poll(0)
        session = self._links.connected(deadline).session
        return self._links.answer(session.ask(packets.ECHO_REQ, packets.ECHO_RES, data), deadline)[0]

    def _find(
        self, number: int, expects: int, name: bytes, where: list[Address] | None, timeout_s: float | None
    ) -> Status:
        deadline = self._deadline(timeout_s)
        failures: list[FarmError] = []
        found = common.UNKNOWN
        for address in where or list(self._servers):
            try:
                found = common.status_of(self._links.ask(address, number, expects, name, deadline))
            except (Unavailable, NotGearman) as failure:
                failures.append(failure)
            if found.known:
                return found
        if failures:
            raise common.no_server(failures)
        return found

    # -- inside

    def _start(self, request: Request, retry_lost: bool | None) -> Pending:
        retry = self._retry_lost if retry_lost is None else retry_lost
        return self._links.start(Pending(request, retry_lost=retry))

    def _until_created(self, job: Pending, timeout_s: float | None) -> None:
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        self._links.until(lambda: bool(job.handle) or job.done, timeout_s, "a server to take the job")
        if job.error and not job.handle:
            raise job.error

    def _deadline(self, timeout_s: float | None) -> float:
        return time.monotonic() + (self._timeout_s if timeout_s is None else timeout_s)
