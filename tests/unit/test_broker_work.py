"""Grabbing and reporting: who is given what, who hears of it, who may report. PROTOCOL 1.7, 1.8, 1.9, 1.14."""

from __future__ import annotations

import sys

import pytest

from farm.broker.effects import Forget
from farm.broker.job import first_id
from farm.protocol import packets as p
from farm.protocol.packets import request, response
from tests.unit.bench import GRAB, NO_JOB, Rig, Wire, error

NOT_YOURS = {
    p.WORK_STATUS: b"Job given in work result not found",
    p.WORK_COMPLETE: b"Job given in work result not found",
    p.WORK_FAIL: b"Job given in work result not found",
    p.WORK_DATA: b"Job does not exist on server",
    p.WORK_WARNING: b"Job does not exist on server",
    p.WORK_EXCEPTION: b"An exception was received for a job that does not exist",
}
ENDS = (p.WORK_COMPLETE, p.WORK_FAIL, p.WORK_EXCEPTION)


def report(number: int, handle: bytes) -> bytes:
    rest: dict[int, tuple[bytes, ...]] = {p.WORK_STATUS: (b"1", b"2"), p.WORK_FAIL: ()}
    return request(number, handle, *rest.get(number, (b"data",)))


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.fixture
def client(rig: Rig) -> Wire:
    return rig.client()


@pytest.fixture
def worker(rig: Rig) -> Wire:
    return rig.worker(b"f")


# -- grabbing


@pytest.mark.parametrize(
    ("number", "answer"),
    [
        (p.GRAB_JOB, response(p.JOB_ASSIGN, b"H:1:1", b"f", b"load")),
        (p.GRAB_JOB_UNIQ, response(p.JOB_ASSIGN_UNIQ, b"H:1:1", b"f", b"key", b"load")),
        (p.GRAB_JOB_ALL, response(p.JOB_ASSIGN_UNIQ, b"H:1:1", b"f", b"key", b"load")),  # there is no reducer
    ],
)
def test_each_grab_has_its_answer(client: Wire, worker: Wire, number: int, answer: bytes) -> None:
    client.submit(b"f", b"load", b"key")
    worker.send(request(number), request(number))
    assert worker.received() == [answer, NO_JOB]


def test_a_body_that_should_not_be_there_is_ignored(worker: Wire) -> None:
    worker.send(request(p.GRAB_JOB, b"extra"))
    assert worker.received() == [NO_JOB]


def test_nobody_is_given_what_it_cannot_do(rig: Rig, client: Wire, worker: Wire) -> None:
    client.submit(b"g")
    worker.send(GRAB)
    assert worker.received() == [NO_JOB]


def test_priority_counts_over_all_functions(rig: Rig, client: Wire) -> None:
    worker = rig.worker(b"f", b"g")
    low = client.submit(b"f", number=p.SUBMIT_JOB_LOW)
    high = client.submit(b"g", number=p.SUBMIT_JOB_HIGH)
    assert [worker.grab(), worker.grab()] == [high, low]


def test_functions_take_turns(rig: Rig, client: Wire) -> None:
    worker = rig.worker(b"f", b"g", b"h")
    jobs = {client.submit(function): function for function in (b"f", b"f", b"f", b"g", b"g", b"h")}
    assert [jobs[worker.grab()] for _ in range(6)] == [b"f", b"g", b"h", b"f", b"g", b"f"]


def test_a_worker_may_hold_several_jobs(client: Wire, worker: Wire) -> None:
    first, second = client.submit(b"f"), client.submit(b"f")
    worker.send(GRAB, GRAB, report(p.WORK_FAIL, second), report(p.WORK_FAIL, first))
    assert client.received() == [response(p.WORK_FAIL, second), response(p.WORK_FAIL, first)]


def test_cannot_do_lets_the_worker_end_what_it_runs(client: Wire, worker: Wire) -> None:
    handle = client.submit(b"f")
    client.submit(b"f")
    worker.send(GRAB, request(p.CANT_DO, b"f"), report(p.WORK_FAIL, handle), GRAB)
    assert client.received() == [response(p.WORK_FAIL, handle)]
    assert worker.received()[1:] == [NO_JOB]


def test_reset_abilities_forgets_all_of_them(client: Wire, worker: Wire) -> None:
    client.submit(b"f")
    worker.send(request(p.RESET_ABILITIES), GRAB)
    assert worker.received() == [NO_JOB]


