"""A worker that said how long it may take is held to that. PROTOCOL 1.9."""

from __future__ import annotations

import pytest

from farm.broker.broker import Rules
from farm.broker.effects import Save
from farm.broker.job import first_id
from farm.protocol import packets as p
from farm.protocol.packets import request, response
from tests.unit.bench import GRAB, NO_JOB, NOOP, SLEEP, Rig, Wire, error

NOT_YOURS = error(b"JOB_NOT_FOUND", b"Job given in work result not found")
REPORTS = ((p.WORK_DATA, (b"late",)), (p.WORK_WARNING, (b"late",)), (p.WORK_STATUS, (b"1", b"2")))


@pytest.fixture
def rig() -> Rig:
    return Rig()


def hasty(rig: Rig, timeout_ms: bytes = b"2000", *before: bytes) -> Wire:
    return rig.connect(*before, request(p.CAN_DO_TIMEOUT, b"f", timeout_ms))


def test_a_timed_out_job_goes_to_another_worker_and_late_reports_are_dropped(rig: Rig) -> None:
    client, slow, other = rig.client(), hasty(rig), rig.worker(b"f")
    handle = client.submit(b"f", b"load")
    assert slow.grab() == handle
    rig.wait(1.75)
    assert other.send(GRAB).received() == [NO_JOB]  # never at two workers at once
    rig.wait(0.25)
    assert slow.received() == []  # a stock worker would not know what to make of it
    assert other.send(GRAB).received() == [response(p.JOB_ASSIGN, handle, b"f", b"load")]
    for number, rest in (*REPORTS, (p.WORK_COMPLETE, (b"late",))):
        assert slow.send(request(number, handle, *rest)).received() == []
    assert client.received() == []
    other.send(request(p.WORK_COMPLETE, handle, b"in time"))
    assert client.received() == [response(p.WORK_COMPLETE, handle, b"in time")]


@pytest.mark.parametrize("end", [p.WORK_COMPLETE, p.WORK_FAIL])
def test_a_late_end_is_dropped_once(rig: Rig, end: int) -> None:
    slow = hasty(rig)
    handle = rig.client().submit(b"f")
    slow.grab()
    rig.wait(2.0)
    report = request(end, handle, *(() if end == p.WORK_FAIL else (b"late",)))
    assert slow.send(report).received() == []
    assert slow.send(report).received() == [NOT_YOURS]


def test_a_late_exception_is_dropped_with_the_failure_after_it(rig: Rig) -> None:
    slow = hasty(rig)
    handle = rig.client().submit(b"f")
    slow.grab()
    rig.wait(2.0)
    assert slow.send(request(p.WORK_EXCEPTION, handle, b"late"), request(p.WORK_FAIL, handle)).received() == []
    assert slow.send(request(p.WORK_FAIL, handle)).received() == [NOT_YOURS]


def test_only_the_late_worker_is_spared_the_error(rig: Rig) -> None:
    slow, stranger = hasty(rig), rig.worker(b"f")
    handle = rig.client().submit(b"f")
    slow.grab()
    rig.wait(2.0)
    assert stranger.send(request(p.WORK_COMPLETE, handle, b"")).received() == [NOT_YOURS]


def test_reports_count_when_the_late_worker_was_given_the_job_again(rig: Rig) -> None:
    """Its second end, of a worker that runs several jobs at a time, is the late one."""
    client, slow = rig.client(), hasty(rig)
    handle = client.submit(b"f")
    slow.grab()
    rig.wait(2.0)
    assert slow.grab() == handle
    slow.send(request(p.WORK_DATA, handle, b"half"), request(p.WORK_COMPLETE, handle, b"done"))
    assert client.received() == [
        response(p.WORK_DATA, handle, b"half"),
        response(p.WORK_COMPLETE, handle, b"done"),
    ]
    assert slow.send(request(p.WORK_COMPLETE, handle, b"done")).received() == []


