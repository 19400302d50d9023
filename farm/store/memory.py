"""The store that lasts as long as the process: for trying farm out, for tests and for the simulator."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from farm.broker.effects import Change, Save
from farm.store.contract import Fenced, StoreError


class MemoryJournal:
    """What a disk would be: it outlives the stores that write to it. `shard` is the newest owner's."""

    def __init__(self) -> None:
        self.jobs: dict[int, Save] = {}
        # A random start keeps the handles of two lives of a server apart: nothing of the first is left to count from.
        self.shard = int.from_bytes(os.urandom(4), "big")


class MemoryStore:
    """A Store on a MemoryJournal."""

    def __init__(self, journal: MemoryJournal | None = None) -> None:
        self._journal = journal or MemoryJournal()
        self._shard = 0

    def open(self) -> int:
        """See Store."""
        self._journal.shard += 1
        self._shard = self._journal.shard
        return self._shard

    def load(self) -> Iterator[Save]:
        """See Store."""
        self._must_own()
        return iter([self._journal.jobs[id] for id in sorted(self._journal.jobs)])

    def apply(self, changes: Sequence[Change]) -> None:
        """See Store."""
        self._must_own()
        jobs = self._journal.jobs
        for change in tuple(changes):  # a sequence that breaks off does so before anything is changed
            if isinstance(change, Save):
                jobs.setdefault(change.id, change)
            else:
                jobs.pop(change.id, None)

    def close(self) -> None:
        """See Store."""
        self._shard = 0

    def _must_own(self) -> None:
        if not self._shard:
            raise StoreError("the store is not open")
        if self._shard != self._journal.shard:
            raise Fenced("another server has taken the store over")
