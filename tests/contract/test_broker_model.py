"""The rules over a real SQLite store, beside a model of dicts and deques: any steps in any order, with commits, crashes
and new lives between them. The simulator (tests/sim) tells longer stories, with wires, over a simulated disk.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from farm.broker import dispatch
from farm.broker.broker import Broker, Rules
from farm.broker.effects import Effects
from farm.broker.job import HIGH, LOW, MOVES, NORMAL, Job
from farm.broker.peer import Peer
from farm.errors import PacketRefused
from farm.protocol import packets as p
from farm.store.sqlite import SqliteStore
from tests.contract import model
from tests.contract.model import Model, id_of, key_of

RULES = Rules(losses_max=2, result_max=50, payload_memory_max=12)
SCRATCH = "/dev/shm" if os.path.isdir("/dev/shm") else None  # processes die here, the power does not fail
WALL = 1_000_000.0  # wall clock minus monotonic clock
WORKERS, CLIENTS = (1, 2, 3), (11, 12)  # peers' ids
FUNCTIONS = (b"f", b"g")

functions = st.sampled_from(FUNCTIONS)
workers = st.sampled_from(WORKERS)
indices = st.integers(0, 5)  # of one thing among those that there are
Wanted = tuple[int, bytes, bytes, int, bool, bytes, float]
jobs = st.tuples(
    st.sampled_from(CLIENTS),
    functions,
    st.sampled_from((b"", b"", b"k", b"l", b"-")),  # unique
    st.sampled_from((NORMAL, HIGH, LOW)),
    st.booleans(),  # background
    st.sampled_from((b"same", b"\0alike\xff", b"", b"0123456789")),  # payload
    st.sampled_from((0.0, 0.0, 0.0, 3.0)),  # delay in seconds
)

SETTINGS = settings(
    max_examples=300,
    stateful_step_count=50,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


class Life(RuleBasedStateMachine):
    """One server over several lives. A peer that has left is a new one when it is needed again."""

    moves: ClassVar[set[tuple[str, str]]] = set()  # that any machine made

    def __init__(self) -> None:
        super().__init__()
        self.scratch = tempfile.TemporaryDirectory(prefix="farm-model-", dir=SCRATCH)
        self.crashes = 0
        self.now = 100.0
        self.model = Model(RULES.losses_max)
        self.promised: list[bytes] = []  # handles that are to be acknowledged with the next commit
        self.acked: set[bytes] = set()
        self.store = SqliteStore(str(self._place()))
        self._start()

    def teardown(self) -> None:
        self.store.close()
        self.scratch.cleanup()

    def _place(self) -> Path:
        return Path(self.scratch.name) / f"store{self.crashes}"

    def _start(self) -> None:
        self.broker = Broker(self.store.open(), RULES)
        self.broker.wall_offset = WALL
        rows = list(self.store.load())
        assert [(row.id, row.function, row.unique, row.priority, row.payload, row.due) for row in rows] == [
            (id_of(job.handle), job.function, job.unique, job.priority, job.payload, job.due and job.due + WALL)
            for job in self.model.jobs.values()
        ]
        for row in rows:
            self.broker.restore(row, self.now)
        self._turn()

    def _turn(self) -> None:
        """What the server does with effects; here nothing is committed before a step says so."""
        effects, self.broker.effects = self.broker.effects, Effects()
        if effects.changes:
            self.store.write(effects.changes)
        for index in effects.promises:
            packet = effects.sends[index][1]
            assert isinstance(packet, bytes)
            self.promised.append(packet[12:])

    def _peer(self, id: int) -> Peer:
        return self.broker.peers.get(id) or self.broker.connect(id, id, "here")

    # -- clients

    @rule(wanted=st.lists(jobs, min_size=1, max_size=4))
    def submit(self, wanted: list[Wanted]) -> None:
        for client, function, unique, priority, background, payload, delay_s in wanted:
            due = self.now + delay_s if delay_s else 0.0
            key = key_of(function, unique, payload)
            joined = self.model.joinable.get(key) if key else None
            limit = self.model.functions.get(function, (0, 0, 0))[priority]
            full = joined is None and 0 < limit <= self.model.count(function)
            try:
                job = self.broker.submit(
                    self._peer(client),
                    function,
                    unique,
                    priority,
                    background,
                    payload,
                    self.now,
                    due=due and due + WALL,
                )
            except PacketRefused:
                assert full
                continue
            assert not full
            assert bool(self.broker.effects.promises) == background
            if joined is None:
                assert job.handle not in self.model.handles, "a handle was used before"
                joined = model.Job(job.handle, function, unique, payload, priority, background, due)
                self.model.add(joined, self.now)
                if background:
                    self.model.save(joined)
            elif background and not joined.background:
                self.model.save(joined)
            assert job.handle == joined.handle
            if not background and client not in joined.watchers:
                joined.watchers.append(client)
            self._turn()

    def _waiting(self) -> list[tuple[model.Job, int]]:
        return [(job, client) for job in self.model.jobs.values() for client in job.watchers]

    @precondition(_waiting)
    @rule(index=indices, leaves=st.booleans())
    def client_gives_up(self, index: int, leaves: bool) -> None:
        waiting = self._waiting()
        job, client = waiting[index % len(waiting)]
        if leaves:
            self.broker.disconnect(self._peer(client), self.now)
            for job in [job for job, watcher in waiting if watcher == client]:
                self.model.unwatch(job, client)
        else:
            assert self.broker.cancel(self._peer(client), job.handle, self.now) != b"unknown"
            self.model.unwatch(job, client)
        self._turn()

    # -- administrators

    @precondition(lambda self: self.model.jobs)
    @rule(index=indices)
    def administrator_cancels(self, index: int) -> None:
        job = list(self.model.jobs.values())[index % len(self.model.jobs)]
        assert self.broker.cancel_by_admin(job.handle, self.now) != job.abandoned
        if not job.abandoned:
            self.model.cancel(job)
        self._turn()

    @rule(function=functions, limit=st.sampled_from((None, 0, 1, 3)))
    def administrator_limits_or_drops(self, function: bytes, limit: int | None) -> None:
        known = self.model.functions
        if limit is None:
            line = b"drop function " + function
            able = any(function in abilities for abilities in self.model.abilities.values())
            if not able and not self.model.count(function):
                known.pop(function, None)
        else:
            line = b"maxqueue %s %d" % (function, limit)
            if function in known:
                known[function] = (limit, limit, limit)
        dispatch.receive(self.broker, self._peer(99), p.TEXT, line, self.now)
        self._turn()

    # -- workers

    @initialize()
    def somebody_works(self) -> None:
        for function in FUNCTIONS:
            self.worker_changes(WORKERS[0], function, 0.0)

    @rule(worker=workers, function=functions, timeout_s=st.sampled_from((0.0, 2.0, 2.0, None)))
    def worker_changes(self, worker: int, function: bytes, timeout_s: float | None) -> None:
        if timeout_s is None:
            self.broker.cannot_do(self._peer(worker), function, self.now)
            self.model.abilities.get(worker, {}).pop(function, None)
        else:
            self.broker.can_do(self._peer(worker), function, timeout_s, self.now)
            self.model.abilities.setdefault(worker, {})[function] = timeout_s
            self.model.functions.setdefault(function, (0, 0, 0))
        self._turn()

    @rule(worker=workers, times=st.integers(1, 3), sleeps=st.booleans())
    def grab(self, worker: int, times: int, sleeps: bool) -> None:
        for _ in range(times):
            self._grab(worker)
        if sleeps:
            self.broker.pre_sleep(self._peer(worker), self.now)
        self._turn()

    def _grab(self, worker: int) -> None:
        dispatch.receive(self.broker, self._peer(worker), p.GRAB_JOB, b"", self.now)
        abilities = self.model.abilities.get(worker, {})
        firsts = [line[0] for line in self.model.queues.values() if line and line[0].function in abilities]
        highest = min((job.priority for job in firsts), default=0)
        best = [job for job in firsts if job.priority == highest]
        held = self.model.held.setdefault(worker, [])
        given = set(self._peer(worker).holds) - {job.handle for job in held}
        assert len(given) == bool(best), f"{len(given)} jobs were given, and there were {len(best)} to choose from"
        for handle in given:
            assert handle in [job.handle for job in best], "not the first in line"
            job = self.model.jobs[handle]
            self.model.queue(job).popleft()
            job.worker = worker
            timeout_s = abilities[job.function]
            job.expires = self.now + timeout_s if timeout_s else 0.0
            held.append(job)
        self._turn()

    def _held(self) -> list[model.Job]:
        held = [job for jobs in self.model.held.values() for job in jobs]
        return sorted(held, key=lambda job: not job.abandoned)  # those are rare, and so come first

    @precondition(_held)
    @rule(index=indices, completed=st.booleans())
    def job_ends(self, index: int, completed: bool) -> None:
        held = self._held()
        job = held[index % len(held)]
        number = p.WORK_COMPLETE if completed else p.WORK_FAIL
        body = job.handle + (b"\0out" if completed else b"")
        dispatch.receive(self.broker, self._peer(job.worker), number, body, self.now)
        self.model.end(job, "done" if completed else "failed")
        self._turn()

    @precondition(_held)
    @rule(index=indices)
    def worker_dies(self, index: int) -> None:
        held = self._held()
        worker = held[index % len(held)].worker
        abilities = self.model.abilities.pop(worker, {})
        self.broker.disconnect(self._peer(worker), self.now)
        for job in reversed(list(self.model.held[worker])):
            self.model.lose(job)
        for function, timeout_s in abilities.items():  # and is started again
            self.worker_changes(worker, function, timeout_s)
        self._turn()

    @rule(seconds=st.sampled_from((1.0, 5.0)))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.broker.tick(self.now)
        self.model.pass_time(self.now)
        self._turn()

    # -- the store

    @rule()
    def commit(self) -> None:
        self.store.commit()
        self.model.commit()
        self.acked.update(self.promised)
        self.promised.clear()
        for handle, job in self.model.kept.items():
            assert self.store.payload(id_of(handle)) == job.payload
        for handle, outcome in self.model.ended.items():
            end = self.store.ended(id_of(handle))
            assert end is not None and end.outcome == outcome
        assert all(handle in self.model.kept or handle in self.model.ended for handle in self.acked)

    @rule(killed=st.booleans())
    def restart(self, killed: bool) -> None:
        """Where the process is killed, another one finds the files as they are, with a transaction open."""
        if killed:
            old = self._place()
            self.crashes += 1
            shutil.copytree(old, self._place())
        else:
            self.commit()
        self.store.close()
        self.store = SqliteStore(str(self._place()))
        self.promised.clear()
        self.model.crash(self.now)
        self._start()
        self.somebody_works()

    # -- what must be so after every step

    @invariant()
    def the_broker_is_sound(self) -> None:
        self.broker.check()

    @invariant()
    def jobs_are_those_of_the_model(self) -> None:
        found = {
            handle: (job.background, job.losses, job.worker.id if job.worker else 0, [peer.id for peer in job.watchers])
            for handle, job in self.broker.jobs.items()
        }
        assert found == {
            handle: (job.background, job.losses, job.worker, job.watchers) for handle, job in self.model.jobs.items()
        }

    @invariant()
    def lines_are_in_order(self) -> None:
        for name, function in self.broker.functions.items():
            for priority, queue in enumerate(function.queues):
                line = self.model.queues.get((name, priority), ())
                assert [job.handle for job in queue.waiting()] == [job.handle for job in line]

    @invariant()
    def functions_are_counted(self) -> None:
        assert {name: function.jobs for name, function in self.broker.functions.items()} == {
            name: self.model.count(name) for name in self.model.functions
        }

    @invariant()
    def the_same_can_be_joined(self) -> None:
        found = {job.handle for function in self.broker.functions.values() for job in function.coalescing.values()}
        assert found == {job.handle for job in self.model.joinable.values()}


@pytest.fixture(autouse=True)
def _moves_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    move = Job.move

    def counted(job: Job, event: str) -> None:
        Life.moves.add((job.state, event))
        move(job, event)

    monkeypatch.setattr(Job, "move", counted)


def test_the_rules_and_the_store_are_as_the_model() -> None:
    Life.moves.clear()
    run_state_machine_as_test(Life, settings=SETTINGS)
    assert Life.moves == set(MOVES), "a move of a job's life was never made"


@pytest.mark.slow
def test_the_rules_and_the_store_are_as_the_model_for_long() -> None:
    longer = settings(SETTINGS, max_examples=1000, stateful_step_count=100, derandomize=False, print_blob=True)
    run_state_machine_as_test(Life, settings=longer)