def test_a_worker_that_was_given_the_job_twice_is_late_twice(rig: Rig) -> None:
    slow = hasty(rig)
    handle = rig.client().submit(b"f")
    for _ in range(2):
        assert slow.grab() == handle
        rig.wait(2.0)
    complete = request(p.WORK_COMPLETE, handle, b"late")
    assert slow.send(complete).received() == []
    assert slow.send(complete).received() == []
    assert slow.send(complete).received() == [NOT_YOURS]


def test_the_failure_after_the_exception_of_another_attempt_is_not_the_late_end(rig: Rig) -> None:
    slow = hasty(rig)
    handle = rig.client().submit(b"f")
    slow.grab()
    rig.wait(2.0)
    assert slow.grab() == handle
    fail, exception = request(p.WORK_FAIL, handle), request(p.WORK_EXCEPTION, handle, b"why")
    assert slow.send(exception, fail, exception, fail).received() == []
    assert slow.send(fail).received() == [NOT_YOURS]


def test_a_late_report_on_a_cancelled_job_is_dropped(rig: Rig) -> None:
    slow = hasty(rig)
    handle = rig.client().submit(b"f")
    slow.grab()
    rig.connect().send(b"cancel job " + handle + b"\n")
    rig.wait(2.0)
    assert not rig.broker.jobs
    assert slow.send(request(p.WORK_COMPLETE, handle, b"late")).received() == []


