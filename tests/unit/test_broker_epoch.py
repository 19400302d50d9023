"""Jobs for later: not before their time, by the wall clock, and in nobody's way until then. PROTOCOL 1.5."""

from __future__ import annotations

import pytest

from farm.broker import restart
from farm.broker.effects import Forget, Save
from farm.broker.job import first_id
from farm.protocol import packets as p
from farm.protocol.packets import request, response
from tests.unit.bench import GRAB, NO_JOB, NOOP, SLEEP, Rig, Wire, error

OFFSET = 1_000_000.0  # wall clock minus monotonic clock; the rig's monotonic clock starts at 100


@pytest.fixture
def rig() -> Rig:
    rig = Rig()
    rig.broker.wall_offset = OFFSET
    return rig


def epoch(client: Wire, seconds: float | bytes, unique: bytes = b"", function: bytes = b"f") -> bytes:
    """Submit for so many seconds from now, or for just these bytes; returns the handle."""
    text = seconds if isinstance(seconds, bytes) else b"%d" % (client.rig.now + client.rig.broker.wall_offset + seconds)
    client.send(request(p.SUBMIT_JOB_EPOCH, function, unique, text, b"load"))
    created = client.received().pop(0)
    assert created[:8] == response(p.JOB_CREATED)[:8], created
    return created[12:]


def test_not_before_its_time_and_then_at_once(rig: Rig) -> None:
    handle, worker = epoch(rig.client(), 10), rig.worker(b"f")
    rig.wait(9.75)
    assert worker.send(GRAB, SLEEP).received() == [NO_JOB]
    rig.wait(0.25)
    assert worker.received() == [NOOP]
    assert worker.grab() == handle


@pytest.mark.parametrize("text", [b"0", b"", b"junk", b"-5", b"1", b" 12 ", b"+7", b"1.5e300"])
def test_what_is_past_or_no_number_means_now(rig: Rig, text: bytes) -> None:
    assert epoch(rig.client(), text) == rig.worker(b"f").grab()


def test_this_very_second_is_now(rig: Rig) -> None:
    assert epoch(rig.client(), 0) == rig.worker(b"f").grab()


def test_an_overlong_number_closes_the_connection(rig: Rig) -> None:
    client = rig.connect(request(p.SUBMIT_JOB_EPOCH, b"f", b"", b"1" * 21, b""))
    assert client.received() == [error(b"INVALID_PACKET", b"Epoch too long")]
    assert client.closed
    assert not rig.broker.jobs


def test_it_is_a_background_job_of_normal_priority_stored_with_its_time(rig: Rig) -> None:
    client, worker = rig.client(), rig.worker(b"f")
    handle = epoch(client, b"1000105", b"key")
    client.leave()
    rig.wait(5.0)
    assert worker.grab() == handle
    worker.send(request(p.WORK_COMPLETE, handle, b""))
    id = first_id(1)
    assert rig.changes == [Save(id, b"f", b"key", 1, b"load", b"", 1_000_105.0, 1_000_100.0), Forget(id)]


def test_by_time_and_those_of_one_second_in_the_order_of_submission(rig: Rig) -> None:
    client, worker = rig.client(), rig.worker(b"f")
    late, first, second, early = (epoch(client, seconds) for seconds in (9, 5, 5, 1))
    rig.wait(20.0)
    assert [worker.grab() for _ in range(4)] == [early, first, second, late]


def test_a_due_job_is_last_in_line(rig: Rig) -> None:
    client, worker = rig.client(), rig.worker(b"f")
    due, queued = epoch(client, 5), client.submit(b"f")
    rig.wait(5.0)
    assert [worker.grab(), worker.grab()] == [queued, due]


def test_it_blocks_nobody(rig: Rig) -> None:
    client, worker = rig.client(), rig.worker(b"f")
    epoch(client, 100)
    low = client.submit(b"f", number=p.SUBMIT_JOB_LOW)
    assert worker.grab() == low
    worker.send(SLEEP)
    assert worker.received() == []  # no NOOP for what cannot be had


@pytest.mark.parametrize("sleepers", [1, 3])
def test_each_due_job_wakes_one_sleeper(rig: Rig, sleepers: int) -> None:
    workers = [rig.worker(b"f").send(SLEEP) for _ in range(sleepers + 1)]
    client = rig.client()
    for _ in range(sleepers):
        epoch(client, 5)
    assert [worker.received() for worker in workers] == [[]] * len(workers)
    rig.wait(5.0)
    assert [worker.received() for worker in workers] == [[NOOP]] * sleepers + [[]]


def test_it_counts_in_the_listings_and_is_known_and_not_running(rig: Rig) -> None:
    client = rig.client()
    handle = epoch(client, 5, b"key")
    assert client.ask(b"status\n") == b"f\t1\t0\t0\n.\n"
    assert client.ask(b"prioritystatus\n") == b"f\t0\t0\t0\t0\n.\n"
    assert client.ask(b"show jobs\n") == handle + b"\t0\t0\t1\n.\n"
    client.send(request(p.GET_STATUS, handle), request(p.GET_STATUS_UNIQUE, b"key"))
    assert client.received() == [
        response(p.STATUS_RES, handle, b"1", b"0", b"0", b"0"),
        response(p.STATUS_RES_UNIQUE, b"key", b"1", b"0", b"0", b"0", b"0"),
    ]


