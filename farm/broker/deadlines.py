"""Jobs by the time at which something is due for them: one heap, no timer for each job."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from farm.broker.job import Job

COMPACT_MIN = 64  # stale entries that are not worth clearing away


class Deadlines:
    """At most one time for each job. Taking a job out leaves a stale entry in the heap, which is cleared away when it
    comes up or when stale ones are the larger half."""

    __slots__ = ("_due", "_heap")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int]] = []
        self._due: dict[int, tuple[float, Job]] = {}

    def __len__(self) -> int:
        return len(self._due)

    def __contains__(self, job: Job) -> bool:
        return job.id in self._due

    def set(self, job: Job, due: float) -> None:
        """Something is due for the job then, and at no other time."""
        self._due[job.id] = (due, job)
        heapq.heappush(self._heap, (due, job.id))

    def drop(self, job: Job) -> None:
        """Nothing is due for the job any more."""
        if self._due.pop(job.id, None) is None:
            return
        if len(self._heap) > COMPACT_MIN and len(self._due) < len(self._heap) // 2:
            self._heap = [(due, id) for id, (due, _) in self._due.items()]
            heapq.heapify(self._heap)

    def of(self, job: Job) -> float | None:
        """When something is due for the job; None: nothing is."""
        known = self._due.get(job.id)
        return known[0] if known is not None else None

    def next(self) -> float | None:
        """The earliest time; None: nothing is due ever."""
        while self._heap:
            due, id = self._heap[0]
            known = self._due.get(id)
            if known is not None and known[0] == due:
                return due
            heapq.heappop(self._heap)
        return None

    def pop(self, until: float) -> Job | None:
        """Take out the job that is due first, if its time has come; jobs of the same time in the order of their ids."""
        due = self.next()
        if due is None or due > until:
            return None
        _, id = heapq.heappop(self._heap)
        return self._due.pop(id)[1]
