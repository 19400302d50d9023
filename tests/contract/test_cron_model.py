"""Cron beside a model: the machine of test_broker_model, in which entries are made and the clock is set as well."""

from __future__ import annotations

import json
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule, run_state_machine_as_test

from farm.broker import dispatch
from farm.broker.broker import Broker
from farm.protocol import packets as p
from tests.contract.model_cron import PAYLOAD, CronModel, Entry
from tests.contract.test_broker_model import CLIENTS, RULES, SETTINGS, WALL, Life, functions, indices, longer
from tests.sim.mutants import MUTANTS, Mutant

LINES = {60: "* * * * *", 300: "*/5 * * * *"}
AHEAD_S = 10_000_000.0  # so that no time is before 0, which means none, however often the clock is set back
JUMPS_S = (-100_000.0, -7200.0, -90.0, 45.0, 90.0, 400.0, 3700.0)

Wanted = tuple[int, bytes, bytes, str, str]
entries = st.tuples(
    st.sampled_from(tuple(LINES)),
    functions,
    st.sampled_from((b"", b"", b"k")),
    st.sampled_from(("skip", "queue", "replace")),
    st.sampled_from(("none", "last", "all")),
).filter(lambda wanted: wanted[4] != "all" or (wanted[3] != "replace" and wanted[0] == 300))


class CronLife(Life):
    """See Life."""

    model: CronModel

    def _make_model(self) -> CronModel:
        made = CronModel(RULES.losses_max, WALL)
        made.jumped = AHEAD_S
        return made

    # -- what is asked

    @rule(name=st.sampled_from(("a", "b")), wanted=entries, replaces=st.booleans())
    def somebody_adds_an_entry(self, name: str, wanted: Wanted, replaces: bool) -> None:
        entry = Entry(*wanted, created=self.model.wall, after=self.model.wall)
        fields = {
            "name": name,
            "line": LINES[entry.every],
            "function": entry.function.decode(),
            "unique": entry.unique.decode(),
            "overlap": entry.overlap,
            "catch_up": entry.catch_up,
            "replace": replaces,
        }
        number, _ = self._command("cron add", PAYLOAD, **fields)
        taken = self.model.add_entry(name, entry, replaces)
        assert (number == p.FARM_ANSWER) == taken
        self._turn()

    @precondition(lambda self: self.model.crons)
    @rule(index=indices, verb=st.sampled_from(("pause", "resume", "run", "run", "remove")))
    def somebody_changes_an_entry(self, index: int, verb: str) -> None:
        self.commit()
        names = sorted(self.model.crons)
        name = names[index % len(names)]
        entry = self.model.crons[name]
        number, answer = self._command(f"cron {verb}", name=name)
        if verb == "run":
            handle = answer["id"].encode() if number == p.FARM_ANSWER else b""
            assert self.model.run_entry(name, handle) == (handle or None)
        elif verb == "remove":
            del self.model.crons[name]
        else:
            self.model.pause_entry(entry, verb == "pause")
        self._turn()

    @precondition(lambda self: self.model.crons)
    @rule(index=indices, then=st.sampled_from(("", "", "restart", "add anew")), late=st.sampled_from((30.0, 700.0)))
    def a_run_of_an_entry_is_run_again(self, index: int, then: str, late: float) -> None:
        """It fails, and when its entry's time comes it is there again."""
        names = sorted(self.model.crons)
        name = names[index % len(names)]
        entry = self.model.crons[name]
        self.somebody_changes_an_entry(index, "run")
        self.everybody_grabs(None)
        runs = [job for job in self._held() if job.cron == name and self._lives(job.handle)]
        for job in runs:
            self._end(job, False)
        self.commit()
        for job in runs:
            if job.handle in self.model.ended:
                self._run_again(job.handle)
        if then == "restart":
            self.restart(False)
        elif then and name in self.model.crons:
            self.somebody_changes_an_entry(index, "remove")
            wanted = entry.every, entry.function, entry.unique, entry.overlap, entry.catch_up
            self.somebody_adds_an_entry(name, wanted, False)
        self.the_time_of_an_entry_comes(late)

    @precondition(lambda self: self.model.crons)
    @rule(late=st.sampled_from((30.0, 61.0)))
    def runs_queue_up_and_one_is_cancelled(self, late: float) -> None:
        """Those behind it wait for whom it waited for."""
        for _ in range(3):
            self.the_time_of_an_entry_comes(late)
            self.everybody_grabs(None)
        live = [handle for entry in self.model.crons.values() for handle in entry.live]
        waiting = [handle for handle in live if handle in self.model.jobs and self.model.jobs[handle].after]
        if len(waiting) > 1:
            self._cancel(waiting[0], True)

    @precondition(lambda self: self.model.crons)
    @rule(index=indices, late=st.sampled_from((30.0, 100.0, 700.0)))
    def an_entrys_time_passes_while_it_is_paused(self, index: int, late: float) -> None:
        ahead = self._ahead()
        if ahead is not None:
            self.somebody_changes_an_entry(index, "pause")
            self.somebody_sets_the_clock(ahead + late)
            self.somebody_changes_an_entry(index, "resume")
            self.time_passes(1.0)

    def _command(self, verb: str, payload: bytes = b"", **fields: object) -> tuple[int, Any]:
        body = b"\0".join((verb.encode(), json.dumps(fields).encode(), payload))
        dispatch.receive(self.broker, self._peer(CLIENTS[0]), p.FARM_ASK, body, self.now)
        number, answer = self._reply(CLIENTS[0], p.FARM_ANSWER, p.ERROR)
        return number, json.loads(answer.partition(b"\0")[2]) if number == p.FARM_ANSWER else None

    # -- the clock

    @precondition(lambda self: self.model.crons)
    @rule(seconds=st.sampled_from(JUMPS_S))
    def somebody_sets_the_clock(self, seconds: float) -> None:
        self.model.jumped += seconds
        self.broker.wall_offset = WALL + self.model.jumped
        self._tick()

    @precondition(lambda self: self.model.crons)
    @rule(late=st.sampled_from((-0.5, 30.0, 61.0, 100.0, 700.0)))
    def the_time_of_an_entry_comes(self, late: float) -> None:
        ahead = self._ahead()
        if ahead is not None:
            self.somebody_sets_the_clock(ahead + late)
            self.time_passes(1.0)

    @precondition(lambda self: self.model.crons)
    @rule(early=st.sampled_from((0.5, 3.0)), killed=st.booleans())
    def a_restart_at_the_time_of_an_entry(self, early: float, killed: bool) -> None:
        """Just before it, or just after it and before that is durable."""
        ahead = self._ahead()
        if ahead is not None:
            self.somebody_sets_the_clock(ahead - early)
            self.time_passes(1.0)
            self.restart(killed)
            self.time_passes(5.0)

    def _ahead(self) -> float | None:
        """How long until the next time of any entry, unless that is not for hours."""
        times = [time for entry in self.model.crons.values() if (time := entry.next(WALL)) is not None]
        ahead = min(times, default=0.0) - WALL - self.model.wall
        return ahead if 0 < ahead < 3600 else None

    def _entries_come(self) -> None:
        new = [handle for handle in self.broker.jobs if handle not in self.model.handles]
        chosen = iter(new)
        order = [name for name in self.broker.crons.entries if name in self.model.crons]
        self.model.entries_come(order, chosen)
        assert not list(chosen), "more jobs than times"

    # -- what must be so after every step

    @invariant()
    def entries_are_those_of_the_model(self) -> None:
        found = {name: (entry.paused, entry.next) for name, entry in self.broker.crons.entries.items()}
        assert found == {name: (entry.paused, entry.next(WALL)) for name, entry in self.model.crons.items()}


