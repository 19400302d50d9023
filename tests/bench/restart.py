"""How long a server with a backlog takes to serve again, and what a queued job costs in memory, against gearmand.

gearmand keeps its jobs in memory only here: that is its cheapest way. Both get the same jobs, each on its own.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from farm.protocol import packets as p
from tests.reliability.daemon import DISK, Daemon, memory_of
from tests.support import PATIENCE_S, Wire, free_port, req, wait_until

JOBS = 1_000_000
PAYLOAD_SIZE = 100
BATCH = 500  # packets in one write
PATH = os.environ.get("PATH", "") + ":/usr/sbin"


class Memory(NamedTuple):
    """Resident bytes: with no job, with all of them, and with none again."""

    empty: int
    full: int
    drained: int

    def per_job(self, jobs: int) -> float:
        """Bytes."""
        return (self.full - self.empty) / jobs

    def returned(self) -> float:
        """The share of what the jobs took that came back."""
        return (self.full - self.drained) / (self.full - self.empty)


class Restart(NamedTuple):
    """Of a server with a backlog in its store. serving_s: from the start of its process to its answer to an echo."""

    serving_s: float
    memory: int


def fill(wire: Wire, jobs: int, size: int = PAYLOAD_SIZE) -> float:
    """Submit background jobs without a key; returns the seconds until the last acknowledgement."""
    begin = time.monotonic()
    for start in range(0, jobs, BATCH):
        count = min(BATCH, jobs - start)
        numbers = range(start, start + count)
        wire.raw(b"".join(req(p.SUBMIT_JOB_BG, b"f", b"", b"%0*d" % (size, number)) for number in numbers))
        for _ in range(count):
            got, body = wire.packet()
            assert got == p.JOB_CREATED, (got, body)
    return time.monotonic() - begin


def drain(wire: Wire, jobs: int, size: int = PAYLOAD_SIZE) -> float:
    """Do them all, each with its own payload, in order; returns the seconds."""
    begin = time.monotonic()
    wire.send(p.CAN_DO, b"f")
    for start in range(0, jobs, BATCH):
        count = min(BATCH, jobs - start)
        wire.raw(req(p.GRAB_JOB) * count)
        ends = []
        for number in range(start, start + count):
            got, body = wire.packet()
            assert got == p.JOB_ASSIGN, (got, body)
            handle, _, payload = body.split(b"\0")
            assert payload == b"%0*d" % (size, number)
            ends.append(req(p.WORK_COMPLETE, handle, b""))
        wire.raw(b"".join(ends))
    wire.send(p.ECHO_REQ, b"end")
    assert wire.packet() == (p.ECHO_RES, b"end")
    return time.monotonic() - begin


def farm(directory: Path, jobs: int) -> tuple[Memory, Restart]:
    """Fill, kill, restart, and drain. What is kept of ended jobs costs nothing here, for it is in the store."""
    daemon = Daemon(directory).start()
    try:
        empty = daemon.memory()["VmRSS"]
        with daemon.connect() as wire:
            fill(wire, jobs)
        full = daemon.memory()["VmRSS"]
        daemon.kill()
        begin = time.monotonic()
        daemon.start()
        with daemon.connect() as wire:
            wire.expect_nothing()
        restart = Restart(time.monotonic() - begin, daemon.memory()["VmRSS"])
        with daemon.connect() as wire:
            drain(wire, jobs)
            wire.expect_nothing()
        drained = daemon.memory()["VmRSS"]
        daemon.stop()
        return Memory(empty, full, drained), restart
    finally:
        daemon.end()


@contextlib.contextmanager
def gearmand(directory: Path) -> Iterator[tuple[int, int]]:
    """(process id, port)."""
    program, port = shutil.which("gearmand", path=PATH), free_port()
    assert program, "gearmand is not installed"
    argv = [program, "-L", "127.0.0.1", "-p", str(port), "-l", str(directory / "log"), "-P", str(directory / "pid")]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(argv, stdin=quiet, stdout=quiet, stderr=quiet)
    try:
        wait_until(lambda: _answers(port), what="gearmand listens")
        yield process.pid, port
    finally:
        process.kill()
        process.wait(PATIENCE_S)


def _answers(port: int) -> bool:
    try:
        Wire(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True


def stock(directory: Path, jobs: int) -> Memory:
    """The same with gearmand, but for the restart, which its jobs would not survive."""
    with gearmand(directory) as (pid, port), Wire(("127.0.0.1", port)) as wire:
        empty = memory_of(pid)["VmRSS"]
        fill(wire, jobs)
        full = memory_of(pid)["VmRSS"]
        drain(wire, jobs)
        return Memory(empty, full, memory_of(pid)["VmRSS"])


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.restart",
        description="A backlog of 100-byte background jobs: memory against gearmand's, restart, and what drains away.",
    )
    parser.add_argument("--jobs", type=int, default=JOBS, help="how many (default: %(default)s)")
    jobs = parser.parse_args().jobs
    if jobs < 1:
        parser.error("--jobs must be at least 1")
    with tempfile.TemporaryDirectory(dir=DISK) as directory:
        ours, restart = farm(Path(directory), jobs)
    print(f"{jobs} background jobs of {PAYLOAD_SIZE} bytes")
    _print("farm server, SQLite store", ours, jobs)
    print(f"  killed and started again: serving after {restart.serving_s:.2f} s, {restart.memory / 1e6:.0f} MB")
    with tempfile.TemporaryDirectory(dir=DISK) as directory:
        theirs = stock(Path(directory), jobs)
    _print("gearmand, memory queue", theirs, jobs)
    print(f"memory of a job: {ours.per_job(jobs) / theirs.per_job(jobs):.2f} of gearmand's")
    return 0


def _print(name: str, memory: Memory, jobs: int) -> None:
    sizes = " / ".join(f"{size / 1e6:.0f}" for size in memory)
    print(f"  {name:26} empty / full / drained {sizes} MB, {memory.per_job(jobs):.0f} bytes a job,", end=" ")
    print(f"{memory.returned():.0%} given back")


if __name__ == "__main__":
    sys.exit(main())
