"""Deadlines: one time for each job, ties by age, no memory kept for what was taken out."""

from __future__ import annotations

import random

from farm.broker.deadlines import COMPACT_MIN, Deadlines
from farm.broker.function import Function
from farm.broker.job import NORMAL, Job


def make(number: int) -> Job:
    return Job(number, Function(b"f"), b"", NORMAL, False, b"", 0.0)


def test_nothing_is_due_at_first() -> None:
    deadlines = Deadlines()
    assert (deadlines.next(), deadlines.pop(1e9), len(deadlines)) == (None, None, 0)
    deadlines.drop(make(1))


def test_in_order_of_time_ties_by_id_and_not_before() -> None:
    deadlines = Deadlines()
    jobs = [make(number) for number in range(5)]
    for job, due in zip(jobs[::-1], (3.0, 1.0, 2.0, 1.0, 2.0), strict=True):
        deadlines.set(job, due)
    assert deadlines.pop(0.5) is None
    assert deadlines.next() == 1.0
    popped = [deadlines.pop(2.0) for _ in range(5)]
    assert popped == [jobs[1], jobs[3], jobs[0], jobs[2], None]
    assert jobs[4] in deadlines
    assert jobs[0] not in deadlines


def test_set_anew_only_the_new_time_counts() -> None:
    deadlines, job = Deadlines(), make(1)
    for due in (5.0, 1.0, 3.0, 3.0):
        deadlines.set(job, due)
    assert (len(deadlines), deadlines.next()) == (1, 3.0)
    assert deadlines.pop(2.0) is None
    assert deadlines.pop(9.0) is job
    assert deadlines.pop(9.0) is None


def test_dropped_and_set_to_the_same_time_again_comes_once() -> None:
    deadlines, job = Deadlines(), make(1)
    deadlines.set(job, 1.0)
    deadlines.drop(job)
    assert deadlines.next() is None
    deadlines.set(job, 1.0)
    assert [deadlines.pop(1.0), deadlines.pop(1.0)] == [job, None]


def test_what_was_taken_out_is_cleared_away() -> None:
    deadlines = Deadlines()
    jobs = [make(number) for number in range(20 * COMPACT_MIN)]
    for job in jobs:
        deadlines.set(job, float(job.id))
    for job in jobs[5:]:  # never the first, so that no `next` clears them
        deadlines.drop(job)
        assert len(deadlines._heap) <= max(COMPACT_MIN, 2 * len(deadlines) + 2)
    assert [deadlines.pop(1e9) for _ in range(6)] == [*jobs[:5], None]


def test_deadlines_agree_with_a_dict() -> None:
    rng = random.Random(7)
    deadlines, jobs, model = Deadlines(), [make(number) for number in range(200)], dict[int, float]()
    for _ in range(20_000):
        deed, job = rng.choice(("set", "set", "drop", "drop", "pop")), rng.choice(jobs)
        if deed == "set":
            model[job.id] = float(rng.randrange(50))
            deadlines.set(job, model[job.id])
        elif deed == "drop":
            model.pop(job.id, None)
            deadlines.drop(job)
        else:
            until = float(rng.randrange(20))
            first = min(((due, id) for id, due in model.items()), default=(1e9, -1))
            popped = deadlines.pop(until)
            assert (popped.id if popped else None) == (first[1] if first[0] <= until else None)
            model.pop(popped.id if popped else -1, None)
        assert deadlines.next() == min(model.values(), default=None)
        assert len(deadlines) == len(model)
        assert (job in deadlines) == (job.id in model)