def test_so_many_late_jobs_of_a_worker_are_remembered(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    late_max = 30  # not 1,000: all of them are checked at each step
    monkeypatch.setattr("farm.broker.peer.LATE_MAX", late_max)
    client, slow = rig.client(), hasty(rig)
    handles = [client.submit(b"f") for _ in range(late_max + 1)]
    for _ in handles:
        slow.grab()
    rig.wait(2.0)
    assert len(slow.peer.late) == late_max
    answers = [slow.send(request(p.WORK_COMPLETE, handle, b"")).received() for handle in handles]
    assert (answers.count([NOT_YOURS]), answers.count([])) == (1, late_max)


def test_a_farm_worker_is_told_that_its_time_is_up(rig: Rig) -> None:
    slow = hasty(rig, b"1000", request(p.OPTION_REQ, b"farm-1"))
    slow.received()
    handle = rig.client().submit(b"f")
    slow.grab()
    rig.wait(1.0)
    assert slow.received() == [response(p.FARM_JOB_CANCEL, handle)]


def test_a_timed_out_job_wakes_a_sleeper(rig: Rig) -> None:
    client, slow = rig.client(), hasty(rig)
    client.submit(b"f")
    slow.grab()
    sleeper = rig.worker(b"f").send(SLEEP)
    assert sleeper.received() == []
    rig.wait(2.0)
    assert sleeper.received() == [NOOP]


def test_a_timed_out_job_is_first_in_line_with_its_progress_forgotten(rig: Rig) -> None:
    client, slow, other = rig.client(b"farm-1"), hasty(rig), rig.worker(b"f")
    first = client.submit(b"f")
    slow.grab()
    client.submit(b"f")
    slow.send(request(p.WORK_STATUS, first, b"1", b"2"), request(p.WORK_DATA, first, b"half"))
    client.received()
    rig.wait(2.0)
    assert client.received() == [response(p.FARM_JOB_RESTARTED, first, b"its worker was lost")]
    client.send(request(p.GET_STATUS, first))
    assert client.received() == [response(p.STATUS_RES, first, b"1", b"0", b"0", b"0")]
    assert other.grab() == first


def test_jobs_that_time_out_together_keep_their_order_at_the_front(rig: Rig) -> None:
    client, other = rig.client(), rig.worker(b"f")
    handles = [client.submit(b"f") for _ in range(4)]
    for slow in (hasty(rig), hasty(rig), hasty(rig)):
        slow.grab()
    rig.wait(2.0)
    assert [other.grab() for _ in handles] == handles


def test_the_time_of_a_job_that_ended_does_nothing(rig: Rig) -> None:
    client, worker = rig.client(), hasty(rig)
    first, second = client.submit(b"f"), client.submit(b"f")
    worker.grab()
    rig.wait(1.0)
    worker.send(request(p.WORK_COMPLETE, first, b""))
    assert worker.grab() == second
    rig.wait(1.5)  # the first one's time would have been up by now
    assert rig.broker.functions[b"f"].running == 1
    rig.wait(0.5)
    assert rig.broker.functions[b"f"].running == 0
    assert (len(rig.broker.timeouts), rig.broker.next_deadline()) == (0, None)


def test_each_job_of_a_worker_has_its_own_time(rig: Rig) -> None:
    client, worker = rig.client(), hasty(rig)
    first, second = client.submit(b"f"), client.submit(b"f")
    worker.grab()
    rig.wait(1.0)
    worker.grab()
    rig.wait(1.0)
    assert list(worker.peer.holds) == [second]
    assert rig.broker.jobs[first].worker is None
    rig.wait(1.0)
    assert not worker.peer.holds


def test_the_time_counts_anew_for_each_attempt(rig: Rig) -> None:
    worker = hasty(rig)
    handle = rig.client().submit(b"f")
    worker.grab()
    rig.wait(2.0)
    assert worker.grab() == handle
    rig.wait(1.75)
    assert handle in worker.peer.holds
    rig.wait(0.25)
    assert handle not in worker.peer.holds


def test_can_do_without_a_timeout_takes_it_back(rig: Rig) -> None:
    worker = hasty(rig).send(request(p.CAN_DO, b"f"))
    handle = rig.client().submit(b"f")
    worker.grab()
    rig.wait(1e6)
    assert handle in worker.peer.holds


def test_a_worker_lost_before_its_time_leaves_no_timer(rig: Rig) -> None:
    worker = hasty(rig)
    rig.client().submit(b"f")
    worker.grab()
    worker.leave()
    assert rig.broker.next_deadline() is None


def test_an_unwanted_job_ends_when_its_time_is_up(rig: Rig) -> None:
    client, worker = rig.client(), hasty(rig)
    client.submit(b"f")
    worker.grab()
    client.leave()
    rig.wait(2.0)
    assert not rig.broker.jobs
    assert worker.send(GRAB).received() == [NO_JOB]


def test_the_worker_of_a_cancelled_job_is_told_once(rig: Rig) -> None:
    slow = hasty(rig, b"1000", request(p.OPTION_REQ, b"farm-1"))
    handle = rig.client().submit(b"f")
    slow.grab()
    rig.connect(b"cancel job " + handle + b"\n")
    assert slow.received() == [response(p.FARM_JOB_CANCEL, handle)]
    rig.wait(1.0)
    assert not rig.broker.jobs
    assert slow.received() == []


def test_a_background_job_that_times_out_stays_stored(rig: Rig) -> None:
    worker = hasty(rig)
    rig.client().submit(b"f", number=p.SUBMIT_JOB_BG)
    worker.grab()
    rig.wait(2.0)
    assert rig.rows == [Save(first_id(1), b"f", b"", 1, b"", b"", 0.0, 100.0)]


@pytest.mark.parametrize("by_timeout", [True, False], ids=["timed out", "disconnected"])
def test_a_job_fails_after_so_many_lost_workers(by_timeout: bool) -> None:
    rig = Rig(rules=Rules(losses_max=2))
    client = rig.client()
    handle = client.submit(b"f", unique=b"key")
    client.send(request(p.SUBMIT_JOB_BG, b"f", b"key", b""))
    client.received()
    for heard in ([], [response(p.WORK_FAIL, handle)]):
        worker = hasty(rig)
        assert worker.grab() == handle
        if by_timeout:
            rig.wait(2.0)
        else:
            worker.leave()
        assert client.received() == heard
    assert (rig.broker.jobs, [type(change).__name__ for change in rig.rows]) == ({}, ["Save", "Forget"])
    assert client.submit(b"f", unique=b"key") != handle


def test_a_job_never_fails_for_lost_workers_by_default(rig: Rig) -> None:
    handle = rig.client().submit(b"f")
    for _ in range(20):
        worker = rig.worker(b"f")
        assert worker.grab() == handle
        worker.leave()
    assert rig.broker.jobs[handle].losses == 20
