"""The store that lasts as long as the process: for trying farm out, for tests and for the simulator."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from farm.broker.effects import (
    Attempt,
    Change,
    CronGone,
    CronRow,
    Expire,
    Finish,
    Known,
    Past,
    Progress,
    Purge,
    Revive,
    Save,
    Setting,
    UniqueUntil,
    Usage,
)
from farm.broker.job import DONE
from farm.store.contract import Fenced, Store, StoreError
from farm.store.memory_journal import MemoryJournal, size_of

_AT, _OUTCOME = Finish._fields.index("ended"), Finish._fields.index("outcome")


class MemoryStore(Store):
    """A Store on a MemoryJournal."""

    waits = False

    def __init__(self, journal: MemoryJournal | None = None) -> None:
        self._journal = journal or MemoryJournal()
        self._shard = 0
        self._written: list[Change] = []

    @property
    def held(self) -> int:  # type: ignore[override]
        """See Store."""
        return self._journal.ended_size

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
        tables: tuple[dict[Any, Any], ...] = (journal.progress, journal.settings, journal.keys, journal.cron)
        return iter([table[key] for table in tables for key in sorted(table)])

    # -- writing

    def write(self, changes: Sequence[Change]) -> None:
        """See Store."""
        self._must_own()
        self._written += tuple(changes)  # a sequence that breaks off does so before anything is changed

    def commit(self) -> None:
        """See Store."""
        self._must_own()
        written, self._written = self._written, []
        at = 0
        while (at := self._journal.take(written, at)) < len(written):
            change = written[at]
            _PUT[type(change)](self, change)
            at += 1

    def _progress(self, change: Progress) -> None:
        if change.id in self._journal.jobs:
            self._journal.progress[change.id] = change

    def _attempt(self, change: Attempt) -> None:
        journal = self._journal
        is_over = change.id in journal.ended
        if is_over or change.id in journal.jobs:
            there = journal.attempts.setdefault(change.id, {})
            if is_over and change.number not in there:
                journal.grow(change.id, size_of(change))
            there.setdefault(change.number, change)

    def _used(self, change: Usage) -> None:
        journal, cpu_s, peak = self._journal, change.cpu_s, change.peak
        end, attempts = journal.end(change.id), journal.attempts.get(change.id, {})
        if end and end.number == change.number:
            n, size, _, was = journal.ended[change.id]
            journal.ended[change.id] = n, size, tuple(end._replace(cpu_s=cpu_s, peak=peak)), was
        elif change.number in attempts:
            attempts[change.number] = attempts[change.number]._replace(cpu_s=cpu_s, peak=peak)

    def _revive(self, change: Revive) -> None:
        journal = self._journal
        end = journal.end(change.id)
        if end and end.outcome != DONE:
            save = journal.job(change.id)
            journal.drop(change.id)
            journal.jobs[change.id] = save._replace(due=0.0, terms=save.terms if change.terms is None else change.terms)

    def _purge(self, change: Purge) -> None:
        if change.id in self._journal.ended:
            self._drop(change.id)

    def _setting(self, change: Setting) -> None:
        self._journal.settings[change.function] = change
        if not change.words:
            del self._journal.settings[change.function]

    def _unique_until(self, change: UniqueUntil) -> None:
        self._journal.keys[change.function, change.unique] = change

    def _cron_row(self, change: CronRow) -> None:
        if change.payload is None and (old := self._journal.cron.get(change.name)):
            change = change._replace(payload=old.payload)
        if change.payload is not None:
            self._journal.cron[change.name] = change

    def _cron_gone(self, change: CronGone) -> None:
        self._journal.cron.pop(change.name, None)

    def _expire(self, change: Expire) -> None:
        """First what is too old, then what its own time is over of, then the oldest of what is too much, then of what
        there is no room for."""
        journal = self._journal
        before = journal.ended_size
        old: list[int] = []
        for id, (_, _, finish, _) in journal.ended.items():
            if id in journal.timed:
                continue
            ended = finish[_AT]
            if change.drops(ended):
                old.append(id)
            elif change.stops_at(ended):
                break
        timed = (Finish._make(journal.ended[id][2]) for id in journal.timed)
        old += [end.id for end in timed if end.ended + end.keep_s < change.now]
        for id in old:
            self._drop(id)
        while journal.ended and journal.ended_size > change.size_max:
            self._drop(next(iter(journal.ended)))
        room = change.room - (before - journal.ended_size)
        if room > 0:
            for id, size in [(id, size) for id, (_, size, end, _) in journal.ended.items() if end[_OUTCOME] == DONE]:
                if room <= 0:
                    break
                self._drop(id)
                self.gave_way = True
                room -= size
        journal.keys = {key: row for key, row in journal.keys.items() if row.until >= change.now}

    def _drop(self, id: int) -> None:
        self._journal.drop(id)
        self._journal.attempts.pop(id, None)

    # -- reading

    def payload(self, id: int) -> bytes:
        """See Store."""
        self._must_own()
        save = self._journal.jobs.get(id)
        end = self._journal.end(id)
        if save is None and end and end.outcome != DONE:
            save = self._journal.job(id)
        if save is None:
            raise StoreError(f"there is no job of id {id}")
        return save.payload

    def keeps(self) -> bool:
        """See Store."""
        return bool(self._journal.ended or self._journal.keys)

    def ended(self, id: int) -> Finish | None:
        """See Store."""
        self._must_own()
        return self._journal.end(id)

    def past(
        self, limit: int, before: int = 0, function: bytes = b"", outcomes: Sequence[str] = (), since: float = 0.0
    ) -> list[Past]:
        """See Store."""
        found: list[Past] = []
        for id in reversed(self._journal.ended):
            one = self.about(id)
            if not one or (before and one.n >= before) or (function and one.function != function):
                continue
            if one.created >= since and (not outcomes or one.outcome in outcomes) and len(found) < limit:
                found.append(one)
        return found

    def about(self, id: int) -> Past | None:
        """See Store."""
        self._must_own()
        end = self._journal.end(id)
        if not end:
            return None
        n, save = self._journal.ended[id][0], self._journal.job(id)
        sizes = len(end.result), len(end.log), -1 if end.outcome == DONE else len(save.payload)
        job = save.function, save.unique, save.priority, save.created, save.terms
        tried = 0 if end.number else max(self._journal.attempts.get(id, ()), default=0)
        return Past._make((n, id, *job, *end[1:6], end.cut, *end[9:15], *sizes, save.reducer, tried))

    def attempts(self, id: int) -> list[Attempt]:
        """See Store."""
        self._must_own()
        return [attempt for _, attempt in sorted(self._journal.attempts.get(id, {}).items())]

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


_PUT: dict[type, Callable[[MemoryStore, Any], None]] = {
    Expire: lambda store, change: store._expire(change),  # a test's own store may do it in its own way
    Progress: MemoryStore._progress,
    Attempt: MemoryStore._attempt,
    Usage: MemoryStore._used,
    Revive: MemoryStore._revive,
    Purge: MemoryStore._purge,
    Setting: MemoryStore._setting,
    UniqueUntil: MemoryStore._unique_until,
    CronRow: MemoryStore._cron_row,
    CronGone: MemoryStore._cron_gone,
}
