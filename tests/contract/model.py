"""What a broker and its store should be, as one dict of jobs and a deque for each function and priority."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

Key = tuple[bytes, bytes, bytes]  # function, unique, payload (empty unless the unique is `-`)


@dataclass
class Job:
    """watchers, worker: peers' ids. over: how it ended, empty while it lives."""

    handle: bytes
    function: bytes
    unique: bytes
    payload: bytes
    priority: int
    background: bool
    due: float
    watchers: list[int] = field(default_factory=list)
    worker: int = 0
    expires: float = 0.0
    losses: int = 0
    delayed: bool = False
    abandoned: bool = False
    over: str = ""

    @property
    def key(self) -> Key | None:
        """What a submission must have in common with it to join it."""
        return key_of(self.function, self.unique, self.payload)


def key_of(function: bytes, unique: bytes, payload: bytes) -> Key | None:
    """An empty key is none; `-` means the payload, where there is one."""
    if unique == b"-":
        return (function, unique, payload) if payload else None
    return (function, unique, b"") if unique else None


def id_of(handle: bytes) -> int:
    """The number behind a handle."""
    _, shard, sequence = handle.split(b":")
    return int(shard, 16) << 40 | int(sequence)


class Model:
    """kept: what a crash leaves of each background job that is durable: the job, and how it ended. losses_max: see
    Rules."""

    def __init__(self, losses_max: int) -> None:
        self.losses_max = losses_max
        self.kept: dict[bytes, Job] = {}
        self.ended: dict[bytes, str] = {}
        self.handles: set[bytes] = set()
        self.start([])

    def start(self, jobs: list[Job]) -> None:
        """A new life, with these jobs."""
        self.jobs: dict[bytes, Job] = {}
        self.queues: dict[tuple[bytes, int], deque[Job]] = {}
        self.joinable: dict[Key, Job] = {}
        self.functions: dict[bytes, tuple[int, int, int]] = {}  # and their limits
        self.abilities: dict[int, dict[bytes, float]] = {}  # of each worker: function -> timeout
        self.held: dict[int, list[Job]] = {}
        self._written: list[tuple[bytes, Job | str]] = []
        for job in jobs:
            self.add(job, 0.0)

    # -- what is kept

    def commit(self) -> None:
        """All that was decided is durable."""
        for handle, what in self._written:
            if isinstance(what, Job):
                self.kept[handle] = what
            else:
                del self.kept[handle]
                self.ended[handle] = what
        self._written.clear()

    def crash(self, now: float) -> None:
        """What was not committed is gone."""
        alive = [self.kept[handle] for handle in sorted(self.kept, key=id_of)]
        fresh = [Job(j.handle, j.function, j.unique, j.payload, j.priority, True, j.due) for j in alive]
        self.kept = {job.handle: job for job in fresh}
        self.start([])
        for job in fresh:
            self.add(job, now)

    def save(self, job: Job) -> None:
        """It must be kept from now on."""
        job.background = True
        self._written.append((job.handle, job))

    # -- jobs come and go

    def add(self, job: Job, now: float) -> None:
        """Last in its line, or aside until its time."""
        self.handles.add(job.handle)
        self.jobs[job.handle] = job
        self.functions.setdefault(job.function, (0, 0, 0))
        if job.key is not None:
            self.joinable.setdefault(job.key, job)
        job.delayed = job.due > now
        if not job.delayed:
            self.queue(job).append(job)

    def queue(self, job: Job) -> deque[Job]:
        """The line that it stands in, or would."""
        return self.queues.setdefault((job.function, job.priority), deque())

    def count(self, function: bytes) -> int:
        """All of its jobs."""
        return sum(job.function == function for job in self.jobs.values())

    def end(self, job: Job, outcome: str) -> None:
        """It is over."""
        if not job.worker and not job.delayed:
            self.queue(job).remove(job)
        self._release(job)
        self._close(job)
        del self.jobs[job.handle]
        if job.background:
            self._written.append((job.handle, outcome))

    def unwatch(self, job: Job, peer: int) -> None:
        """This client wants it no more."""
        job.watchers.remove(peer)
        if not job.background and not job.watchers:
            self.give_up(job)

    def give_up(self, job: Job) -> None:
        """Nobody wants it."""
        if job.worker:
            self._close(job)
            job.abandoned = True
        else:
            self.end(job, "cancelled")

    def cancel(self, job: Job) -> None:
        """An administrator ends it: for its clients, and for good."""
        job.watchers.clear()
        if job.background and job.worker:
            self._written.append((job.handle, "cancelled"))
            job.background = False
        self.give_up(job)

    def lose(self, job: Job) -> None:
        """Its worker is gone."""
        job.losses += 1
        if job.abandoned or job.losses >= self.losses_max:
            self.end(job, "failed")
            return
        self._release(job)
        self.queue(job).appendleft(job)

    def pass_time(self, now: float) -> None:
        """What is due stands in line; who is too slow loses its job."""
        for job in sorted(self.jobs.values(), key=lambda job: (job.due, id_of(job.handle))):
            if job.delayed and job.due <= now:
                job.delayed = False
                self.queue(job).append(job)
        late = [job for job in self.jobs.values() if job.expires and job.expires <= now]
        for job in sorted(late, key=lambda job: (job.expires, id_of(job.handle)), reverse=True):
            self.lose(job)

    def _release(self, job: Job) -> None:
        if job.worker:
            self.held[job.worker].remove(job)
        job.worker, job.expires = 0, 0.0

    def _close(self, job: Job) -> None:
        if job.key is not None and self.joinable.get(job.key) is job:
            del self.joinable[job.key]
