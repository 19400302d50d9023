"""A backlog: how soon a restarted server serves, and what a queued job costs in memory (tests/bench/restart.py)."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from farm.protocol import packets as p
from tests.bench import load, restart
from tests.bench.restart import PER_JOB_MAX, RESTART_ENDED, RESTART_JOBS, SERVING_MAX_S, Memory
from tests.interop.ends import need
from tests.reliability.conftest import Start
from tests.reliability.daemon import DISK
from tests.support import Wire, req

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.interop]

BATCH = 500  # packets in one write
MEMORY_JOBS = 300_000  # of fewer, what stays however many they were (SQLite's caches, scattered rests) is a large part
RETURNED_MIN = 0.4
PAYLOAD_MEMORY = 1_000_000


@pytest.fixture(scope="module")
def disk() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=DISK) as directory:
        yield Path(directory)


@pytest.fixture(scope="module")
def program(disk: Path) -> Path:
    need("cc")
    return load.build(disk)


@pytest.fixture(scope="module")
def measured(program: Path, disk: Path) -> Memory:
    return restart.ours(program, disk, MEMORY_JOBS)


def test_it_serves_at_once_with_a_hundred_thousand_jobs(program: Path, disk: Path) -> None:
    """On a machine that has a processor for it: what it waits for one says nothing about the server."""
    found = restart.restart(program, disk, RESTART_JOBS)
    assert found.serving_s - found.waited_s <= SERVING_MAX_S


def test_what_it_keeps_of_ended_jobs_does_not_hold_it_up(program: Path, disk: Path) -> None:
    found = restart.restart(program, disk, RESTART_JOBS, RESTART_ENDED)
    assert found.serving_s - found.waited_s <= SERVING_MAX_S


def test_a_queued_job_takes_no_more_memory_than_gearmands(measured: Memory, program: Path, disk: Path) -> None:
    need("gearmand")
    stock = restart.stock(program, disk, MEMORY_JOBS)
    assert measured.per_job(MEMORY_JOBS) <= PER_JOB_MAX * stock.per_job(MEMORY_JOBS)


def test_memory_comes_back_when_the_jobs_are_done(measured: Memory) -> None:
    """Measured: 83 %, and 6 % without what farm/server/garbage.py does."""
    assert measured.returned() >= RETURNED_MIN


def test_payloads_beyond_their_bound_stay_in_the_store(start: Start) -> None:
    """With small memory for payloads, 80 MB of them take little, and every job is still given out whole."""
    count, size = 4000, 20_000
    daemon = start("--payload-memory", str(PAYLOAD_MEMORY))
    empty = daemon.memory()["VmRSS"]
    with daemon.connect() as wire:
        fill(wire, count, size=size)
    taken = daemon.memory()["VmRSS"] - empty
    daemon.restart()
    restarted = daemon.memory()["VmRSS"] - empty
    with daemon.connect() as wire:
        drain(wire, count, size=size)
    cache = 2 * 16 * 1024 * 1024  # SQLite's, of the writer and the reader
    assert max(taken, restarted) < cache + 10 * PAYLOAD_MEMORY


def fill(wire: Wire, jobs: int, size: int) -> None:
    """Submit background jobs without a key."""
    for start in range(0, jobs, BATCH):
        numbers = range(start, min(start + BATCH, jobs))
        wire.raw(b"".join(req(p.SUBMIT_JOB_BG, b"f", b"", b"%0*d" % (size, number)) for number in numbers))
        for _ in numbers:
            got, body = wire.packet()
            assert got == p.JOB_CREATED, (got, body)


def drain(wire: Wire, jobs: int, size: int) -> None:
    """Do them all, each with its own payload, in order."""
    wire.send(p.CAN_DO, b"f")
    for start in range(0, jobs, BATCH):
        numbers = range(start, min(start + BATCH, jobs))
        wire.raw(req(p.GRAB_JOB) * len(numbers))
        ends = []
        for number in numbers:
            got, body = wire.packet()
            assert got == p.JOB_ASSIGN, (got, body)
            handle, _, payload = body.split(b"\0")
            assert payload == b"%0*d" % (size, number)
            ends.append(req(p.WORK_COMPLETE, handle, b""))
        wire.raw(b"".join(ends))
    wire.expect_nothing()