def test_registering_is_never_answered(rig: Rig) -> None:
    worker = rig.connect(
        request(p.CAN_DO, b"f"),
        request(p.CANT_DO, b"unheard-of"),
        request(p.CAN_DO_TIMEOUT, b"g", b"5000"),
        request(p.SET_CLIENT_ID, b"me"),
        request(p.RESET_ABILITIES),
    )
    assert worker.received() == []


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (b"5000", 5.0),
        (b"1500", 1.5),
        (b"999", 1.0),  # gearmand's floor: it counts milliseconds
        (b" 2000\n", 2.0),
        (b"0", 0.0),
        (b"-1", 0.0),
        (b"junk", 0.0),
        (b"", 0.0),
    ],
)
def test_can_do_timeout_is_in_milliseconds(rig: Rig, text: bytes, seconds: float) -> None:
    worker = rig.connect(request(p.CAN_DO_TIMEOUT, b"f", text))
    assert worker.peer.can_do == {rig.broker.functions[b"f"]: seconds}


def test_an_overlong_timeout_closes_the_connection(rig: Rig) -> None:
    worker = rig.connect(request(p.CAN_DO_TIMEOUT, b"f", b"1" * 21))
    assert worker.received() == [error(b"INVALID_PACKET", b"Timeout too long")]
    assert worker.closed


# -- reporting


@pytest.mark.parametrize("number", [p.WORK_DATA, p.WORK_WARNING, p.WORK_STATUS, p.WORK_COMPLETE])
def test_a_report_is_passed_on_as_it_is(client: Wire, worker: Wire, number: int) -> None:
    handle = client.submit(b"f")
    worker.send(GRAB, report(number, handle))
    assert client.received() == [b"\0RES" + report(number, handle)[4:]]


def test_a_large_result_arrives_whole(client: Wire, worker: Wire) -> None:
    handle = client.submit(b"f")
    worker.send(GRAB, request(p.WORK_COMPLETE, handle, b"r" * 100_000))
    assert client.received() == [response(p.WORK_COMPLETE, handle, b"r" * 100_000)]


@pytest.mark.parametrize("number", ENDS)
def test_an_end_is_an_end(rig: Rig, client: Wire, worker: Wire, number: int) -> None:
    handle = client.submit(b"f", number=p.SUBMIT_JOB_BG)
    worker.send(GRAB, report(number, handle))
    assert rig.changes[1:] == [Forget(first_id(1))]
    assert rig.broker.jobs == {}
    worker.received()
    worker.send(report(p.WORK_DATA, handle))
    assert worker.received() == [error(b"JOB_NOT_FOUND", NOT_YOURS[p.WORK_DATA])]


@pytest.mark.parametrize("number", NOT_YOURS)
def test_a_stranger_may_not_report(rig: Rig, client: Wire, worker: Wire, number: int) -> None:
    handle = client.submit(b"f")
    worker.grab()
    stranger = rig.worker(b"f")
    for name in (handle, b"H:1:99", b""):
        stranger.send(report(number, name))
    assert stranger.received() == [error(b"JOB_NOT_FOUND", NOT_YOURS[number])] * 3
    assert not stranger.closed
    assert client.received() == []
    worker.send(report(p.WORK_COMPLETE, handle))
    assert len(client.received()) == 1


def test_a_queued_job_cannot_be_reported_on(client: Wire, worker: Wire) -> None:
    worker.send(report(p.WORK_COMPLETE, client.submit(b"f")))
    assert worker.received() == [error(b"JOB_NOT_FOUND", NOT_YOURS[p.WORK_COMPLETE])]


def test_a_failure_is_sent_with_the_bare_handle(client: Wire, worker: Wire) -> None:
    handle = client.submit(b"f")
    worker.send(GRAB, request(p.WORK_FAIL, handle + b"\0"))
    assert client.received() == [response(p.WORK_FAIL, handle)]


@pytest.mark.parametrize("body", [b"handle alone", b"handle\0only one number"])
def test_a_report_that_lacks_arguments_closes_the_workers_connection(client: Wire, worker: Wire, body: bytes) -> None:
    handle = client.submit(b"f")
    worker.send(GRAB, request(p.WORK_STATUS, body.replace(b"handle alone", handle).replace(b"handle", handle)))
    assert worker.closed
    assert client.received() == []


