"""The store that lasts as long as the process: for trying farm out, for tests and for the simulator."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from farm.broker.effects import (
    Attempt,
    Change,
    CronGone,
    CronRow,
    Expire,
    Finish,
    Forget,
    Known,
    Past,
    Progress,
    Purge,
    Revive,
    Save,
    Setting,
    UniqueUntil,
)
from farm.broker.job import DONE
from farm.store.contract import SHARD_START_MAX, Fenced, Store, StoreError


class MemoryJournal:
    """What a disk would be: it outlives the stores that write to it. `shard` is the newest owner's."""

    def __init__(self) -> None:
        self.jobs: dict[int, Save] = {}
        self.ended: dict[int, Finish] = {}  # in order of their end
        self.ended_size = 0  # bytes
        self.saves: dict[int, Save] = {}  # of ended jobs; without the payload where that is not kept
        self.numbers: dict[int, int] = {}  # of ended jobs: Past.n
        self.last_number = 0
        self.progress: dict[int, Progress] = {}
        self.attempts: dict[int, list[Attempt]] = {}
        self.settings: dict[bytes, Setting] = {}
        self.uniques: dict[tuple[bytes, bytes], UniqueUntil] = {}
        self.crons: dict[bytes, CronRow] = {}
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

    def known(self) -> Iterator[Known]:
        """See Store."""
        self._must_own()
        journal = self._journal
        kinds = (journal.progress, journal.settings, journal.uniques, journal.crons)
        return iter([known for kind in kinds for known in kind.values()])

    def write(self, changes: Sequence[Change]) -> None:
        """See Store."""
        self._must_own()
        self._written += tuple(changes)  # a sequence that breaks off does so before anything is changed

    def commit(self) -> None:
        """See Store."""
        self._must_own()
        while self._written:
            change = self._written.popleft()
            _APPLY[type(change)](self._journal, change)

    def payload(self, id: int) -> bytes:
        """See Store."""
        self._must_own()
        save = self._journal.jobs.get(id) or self._journal.saves.get(id)
        if save is None:
            raise StoreError(f"there is no job of id {id}")
        return save.payload

    def keeps(self) -> bool:
        """See Store."""
        return bool(self._journal.ended)

    def ended(self, id: int) -> Finish | None:
        """See Store."""
        self._must_own()
        return self._journal.ended.get(id)

    def about(self, id: int) -> Past | None:
        """See Store."""
        self._must_own()
        return _past(self._journal, id) if id in self._journal.ended else None

    def past(
        self, limit: int, before: int = 0, function: bytes = b"", outcomes: Sequence[str] = (), since: float = 0.0
    ) -> list[Past]:
        """See Store."""
        self._must_own()
        found: list[Past] = []
        for id in reversed(self._journal.ended):
            past = _past(self._journal, id)
            if len(found) >= limit:
                break
            if (
                (not before or past.n < before)
                and (not function or past.function == function)
                and (not outcomes or past.outcome in outcomes)
                and past.created >= since
            ):
                found.append(past)
        return found

    def attempts(self, id: int) -> list[Attempt]:
        """See Store."""
        self._must_own()
        return list(self._journal.attempts.get(id, ()))

    def ended_ids(self, first: int, last: int, limit: int) -> list[int]:
        """See Store."""
        self._must_own()
        return sorted((id for id in self._journal.ended if first <= id <= last), reverse=True)[:limit]

    def close(self) -> None:
        """See Store."""
        self._shard = 0
        self._written.clear()

    def _must_own(self) -> None:
        if not self._shard:
            raise StoreError("the store is not open")
        if self._shard != self._journal.shard:
            raise Fenced("another server has taken the store over")


def _past(journal: MemoryJournal, id: int) -> Past:
    end, save = journal.ended[id], journal.saves[id]
    return Past(
        journal.numbers[id],
        id,
        save.function,
        save.unique,
        save.priority,
        save.created,
        save.terms,
        end.outcome,
        end.started,
        end.ended,
        end.worker,
        end.exit_code,
        end.cut,
        end.reason,
        end.number,
        end.failures,
        end.losses,
        end.cpu_s,
        end.peak,
        len(end.result),
        len(end.log),
        -1 if end.outcome == DONE else len(save.payload),
        save.reducer,
    )


