"""The conformance suite over every store, and over broken stores, which it must catch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from farm.broker.effects import Change, Expire, Save
from farm.store.memory import MemoryJournal, MemoryStore
from farm.store.sqlite import SqliteStore
from tests.contract import suite, suite_life
from tests.contract.mutants_life import PAST, Mutant, _Past
from tests.contract.suite import NewStore

CHECKS = suite.CHECKS | suite_life.CHECKS


def memory(directory: Path) -> NewStore:
    """A MemoryJournal outlives its stores."""
    journal = MemoryJournal()
    return lambda: MemoryStore(journal)


class Unlocked(SqliteStore):
    """The fence has to hold also where the lock does not: somebody removed its file, or a network disk has no locks."""

    def _take_lock(self) -> None:
        pass


def sqlite(directory: Path) -> NewStore:
    """Stores in the same directory."""
    return lambda: Unlocked(str(directory / "store"))


# name -> a fresh journal in this directory. A new store needs one line here.
STORES: dict[str, Callable[[Path], NewStore]] = {"memory": memory, "sqlite": sqlite}


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("check", CHECKS)
def test_store(check: str, store: str, tmp_path: Path) -> None:
    CHECKS[check](STORES[store](tmp_path))


# -- broken stores


class ForgetsToFence(Mutant):
    """A former owner may go on."""

    def apply(self, changes: Sequence[Change]) -> None:
        if self._shard:
            self._shard = self.journal.shard
        super().apply(changes)


class FencesTooLate(Mutant):
    """It writes first and looks afterwards."""

    def apply(self, changes: Sequence[Change]) -> None:
        mine, self._shard = self._shard, self._shard and self.journal.shard
        super().apply(changes)
        self._shard = mine
        self._must_own()


class AppliesPartially(Mutant):
    """One change after the other, with nothing that holds them together."""

    def apply(self, changes: Sequence[Change]) -> None:
        for change in changes:
            super().apply([change])


class LoadsBackwards(Mutant):
    """The newest first."""

    def load(self) -> Iterator[Save]:
        return iter(list(super().load())[::-1])


class LoadsInOrderOfArrival(Mutant):
    """As it was saved, not by id."""

    def load(self) -> Iterator[Save]:
        self._must_own()
        return iter(list(self.journal.jobs.values()))


class ForgetsNothing(Mutant):
    """What has ended comes back."""

    def apply(self, changes: Sequence[Change]) -> None:
        super().apply([change for change in changes if isinstance(change, Save)])


class SavesFirst(Mutant):
    """It sorts a batch: all saves, then all forgets."""

    def apply(self, changes: Sequence[Change]) -> None:
        super().apply(sorted(changes, key=lambda change: not isinstance(change, Save)))


class SavesOver(Mutant):
    """The last payload wins."""

    def apply(self, changes: Sequence[Change]) -> None:
        super().apply(changes)
        self.journal.jobs.update({change.id: change for change in changes if isinstance(change, Save)})


class RepeatsShards(Mutant):
    """It counts from the beginning after a restart."""

    def open(self) -> int:
        self.journal.shard = 0
        return super().open()


class NeverRefuses(Mutant):
    """It opens itself when nobody has."""

    def _must_own(self) -> None:
        if not self._shard:
            self.open()
        super()._must_own()


class StaysOpen(Mutant):
    """Closing does not close."""

    def close(self) -> None:
        pass


class KeepsUntilClosed(Mutant):
    """It writes only when it is closed in good order."""

    def __init__(self, journal: MemoryJournal) -> None:
        super().__init__(journal)
        self.waiting: list[Change] = []

    def apply(self, changes: Sequence[Change]) -> None:
        self._must_own()
        self.waiting += changes

    def close(self) -> None:
        if self._shard == self.journal.shard:
            super().apply(self.waiting)
        super().close()


class CutsAtNul(Mutant):
    """It takes payloads for text."""

    def load(self) -> Iterator[Save]:
        return (save._replace(payload=save.payload.partition(b"\0")[0]) for save in super().load())


class KeyedByUnique(Mutant):
    """One row for each unique key, as gearmand's queues have."""

    def apply(self, changes: Sequence[Change]) -> None:
        super().apply(changes)
        rows = {(job.function, job.unique): job for job in self.journal.jobs.values()}
        self.journal.jobs = {job.id: job for job in rows.values()}