# -- exceptions


@pytest.mark.parametrize("option", [b"exceptions", b"Exceptions"])
def test_an_exception_goes_to_who_asked_and_is_a_failure_to_others(rig: Rig, worker: Wire, option: bytes) -> None:
    curious, stock = rig.client(option), rig.client()
    handle = curious.submit(b"f", unique=b"key")
    stock.submit(b"f", unique=b"key")
    worker.send(GRAB, report(p.WORK_EXCEPTION, handle))
    assert curious.received() == [response(p.WORK_EXCEPTION, handle, b"data")]
    assert stock.received() == [response(p.WORK_FAIL, handle)]


@pytest.mark.parametrize("number", [p.WORK_FAIL, p.WORK_COMPLETE])
def test_one_end_after_an_exception_is_absorbed(client: Wire, worker: Wire, number: int) -> None:
    handle = client.submit(b"f")
    worker.send(GRAB, report(p.WORK_EXCEPTION, handle), report(number, handle))
    assert len(worker.received()) == 1  # the assignment
    assert client.received() == [response(p.WORK_FAIL, handle)]
    worker.send(report(number, handle))
    assert worker.received() == [error(b"JOB_NOT_FOUND", NOT_YOURS[number])]


def test_only_the_worker_of_the_exception_may_add_an_end(rig: Rig, client: Wire, worker: Wire) -> None:
    handle = client.submit(b"f")
    worker.send(GRAB, report(p.WORK_EXCEPTION, handle))
    stranger = rig.worker(b"f").send(report(p.WORK_FAIL, handle))
    assert stranger.received() == [error(b"JOB_NOT_FOUND", NOT_YOURS[p.WORK_FAIL])]


# -- status


def status(handle: bytes, *numbers: bytes) -> list[bytes]:
    return [response(p.STATUS_RES, handle, *numbers)]


def test_status_follows_a_job_through_its_life(rig: Rig, client: Wire, worker: Wire) -> None:
    asker = rig.client()
    handle = client.submit(b"f")
    ask = request(p.GET_STATUS, handle)
    assert asker.send(ask).received() == status(handle, b"1", b"0", b"0", b"0")
    worker.grab()
    assert asker.send(ask).received() == status(handle, b"1", b"1", b"0", b"0")
    worker.send(report(p.WORK_STATUS, handle))
    assert asker.send(ask).received() == status(handle, b"1", b"1", b"1", b"2")
    worker.leave()
    assert asker.send(ask).received() == status(handle, b"1", b"0", b"0", b"0")
    rig.worker(b"f").send(GRAB, report(p.WORK_COMPLETE, handle))
    assert asker.send(ask).received() == status(handle, b"0", b"0", b"0", b"0")


@pytest.mark.parametrize("handle", [b"H:none:1", b"", b"h" * 100])
def test_an_unknown_job_has_the_status_of_none(client: Wire, handle: bytes) -> None:
    assert client.send(request(p.GET_STATUS, handle)).received() == status(handle, b"0", b"0", b"0", b"0")


@pytest.mark.parametrize("number", [b"-1", b"1.5", b"ten", b"", b"9" * 21])
def test_what_is_no_number_is_passed_on_and_counts_as_0(client: Wire, worker: Wire, number: bytes) -> None:
    handle = client.submit(b"f")
    worker.send(GRAB, request(p.WORK_STATUS, handle, number, b"100"))
    assert client.received() == [response(p.WORK_STATUS, handle, number, b"100")]
    assert client.send(request(p.GET_STATUS, handle)).received() == status(handle, b"1", b"1", b"0", b"100")
    assert not worker.closed


def test_the_memory_of_a_backlog_comes_back(rig: Rig, client: Wire, worker: Wire) -> None:
    """A dict does not shrink by itself."""
    empty = sys.getsizeof(rig.broker.jobs)
    client.send(*(request(p.SUBMIT_JOB_BG, b"f", b"key %d" % number, b"") for number in range(2000)))
    handles = [created[12:] for created in client.received()]
    tables = rig.broker.jobs, rig.broker.functions[b"f"].coalescing
    assert all(sys.getsizeof(table) > 50 * empty for table in tables)
    worker.send(*(GRAB for _ in handles), *(request(p.WORK_COMPLETE, handle, b"") for handle in handles))
    assert all(sys.getsizeof(table) <= empty for table in tables)