def test_the_first_submission_decides_on_the_time(rig: Rig) -> None:
    client, worker = rig.client(), rig.worker(b"f")
    handle = epoch(client, 5, b"key")
    assert epoch(client, 1, b"key") == client.submit(b"f", unique=b"key") == handle
    assert worker.send(GRAB).received() == [NO_JOB]
    rig.wait(5.0)
    assert worker.grab() == handle
    worker.send(request(p.WORK_COMPLETE, handle, b"done"))
    assert client.received() == [response(p.WORK_COMPLETE, handle, b"done")]
    ready = client.submit(b"f", unique=b"ready")
    assert epoch(client, 50, b"ready") == ready == worker.grab()


def test_a_lost_worker_does_not_put_it_off_again(rig: Rig) -> None:
    handle, worker = epoch(rig.client(), 5), rig.worker(b"f")
    rig.wait(5.0)
    worker.grab()
    worker.leave()
    assert rig.worker(b"f").grab() == handle


@pytest.mark.parametrize("sleeping", [True, False])
def test_it_survives_a_restart(rig: Rig, sleeping: bool) -> None:
    now = rig.now + OFFSET
    for number, due in enumerate((now + 10, now - 10, now + 5, 0.0)):
        restart.restore(rig.broker, Save(first_id(7) + number, b"f", b"", 1, b"", b"", due), rig.now)
    worker = rig.worker(b"f")
    assert [worker.grab(), worker.grab()] == [b"H:7:2", b"H:7:4"]
    worker.send(GRAB, *([SLEEP] if sleeping else []))
    assert worker.received() == [NO_JOB]
    rig.wait(5.0)
    assert worker.received() == ([NOOP] if sleeping else [])
    assert worker.grab() == b"H:7:3"
    rig.wait(5.0)
    assert worker.grab() == b"H:7:1"
    assert rig.rows == []


def test_a_wall_clock_set_forward_makes_it_due(rig: Rig) -> None:
    handle, worker = epoch(rig.client(), 3600), rig.worker(b"f").send(SLEEP)
    rig.wait(1.0)
    rig.broker.wall_offset += 3600
    rig.wait(0.0)
    assert worker.received() == [NOOP]
    assert worker.grab() == handle


def test_a_wall_clock_set_back_puts_it_off(rig: Rig) -> None:
    handle, worker = epoch(rig.client(), 10), rig.worker(b"f")
    rig.broker.wall_offset -= 100
    rig.wait(50.0)
    assert worker.send(GRAB).received() == [NO_JOB]
    assert rig.broker.next_deadline() == rig.now + 60
    rig.wait(60.0)
    assert worker.grab() == handle


def test_the_wall_clock_means_nothing_to_a_timeout(rig: Rig) -> None:
    worker = rig.connect(request(p.CAN_DO_TIMEOUT, b"f", b"5000"))
    handle = rig.client().submit(b"f")
    worker.grab()
    rig.broker.wall_offset += 1e6
    rig.wait(4.75)
    assert handle in worker.peer.holds
    rig.broker.wall_offset -= 2e6
    rig.wait(0.25)
    assert handle not in worker.peer.holds


def test_a_job_of_the_far_future_harms_nobody(rig: Rig) -> None:
    epoch(rig.client(), b"9" * 20)
    rig.wait(1e9)
    assert rig.worker(b"f").send(GRAB).received() == [NO_JOB]


def test_a_stopping_server_takes_none_and_gives_none(rig: Rig) -> None:
    client, worker = rig.client(), rig.worker(b"f")
    epoch(client, 5)
    rig.broker.stopping = True
    client.send(request(p.SUBMIT_JOB_EPOCH, b"f", b"", b"0", b""))
    assert client.received() == [error(b"SHUTDOWN", b"Server is shutting down")]
    rig.wait(5.0)
    assert worker.send(GRAB).received() == [NO_JOB]
    assert len(rig.changes) == 1  # it is still stored, for the next life


def test_a_stopping_server_wakes_nobody_for_a_due_job(rig: Rig) -> None:
    sleeper = rig.worker(b"f").send(SLEEP)
    epoch(rig.client(), 5)
    rig.broker.stopping = True
    rig.wait(5.0)
    assert sleeper.received() == []
    assert sleeper.send(SLEEP).received() == []


def test_a_server_that_drains_waits_for_what_can_be_run_alone(rig: Rig) -> None:
    client, worker = rig.client(), rig.worker(b"f")
    later = epoch(client, 5)
    assert not rig.broker.busy()
    now = client.submit(b"f")
    assert rig.broker.busy()
    worker.grab()
    assert rig.broker.busy()
    worker.send(request(p.WORK_COMPLETE, now, b""))
    assert not rig.broker.busy()
    rig.wait(5.0)
    assert rig.broker.busy()
    assert worker.grab() == later
