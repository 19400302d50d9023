"""What the tests of the libraries share: workers in threads or processes, and the asyncio client in a blocking suit."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import farm
from tests.support import CHECKOUT, PATIENCE_S, ServerProcess, wait_until

KINDS = ("blocking", "aio")


def address(server: ServerProcess) -> str:
    """Where a server listens, as the library takes it."""
    return "{}:{}".format(*server.where)


def workers_of(server: ServerProcess, function: str) -> int:
    """How many workers offer a function."""
    with server.connect() as wire:
        rows = [line.rstrip(b"\n").split(b"\t") for line in wire.listing(b"status")]
    return next((int(row[3]) for row in rows if row[0] == function.encode()), 0)


def jobs_of(server: ServerProcess, function: str) -> tuple[int, int]:
    """How many jobs of a function there are, and how many of them run."""
    with server.connect() as wire:
        rows = [line.rstrip(b"\n").split(b"\t") for line in wire.listing(b"status")]
    return next(((int(row[1]), int(row[2])) for row in rows if row[0] == function.encode()), (0, 0))


@contextlib.contextmanager
def working(worker: farm.Worker, jobs: int | None = None) -> Iterator[threading.Thread]:
    """A worker in a thread; stopped at the end, which must not take long."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            worker.run(jobs)
        except BaseException as error:
            failures.append(error)
            raise

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield thread
    finally:
        worker.stop()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
        assert not failures


class Gate:
    """A task that waits in the middle: `entered` when it is there, `open` lets it go on."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.open = threading.Event()
        self.job: farm.WorkerJob | None = None

    def __call__(self, job: farm.WorkerJob) -> bytes:
        self.job = job
        self.entered.set()
        assert self.open.wait(PATIENCE_S)
        return job.payload


class WorkerProcess:
    """A worker in a process of its own; `source` is what follows `worker = farm.Worker(...)`."""

    def __init__(self, directory: Path, servers: str, source: str) -> None:
        program = directory / f"worker-{id(self)}.py"
        program.write_text(f"import os, time, farm\nworker = farm.Worker({servers!r})\n{source}\nworker.run()\n")
        self._err = program.with_suffix(".err").open("w+b")
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(program)],
            env={**os.environ, "PYTHONPATH": str(CHECKOUT), "PYTHONWARNINGS": "error"},
            stdin=subprocess.DEVNULL,
            stderr=self._err,
            # A shell's background job ignores SIGINT, and so would all that it starts.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def err(self) -> str:
        """What it said."""
        self._err.seek(0)
        return self._err.read().decode()

    def end(self) -> None:
        """However it is."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE_S)
        self._err.close()


class Suit:
    """`farm.aio.Client` or its Job, called as if it blocked. One loop, run only while a call waits."""

    def __init__(self, runner: asyncio.Runner, worn: Any) -> None:
        self.runner = runner
        self.worn = worn

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.worn, name)
        return self._call(found) if callable(found) and not isinstance(found, type) else self._dress(found)

    def _call(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            return self._dress(method(*args, **named))

        return call

    def _dress(self, found: Any) -> Any:
        if asyncio.iscoroutine(found):
            found = self.runner.run(found)
        if isinstance(found, farm.aio.Job):
            return Suit(self.runner, found)
        return self._each(found) if isinstance(found, AsyncIterator) else found

    def _each(self, found: Any) -> Iterator[Any]:
        async def following() -> Any:
            return await anext(found)

        try:
            while True:
                try:
                    yield self.runner.run(following())
                except StopAsyncIteration:
                    return
        finally:
            self.runner.run(found.aclose())


@contextlib.contextmanager
def client_of(kind: str, servers: Any, **options: Any) -> Iterator[Any]:
    """A client of either kind."""
    if kind == "blocking":
        with farm.Client(servers, **options) as client:
            yield client
        return
    with asyncio.Runner() as runner:

        async def make() -> farm.aio.Client:
            return farm.aio.Client(servers, **options)

        suit = Suit(runner, runner.run(make()))
        try:
            yield suit
        finally:
            suit.close()


def wait_working(server: ServerProcess, function: str, workers: int = 1) -> None:
    """Wait until so many workers offer a function."""
    wait_until(lambda: workers_of(server, function) == workers, what=f"{workers} workers for {function}")
