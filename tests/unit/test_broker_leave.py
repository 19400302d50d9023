"""Who leaves takes what with it: clients, workers, cancels. PROTOCOL 1.8 and the extension in farm/protocol/WIRE.md."""

from __future__ import annotations

import pytest

from farm.broker.effects import Save
from farm.protocol import packets as p
from farm.protocol.packets import request, response
from tests.unit.bench import GRAB, NO_JOB, Rig, error

STATUS = b"status\n"


@pytest.fixture
def rig() -> Rig:
    return Rig()


def cancelled(handle: bytes, outcome: bytes) -> list[bytes]:
    return [response(p.FARM_CANCEL_RES, handle, outcome)]


# -- clients


def test_the_last_client_takes_its_queued_job_along(rig: Rig) -> None:
    client, other = rig.client(), rig.client()
    client.submit(b"f", unique=b"key")
    other.submit(b"f", unique=b"key")
    client.leave()
    assert other.send(STATUS).received() == [b"f\t1\t0\t0\n.\n"]
    other.leave()
    assert rig.client().send(STATUS).received() == [b"f\t0\t0\t0\n.\n"]
    assert rig.worker(b"f").send(GRAB).received() == [NO_JOB]


def test_a_background_job_stays(rig: Rig) -> None:
    client = rig.client()
    handle = client.submit(b"f", number=p.SUBMIT_JOB_BG)
    client.leave()
    assert rig.worker(b"f").grab() == handle


@pytest.mark.parametrize("background_first", [True, False])
def test_a_background_job_stays_though_a_foreground_client_joined_and_left(rig: Rig, background_first: bool) -> None:
    client, other = rig.client(), rig.client()
    orders = [(client, p.SUBMIT_JOB), (other, p.SUBMIT_JOB_BG)]
    if background_first:
        orders.reverse()
    handle, again = (submitter.submit(b"f", unique=b"key", number=number) for submitter, number in orders)
    assert handle == again
    client.leave()
    other.leave()
    assert rig.worker(b"f").grab() == handle
    assert [type(change) for change in rig.changes] == [Save]


def test_the_worker_of_an_unwanted_job_is_told_if_it_can_be(rig: Rig) -> None:
    client, worker = rig.client(), rig.worker(b"f")
    worker.send(request(p.OPTION_REQ, b"farm-1"))
    handle = client.submit(b"f")
    worker.grab()
    client.leave()
    assert worker.received() == [response(p.FARM_JOB_CANCEL, handle)]
    worker.send(request(p.WORK_FAIL, handle))
    assert worker.received() == []
    assert rig.broker.jobs == {}


def test_a_stock_worker_ends_an_unwanted_job_in_peace(rig: Rig) -> None:
    client, worker = rig.client(), rig.worker(b"f")
    handle = client.submit(b"f")
    worker.grab()
    client.leave()
    worker.send(request(p.WORK_DATA, handle, b"piece"), request(p.WORK_COMPLETE, handle, b""))
    assert worker.received() == []


def test_an_unwanted_job_cannot_be_joined(rig: Rig) -> None:
    client, worker = rig.client(), rig.worker(b"f")
    handle = client.submit(b"f", unique=b"key")
    worker.grab()
    client.leave()
    other = rig.client()
    new = other.submit(b"f", unique=b"key")
    assert new != handle
    worker.send(request(p.WORK_COMPLETE, handle, b"for nobody"))
    assert other.received() == []
    assert other.submit(b"f", unique=b"key") == new


def test_an_unwanted_job_ends_with_its_worker(rig: Rig) -> None:
    client, worker = rig.client(), rig.worker(b"f")
    client.submit(b"f")
    worker.grab()
    client.leave()
    worker.leave()
    assert rig.worker(b"f").send(GRAB).received() == [NO_JOB]
    assert rig.broker.jobs == {}


# -- workers


def test_a_lost_workers_jobs_are_first_again_in_their_order(rig: Rig) -> None:
    client, worker = rig.client(), rig.worker(b"f")
    handles = [client.submit(b"f") for _ in range(4)]
    for _ in range(3):
        worker.grab()
    worker.leave()
    other = rig.worker(b"f")
    assert [other.grab() for _ in range(4)] == handles
    assert client.received() == []


def test_a_requeued_job_stays_behind_a_higher_priority(rig: Rig) -> None:
    client, worker = rig.client(), rig.worker(b"f")
    low = client.submit(b"f", number=p.SUBMIT_JOB_LOW)
    worker.grab()
    worker.leave()
    high = client.submit(b"f", number=p.SUBMIT_JOB_HIGH)
    other = rig.worker(b"f")
    assert [other.grab(), other.grab()] == [high, low]


