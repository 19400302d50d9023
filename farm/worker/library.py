"""`farm.Worker`: Python functions as workers. One job at a time, blocking, no threads, no asyncio.

It must not know packets (`session.py`, `report.py`). `farm/docs/library.md` shows it at work.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

from farm.errors import EXIT_WORKER_FAILED, FarmError, UsageError
from farm.protocol.address import parse_addresses
from farm.protocol.names import function_name_fault, shown
from farm.worker.channel import Channel
from farm.worker.report import Packets, Report
from farm.worker.session import AWAKE, GRABBING, HOLDING, LEFT, Assigned, Session

POLL_S = 30.0  # a sleeping worker asks again after so long, in case a server has lost the wake-up (gearmand can)
LEAVE_TIMEOUT_S = 5.0
OUT_HIGH = 1024 * 1024  # a function waits while this much has not been taken by the server
TIMEOUT_MIN_S = 1.0  # servers take less for as much
EXCEPTION_MAX = 4096  # bytes of an exception's text

EXCEPTIONS = {"auto": None, "always": True, "never": False}

log = logging.getLogger("farm.worker")


class TaskFailed(FarmError):
    """Raised by a function to fail its job. exit_code: 1 to 255, what `farm submit` exits with."""

    def __init__(self, message: str = "", exit_code: int = 1) -> None:
        if not 1 <= exit_code <= 255:
            raise ValueError(f"an exit code of a failed job is 1 to 255, not {exit_code}")
        super().__init__(message, status=exit_code)


class WorkerJob:
    """A job, for the function that does it. payload: bytes. When its server is lost, what is sent goes nowhere, and
    the server, or another one, has the job done again."""

    def __init__(self, job: Assigned, channel: Channel, session: Session, timeout_s: float) -> None:
        self.payload = job.payload
        self._job = job
        self._channel = channel
        self._session = session
        self._report = Report(job.handle, session.extension)
        self._deadline = time.monotonic() + max(timeout_s, TIMEOUT_MIN_S) if timeout_s else None

    def __repr__(self) -> str:
        return f"<WorkerJob {self.function!r} {self.handle}>"

    @property
    def handle(self) -> str:
        """What the server calls the job."""
        return self._job.handle.decode("utf-8", "surrogateescape")

    @property
    def function(self) -> str:
        """The function's name."""
        return self._job.function.decode("utf-8", "surrogateescape")

    @property
    def unique(self) -> str:
        """The unique key, or ""."""
        return self._job.unique.decode("utf-8", "surrogateescape")

    @property
    def time_left_s(self) -> float | None:
        """Until the server gives the job to another worker; None: no timeout was registered."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for the result any more: the client gave the job up (only farm's server tells), the
        time is up, or the server is lost. A long function looks now and then, and returns."""
        self._serve(0)
        return self._lost or self._session.cancelled or self.time_left_s == 0.0

    def send_data(self, piece: bytes) -> None:
        """A piece of the result, for the client at once. Waits while the client is far behind."""
        self._send(self._report.data(bytes(piece)))

    def send_warning(self, text: str | bytes) -> None:
        """For the client's stderr."""
        self._send(self._report.warning(_bytes_of(text)))

    def send_status(self, numerator: int, denominator: int) -> None:
        """Progress: so many of so many."""
        self._send(self._report.status(numerator, denominator))

    # -- inside

    @property
    def _lost(self) -> bool:
        return self._channel.session is not self._session

    def _send(self, packets: Packets) -> None:
        if self._lost:
            return
        for pieces in packets:
            self._channel.send(pieces)
        while self._channel.unsent > OUT_HIGH:
            self._serve(None)

    def _serve(self, wait_s: float | None) -> None:
        """Send and receive on this job's connection."""
        if self._lost:
            return
        poller = select.poll()
        poller.register(self._channel.fileno(), self._channel.wants)
        for _, events in poller.poll(None if wait_s is None else wait_s * 1000):
            self._channel.ready(events)


Task = Callable[[WorkerJob], bytes | bytearray | memoryview | str | None]
AnyTask = TypeVar("AnyTask", bound=Task)


