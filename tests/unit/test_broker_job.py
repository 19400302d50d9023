"""The job's moves, its handle, and the queue that jobs are taken out of."""

from __future__ import annotations

import itertools
import random

import pytest

from farm.broker.function import COMPACT_MIN, Function, JobQueue
from farm.broker.job import (
    ABANDONED,
    CANCELLED,
    DELAYED,
    DONE,
    ENDED,
    EXPIRED,
    FAILED,
    MOVES,
    NORMAL,
    QUEUED,
    RUNNING,
    WAITING,
    Job,
    first_id,
    handle_of,
)

STATES = (WAITING, DELAYED, QUEUED, RUNNING, ABANDONED, DONE, FAILED, CANCELLED, EXPIRED)
EVENTS = ("release", "delay", "due", "assign", "lose", "retry", "complete", "fail", "abandon", "expire")


def make(number: int = 1) -> Job:
    return Job(number, Function(b"f"), b"", NORMAL, False, b"", 0.0)


def filled(count: int) -> tuple[JobQueue, list[Job]]:
    queue, jobs = JobQueue(), [make(number) for number in range(count)]
    for job in jobs:
        queue.push(job)
    return queue, jobs


@pytest.mark.parametrize(("state", "event"), list(itertools.product(STATES, EVENTS)))
def test_every_move_is_in_the_table_or_a_bug(state: str, event: str) -> None:
    job = make()
    job.state = state
    if (state, event) in MOVES:
        job.move(event)
        assert job.state == MOVES[state, event]
    else:
        with pytest.raises(KeyError):
            job.move(event)
        assert job.state == state


def test_the_table_knows_these_states_and_events_only() -> None:
    assert {state for state, _ in MOVES} | set(MOVES.values()) == set(STATES)
    assert {event for _, event in MOVES} == set(EVENTS)


def test_nothing_leaves_an_end() -> None:
    assert frozenset(STATES) - {state for state, _ in MOVES} == ENDED


def test_a_handle_names_the_life_and_the_count() -> None:
    assert handle_of(first_id(1)) == b"H:1:1"
    assert handle_of(first_id(0xBEEF) + 9) == b"H:beef:10"
    assert len(handle_of((1 << 63) - 1)) < 64  # what libgearman has room for


def test_a_job_shows_no_payload() -> None:
    job = Job(1, Function(b"f"), b"", NORMAL, False, b"secret", 0.0)
    assert "secret" not in repr(job)


def test_a_queue_is_first_in_first_out_with_a_front_door() -> None:
    queue, jobs = filled(3)
    first = make(9)
    queue.push_front(first)
    assert [queue.pop() for _ in range(4)] == [first, *jobs]
    assert len(queue) == 0


def test_a_discarded_job_is_stepped_over() -> None:
    queue, jobs = filled(3)
    for index in (0, 1):
        jobs[index].move("abandon")
        queue.discard(jobs[index])
    assert (len(queue), queue.waiting()) == (1, [jobs[2]])
    assert queue.pop() is jobs[2]


def test_a_queued_job_cannot_be_discarded() -> None:
    queue, jobs = filled(1)
    with pytest.raises(AssertionError):
        queue.discard(jobs[0])


def test_tombstones_are_cleared_before_they_are_the_larger_half() -> None:
    queue, jobs = filled(10 * COMPACT_MIN)
    for job in jobs[5:]:  # never the head, so that no pop clears them
        job.move("abandon")
        queue.discard(job)
        assert len(queue._jobs) <= max(COMPACT_MIN, 2 * len(queue) + 2)
    assert queue.waiting() == jobs[:5]


def test_a_queue_agrees_with_a_list() -> None:
    rng = random.Random(7)
    queue, model = JobQueue(), list[Job]()
    for number in range(5000):
        deed = rng.choice(("push", "push", "front", "pop", "discard", "discard"))
        if deed == "push":
            model.append(make(number))
            queue.push(model[-1])
        elif deed == "front":
            model.insert(0, make(number))
            queue.push_front(model[0])
        elif model and deed == "pop":
            job = queue.pop()
            assert job is model.pop(0)
            job.move("assign")
        elif model:
            job = model.pop(rng.randrange(len(model)))
            job.move("abandon")
            queue.discard(job)
        assert len(queue) == len(model)
    assert queue.waiting() == model
