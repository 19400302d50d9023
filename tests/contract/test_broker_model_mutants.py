"""What test_broker_model must notice: mutants of the simulator, and stores that are broken."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from unittest.mock import patch

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from farm.broker.broker import Broker
from farm.broker.effects import Change, Save
from farm.broker.job import Job
from farm.store.sqlite import SqliteStore
from tests.contract.test_broker_model import SETTINGS, Life
from tests.sim.mutants import MUTANTS, Mutant

_lose, _write, _load = Broker._lose, SqliteStore.write, SqliteStore.load


def _lose_count(broker: Broker, job: Job, now: float) -> None:
    _lose(broker, job, now)
    job.losses = 0


def _write_through(store: SqliteStore, changes: Sequence[Change]) -> None:
    _write(store, changes)
    store.commit()


def _write_no_end(store: SqliteStore, changes: Sequence[Change]) -> None:
    _write(store, [change for change in changes if isinstance(change, Save)])


def _load_unordered(store: SqliteStore) -> Iterator[Save]:
    return iter(sorted(_load(store), key=lambda save: (save.function, -save.id)))


NAMES = (
    "last in, first out",
    "requeued at the tail",
    "several jobs requeued backwards",
    "priority only within a function",
    "coalescing across functions",
    "an empty unique coalesces",
    "`-` is a key like others",
    "background joins foreground, not saved",
    "a client that leaves takes a background job",
    "a join of what is not durable is promised at once",
    "an abandoned job can be joined",
    "a handle is used twice",
    "handles start again after a restart",
    "a timeout never fires",
    "a job runs before its time",
    "a restart loses delayed jobs",
    "a cancelled background job is not forgotten",
    "maxqueue is ignored",
    "a job never fails for its lost workers",
    "a restored job has no key",
    "every end is a good one",
    "retries: one too many",
    "retries: one too few",
    "no pause before a retry",
    "a pause is never doubled",
    "a timed-out run is tried again at once",
    "attempts are forgotten over a restart",
    "failures are forgotten over a restart",
    "losses are forgotten over a restart",
    "a pause is forgotten over a restart",
    "poison one early",
    "poison never",
    "a failure is counted as a loss",
    "a failure is not written down",
    "a run's time limit never fires",
    "a run that took too long counts as lost",
    "nothing expires",
    "an expired job still runs",
    "a job that was tried expires",
    "only a queued job expires",
    "a dependent runs before its dependency",
    "a dependency that ended badly lets it run",
    "one of several dependencies is enough",
    "a chain is not carried on",
    "dependencies are lost over a restart",
    "an end missed before a restart is not made up for",
    "a cancelled job's dependents wait for ever",
    "if-exists skip submits",
    "replace leaves the old one",
    "a key is forgotten with its job",
    "a key is forgotten over a restart",
    "a cancelled running job comes back after a restart",
    "a done job is run again",
    "retry loses the payload",
    "a retried job is not stored",
    "a live job is purged",
    "a purged job is still known",
    "a paused function gives jobs",
    "a pause is not written down",
    "settings are lost over a restart",
    "a command that is being stopped holds up nobody",
    "a dependent runs beside the command that it waits for",
    "a new dependent runs beside the command that it waits for",
    "a job runs beside the command that had its key",
    "an attempt runs beside the one before",
    "an attempt that was lost runs on beside the next",
    "a command has no time to end",
    "a command that cannot be stopped holds up others for ever",
    "nobody hears that a command has been stopped",
    "a worker that left is still stopping its command",
)
BROKEN = (
    *(mutant for mutant in MUTANTS if mutant.name in NAMES),
    Mutant("attempts are forgotten", ((Broker, "_lose", _lose_count),)),
    Mutant("a commit does nothing", ((SqliteStore, "commit", lambda self: None),)),
    Mutant("what was only written is kept", ((SqliteStore, "write", _write_through),)),
    Mutant("the store drops ends", ((SqliteStore, "write", _write_no_end),)),
    Mutant("the store gives jobs back out of order", ((SqliteStore, "load", _load_unordered),)),
)


QUICK = (
    *("last in, first out", "coalescing across functions", "attempts are forgotten", "a commit does nothing"),
    *("retries: one too many", "a dependent runs before its dependency", "a paused function gives jobs"),
)
EACH = [pytest.param(each, id=each.name, marks=() if each.name in QUICK else pytest.mark.slow) for each in BROKEN]


@pytest.mark.parametrize("mutant", EACH)
def test_a_broken_rule_is_noticed(mutant: Mutant) -> None:
    # Of rare things in a row it takes some to meet one; it ends with the first that is wrong.
    hunt = settings(SETTINGS, max_examples=6000, phases=[Phase.generate], report_multiple_bugs=False)
    with mutant.applied(), patch.object(Broker, "check", lambda self: None), pytest.raises(Exception):  # noqa: B017, PT011
        run_state_machine_as_test(Life, settings=hunt)


def test_every_mutant_that_is_named_is_there() -> None:
    assert len(BROKEN) == len(NAMES) + 5