# -- one function for each change


def _save(journal: MemoryJournal, save: Save) -> None:
    if save.id not in journal.ended:
        journal.jobs.setdefault(save.id, save)


def _forget(journal: MemoryJournal, forget: Forget) -> None:
    journal.jobs.pop(forget.id, None)
    journal.progress.pop(forget.id, None)
    journal.attempts.pop(forget.id, None)


def _finish(journal: MemoryJournal, end: Finish) -> None:
    save = journal.jobs.pop(end.id, None)
    journal.progress.pop(end.id, None)
    if save is None:
        return
    journal.ended[end.id] = end
    journal.saves[end.id] = save._replace(payload=b"") if end.outcome == DONE else save
    journal.last_number += 1
    journal.numbers[end.id] = journal.last_number
    journal.ended_size += _size(journal, end)


def _size(journal: MemoryJournal, end: Finish) -> int:
    return end.size + sum(len(attempt.log) for attempt in journal.attempts.get(end.id, ()))


def _drop(journal: MemoryJournal, id: int, attempts_too: bool = True) -> Save | None:
    end = journal.ended.pop(id, None)
    if end is None:
        return None
    journal.ended_size -= _size(journal, end)
    if attempts_too:
        journal.attempts.pop(id, None)
    del journal.numbers[id]
    return journal.saves.pop(id)


def _expire(journal: MemoryJournal, expire: Expire) -> None:
    for end in list(journal.ended.values()):
        if end.keep_s >= 0 and end.ended + end.keep_s < expire.now:
            _drop(journal, end.id)
    for oldest in list(journal.ended.values()):
        too_old = expire.drops(oldest.ended) and oldest.keep_s < 0
        if too_old or journal.ended_size > expire.size_max:
            _drop(journal, oldest.id)
        elif expire.stops_at(oldest.ended) and oldest.keep_s < 0:
            break
    for key, held in list(journal.uniques.items()):
        if held.until < expire.now:
            del journal.uniques[key]


def _progress(journal: MemoryJournal, progress: Progress) -> None:
    if progress.id in journal.jobs:
        journal.progress[progress.id] = progress


def _attempt(journal: MemoryJournal, attempt: Attempt) -> None:
    if attempt.id in journal.jobs:
        journal.attempts.setdefault(attempt.id, []).append(attempt)


def _revive(journal: MemoryJournal, revive: Revive) -> None:
    end = journal.ended.get(revive.id)
    if end is None or end.outcome == DONE:
        return
    save = _drop(journal, revive.id, attempts_too=False)
    assert save is not None
    journal.jobs[revive.id] = save._replace(due=0.0, terms=revive.terms)


def _purge(journal: MemoryJournal, purge: Purge) -> None:
    _drop(journal, purge.id)


def _setting(journal: MemoryJournal, setting: Setting) -> None:
    if setting.words:
        journal.settings[setting.function] = setting
    else:
        journal.settings.pop(setting.function, None)


def _unique(journal: MemoryJournal, unique: UniqueUntil) -> None:
    journal.uniques[unique.function, unique.unique] = unique


def _cron(journal: MemoryJournal, row: CronRow) -> None:
    earlier = journal.crons.get(row.name)
    if row.payload is None:
        row = row._replace(payload=earlier.payload if earlier else b"")
    journal.crons[row.name] = row


def _cron_gone(journal: MemoryJournal, gone: CronGone) -> None:
    journal.crons.pop(gone.name, None)


_APPLY: dict[type, Callable[[MemoryJournal, Any], None]] = {
    Save: _save,
    Forget: _forget,
    Finish: _finish,
    Expire: _expire,
    Progress: _progress,
    Attempt: _attempt,
    Revive: _revive,
    Purge: _purge,
    Setting: _setting,
    UniqueUntil: _unique,
    CronRow: _cron,
    CronGone: _cron_gone,
}
