"""The rules over a real SQLite store, beside a model of dicts and deques: any steps in any order, with commits, crashes
and new lives between them. The simulator (tests/sim) tells longer stories, with wires, over a simulated disk.
"""

from __future__ import annotations

import functools
import json
import os
import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, NamedTuple
from unittest.mock import patch

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

from farm.broker import dispatch, giving_up, restart
from farm.broker.broker import Broker, Rules
from farm.broker.effects import Effects
from farm.broker.job import HIGH, LOW, MOVES, NORMAL, Job, handle_of
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
CREATED = p.response(p.JOB_CREATED)[4:8]

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

some_after = (
    st.just([])
    | st.just([(0, b"ok")])
    | st.lists(st.tuples(st.integers(0, 5), st.sampled_from((b"ok", b"ok", b"any", b"fail"))), max_size=2)
)


class Terms(NamedTuple):
    """What a job is submitted with besides; after: (one of the newest jobs, condition) of those that it waits for."""

    background: bool
    retries: int
    timeout_s: float
    expires_s: float
    unique_for_s: float
    in_s: float
    if_exists: bytes
    after: list[tuple[int, bytes]]

    def words(self, after: dict[bytes, bytes]) -> bytes:
        """As they are sent."""
        words = [b"backoff=%g" % model.BACKOFF_S, b"retries=%d" % self.retries, b"if-exists=" + self.if_exists]
        words += [b"background=1"] if self.background else []
        words += [b"timeout=%g" % self.timeout_s] if self.timeout_s else []
        words += [b"expires=%g" % self.expires_s] if self.expires_s else []
        words += [b"in=%g" % self.in_s] if self.in_s else []
        words += [b"unique-for=%g" % self.unique_for_s] if self.unique_for_s else []
        words += [b"after=" + b",".join(b"%b:%b" % (condition, handle) for handle, condition in after.items())]
        return b" ".join(words if after else words[:-1])


some_terms = st.builds(
    Terms,
    st.sampled_from((True, True, False)),
    st.sampled_from((0, 1, 2)),
    st.sampled_from((0.0, 0.0, 3.0)),
    st.sampled_from((0.0, 0.0, 1.0, 2.0)),
    st.sampled_from((0.0, 0.0, 8.0)),
    st.sampled_from((0.0, 3.0, 20.0)),
    st.sampled_from((b"attach", b"skip", b"fail", b"replace")),
    some_after,
)

jobs_with_terms = st.tuples(st.sampled_from(CLIENTS), functions, st.sampled_from((b"", b"", b"k", b"l")), some_terms)