def test_a_requeued_job_can_be_joined_and_is_stored_once(rig: Rig) -> None:
    client, worker = rig.client(), rig.worker(b"f")
    handle = client.submit(b"f", unique=b"key", number=p.SUBMIT_JOB_BG)
    worker.grab()
    worker.leave()
    assert client.submit(b"f", unique=b"key") == handle
    assert len(rig.rows) == 1


def test_the_former_worker_is_a_stranger(rig: Rig) -> None:
    client, worker = rig.client(), rig.worker(b"f")
    handle = client.submit(b"f")
    worker.grab()
    worker.leave()
    back = rig.worker(b"f").send(request(p.WORK_COMPLETE, handle, b""))
    assert back.received() == [error(b"JOB_NOT_FOUND", b"Job given in work result not found")]


@pytest.mark.parametrize(("piece", "told"), [(b"piece", True), (b"", False)])
def test_a_farm_client_is_told_when_output_that_it_has_seen_starts_anew(rig: Rig, piece: bytes, told: bool) -> None:
    client, stock = rig.client(b"farm-1"), rig.client()
    worker = rig.worker(b"f")
    handle = client.submit(b"f", unique=b"key")
    stock.submit(b"f", unique=b"key")
    worker.send(GRAB, request(p.WORK_DATA, handle, piece))
    worker.leave()
    restarted = [response(p.FARM_JOB_RESTARTED, handle, b"its worker was lost")] if told else []
    assert client.received()[1:] == restarted
    assert len(stock.received()) == 1
    other = rig.worker(b"f")
    other.grab()
    other.leave()
    assert client.received() == []  # the second attempt had put out nothing


def test_a_connection_may_be_client_and_worker_of_one_job(rig: Rig) -> None:
    both = rig.worker(b"f")
    both.submit(b"f")
    both.grab()
    both.leave()
    assert rig.broker.jobs == {}


# -- cancel


def test_cancel_drops_a_queued_job(rig: Rig) -> None:
    client = rig.client(b"farm-1")
    handle = client.submit(b"f")
    ask = request(p.FARM_CANCEL, handle)
    assert client.send(ask).received() == cancelled(handle, b"dropped")
    assert client.send(ask).received() == cancelled(handle, b"unknown")
    assert rig.broker.jobs == {}


@pytest.mark.parametrize(("option", "outcome"), [(b"farm-1", b"told"), (b"exceptions", b"unheard")])
def test_cancel_says_whether_the_worker_was_told(rig: Rig, option: bytes, outcome: bytes) -> None:
    client, worker = rig.client(b"farm-1"), rig.worker(b"f")
    worker.send(request(p.OPTION_REQ, option))
    handle = client.submit(b"f")
    worker.grab()
    assert client.send(request(p.FARM_CANCEL, handle)).received() == cancelled(handle, outcome)
    assert worker.received() == ([response(p.FARM_JOB_CANCEL, handle)] if outcome == b"told" else [])
    worker.send(request(p.WORK_COMPLETE, handle, b""))
    assert client.received() == []


def test_cancel_of_a_shared_job_ends_only_the_waiting(rig: Rig) -> None:
    client, other, worker = rig.client(b"farm-1"), rig.client(), rig.worker(b"f")
    handle = client.submit(b"f", unique=b"key")
    other.submit(b"f", unique=b"key")
    assert client.send(request(p.FARM_CANCEL, handle)).received() == cancelled(handle, b"shared")
    worker.send(GRAB, request(p.WORK_FAIL, handle))
    assert (client.received(), len(other.received())) == ([], 1)


def test_nobody_cancels_what_it_does_not_wait_for(rig: Rig) -> None:
    client, other = rig.client(), rig.client(b"farm-1")
    handle = client.submit(b"f")
    background = other.submit(b"f", number=p.SUBMIT_JOB_BG)
    for name in (handle, background, b"", b"H:none:1"):
        assert other.send(request(p.FARM_CANCEL, name)).received() == cancelled(name, b"unknown")
    assert len(rig.broker.jobs) == 2


def test_cancel_is_not_for_who_did_not_ask_for_it(rig: Rig) -> None:
    client = rig.client()
    handle = client.submit(b"f")
    client.send(request(p.FARM_CANCEL, handle))
    assert client.received() == [error(b"INVALID_COMMAND", b"Command not expected")]
    assert not client.closed
