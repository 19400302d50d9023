"""A function: its queues by priority, its workers, and the jobs that may be coalesced with."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from farm.broker.job import QUEUED

if TYPE_CHECKING:
    from farm.broker.job import Job, Key
    from farm.broker.peer import Peer

COMPACT_MIN = 64  # tombstones that are not worth clearing away


class JobQueue:
    """Jobs of one function and priority, first in first out.

    A job removed from the middle stays behind as a tombstone (its state is no longer QUEUED) until the head reaches it
    or until tombstones are the larger half; so removal costs O(1) on average and the memory is bounded.
    live: how many jobs there are without the tombstones.
    """

    __slots__ = ("_jobs", "live")

    def __init__(self) -> None:
        self._jobs: deque[Job] = deque()
        self.live = 0

    def __len__(self) -> int:
        return self.live

    def push(self, job: Job) -> None:
        """Last in line."""
        self._jobs.append(job)
        self.live += 1

    def push_front(self, job: Job) -> None:
        """First in line: a job whose worker was lost has waited already."""
        self._jobs.appendleft(job)
        self.live += 1

    def pop(self) -> Job:
        """The job that has waited longest; the queue must not be empty."""
        self.live -= 1
        while True:
            job = self._jobs.popleft()
            if job.state == QUEUED:
                return job

    def discard(self, job: Job) -> None:
        """Take out a job that has just left the state QUEUED for good."""
        assert job.state != QUEUED
        self.live -= 1
        if len(self._jobs) > COMPACT_MIN and self.live < len(self._jobs) // 2:
            self._jobs = deque(job for job in self._jobs if job.state == QUEUED)

    def waiting(self) -> list[Job]:
        """The queued jobs in order (for listings and checks)."""
        return [job for job in self._jobs if job.state == QUEUED]


class Function:
    """A name that jobs are submitted to and workers register for. It stays once it was mentioned, as in gearmand.

    queued, running, delayed: counts of jobs. wakes: how many workers have been woken for it and are still expected.
    limits: how many jobs there may be before one more of each priority is refused; 0: any number. number: counts the
    functions in the order in which they were mentioned first.
    """

    __slots__ = (
        "coalescing",
        "delayed",
        "limits",
        "name",
        "number",
        "queued",
        "queues",
        "running",
        "sleepers",
        "wakes",
        "workers",
    )

    def __init__(self, name: bytes, number: int = 0) -> None:
        self.name = name
        self.number = number
        self.queues = (JobQueue(), JobQueue(), JobQueue())
        self.queued = 0
        self.running = 0
        self.delayed = 0
        self.limits = (0, 0, 0)
        self.wakes = 0
        self.coalescing: dict[Key, Job] = {}
        # Dicts serve as ordered sets: the worker that has slept longest is woken first.
        self.workers: dict[Peer, None] = {}
        self.sleepers: dict[Peer, None] = {}  # asleep and not yet woken

    def __repr__(self) -> str:
        return f"<Function {self.name!r} queued {self.queued} running {self.running} workers {len(self.workers)}>"

    @property
    def jobs(self) -> int:
        """All of its jobs: queued, running and delayed."""
        return self.queued + self.running + self.delayed

    def enqueue(self, job: Job) -> None:
        """A new job: last in line within its priority."""
        self.queues[job.priority].push(job)
        self.queued += 1

    def requeue(self, job: Job) -> None:
        """A job whose worker was lost: first in line within its priority."""
        self.queues[job.priority].push_front(job)
        self.queued += 1

    def take(self, priority: int) -> Job:
        """The next job of this priority; there must be one."""
        self.queued -= 1
        return self.queues[priority].pop()

    def discard(self, job: Job) -> None:
        """Take out a job that has just left the state QUEUED without being assigned."""
        self.queues[job.priority].discard(job)
        self.queued -= 1
