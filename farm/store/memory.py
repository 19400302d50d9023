"""The store that lasts as long as the process: for trying farm out, for tests and for the simulator."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator, Sequence

from farm.broker.effects import Change, Expire, Finish, Forget, Save
from farm.store.contract import SHARD_START_MAX, Fenced, Store, StoreError


class MemoryJournal:
    """What a disk would be: it outlives the stores that write to it. `shard` is the newest owner's."""

    def __init__(self) -> None:
        self.jobs: dict[int, Save] = {}
        self.ended: dict[int, Finish] = {}  # in order of their end
        self.ended_size = 0  # bytes
        # A random start keeps the handles of two lives of a server apart: nothing of the first is left to count from.
        self.shard = random.SystemRandom().randrange(SHARD_START_MAX)


class MemoryStore(Store):
    """A Store on a MemoryJournal."""

    waits = False

    def __init__(self, journal: MemoryJournal | None = None) -> None:
        self._journal = journal or MemoryJournal()
        self._shard = 0
        self._written: deque[Change] = deque()

    def describe(self) -> str:
        """See Store."""
        return "memory; jobs do not outlive this process"

    def open(self) -> int:
        """See Store."""
        self._journal.shard += 1
        self._shard = self._journal.shard
        return self._shard

    def load(self) -> Iterator[Save]:
        """See Store."""
        self._must_own()
        return iter([self._journal.jobs[id] for id in sorted(self._journal.jobs)])

    def write(self, changes: Sequence[Change]) -> None:
        """See Store."""
        self._must_own()
        self._written += tuple(changes)  # a sequence that breaks off does so before anything is changed

    def commit(self) -> None:
        """See Store."""
        self._must_own()
        journal = self._journal
        while self._written:
            change = self._written.popleft()
            if isinstance(change, Save):
                journal.jobs.setdefault(change.id, change)
            elif isinstance(change, Forget):
                journal.jobs.pop(change.id, None)
            elif isinstance(change, Finish):
                if journal.jobs.pop(change.id, None):
                    journal.ended[change.id] = change
                    journal.ended_size += change.size
            else:
                self._expire(change)

    def _expire(self, change: Expire) -> None:
        journal = self._journal
        for oldest in list(journal.ended.values()):
            if change.drops(oldest.ended) or journal.ended_size > change.size_max:
                del journal.ended[oldest.id]
                journal.ended_size -= oldest.size
            elif change.stops_at(oldest.ended):
                return

    def payload(self, id: int) -> bytes:
        """See Store."""
        self._must_own()
        try:
            return self._journal.jobs[id].payload
        except KeyError:
            raise StoreError(f"there is no job of id {id}") from None

    def keeps(self) -> bool:
        """See Store."""
        return bool(self._journal.ended)

    def ended(self, id: int) -> Finish | None:
        """See Store."""
        self._must_own()
        return self._journal.ended.get(id)

    def close(self) -> None:
        """See Store."""
        self._shard = 0
        self._written.clear()

    def _must_own(self) -> None:
        if not self._shard:
            raise StoreError("the store is not open")
        if self._shard != self._journal.shard:
            raise Fenced("another server has taken the store over")
