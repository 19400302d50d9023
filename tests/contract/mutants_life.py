"""Broken stores for tests/contract/suite_life.py: each ignores or mistakes one thing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
from farm.store.memory import MemoryJournal, MemoryStore


class Mutant(MemoryStore):
    """A store of the test's own, for its parts are broken one at a time."""

    def __init__(self, journal: MemoryJournal) -> None:
        super().__init__(journal)
        self.journal = journal


def _ignores(kind: type) -> type[Mutant]:
    def apply(self: Mutant, changes: Sequence[Change]) -> None:
        MemoryStore.apply(self, [change for change in changes if not isinstance(change, kind)])

    return type(f"Ignores{kind.__name__}", (Mutant,), {"apply": apply, "__doc__": f"No {kind.__name__} is kept."})


IGNORING = [
    _ignores(kind) for kind in (Progress, Attempt, Usage, Revive, Purge, Setting, UniqueUntil, CronRow, CronGone)
]


class ForgetsTerms(Mutant):
    """Jobs have none."""

    def apply(self, changes: Sequence[Change]) -> None:
        super().apply([change._replace(terms=b"") if isinstance(change, Save) else change for change in changes])


class KeepsProgress(Mutant):
    """It outlives its job."""

    def apply(self, changes: Sequence[Change]) -> None:
        super().apply(changes)
        self.journal.progress |= {change.id: change for change in changes if isinstance(change, Progress)}


class FirstProgress(Mutant):
    """What comes later is not believed."""

    def apply(self, changes: Sequence[Change]) -> None:
        there = self.journal.progress
        super().apply([change for change in changes if not (isinstance(change, Progress) and change.id in there)])


class KeepsAttempts(Mutant):
    """They outlive their job, or were there before it."""

    def __init__(self, journal: MemoryJournal) -> None:
        super().__init__(journal)
        self.all: dict[int, list[Attempt]] = {}

    def apply(self, changes: Sequence[Change]) -> None:
        super().apply(changes)
        for change in changes:
            if isinstance(change, Attempt):
                self.all.setdefault(change.id, []).append(change)

    def attempts(self, id: int) -> list[Attempt]:
        return self.all.get(id, [])


class AttemptsAreFree(Mutant):
    """They do not count in what is kept."""

    def apply(self, changes: Sequence[Change]) -> None:
        super().apply(changes)
        self.journal.ended_size = sum(Finish._make(end).size for _, _, end, _ in self.journal.ended.values())


class UsageOfTheNewest(Mutant):
    """Whichever attempt it is of."""

    def apply(self, changes: Sequence[Change]) -> None:
        for change in changes:
            if isinstance(change, Usage) and change.id in self.journal.ended:
                change = change._replace(number=Finish._make(self.journal.ended[change.id][2]).number)
            super().apply([change])


class RevivesAll(Mutant):
    """Also what was done, and of which no payload is kept."""

    def apply(self, changes: Sequence[Change]) -> None:
        for change in changes:
            if isinstance(change, Revive) and change.id in self.journal.ended:
                n, size, end, was = self.journal.ended[change.id]
                failed = Finish._make(end)._replace(outcome="failed")
                self.journal.ended[change.id] = n, size, tuple(failed), was
            super().apply([change])


class RevivesLast(Mutant):
    """After all else of its batch."""

    def apply(self, changes: Sequence[Change]) -> None:
        super().apply(sorted(changes, key=lambda change: isinstance(change, Revive)))


class ExpiresAllAlike(Mutant):
    """However long a job said that it is to be kept."""

    def apply(self, changes: Sequence[Change]) -> None:
        super().apply([change._replace(keep_s=-1.0) if isinstance(change, Finish) else change for change in changes])


class KeepsKeys(Mutant):
    """For ever."""

    def _expire(self, change: Expire) -> None:
        keys = self.journal.keys
        super()._expire(change)
        self.journal.keys = keys


class ForgetsCronPayloads(Mutant):
    """When nothing is said of them."""

    def known(self) -> Iterator[Known]:
        return (row._replace(payload=None) if isinstance(row, CronRow) else row for row in super().known())


class _Past(Mutant):
    """Not a mutant itself: what is asked for is not what is told."""

    ignored: dict[str, Any]

    def past(self, limit: int, *args: Any, **which: Any) -> list[Past]:
        return super().past(limit, *args, **{**which, **self.ignored})


PAST = [
    type(
        f"PastIgnores{name.title()}", (_Past,), {"ignored": {name: value}, "__doc__": f"Whatever {name} is asked for."}
    )
    for name, value in {"before": 0, "function": b"", "outcomes": (), "since": 0.0}.items()
]


class PastForgetsAttempts(Mutant):
    """What its end does not say."""

    def about(self, id: int) -> Past | None:
        one = super().about(id)
        return one and one._replace(tried=0)


class PastOldestFirst(Mutant):
    """In order."""

    def past(self, *args: Any, **which: Any) -> list[Past]:
        return super().past(*args, **which)[::-1]


class AllIds(Mutant):
    """Whichever are asked for."""

    def ended_ids(self, first: int, last: int, limit: int) -> list[int]:
        return super().ended_ids(0, 1 << 63, limit)
