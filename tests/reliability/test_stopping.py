"""R24: SIGTERM and SIGUSR1 under load, with a durable store: nothing is lost, and what has ended never runs again."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Callable
from random import Random

import pytest

from farm.protocol import packets as p
from farm.store.sqlite import SqliteStore
from tests.reliability.conftest import Start
from tests.reliability.crowd import Crowd
from tests.reliability.daemon import Daemon, jobs_in_all
from tests.reliability.ledger import Ledger, Verdict
from tests.support import req, wait_until

GRACE_S = 10.0  # R24, and the default of --stop-grace
JOB_S = 0.3
SLOW = "slow-disk"  # mutants.py: a commit takes longer than it takes to stop, were it not waited for


@pytest.fixture
def slow(start: Start) -> Daemon:
    """A server whose commits take a while: leaving without waiting for them would be seen."""
    return start(mutant=SLOW)


def stored(daemon: Daemon) -> set[bytes]:
    """The handles of the jobs that are in the store of a server that is not running."""
    store = SqliteStore(str(daemon.store))
    store.open()
    try:
        return {b"H:%x:%d" % (save.id >> 40, save.id & (1 << 40) - 1) for save in store.load()}
    finally:
        store.close()


def under_load(start: Start, mutant: str = "") -> tuple[Verdict, set[bytes]]:
    """Five times, under submitters and workers that go on, it is stopped and started again. Returns what the ledger
    finds and what is in the store in the end. None of the stops is a kill, which would explain that a job ran twice."""
    daemon = start(mutant=mutant)
    daemon.end()
    chance, ledger = Random(1), Ledger()
    crowd = Crowd(daemon.port, ledger)
    try:
        for _ in range(5):
            began = time.monotonic()
            daemon.start()
            ledger.began(daemon.process.pid, began)
            time.sleep(chance.uniform(0.5, 1.0))
            crowd.send("worker", signal.SIGSTOP)  # jobs that take a while: some are under way
            going_on = threading.Timer(JOB_S, crowd.send, ("worker", signal.SIGCONT))
            going_on.start()
            assert daemon.stop() <= GRACE_S
            going_on.join()
            crowd.note()
            assert not crowd.failed()
        began = time.monotonic()
        daemon.start()
        ledger.began(daemon.process.pid, began)
        crowd.end("submitter")
        assert crowd.drain(60)
        crowd.end_all()
    finally:
        crowd.abandon()
    daemon.stop()
    return ledger.judge(crowd.in_flight_max), stored(daemon)


@pytest.mark.slow
def test_sigterm_under_load(start: Start) -> None:
    """It leaves in time; no job is lost, and none runs twice, for all of them are shorter than the grace."""
    verdict, left = under_load(start)
    print(f"R24: {verdict.line()}")
    assert not verdict.faults
    assert verdict.duplicates == 0
    assert verdict.acked > 500
    assert left == set()


@pytest.mark.slow
def test_under_load_it_notices_jobs_that_are_cut_off(start: Start) -> None:
    verdict, _ = under_load(start, "cuts-background-jobs-off")
    print(f"R24, broken: {verdict.line()}")
    assert verdict.duplicates > 0


def test_what_has_ended_before_sigterm_never_runs_again(slow: Daemon) -> None:
    """Also where its commit had not come back: it is waited for."""
    with slow.connect() as client, slow.connect() as worker:
        handles = [client.submit(b"f", b"%d" % number, number=p.SUBMIT_JOB_BG) for number in range(6)]
        worker.send(p.CAN_DO, b"f")
        for _ in handles[:5]:
            worker.grab()
        worker.raw(b"".join(req(p.WORK_COMPLETE, handle, b"") for handle in handles[:5]))
        worker.expect_nothing()  # without the barrier: it has heard, that is all
        slow.stop()
        worker.expect_end()
    assert stored(slow) == {handles[5]}


def test_what_is_stored_when_it_leaves_was_acknowledged(start: Start) -> None:
    """It waits until a promise can be kept and was sent, and takes nothing more."""
    daemon = start(mutant=SLOW)
    with daemon.connect() as client:
        client.raw(b"".join(req(p.SUBMIT_JOB_BG, b"f", b"", b"x") for _ in range(50)))
        with daemon.connect() as other:
            wait_until(lambda: jobs_in_all(other, (b"f",)) == 50)
        daemon.send(signal.SIGTERM)
        acked = set()
        for _ in range(50):
            number, handle = client.packet()
            assert number == p.JOB_CREATED
            acked.add(handle)
        client.expect_end()
        daemon.process.wait(GRACE_S)
    assert len(acked) == 50
    assert stored(daemon) == acked


def test_running_jobs_hold_it_up(daemon: Daemon) -> None:
    """Background jobs too: they would run twice."""
    with daemon.connect() as client, daemon.connect() as worker:
        background = client.submit(b"f", b"background", number=p.SUBMIT_JOB_BG)
        awaited = client.submit(b"f", b"awaited")
        kept = client.submit(b"f", b"kept", number=p.SUBMIT_JOB_BG)
        worker.send(p.CAN_DO, b"f")
        assert worker.grab().startswith(background)
        assert worker.grab().startswith(awaited)
        daemon.send(signal.SIGTERM)
        wait_until(lambda: "stopping" in daemon.log())
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", daemon.port))
        client.send(p.SUBMIT_JOB_BG, b"f", b"", b"")
        client.expect_error(b"SHUTDOWN")
        worker.send(p.WORK_COMPLETE, awaited, b"result")
        client.expect(p.WORK_COMPLETE, awaited, b"result")
        assert worker.grab() == b"", "a stopping server gives out no job"
        worker.send(p.WORK_COMPLETE, background, b"")
        assert daemon.process.wait(GRACE_S) == 0
    assert "1 background jobs have not ended; they are kept" in daemon.log()
    assert stored(daemon) == {kept}


def test_a_background_job_that_takes_too_long_is_kept(start: Start) -> None:
    daemon = start("--stop-grace", "300ms")
    with daemon.connect() as client, daemon.connect() as worker:
        handle = client.submit(b"f", b"", number=p.SUBMIT_JOB_BG)
        worker.send(p.CAN_DO, b"f")
        assert worker.grab()
        assert daemon.stop() >= 0.3
    assert "its time is up" in daemon.log()
    assert stored(daemon) == {handle}


def test_drained_it_leaves_nothing_in_the_store(daemon: Daemon) -> None:
    """SIGUSR1: those who are connected go on, and with the last job it ends."""
    with daemon.connect() as client, daemon.connect() as worker:
        handles = {client.submit(b"f", b"%d" % number, number=p.SUBMIT_JOB_BG) for number in range(20)}
        daemon.send(signal.SIGUSR1)
        wait_until(lambda: "draining" in daemon.log())
        handles.add(client.submit(b"f", b"one more", number=p.SUBMIT_JOB_BG))
        worker.send(p.CAN_DO, b"f")
        for _ in handles.copy():
            handle = worker.grab().partition(b"\0")[0]
            handles.remove(handle)
            assert daemon.process.poll() is None
            worker.send(p.WORK_COMPLETE, handle, b"")
        assert daemon.process.wait(GRACE_S) == 0
        worker.expect_end()
    assert stored(daemon) == set()


def test_a_drain_that_waits_for_a_job_in_vain_can_be_cut_short(daemon: Daemon) -> None:
    """Nobody does it; SIGTERM leaves it in the store for the next start."""
    with daemon.connect() as client:
        handle = client.submit(b"f", b"", number=p.SUBMIT_JOB_BG)
    daemon.send(signal.SIGUSR1)
    wait_until(lambda: "draining" in daemon.log())
    assert daemon.stop() <= GRACE_S
    assert stored(daemon) == {handle}


@pytest.mark.parametrize(
    ("mutant", "test", "fault"),
    [
        ("leaves-without-its-commit", test_what_has_ended_before_sigterm_never_runs_again, r"^assert \{b'H:"),
        ("cuts-background-jobs-off", test_running_jobs_hold_it_up, "closed the connection|reset by peer|Broken pipe"),
    ],
)
def test_a_broken_server_is_noticed(start: Start, mutant: str, test: Callable[[Daemon], None], fault: str) -> None:
    with pytest.raises((AssertionError, ConnectionError), match=fault):
        test(start(mutant=mutant))
