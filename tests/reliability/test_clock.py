"""R12: the wall clock is set while the server runs. Delayed jobs follow it; nothing else notices.

libfaketime gives one process a wall clock of its own: what a file says is added to the real one. Its monotonic clock
stays true, as it does when an administrator or a time server sets a machine's clock.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from farm.protocol import packets as p
from tests.interop.ends import lack
from tests.reliability.conftest import Start
from tests.reliability.daemon import Daemon
from tests.reliability.mutants import CLOCK_MUTANTS
from tests.support import Wire, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.interop]  # libfaketime is what bin/check installs

HOUR, DAY, YEAR = 3600, 86400, 365 * 86400
START_MAX_S = 2.0  # after the clock has reached a job's time
SLACK_S = 3.0  # of the machine, on top


class Clocked:
    """A server and its wall clock."""

    def __init__(self, start: Start, directory: Path, mutant: str = "", *options: str) -> None:
        libraries = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
        if not libraries:
            lack("not installed: faketime")
        self._file = directory / "clock"
        self._offset = 0
        self.set(0)
        env = {
            "LD_PRELOAD": str(libraries[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }
        self.daemon: Daemon = start(*options, env=env, mutant=mutant)

    def set(self, offset: int) -> None:
        """So many seconds ahead of the real one. In one step: the server must not read half a file."""
        self._offset = offset
        new = self._file.with_suffix(".new")
        new.write_text(f"{offset:+d}\n")
        new.rename(self._file)

    def now(self) -> float:
        """What the server takes the time to be."""
        return time.time() + self._offset

    def later(self, client: Wire, delay: float) -> bytes:
        """Submit a job that is due in so many seconds of the server's clock; returns its handle."""
        client.send(p.SUBMIT_JOB_EPOCH, b"f", b"", b"%d" % (self.now() + delay), b"")
        number, handle = client.packet()
        assert number == p.JOB_CREATED
        return handle


