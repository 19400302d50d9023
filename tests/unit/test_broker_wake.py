"""Sleeping and waking: one worker for each job, in turn, and the next one when a woken worker does not come."""

from __future__ import annotations

import pytest

from farm.broker.broker import WAKE_PATIENCE_S
from farm.protocol import packets as p
from farm.protocol.packets import request
from tests.unit.bench import GRAB, NO_JOB, NOOP, SLEEP, Rig, Wire


@pytest.fixture
def rig() -> Rig:
    return Rig()


def asleep(rig: Rig, *functions: bytes) -> Wire:
    worker = rig.worker(*functions)
    worker.send(SLEEP)
    assert worker.received() == []
    return worker


def woken(*workers: Wire) -> list[bool]:
    """Who has been sent a NOOP since the last time, and nothing else."""
    inboxes = [worker.received() for worker in workers]
    assert all(inbox in ([], [NOOP]) for inbox in inboxes), inboxes
    return [bool(inbox) for inbox in inboxes]


def test_a_sleeper_is_woken_for_a_job(rig: Rig) -> None:
    worker = asleep(rig, b"f")
    handle = rig.client().submit(b"f")
    assert woken(worker) == [True]
    assert worker.grab() == handle


def test_nobody_sleeps_while_a_job_waits(rig: Rig) -> None:
    rig.client().submit(b"f")
    assert rig.worker(b"f").send(SLEEP).received() == [NOOP]


def test_who_is_awake_is_not_woken(rig: Rig) -> None:
    awake, other = rig.worker(b"f"), asleep(rig, b"g")
    rig.client().submit(b"f")
    assert woken(awake, other) == [False, False]


def test_one_is_woken_for_each_job_the_longest_sleeper_first(rig: Rig) -> None:
    workers = [asleep(rig, b"f") for _ in range(3)]
    client = rig.client()
    client.submit(b"f")
    assert woken(*workers) == [True, False, False]
    client.submit(b"f")
    assert woken(*workers) == [False, True, False]


def test_a_sleeper_is_woken_once_in_a_sleep(rig: Rig) -> None:
    worker = asleep(rig, b"f", b"g")
    client = rig.client()
    for function in (b"f", b"f", b"g"):
        client.submit(function)
    assert woken(worker) == [True]
    rig.wait(60)
    assert woken(worker) == [False]


def test_the_next_is_woken_when_a_woken_one_does_not_come(rig: Rig) -> None:
    workers = [asleep(rig, b"f") for _ in range(3)]
    rig.client().submit(b"f")
    assert woken(*workers) == [True, False, False]
    rig.wait(WAKE_PATIENCE_S - 0.01)
    assert woken(*workers) == [False, False, False]
    rig.wait(0.02)
    assert woken(*workers) == [False, True, False]
    rig.wait(WAKE_PATIENCE_S)
    assert woken(*workers) == [False, False, True]
    rig.wait(60)
    assert rig.broker.next_deadline() is None


def test_nobody_else_is_woken_when_it_came_in_time(rig: Rig) -> None:
    first, second = asleep(rig, b"f"), asleep(rig, b"f")
    rig.client().submit(b"f")
    first.grab()
    rig.wait(60)
    assert woken(second) == [False]


def test_a_worker_that_was_woken_again_has_all_its_time_again(rig: Rig) -> None:
    client, hung = rig.client(), asleep(rig, b"g")
    client.submit(b"g")  # its deadline stays at the head of the line, so that those behind it are not cleared away
    rig.wait(0.01)
    first, second = asleep(rig, b"f"), asleep(rig, b"f")
    for worker in (first, second):  # both are woken, come, and sleep again, so that `first` is the next in turn
        handle = client.submit(b"f", number=p.SUBMIT_JOB_BG)
        worker.grab()
        worker.send(request(p.WORK_FAIL, handle), SLEEP)
    rig.wait(0.39)
    client.submit(b"f")
    assert woken(hung, first, second) == [True, True, False]
    rig.wait(0.2)  # beyond the end of the first patience, which was over when it came
    assert woken(second) == [False]
    rig.wait(0.4)
    assert woken(second) == [True]


def test_a_wake_up_is_passed_on_when_the_woken_one_takes_another_job(rig: Rig) -> None:
    first, second = asleep(rig, b"f", b"g"), asleep(rig, b"f")
    client = rig.client()
    client.submit(b"f", number=p.SUBMIT_JOB_LOW)
    high = client.submit(b"g", number=p.SUBMIT_JOB_HIGH)
    assert woken(first, second) == [True, False]
    assert first.grab() == high
    assert woken(second) == [True]


def test_a_wake_up_is_passed_on_when_the_woken_one_leaves(rig: Rig) -> None:
    first, second = asleep(rig, b"f"), asleep(rig, b"f")
    rig.client().submit(b"f")
    first.leave()
    assert woken(second) == [True]


@pytest.mark.parametrize("packet", [request(p.CANT_DO, b"f"), request(p.RESET_ABILITIES), SLEEP])
def test_a_wake_up_is_passed_on_when_the_woken_one_declines(rig: Rig, packet: bytes) -> None:
    first, second = asleep(rig, b"f"), asleep(rig, b"f")
    rig.client().submit(b"f")
    first.send(packet)
    assert woken(second) == [True]


def test_pre_sleep_that_crosses_a_noop_is_answered_with_another(rig: Rig) -> None:
    worker = asleep(rig, b"f")
    rig.client().submit(b"f")
    worker.send(SLEEP)
    assert worker.received() == [NOOP, NOOP]


def test_a_lost_job_wakes_a_sleeper(rig: Rig) -> None:
    client, worker = rig.client(), rig.worker(b"f")
    client.submit(b"f")
    worker.grab()
    sleeper = asleep(rig, b"f")
    worker.leave()
    assert woken(sleeper) == [True]


def test_can_do_wakes_a_worker_that_sleeps_already(rig: Rig) -> None:
    worker = asleep(rig)
    handle = rig.client().submit(b"f")
    worker.send(request(p.CAN_DO, b"f"))
    assert woken(worker) == [True]
    assert worker.grab() == handle


def test_can_do_makes_a_sleeper_hear_of_later_jobs(rig: Rig) -> None:
    worker = asleep(rig, b"g")
    worker.send(request(p.CAN_DO, b"f"))
    rig.client().submit(b"f")
    assert woken(worker) == [True]


def test_a_noop_is_only_a_hint(rig: Rig) -> None:
    worker, client = asleep(rig, b"f"), rig.client()
    client.submit(b"f")
    client.leave()
    assert worker.send(GRAB).received() == [NOOP, NO_JOB]
    worker.send(SLEEP)
    rig.client().submit(b"f")
    assert woken(worker) == [True]


def test_a_worker_that_runs_a_job_may_sleep_for_another(rig: Rig) -> None:
    client, worker = rig.client(), rig.worker(b"f")
    client.submit(b"f")
    worker.grab()
    worker.send(SLEEP)
    second = client.submit(b"f")
    assert woken(worker) == [True]
    assert worker.grab() == second


def test_workers_may_sleep_while_the_server_stops(rig: Rig) -> None:
    rig.client().submit(b"f")
    rig.broker.stopping = True
    assert rig.worker(b"f").send(SLEEP).received() == []