def test_cron_is_as_the_model() -> None:
    run_state_machine_as_test(CronLife, settings=settings(SETTINGS, max_examples=200))


@pytest.mark.slow
def test_cron_is_as_the_model_for_long() -> None:
    run_state_machine_as_test(CronLife, settings=longer(500))


NAMES = (
    "a clock set back runs times again",
    "resumed, it runs again what it ran",
    "an entry waits for a clock that was wrong",
    "an entry starts afresh for an hour",
    "that a time is decided about is not kept",
    "it is kept after the job",
    "what is two minutes old is not missed",
    "catch-up none makes up for the last",
    "catch-up last makes up for nothing",
    "catch-up all makes up for the last",
    "what is caught up with runs at once",
    "overlap skip does not look",
    "overlap queue does not wait",
    "overlap replace leaves the earlier job",
    "a job that has ended overlaps",
    "overlaps are ignored after a restart",
    "a job that is run again is none of its entry's",
    "run again, it is its entry's until a restart",
    "those that wait do not wait for one that is run again",
    "one runs early when the one before is cancelled",
    "one runs beside what is run again",
    "an entry that is added anew knows nothing of its jobs",
    "what was missed is forgotten at a restart",
    "a pause is forgotten at a restart",
    "a removed entry is back after a restart",
    "a replaced entry knows nothing of its jobs",
    "times while it was paused are missed",
    "a removed entry takes its jobs along",
    "run by hand, it does not run at its time",
)
QUICK = ("a clock set back runs times again", "overlap skip does not look", "overlaps are ignored after a restart")


@pytest.mark.parametrize(
    "mutant",
    [
        pytest.param(mutant, id=mutant.name, marks=() if mutant.name in QUICK else pytest.mark.slow)
        for mutant in MUTANTS
        if mutant.name in NAMES
    ],
)
def test_a_broken_rule_is_noticed(mutant: Mutant) -> None:
    hunt = settings(SETTINGS, max_examples=6000, phases=[Phase.generate], report_multiple_bugs=False)
    with mutant.applied(), patch.object(Broker, "check", lambda self: None), pytest.raises(Exception):  # noqa: B017, PT011
        run_state_machine_as_test(CronLife, settings=hunt)


def test_every_mutant_that_is_named_is_there() -> None:
    assert {mutant.name for mutant in MUTANTS} >= set(NAMES) >= set(QUICK)
