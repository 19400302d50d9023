"""Cron through many fates: time passes, clocks jump, the server is killed around its commits, workers do or do not end
their jobs. What has happened is judged from the journal by plain arithmetic, and rules that are broken on purpose must
be noticed.

There is one entry for each way to overlap, each at every fifth minute of UTC; the arithmetic knows no schedule. A seed
is one story.
"""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from farm.broker import cron, crons, restart
from farm.broker.cron import ALL, LAST, NONE, QUEUE, REPLACE, SKIP, Entry, Submit
from farm.broker.effects import Save
from farm.broker.job import handle_of
from farm.protocol import packets as p
from farm.protocol.packets import request
from tests.unit.bench_life import WALL, Asker, Life, completes, fails

EVERY_S = 300.0
STEPS = 60
SEEDS = range(60)
WAYS = {"skip": NONE, "queue": ALL, "replace": LAST}  # the entry's name, function and overlap: how it catches up
JUMP_MAX_S = 2400.0  # fewer times than an entry remembers runs


class Wrong(Exception):
    """What must not be."""


class Entries:
    """What has to be true of one entry, whatever happens. decided: the newest time that came. horizon: times up to then
    do not come any more."""

    def __init__(self, overlap: str, wall: float) -> None:
        self.overlap = overlap
        self.paused = False
        self.horizon = wall
        self.decided = 0.0
        self.jobs: dict[float, str] = {}
        self.skipped: set[float] = set()
        self.handles: set[str] = set()

    def look(self, wall: float) -> list[float]:
        """The clock shows this, and the server has looked at it. Returns the times that came."""
        if self.paused:
            return []
        came = []
        time = (self.horizon // EVERY_S + 1) * EVERY_S
        while time <= wall:
            came.append(time)
            time += EVERY_S
        self.horizon = max(self.horizon, wall)
        self.decided = max(self.decided, *came[-1:], 0.0)
        return came

    def read(self, runs: list[dict[str, Any]]) -> None:
        """Its newest runs, as the server tells them."""
        for run in reversed(runs):
            at, id = run["at"], run["id"]
            if id is None:
                self.skipped.add(at)
            elif self.jobs.get(at, id) != id:
                raise Wrong(f"{self.overlap}: two jobs for {at:.0f}")
            else:
                self.jobs[at] = id
                self.handles.add(id)


class Fate:
    """A server, and what becomes of it."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.life = Life(now=-WALL % EVERY_S)
        self.client: Asker = self.life.farm_client()
        self.offset = WALL
        self.known = {overlap: Entries(overlap, self.wall) for overlap in WAYS}
        for overlap, catch_up in WAYS.items():
            asked = {"name": overlap, "line": "*/5 * * * *", "function": overlap, "overlap": overlap}
            self.client.ask("cron add", **asked, catch_up=catch_up)
        self.saved: set[str] = set()
        self.worker = self.life.farm_worker(*(name.encode() for name in WAYS))
        self.held: list[bytes] = []

    @property
    def wall(self) -> float:
        return self.life.now + self.offset

    def tell(self) -> None:
        """The whole story. Raises Wrong."""
        events = (self.wait, self.wait, self.jump, self.work, self.work, self.end, self.die, self.pause)
        for _ in range(STEPS):
            self.rng.choice(events)()
            self.judge()

    # -- what happens

    def wait(self) -> None:
        until = self.life.now + self.rng.choice((1.0, 59.0, 300.0, 1000.0))
        while self.life.now < until:  # as the server does: it looks at its clock once a second at the least
            deadline = self.life.broker.next_deadline()
            self.life.now = min(until, max(self.life.now, until if deadline is None else deadline))
            self.tick()

    def jump(self) -> None:
        """The clock is set while the server runs."""
        self.offset += self.rng.choice((-7200.0, -400.0, -90.0, 90.0, 400.0, JUMP_MAX_S))
        self.tick()

    def tick(self, keep: bool = True) -> None:
        self.life.broker.wall_offset = self.offset
        self.life.broker.tick(self.life.now)
        if keep:
            self.life.turn()
            self.judge()

    def work(self) -> None:
        self.worker.send(request(p.GRAB_JOB))
        for packet in self.worker.received():
            if int.from_bytes(packet[4:8], "big") == p.JOB_ASSIGN:
                self.held.append(packet[12:].partition(b"\0")[0])

    def end(self) -> None:
        if self.held:
            handle = self.held.pop(self.rng.randrange(len(self.held)))
            if self.rng.random() < 0.5:
                completes(self.worker, handle)
            else:
                fails(self.worker, handle, 1)

    def die(self) -> None:
        """kill -9: before what was decided in this moment is kept, or after; the next life begins at once or later."""
        self.life.now += self.rng.choice((0.0, 300.0))
        self.tick(keep=self.rng.random() < 0.5)
        self.life.now += self.rng.choice((0.0, 30.0, 900.0))
        self.life = Life(journal=self.life.journal, now=self.life.now)
        self.client = self.life.farm_client()
        self.worker = self.life.farm_worker(*(name.encode() for name in WAYS))
        self.held = []
        self.tick()

    def pause(self) -> None:
        known = self.rng.choice(list(self.known.values()))
        known.paused = not known.paused
        if not known.paused:
            known.horizon = max(known.decided, self.wall)
        self.client.ask("cron pause" if known.paused else "cron resume", name=known.overlap)

    # -- what must be so

    def judge(self) -> None:
        entries = {entry["name"]: entry for entry in self.client.ask("cron")["entries"]}
        for name, known in self.known.items():
            before = set(known.jobs)
            came = known.look(self.wall)
            known.read(entries[name]["last"])
            self.judge_times(known, came, sorted(set(known.jobs) - before))
            self.judge_live(known)
        self.judge_journal()

    def judge_times(self, known: Entries, came: list[float], new: list[float]) -> None:
        if not set(new) <= set(came):
            raise Wrong(f"{known.overlap}: jobs for {new}, and {came} came")
        if came and came[-1] not in known.jobs and came[-1] not in known.skipped:
            raise Wrong(f"{known.overlap}: nothing became of {came[-1]:.0f}")
        if known.overlap == QUEUE and new != came:
            raise Wrong(f"not all was made up for: {new} of {came}")
        if known.overlap == REPLACE and new != came[-1:]:
            raise Wrong(f"not the last was made up for: {new} of {came}")
        if known.overlap == SKIP and new and (new != came[-1:] or self.wall - new[0] > 60):
            raise Wrong(f"too late: {new} at {self.wall}")

    def judge_live(self, known: Entries) -> None:
        jobs = [job for job in self.life.broker.jobs.values() if job.function.name == known.overlap.encode()]
        live = [job for job in jobs if not (job.course and job.course.ended)]
        if known.overlap != QUEUE and len(live) > 1:
            raise Wrong(f"{known.overlap}: {len(live)} jobs live")
        if sum(job.state != "waiting" for job in live) > 1:
            raise Wrong(f"{known.overlap}: two jobs could run at once")

    def judge_journal(self) -> None:
        """Every job that was ever kept belongs to a time."""
        self.saved |= {handle_of(change.id).decode() for change in self.life.changes if isinstance(change, Save)}
        known = set().union(*(known.handles for known in self.known.values()))
        if self.saved != known:
            raise Wrong(f"jobs without a time: {self.saved - known}; times without a job: {known - self.saved}")


@pytest.mark.parametrize("seed", SEEDS)
def test_a_fate_ends_well(seed: int) -> None:
    Fate(seed).tell()


# -- rules broken on purpose


def _forget_what_lives(broker: Any, saved: Save, now: float, really: Any = restart.restore) -> None:
    really(broker, saved, now)
    for entry in broker.crons.entries.values():
        entry.live = []


def _keep_nothing_but_what_is_asked(broker: Any, entry: Entry, payload: bool = False, really: Any = crons.keep) -> None:
    if payload:
        really(broker, entry, payload)


def _plan_by_the_clock_alone(entry: Entry, wall: float) -> None:
    assert entry.schedule is not None
    entry.next = None if entry.paused else entry.schedule.next_after(wall)


def _want_the_last_always(catch_up: str, times: list[float], wall: float) -> list[float]:
    return times if catch_up == ALL else times[-1:]


def _want_what_is_now(catch_up: str, times: list[float], wall: float) -> list[float]:
    return [time for time in times if wall - time <= cron.LATE_MAX_S]


def _at_once(times: list[float], live: list[bytes], wall: float) -> list[cron.Action]:
    return [Submit(time) for time in times]


def _pause_without_a_plan(broker: Any, entry: Entry, paused: bool, now: float) -> None:
    entry.paused = paused
    crons.keep(broker, entry)


MUTANTS: dict[str, tuple[Any, str, Any]] = {
    "what lives is forgotten with a restart": (restart, "restore", _forget_what_lives),
    "what was decided is not kept": (crons, "keep", _keep_nothing_but_what_is_asked),
    "a clock set back is followed": (Entry, "plan", _plan_by_the_clock_alone),
    "none makes up for the last": (cron, "_wanted", _want_the_last_always),
    "nothing is made up for": (cron, "_wanted", _want_what_is_now),
    "skip does not look": (cron, "_OVERLAPPING", {**cron._OVERLAPPING, SKIP: _at_once}),
    "queue does not wait": (cron, "_OVERLAPPING", {**cron._OVERLAPPING, QUEUE: _at_once}),
    "replace leaves the earlier one": (cron, "_OVERLAPPING", {**cron._OVERLAPPING, REPLACE: _at_once}),
    "a pause stops nothing": (crons, "pause", _pause_without_a_plan),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_rule_is_noticed(name: str) -> None:
    owner, attribute, mutant = MUTANTS[name]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, attribute, mutant)
        with pytest.raises(Wrong):
            tell_all()


def tell_all() -> None:
    for seed in SEEDS:
        Fate(seed).tell()