@pytest.fixture
def clocked(start: Start, tmp_path: Path) -> Clocked:
    clocked = Clocked(start, tmp_path)
    with clocked.daemon.connect() as client:  # does the library do what it says?
        clocked.set(HOUR)
        handle = clocked.later(client, -HOUR // 2)
        assert waiting(client) == 1
        client.raw(b"cancel job %s\n" % handle)
        assert client.line() == b"OK\r\n"
        clocked.set(0)
    return clocked


@pytest.fixture
def client(clocked: Clocked) -> Iterator[Wire]:
    with clocked.daemon.connect() as wire:
        yield wire


@pytest.fixture
def worker(clocked: Clocked) -> Iterator[Wire]:
    with clocked.daemon.connect() as wire:
        wire.send(p.CAN_DO, b"f")
        yield wire


def status(wire: Wire) -> list[bytes]:
    """The line of the function: name, all, running, workers."""
    (row,) = wire.listing(b"status")
    return row.split(b"\t")


def waiting(wire: Wire) -> int:
    """How many jobs are queued, not counting those whose time has not come."""
    (row,) = wire.listing(b"prioritystatus")
    return sum(map(int, row.split(b"\t")[1:4]))


def grab(worker: Wire) -> bytes:
    """The next job's handle."""
    return worker.grab().partition(b"\0")[0]


def sleeps(worker: Wire) -> None:
    """There is no job; it sleeps."""
    assert grab(worker) == b""
    worker.send(p.PRE_SLEEP)
    worker.expect_nothing()


@pytest.mark.parametrize("jump", [HOUR, 10 * YEAR], ids=["hour", "ten years"])
def test_set_forward_what_is_due_starts(clocked: Clocked, client: Wire, worker: Wire, jump: int) -> None:
    due = [clocked.later(client, jump - 60), clocked.later(client, jump // 2)]
    not_due = clocked.later(client, jump + DAY)
    sleeps(worker)
    clocked.set(jump)
    begin = time.monotonic()
    worker.expect(p.NOOP)
    took = time.monotonic() - begin
    assert took <= START_MAX_S + SLACK_S
    assert [grab(worker), grab(worker), grab(worker)] == [due[1], due[0], b""]
    client.send(p.GET_STATUS, not_due)
    client.expect(p.STATUS_RES, not_due, b"1", b"0", b"0", b"0")


@pytest.mark.parametrize("jump", [HOUR, 10 * YEAR], ids=["hour", "ten years"])
def test_set_back_nothing_starts_twice_or_early_or_is_lost(
    clocked: Clocked, client: Wire, worker: Wire, jump: int
) -> None:
    running = clocked.later(client, 0)
    assert grab(worker) == running
    queued = clocked.later(client, 0)
    soon = clocked.later(client, 3)
    clocked.set(-jump)
    wait_until(lambda: waiting(client) == 1, what="what was due stays so")
    assert grab(worker) == queued
    sleeps(worker)
    time.sleep(4)  # by the old clock it would be due
    assert (waiting(client), status(client)[1:3]) == (0, [b"3", b"2"])
    clocked.set(0)
    worker.expect(p.NOOP)
    assert grab(worker) == soon
    for handle in (running, queued, soon):
        worker.send(p.WORK_COMPLETE, handle, b"")
    worker.expect_nothing()
    assert status(client)[1] == b"0"


def test_set_back_while_nobody_came(clocked: Clocked, client: Wire) -> None:
    """The first packet afterwards is judged by the new time: a job for in ten minutes is not one of an hour ago."""
    client.expect_nothing()
    clocked.set(-HOUR)
    clocked.later(client, 600)
    assert waiting(client) == 0


def test_a_clock_that_cannot_make_up_its_mind(clocked: Clocked, client: Wire, worker: Wire) -> None:
    """A hundred jumps of up to ten years while jobs come and are done: each runs once, and none is left behind. None
    runs that was never due at any time the clock has shown."""
    chance = Random(12)
    handles, never, done = [], [], []
    for _ in range(100):
        clocked.set(chance.randint(-10 * YEAR, 10 * YEAR) if chance.random() < 0.5 else chance.randint(-HOUR, HOUR))
        handles.append(clocked.later(client, chance.choice((-HOUR, 0, 1, HOUR, YEAR))))
        never.append(clocked.later(client, 50 * YEAR))
        while handle := grab(worker):
            done.append(handle)
            worker.send(p.WORK_COMPLETE, handle, b"")
    assert clocked.daemon.process.poll() is None
    clocked.set(20 * YEAR)
    wait_until(lambda: waiting(client) == len(handles) - len(done), what="all of the others are due")
    while handle := grab(worker):
        done.append(handle)
        worker.send(p.WORK_COMPLETE, handle, b"")
    worker.expect_nothing()
    assert sorted(done) == sorted(handles)
    assert status(client)[1] == b"%d" % len(never)


@pytest.mark.parametrize("jump", [HOUR, -HOUR, 10 * YEAR, -10 * YEAR], ids=lambda jump: f"{jump:+d}s")
def test_set_while_the_server_is_down(clocked: Clocked, jump: int) -> None:
    """What it finds at its start is judged by the time that it then is."""
    with clocked.daemon.connect() as client:
        soon = clocked.later(client, HOUR // 2)
        past = clocked.later(client, -60)
        clocked.later(client, 11 * YEAR)
    clocked.daemon.kill()
    clocked.set(jump)
    clocked.daemon.start()
    with clocked.daemon.connect() as worker:
        worker.send(p.CAN_DO, b"f")
        assert [grab(worker), grab(worker)] == ([soon, past] if jump > 0 else [b"", b""])
        clocked.set(0)
        if jump < 0:
            worker.send(p.PRE_SLEEP)
            worker.expect(p.NOOP)
            assert grab(worker) == past
        sleeps(worker)
        assert status(worker)[1:3] == [b"3", b"1" if jump < 0 else b"2"]  # none is lost


def test_a_workers_time_does_not_follow_the_wall_clock(clocked: Clocked, client: Wire) -> None:
    """CAN_DO_TIMEOUT is neither shortened by an hour nor made longer by one."""
    for jump in (HOUR, -HOUR):
        with clocked.daemon.connect() as worker:
            worker.send(p.CAN_DO_TIMEOUT, b"f", b"3000")
            handle = client.submit(b"f", b"", number=p.SUBMIT_JOB_BG)
            begin = time.monotonic()
            assert grab(worker) == handle
            clocked.set(jump)
            wait_until(lambda: waiting(client) == 1, what="its time is up")
            assert 2.9 <= time.monotonic() - begin <= 3 + SLACK_S
            client.raw(b"cancel job %s\n" % handle)
            assert client.line() == b"OK\r\n"


@pytest.mark.parametrize("mutant", CLOCK_MUTANTS)
def test_a_broken_server_is_noticed(start: Start, tmp_path: Path, mutant: str) -> None:
    """What the tests above ask is not true of every server."""
    clocked = Clocked(start, tmp_path, mutant)
    with clocked.daemon.connect() as client, clocked.daemon.connect() as worker:
        handle = clocked.later(client, HOUR // 2)
        now = client.submit(b"f", b"", number=p.SUBMIT_JOB_BG)
        worker.send(p.CAN_DO_TIMEOUT, b"f", b"60000")
        assert grab(worker) == now
        clocked.set(HOUR)
        if mutant == "reads-the-clock-once":
            time.sleep(START_MAX_S)
            assert waiting(client) == 0, "the job is not due to it"
        else:
            wait_until(lambda: waiting(client) == 2, what=f"{handle!r} is due, and the other was taken away too early")