class Worker:
    """Does jobs with functions, one at a time, from every server of a list at once, farm's or stock Gearman's.

    servers: as for `--server` (a text, or a list of them); None: FARM_SERVER, or this machine. insecure: allow
    addresses other than loopback, without encryption. name: shown by the admin command `workers`. exceptions: whether
    an exception travels as Gearman's WORK_EXCEPTION: "always", "never" (as a failure with its text on stderr), or
    "auto": where the server is farm's. A lost server is tried again until it is back.
    """

    def __init__(
        self,
        servers: str | Sequence[str] | None = None,
        *,
        insecure: bool = False,
        name: str = "",
        exceptions: str = "auto",
    ) -> None:
        """Raises UsageError."""
        if servers is None:
            servers = os.environ.get("FARM_SERVER") or []
        if exceptions not in EXCEPTIONS:
            raise UsageError(f"exceptions is one of {', '.join(EXCEPTIONS)}, not {exceptions!r}")
        self._addresses = parse_addresses([servers] if isinstance(servers, str) else list(servers))
        self._insecure = insecure
        self._name = name or f"{socket.gethostname()}-{os.getpid()}"
        self._exceptions = EXCEPTIONS[exceptions]
        self._tasks: dict[bytes, tuple[Task, float]] = {}
        self._channels: list[Channel] = []
        self._stopping = False
        self._wake = -1
        self._lock = threading.Lock()  # of `_wake`, which another thread may write to while it is closed

    # -- what it can do

    def task(self, name: str, *, timeout_s: float | None = None) -> Callable[[AnyTask], AnyTask]:
        """A decorator: `@worker.task("resize")` above `def resize(job): ...` registers the function; see `register`."""

        def decorate(function: AnyTask) -> AnyTask:
            self.register(name, function, timeout_s=timeout_s)
            return function

        return decorate

    def register(self, name: str, function: Task, *, timeout_s: float | None = None) -> None:
        """Do jobs for `name` with `function`, which gets a WorkerJob and returns the result (or the rest of it, after
        `send_data`) as bytes, text or None. What it raises fails the job.

        timeout_s: after so long, and at least a second, the server gives the job to another worker; the function is not
        interrupted, but see `WorkerJob.cancelled`. Raises UsageError; register before `run`.
        """
        if fault := function_name_fault(name):
            raise UsageError(f"the function name {name[:60]!r} {fault}")
        if timeout_s is not None and not timeout_s > 0:
            raise UsageError(f"a timeout is more than 0 s, not {timeout_s:g}")
        self._tasks[name.encode("utf-8", "surrogateescape")] = (function, timeout_s or 0.0)

    # -- running

    def run(self, jobs: int | None = None, *, signals: bool = True) -> None:
        """Work until `stop`, or until so many jobs are done. Raises UsageError when no function was registered,
        NotPermitted for an address that `insecure` would have to allow.

        signals: in the main thread, SIGTERM and SIGINT stop it, when the job that runs is done; a second one does what
        it did before. The job is then given to another worker.
        """
        if not self._tasks:
            raise UsageError("this worker has no functions", 'write @worker.task("NAME") above one')
        timeouts = {name: round(timeout_s * 1000) for name, (_, timeout_s) in self._tasks.items()}
        name = self._name.encode("utf-8", "surrogateescape")
        self._channels = [Channel(address, self._insecure, name, timeouts) for address in self._addresses]
        with self._waker() as woken, self._signals(signals):
            try:
                self._work(jobs, woken)
                self._leave(woken)
            finally:
                for channel in self._channels:
                    channel.close()
                self._channels = []
                self._stopping = False

    def stop(self) -> None:
        """Make `run` return when the job that runs is done; from any thread, also before `run`."""
        self._stopping = True
        with self._lock:
            if self._wake >= 0:
                _poke(self._wake)

    def _work(self, jobs: int | None, woken: int) -> None:
        asked_at = time.monotonic()
        while not self._stopping and jobs != 0:
            now = time.monotonic()
            if now >= asked_at + POLL_S:
                asked_at = now
                for session in self._sessions():
                    session.rouse()
            for channel in self._channels:
                channel.tick(now)
            self._grab()
            self._turn(min([channel.due for channel in self._channels] + [asked_at + POLL_S]), woken)
            for channel in self._channels:
                if channel.session and channel.session.job:
                    self._do(channel, channel.session, channel.session.job)
                    jobs = None if jobs is None else jobs - 1
                    break

    def _sessions(self) -> list[Session]:
        return [channel.session for channel in self._channels if channel.session]

    def _grab(self) -> None:
        """Ask the next server that may have a job, if none was asked already."""
        if any(session.state in (GRABBING, HOLDING) for session in self._sessions()):
            return
        for channel in self._channels:
            if channel.session and channel.session.state == AWAKE:
                # Turns: the server that was asked is the last to be asked again.
                self._channels.remove(channel)
                self._channels.append(channel)
                channel.session.grab()
                return

    def _turn(self, due: float, woken: int) -> None:
        """Wait until something comes, `due` (monotonic), or `stop`, and serve every connection once."""
        poller = select.poll()
        poller.register(woken, select.POLLIN)
        channels = {channel.fileno(): channel for channel in self._channels if channel.fileno() >= 0}
        for fd, channel in channels.items():
            poller.register(fd, channel.wants)
        for fd, events in poller.poll(max(0.0, due - time.monotonic()) * 1000):
            if fd == woken:
                os.read(woken, 4096)
            else:
                channels[fd].ready(events)

    # -- one job

    def _do(self, channel: Channel, session: Session, assigned: Assigned) -> None:
        function, timeout_s = self._tasks.get(assigned.function, (_unknown, 0.0))
        job = WorkerJob(assigned, channel, session, timeout_s)
        try:
            packets = job._report.complete(_bytes_of(function(job)))
        except TaskFailed as failure:
            text = failure.message.encode("utf-8", "replace")
            packets = job._report.fail(failure.status, text + b"\n" if text else b"")
        except Exception as error:  # the top of a job: whatever it is, it is the job's failure
            log.warning("job %s for %s raised", shown(assigned.handle), shown(assigned.function), exc_info=True)
            packets = job._report.exception(_words(error), self._exceptions)
        if channel.session is session:
            for pieces in packets:
                channel.send(pieces)
            session.ended()

    # -- stopping

    def _leave(self, woken: int) -> None:
        """Close once the servers have everything."""
        for session in self._sessions():
            session.leave()
        deadline = time.monotonic() + LEAVE_TIMEOUT_S
        while any(session.state != LEFT for session in self._sessions()) and time.monotonic() < deadline:
            for channel in self._channels:
                if channel.session is None or channel.session.state == LEFT:
                    channel.close()
            self._turn(deadline, woken)

    @contextmanager
    def _waker(self) -> Iterator[int]:
        read, self._wake = os.pipe()
        os.set_blocking(self._wake, False)  # full: it is awake
        try:
            yield read
        finally:
            with self._lock:
                os.close(self._wake)
                self._wake = -1
            os.close(read)

    @contextmanager
    def _signals(self, wanted: bool) -> Iterator[None]:
        before: dict[int, signal.Handlers | int | Callable[[int, FrameType | None], object] | None] = {}

        def restore() -> None:
            for number, handler in before.items():
                signal.signal(number, handler)
            before.clear()

        def stop(number: int, frame: FrameType | None) -> None:
            self._stopping = True
            _poke(self._wake)  # not `stop`: the lock may be held by what this interrupts
            restore()

        if wanted and threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                before[number] = signal.getsignal(number)
                signal.signal(number, stop)
        try:
            yield
        finally:
            restore()


def _poke(fd: int) -> None:
    try:
        os.write(fd, b"!")
    except BlockingIOError:
        pass  # it was poked often enough


def _unknown(job: WorkerJob) -> None:
    raise TaskFailed(f"this worker has no function {job.function!r}", EXIT_WORKER_FAILED)


def _bytes_of(result: bytes | bytearray | memoryview | str | None) -> bytes:
    """Raises TypeError."""
    if result is None:
        return b""
    if isinstance(result, str):
        return result.encode()
    if isinstance(result, bytes | bytearray | memoryview):
        return bytes(result)
    raise TypeError(f"a function returns bytes, text or None, not {type(result).__name__}")


def _words(error: Exception) -> bytes:
    """An exception in words."""
    try:
        words = str(error)
    except Exception:  # noqa: BLE001 an exception that cannot be shown is no reason to lose the worker
        words = ""
    text = f"{type(error).__name__}: {words}" if words else type(error).__name__
    return text.encode("utf-8", "replace")[:EXCEPTION_MAX]