class ClosingFences(Mutant):
    """A former owner that leaves takes the present one along."""

    def close(self) -> None:
        if self._shard:
            self.journal.shard += 1
        super().close()


class ClosesOnce(Mutant):
    """Closing what is closed, or never was open, is an error."""

    def close(self) -> None:
        self._must_own()
        super().close()


class StartsUsed(Mutant):
    """A new journal is not empty."""

    def open(self) -> int:
        self.journal.jobs.setdefault(0, Save(0, b"f", b"", 1, b"example"))
        return super().open()


class WantsWork(Mutant):
    """An empty batch is an error."""

    def apply(self, changes: Sequence[Change]) -> None:
        super().apply([changes[0], *changes[1:]])


class ExpiresNothing(Mutant):
    """It grows for ever."""

    def apply(self, changes: Sequence[Change]) -> None:
        super().apply([change for change in changes if not isinstance(change, Expire)])


class ExpiresUpToTheFuture(Mutant):
    """The first end that is not too old ends it, whatever it says."""

    def apply(self, changes: Sequence[Change]) -> None:
        super().apply([change._replace(now=math.inf) if isinstance(change, Expire) else change for change in changes])


class ExpiresByAgeOnly(Mutant):
    """Any amount may be kept."""

    def apply(self, changes: Sequence[Change]) -> None:
        super().apply(
            [change._replace(size_max=1 << 40) if isinstance(change, Expire) else change for change in changes]
        )


class GivesNoWay(Mutant):
    """New jobs are refused for the sake of old results."""

    def apply(self, changes: Sequence[Change]) -> None:
        super().apply([change._replace(room=0) if isinstance(change, Expire) else change for change in changes])


class GivesWayOfAll(Mutant):
    """The oldest goes, whatever it is."""

    def _expire(self, change: Expire) -> None:
        super()._expire(change._replace(size_max=max(0, self._journal.ended_size - change.room)))
        self.gave_way |= change.room > 0


class KnowsOnlyItsOwnLife(Mutant):
    """What an earlier owner has kept is forgotten, and never looked at again."""

    def open(self) -> int:
        self.there = set(self.journal.ended)
        return super().open()

    def keeps(self) -> bool:
        return bool(self.journal.ended.keys() - self.there)


MUTANTS: list[type[Mutant]] = sorted({*Mutant.__subclasses__(), *PAST} - {_Past}, key=lambda mutant: mutant.__name__)


def broken(mutant: type[Mutant]) -> Callable[[], NewStore]:
    """What makes journals for this mutant."""

    def new_journal() -> NewStore:
        journal = MemoryJournal()
        return lambda: mutant(journal)

    return new_journal


def faults(new_journal: Callable[[], NewStore]) -> list[str]:
    """The names of the checks that a store does not pass."""
    found = []
    for name, check in CHECKS.items():
        try:
            check(new_journal())
        except (Exception, pytest.fail.Exception):  # noqa: BLE001 - whatever it is, it was noticed
            found.append(name)
    return found


@pytest.mark.parametrize("mutant", MUTANTS)
def test_the_suite_catches(mutant: type[Mutant]) -> None:
    sound = faults(lambda: memory(Path()))
    assert set(faults(broken(mutant))) - set(sound), mutant.__doc__


def test_every_check_catches_something() -> None:
    """A check that no broken store fails proves nothing."""
    caught = {name for mutant in MUTANTS for name in faults(broken(mutant))}
    assert set(CHECKS) - caught == set()