SETTINGS = settings(
    max_examples=400,
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
        self.model = self._make_model()
        self.model.now = self.now
        self.promised: list[bytes] = []  # handles that are to be acknowledged with the next commit
        self.acked: set[bytes] = set()
        self.store = SqliteStore(str(self._place()))
        self._start()

    def _make_model(self) -> Model:
        return Model(RULES.losses_max)

    def teardown(self) -> None:
        self.store.close()
        self.scratch.cleanup()

    def _place(self) -> Path:
        return Path(self.scratch.name) / f"store{self.crashes}"

    def _start(self) -> None:
        with patch("random.SystemRandom", lambda: random.Random(1)):  # a job's id says how long it pauses for a retry
            shard = self.store.open()
        self.broker = Broker(shard, RULES)
        self.broker.wall_offset = WALL + self.model.jumped
        self.broker.history = self.store  # it is only asked when all is durable
        rows = list(self.store.load())
        assert [(row.id, row.function, row.unique, row.priority, row.payload, row.due) for row in rows] == [
            (id_of(handle), job.function, job.unique, job.priority, job.payload, job.saved_due and job.saved_due + WALL)
            for handle, job in self.model.kept.items()
        ]
        for known in self.store.known():
            restart.know(self.broker, known)
        for row in rows:
            restart.restore(self.broker, row, self.now)
        restart.restored(self.broker, self.now)
        self._turn()

    def _turn(self) -> None:
        """What the server does with effects; here nothing is committed before a step says so."""
        effects, self.broker.effects = self.broker.effects, Effects()
        if effects.changes:
            self.store.write(effects.changes)
        for index in effects.promises:
            packet = effects.sends[index][1]
            assert isinstance(packet, bytes)
            if packet[4:8] == CREATED:
                self.promised.append(packet[12:])

    def _peer(self, id: int) -> Peer:
        peer = self.broker.peers.get(id) or self.broker.connect(id, id, "here")
        peer.extension = id in CLIENTS or id in model.TOLD
        return peer

    # -- clients

    @rule(wanted=st.lists(jobs, min_size=1, max_size=4))
    def submit(self, wanted: list[Wanted]) -> None:
        for client, function, unique, priority, background, payload, delay_s in wanted:
            due = self.model.wall + delay_s if delay_s else 0.0
            key = key_of(function, unique, payload)
            joined = self.model.joinable.get(key) if key else None
            limit = self.model.functions.get(function, (0, 0, 0))[priority]
            full = joined is None and 0 < limit <= self.model.count(function)
            full &= not (background and self.model.holder_of(key))
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
            held = self.model.holder_of(key)
            if job is None:
                assert background and joined is None and held
                self.broker.effects.promises.clear()
                continue
            assert not full and not (background and joined is None and held)
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

    @rule(wanted=st.lists(jobs_with_terms, min_size=1, max_size=3))
    def submit_with_terms(self, wanted: list[tuple[int, bytes, bytes, Terms]]) -> None:
        for client, function, unique, terms in wanted:
            self._submit_with_terms(client, function, unique, terms)

    @precondition(lambda self: self.model.keys)
    @rule(index=indices, client=st.sampled_from(CLIENTS), terms=some_terms)
    def submit_with_a_key_that_counts(self, index: int, client: int, terms: Terms) -> None:
        keys = sorted(self.model.keys)
        function, unique, _ = keys[index % len(keys)]
        self._submit_with_terms(client, function, unique, terms)

    def _submit_with_terms(self, client: int, function: bytes, unique: bytes, terms: Terms) -> None:
        self.commit()  # so it is known how every job ended
        newest = sorted(self.model.handles, key=id_of, reverse=True)[:6]
        after = {newest[index % len(newest)]: condition for index, condition in terms.after} if newest else {}
        body = b"\0".join((function, unique, terms.words(after), b"data"))
        dispatch.receive(self.broker, self._peer(client), p.FARM_SUBMIT, body, self.now)
        answer, handle = self._reply(client, p.JOB_CREATED, p.FARM_EXISTS, p.ERROR)
        wanted, job = self._submitted(function, unique, terms, after)
        assert answer == wanted, f"{answer} instead of {wanted}"
        if job is not None:
            self._created(job, handle, client, terms, after)
        self._turn()

    def _reply(self, peer: int, *numbers: int) -> tuple[int, bytes]:
        """The last packet of these kinds that this peer is to be sent; its first argument."""
        sends = [packet for id, packet in self.broker.effects.sends if id == peer and isinstance(packet, bytes)]
        packets = [(int.from_bytes(packet[4:8], "big"), packet[12:]) for packet in sends]
        number, body = [packet for packet in packets if packet[0] in numbers][-1]
        return number, body if number == p.FARM_ANSWER else body.partition(b"\0")[0]

    def _submitted(
        self, function: bytes, unique: bytes, terms: Terms, after: dict[bytes, bytes]
    ) -> tuple[int, model.Job | None]:
        """What must be answered, and the job that is joined or new (without a handle)."""
        known, key = self.model, key_of(function, unique, b"data")
        joined, held = known.joinable.get(key) if key else None, known.holder_of(key)
        replaces = bool(unique) and terms.if_exists == b"replace"
        if (joined or held) and not replaces and not (joined and terms.if_exists == b"attach"):
            return p.FARM_EXISTS, None
        if joined and not replaces:
            return p.JOB_CREATED, joined
        if any(not self._lives(handle) and handle not in {**known.ended, **known.stops} for handle in after):
            known.functions.setdefault(function, (0, 0, 0))  # it was mentioned
            return p.ERROR, None
        others = known.count(function) - (joined is not None and not joined.worker)
        if 0 < known.functions.get(function, (0, 0, 0))[NORMAL] <= others:
            return p.ERROR, None
        if replaces and key:
            known.keys.pop(key, None)
        if joined:
            known.cancel(joined)
        return p.JOB_CREATED, model.Job(
            b"", function, unique, b"data", NORMAL, terms.background, terms.in_s and known.wall + terms.in_s
        )

    def _lives(self, handle: bytes) -> bool:
        job = self.model.jobs.get(handle)
        return job is not None and not job.cancelled

    def _created(self, job: model.Job, handle: bytes, client: int, terms: Terms, after: dict[bytes, bytes]) -> None:
        never = False
        if not job.handle:
            assert handle not in self.model.handles, "a handle was used before"
            job.handle, job.retries, job.timeout_s = handle, terms.retries, terms.timeout_s
            job.expires = self.model.wall + terms.expires_s if terms.expires_s else 0.0
            job.asked_after = dict(after)
            job.after = {handle: condition for handle, condition in after.items() if self._lives(handle)}
            ended = {handle: self.model.ended.get(handle, "cancelled") for handle in after if handle not in job.after}
            ended |= {handle: stop.outcome for handle, stop in self.model.stops.items() if handle in ended}
            never = any(not model.is_met(after[handle], outcome) for handle, outcome in ended.items())
            job.after |= {handle: after[handle] for handle in ended if handle in self.model.stops}
            job.after |= {b"never": b"ok"} if never else {}
            self.model.add(job, self.now)
            if terms.unique_for_s and job.unique and job.key:
                job.key_until = self.model.wall + terms.unique_for_s
            if terms.background:
                self.model.save(job)
        elif terms.background and not job.background:
            self.model.save(job)
        assert job.handle == handle
        if not terms.background and client not in job.watchers:
            job.watchers.append(client)
        if never:
            self.model.cancel(job)

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
                if client in job.watchers:  # it did not go with another one, which it waited for
                    self.model.unwatch(job, client)
        else:
            assert giving_up.cancel(self.broker, self._peer(client), job.handle, self.now) != b"unknown"
            self.model.unwatch(job, client)
        self._turn()

    # -- administrators

    def _ask(self, verb: str, **fields: object) -> Any:
        """Everything is durable by then, so it is answered at once."""
        self.commit()
        body = b"\0".join((verb.encode(), json.dumps(fields).encode(), b""))
        dispatch.receive(self.broker, self._peer(CLIENTS[0]), p.FARM_ASK, body, self.now)
        _, answer = self._reply(CLIENTS[0], p.FARM_ANSWER)
        return json.loads(answer.partition(b"\0")[2])

    def _some_handle(self, index: int) -> bytes:
        """Those that run or wait are rare, and so come first."""
        order = sorted(self.model.handles, key=id_of, reverse=True)
        jobs = self.model.jobs
        order.sort(key=lambda handle: handle not in jobs or not jobs[handle].after)
        order.sort(key=lambda handle: handle not in jobs or not jobs[handle].worker)
        return order[index % len(order)]

    @precondition(lambda self: self.model.handles)
    @rule(index=indices, administrator=st.booleans(), then=st.sampled_from(("left", "dies", "completes", "fails")))
    def somebody_cancels(self, index: int, administrator: bool, then: str) -> None:
        handle = self._some_handle(index)
        job = self.model.jobs.get(handle)
        if job and job.worker:
            self._cancel_held(job, administrator, then)
        else:
            self._cancel(handle, administrator)

    def _cancel_held(self, job: model.Job, administrator: bool, then: str) -> None:
        self._cancel(job.handle, administrator)
        if then == "dies":
            self._die(job.worker)
        elif then in ("completes", "fails"):  # it has not heard of it yet
            self._end(job, then == "completes")

    @rule(client=st.sampled_from(CLIENTS), function=functions, condition=st.sampled_from((b"any", b"fail", b"ok")))
    def what_a_job_waits_for_is_stopped(self, client: int, function: bytes, condition: bytes) -> None:
        """The command goes on for a while: what waits for its end does so too."""
        terms = Terms(True, 0, 0.0, 0.0, 0.0, 0.0, b"attach", [])
        self._submit_with_terms(client, function, b"", terms)
        self.everybody_grabs(None)
        told = [job for job in self._held() if job.worker in model.TOLD and self._lives(job.handle)]
        newest = sorted(self.model.handles, key=id_of, reverse=True)[:6]
        for job in told:
            if job.handle in newest:
                after = [(newest.index(job.handle), condition)]
                self._submit_with_terms(client, function, b"", terms._replace(after=after))
                self._cancel_held(job, False, "left")
                return

    def _cancel(self, handle: bytes, administrator: bool) -> None:
        if administrator:
            known = self.model.jobs.get(handle)
            live = known is not None and not known.abandoned
            assert giving_up.cancel_by_admin(self.broker, handle, self.now) == live
            if known is not None:
                self.model.cancel(known)
            self._turn()
            return
        outcome = self._ask("cancel", ids=[handle.decode()])["results"][0]["outcome"]
        if self._lives(handle):
            job = self.model.jobs[handle]
            assert outcome == ("told" if job.worker in model.TOLD else "unheard" if job.worker else "cancelled")
            self.model.cancel(job)
        else:
            assert outcome == ("ended" if handle in self.model.ended else "unknown")
        self._turn()

    @precondition(lambda self: self.model.handles)
    @rule(index=indices)
    def somebody_purges(self, index: int) -> None:
        handle = self._some_handle(index)
        outcome = self._ask("purge", ids=[handle.decode()])["results"][0]["outcome"]
        known = handle in self.model.ended and not self._lives(handle)
        assert outcome == ("live" if self._lives(handle) else "purged" if known else "unknown")
        if known:
            self.model.purge(handle)
        self._turn()

    @precondition(lambda self: self.model.ended)
    @rule(index=indices)
    def somebody_runs_an_ended_job_again(self, index: int) -> None:
        self.commit()
        if not self.model.ended:  # what had ended lives again
            return
        ended = sorted(self.model.ended, key=lambda handle: (self.model.ended[handle] == "done", id_of(handle)))
        self._run_again(ended[index % len(ended)])

    def _run_again(self, handle: bytes) -> None:
        outcome = self._ask("retry", ids=[handle.decode()])["results"][0]["outcome"]
        if self.model.ended[handle] == "done" or handle in {**self.model.jobs, **self.model.stops}:
            assert outcome == ("done" if self.model.ended[handle] == "done" else "live")
        elif outcome == "exists":
            was = self.model.was[handle]
            assert any(job.function == was.function and job.unique == was.unique for job in self.model.jobs.values())
        else:
            assert outcome == "queued"
            job = self.broker.jobs[handle]
            self.model.run_again(self.model.was[handle], job.course.before if job.course else 0)
        self._turn()

    @rule(function=functions, pauses=st.sampled_from((False, False, True)))
    def somebody_pauses_or_resumes(self, function: bytes, pauses: bool) -> None:
        self._ask("pause" if pauses else "resume", function=function.decode())
        self.model.functions.setdefault(function, (0, 0, 0))
        if pauses:
            self.model.paused.add(function)
        else:
            self.model.paused.discard(function)
        self._turn()

    @rule(function=functions, limit=st.sampled_from((None, 0, 1, 3)))
    def administrator_limits_or_drops(self, function: bytes, limit: int | None) -> None:
        known = self.model.functions
        if limit is None:
            line = b"drop function " + function
            able = any(function in abilities for abilities in self.model.abilities.values())
            if not able and not self.model.count(function):
                known.pop(function, None)
                self.model.paused.discard(function)
                for key in [key for key in self.model.keys if key[0] == function]:
                    del self.model.keys[key]
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

    @rule(
        worker=workers,
        times=st.integers(1, 3),
        sleeps=st.booleans(),
        ends=st.lists(st.booleans(), max_size=2),  # of those that it holds then: completed or failed
    )
    def grab(self, worker: int, times: int, sleeps: bool, ends: list[bool]) -> None:
        for _ in range(times):
            self._grab(worker)
        for completed in ends:
            held = self.model.held.get(worker)
            if held:
                self._end(held[0], completed)
        if sleeps:
            self.broker.pre_sleep(self._peer(worker), self.now)
        self._turn()

    @rule(then=st.sampled_from((None, None, "left", "dies", "completes", "fails")))
    def everybody_grabs(self, then: str | None) -> None:
        """And one of the jobs that they run is cancelled, whereupon its worker does this."""
        for worker in WORKERS:
            self._grab(worker)
        held = [job for job in self._held() if not job.abandoned]
        if held and then:
            self._cancel_held(held[0], True, then)

    @rule(times=st.integers(1, 4), slowly=st.booleans())
    def everything_fails(self, times: int, slowly: bool) -> None:
        """Jobs are tried until they are dead, or their pauses and limits have come and gone."""
        for _ in range(times):
            self.everybody_grabs(None)
            for job in [] if slowly else self._held():
                self._end(job, False)
            self.time_passes(1.0)
            self.time_passes(3.0)
            self.time_passes(5.0)

    def _grab(self, worker: int) -> None:
        dispatch.receive(self.broker, self._peer(worker), p.GRAB_JOB, b"", self.now)
        abilities = self.model.abilities.get(worker, {})
        able = abilities.keys() - self.model.paused
        firsts = [line[0] for line in self.model.queues.values() if line and line[0].function in able]
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
            job.started = self.now
            limits = [limit for limit in (abilities[job.function], job.timeout_s) if limit]
            job.time_up = self.now + min(limits) if limits else 0.0
            held.append(job)
        self._turn()

    def _held(self) -> list[model.Job]:
        held = [job for jobs in self.model.held.values() for job in jobs]
        return sorted(held, key=lambda job: not job.abandoned)  # those are rare, and so come first

    @precondition(_held)
    @rule(index=indices, completed=st.booleans())
    def job_ends(self, index: int, completed: bool) -> None:
        held = self._held()
        self._end(held[index % len(held)], completed)

    def _end(self, job: model.Job, completed: bool) -> None:
        number = p.WORK_COMPLETE if completed else p.WORK_FAIL
        body = job.handle + (b"\0out" if completed else b"")
        dispatch.receive(self.broker, self._peer(job.worker), number, body, self.now)
        if completed:
            self.model.complete(job)
        else:
            self.model.fail(job)
            self._look_at_pause(job)
        self._turn()

    def _look_at_pause(self, job: model.Job) -> None:
        """Where a job is tried again, that is after a pause within its bounds."""
        if job.delayed:
            job.due = self.broker.jobs[job.handle].due - WALL
            least, most = self.model.pauses
            assert least - 1e-6 <= job.due - self.model.wall <= most + 1e-6
            self.model.write_down(job)

    @precondition(lambda self: self.model.late)
    @rule(index=indices)
    def late_worker_reports(self, index: int) -> None:
        """The end of what was taken from it."""
        late = sorted(self.model.late)
        worker, handle = late[index % len(late)]
        if handle not in self._peer(worker).holds:  # or it has been given it again, and it is of that
            dispatch.receive(self.broker, self._peer(worker), p.WORK_FAIL, handle, self.now)
            self.model.report_late(worker, handle)
            self._turn()

    @precondition(_held)
    @rule(index=indices)
    def worker_dies(self, index: int) -> None:
        held = self._held()
        self._die(held[index % len(held)].worker)

    def _die(self, worker: int) -> None:
        abilities = self.model.abilities.pop(worker, {})
        self.broker.disconnect(self._peer(worker), self.now)
        self.model.die(worker)
        for function, timeout_s in abilities.items():  # and is started again
            self.worker_changes(worker, function, timeout_s)
        self._turn()

    @rule(seconds=st.sampled_from((1.0, 5.0)))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self._tick()

    def _entries_come(self) -> None:
        """Here nobody has made any: see CronLife."""

    def _tick(self) -> None:
        self.broker.tick(self.now)
        self.model.pass_time(self.now)
        self._entries_come()
        for job in self.model.slow():
            self.model.time_is_up(job)
            if job.timeout_s and not job.abandoned and self.now >= job.started + job.timeout_s:
                self.model.fail(job, timed_out=True)
                self._look_at_pause(job)
            else:
                self.model.lose(job)
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
        assert all(handle in self.model.kept or handle in self.model.was for handle in self.acked)

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
            handle: (
                *(job.background, job.losses, job.course.failures if job.course else 0, job.attempts, job.state),
                *(job.worker.id if job.worker else 0, [peer.id for peer in job.watchers]),
            )
            for handle, job in self.broker.jobs.items()
        }
        assert found == {
            handle: (job.background, job.losses, job.failures, job.attempts, job.state, job.worker, job.watchers)
            for handle, job in self.model.jobs.items()
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
    def keys_count_for_as_long(self) -> None:
        wall = self.model.wall + WALL
        found = {
            (name, unique, b""): (until - WALL, handle_of(id))
            for name, function in self.broker.functions.items()
            for unique, (until, id) in function.uniques.items()
            if until > wall
        }
        assert found == {key: held for key, held in self.model.keys.items() if held[0] > self.model.wall}

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


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The names of the steps that are taken."""
    names: set[str] = set()
    for each in Life.setup_state().rules:
        monkeypatch.setattr(each, "function", _noted(each.function, names))
    return names


def _noted(step: Callable[..., Any], names: set[str]) -> Callable[..., Any]:
    @functools.wraps(step)
    def noted(*args: Any, **named: Any) -> Any:
        names.add(step.__name__)
        return step(*args, **named)

    return noted


def test_the_rules_and_the_store_are_as_the_model(ran: set[str]) -> None:
    Life.moves.clear()
    run_state_machine_as_test(Life, settings=SETTINGS)
    assert Life.moves == set(MOVES), "a move of a job's life was never made"
    assert ran == {each.function.__name__ for each in Life.setup_state().rules}, "a step was never taken"
    assert len(ran) > 15


@pytest.mark.slow
def test_the_rules_and_the_store_are_as_the_model_for_long() -> None:
    run_state_machine_as_test(Life, settings=longer(1000))


def longer(examples: int) -> settings:
    """The same fates each time; with EXAMPLES=20000, for a night, so many others each time."""
    chance = "EXAMPLES" in os.environ
    examples = int(os.environ.get("EXAMPLES", examples))
    return settings(SETTINGS, max_examples=examples, stateful_step_count=100, derandomize=not chance, print_blob=chance)
