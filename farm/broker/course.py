"""What only some jobs have: terms of their own, failed attempts, somebody who asks after them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from farm.broker.peer import Peer  # at run time too: mypyc wants the classes of a NamedTuple's fields
from farm.broker.terms import NOTHING, Terms, over

if TYPE_CHECKING:
    from farm.broker.job import Job


class Reader(NamedTuple):
    """A peer that waits for more of a job's output; ask: its question, to be put again when there is some."""

    peer: Peer
    ask: bytes


class Course:
    """A job gets one when it needs it: a million plain ones must fit in memory.

    terms: its own. before: attempts that an earlier life of it had (`farm retry`). failures: attempts that failed.
    limit_s: what the running attempt may take, 0: as long as it likes. since: wall-clock seconds since when it waits
    for a worker, where that is later than its creation and its time.
    exit_code, exit_is_farms: what the running attempt's worker said. cpu_s, peak: what its command used, -1: unknown.
    reason: why it is in its state. after: id -> condition of the jobs that it waits for. waiters: peers that want to
    know of its end. readers: peers that want to know of more output. key_until: wall-clock seconds until which the key
    of a foreground job is to count once it has ended. retries: by which its last failure was not its end, whoever said
    so; None: there was none in this life of the server. counted: the journal knows that the running attempt has begun.
    ended: its end was told and stored, though its worker still runs it.
    """

    __slots__ = (
        "after",
        "before",
        "counted",
        "cpu_s",
        "ended",
        "exit_code",
        "exit_is_farms",
        "failures",
        "key_until",
        "limit_s",
        "peak",
        "readers",
        "reason",
        "retries",
        "since",
        "terms",
        "waiters",
    )

    def __init__(self, terms: Terms = NOTHING) -> None:
        self.terms = terms
        self.before = 0
        self.failures = 0
        self.limit_s = 0.0
        self.since = 0.0
        self.exit_code = -1
        self.exit_is_farms = False
        self.cpu_s = -1.0
        self.peak = -1
        self.reason = b""
        self.retries: int | None = None
        self.after: dict[int, bytes] = {}
        self.waiters: list[Peer] = []
        self.readers: list[Reader] = []
        self.key_until = 0.0
        self.counted = False
        self.ended = False


def course_of(job: Job) -> Course:
    """Its course, which it has from now on."""
    if job.course is None:
        job.course = Course()
    return job.course


def own_terms(job: Job) -> Terms:
    """What was said when it was submitted."""
    return job.course.terms if job.course else NOTHING


def terms_of(job: Job) -> Terms:
    """What holds for it: its own terms, else its function's, else those of the worker that runs it."""
    if job.course is None and job.function.settings is NOTHING and (job.worker is None or not job.worker.terms):
        return NOTHING  # most jobs, and each asks twice
    terms = over(own_terms(job), job.function.settings)
    if job.worker is not None and job.worker.terms:
        terms = over(terms, job.worker.terms.get(job.function.name, NOTHING))
    return terms
