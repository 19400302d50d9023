"""What the store in memory keeps. The changes that every job makes are here too: they are on the job path, and machine
code where that is compiled, which no store can be, for tests make kinds of their own of them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from farm.broker.effects import (
    FINISH_OVERHEAD,
    Attempt,
    Change,
    CronRow,
    Finish,
    Forget,
    Progress,
    Save,
    Setting,
    UniqueUntil,
)
from farm.broker.job import DONE
from farm.store.contract import SHARD_START_MAX

# A number that grows, bytes, and what Finish and Save hold, as plain tuples: Python's garbage collection stops looking
# at these once it has found nothing but bytes and numbers in them, while each named one costs it a look for ever. With
# 300,000 kept ends that was 5 us of processor time for every job of a backlog of 20,000.
Ended = tuple[int, int, tuple[Any, ...], tuple[Any, ...]]


class MemoryJournal:
    """What a disk would be: it outlives the stores that write to it. `shard` is the newest owner's."""

    def __init__(self) -> None:
        self.jobs: dict[int, Save] = {}
        self.ended: dict[int, Ended] = {}  # in order of their end
        self.timed: dict[int, None] = {}  # those of them that are kept for a time of their own
        self.ends = 0  # how many there ever were
        self.ended_size = 0  # bytes of all of them
        self.progress: dict[int, Progress] = {}
        self.attempts: dict[int, dict[int, Attempt]] = {}
        self.settings: dict[bytes, Setting] = {}
        self.keys: dict[tuple[bytes, bytes], UniqueUntil] = {}
        self.cron: dict[bytes, CronRow] = {}
        # A random start keeps the handles of two lives of a server apart: nothing of the first is left to count from.
        self.shard = random.SystemRandom().randrange(SHARD_START_MAX)

    def take(self, changes: Sequence[Change], at: int) -> int:
        """Those from `at` on that say that a job begins or ends, up to the first that does not. Returns where that is;
        the store knows what to do with it."""
        for change in changes[at:] if at else changes:
            if isinstance(change, Finish):
                self._finish(change)
            elif isinstance(change, Save):
                self.jobs.setdefault(change.id, change)
            elif isinstance(change, Forget):
                self._forget(change.id)
            else:
                break
            at += 1
        return at

    def _forget(self, id: int) -> None:
        self.jobs.pop(id, None)
        self.progress.pop(id, None)
        if id not in self.ended:
            self.attempts.pop(id, None)

    def _finish(self, finish: Finish) -> None:
        id, done = finish.id, finish.outcome == DONE
        save = self.jobs.pop(id, None)
        if self.progress:
            self.progress.pop(id, None)
        if save is None:
            return
        ended: tuple[Any, ...] = finish
        was: tuple[Any, ...] = save
        if done:  # its payload is of no use any more
            was = (was[0], was[1], was[2], was[3], b"", was[5], was[6], was[7], was[8])
        size = finish.size + len(save.terms)
        if not done:
            size += len(save.payload)
        if self.attempts and (attempts := self.attempts.get(id)):
            size += sum(map(size_of, attempts.values()))
        self.ends += 1
        self.ended[id] = self.ends, size, ended[:], was[:]
        self.ended_size += size
        if finish.keep_s >= 0:
            self.timed[id] = None

    def grow(self, id: int, size: int) -> None:
        """So much more is kept of an ended job."""
        n, before, finish, save = self.ended[id]
        self.ended[id] = n, before + size, finish, save
        self.ended_size += size

    def drop(self, id: int) -> None:
        """What is kept of the end of a job."""
        self.timed.pop(id, None)
        _, size, _, _ = self.ended.pop(id)
        self.ended_size -= size

    def end(self, id: int) -> Finish | None:
        """How a job has ended, where that is kept."""
        there = self.ended.get(id)
        return Finish._make(there[2]) if there else None

    def job(self, id: int) -> Save:
        """An ended job of which something is kept; without its payload where it is done."""
        return Save._make(self.ended[id][3])


def size_of(attempt: Attempt) -> int:
    """About how many bytes it takes to keep this."""
    return FINISH_OVERHEAD + len(attempt.log)
