"""The broker: who gets which job. Each rule changes the state and appends what must happen to `effects`.

Rules are plain calls (`submit`, `grab`, `finish`, ...); `farm.broker.dispatch` turns packets into them. Nothing here
waits, and nothing here knows a socket, a file or a clock: `now` is monotonic time in seconds and always an argument.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final, NamedTuple

from farm.broker import crons, giving_up, invariants, keeping, stops, tries, waiting
from farm.broker.course import course_of
from farm.broker.deadlines import Deadlines
from farm.broker.earliest import Earliest
from farm.broker.effects import Effects, Note, Progress
from farm.broker.function import Function
from farm.broker.history import History, NoHistory
from farm.broker.job import (
    ABANDONED,
    CANCELLED,
    DELAYED,
    DONE,
    ENDED,
    QUEUED,
    RUNNING,
    WAITING,
    Job,
    Key,
    first_id,
    handle_of,
)
from farm.broker.peer import Peer
from farm.broker.retry import TIMEOUT, Failure
from farm.broker.terms import NOTHING, Terms
from farm.errors import EXIT_TIMEOUT, EXIT_WORKER_FAILED, PacketRefused
from farm.protocol import extension, packets
from farm.protocol.limits import STORED_PAYLOAD_MAX, UNIQUE_MAX
from farm.protocol.names import refuse_bad_function, shown
from farm.protocol.packets import RESPONSE, response, with_data

WAKE_PATIENCE_S = 0.5  # a woken worker that has not grabbed by then is busy or hung: the next sleeper is woken
FUNCTIONS_MAX = 100_000  # functions stay once mentioned, so a client that makes up names must be stopped
JOBS_MAX = 10_000_000  # about 5 GB of small jobs
KEYS_MAX = 1_000_000  # that count for a while, also when their job has ended: some 250 MB
WRITTEN_TIMES = 2  # what a payload takes on the disk: in the store's log, and when that is copied into its file
# Of payloads: more than one of the largest that are taken, and less than what a small machine has.
MEMORY_MAX = 2 * 1024 * 1024 * 1024

_NOOP = response(packets.NOOP)
_NEVER: Final = math.inf


class Rules(NamedTuple):
    """What can be chosen. by_registration: a worker's functions are tried in the order of gearmand 1.1, priority only
    within a function. wake_all: every queued job wakes all sleeping workers of its function, as gearmand does.
    exceptions: every client gets WORK_EXCEPTION, asked for or not. losses_max: after how many lost workers a job fails
    (gearmand's --job-retries); 0: never. result_max: bytes kept of what a background job wrote, 0: nothing is kept.
    payload_memory_max: bytes of background payloads held in memory, the rest is only in the store; 0: all are.
    memory_max: bytes of payloads in memory, of all jobs; with more, those that the store cannot keep are refused.
    functions_max, jobs_max, keys_max: no more of them; of keys those that count when their job has ended."""

    by_registration: bool = False
    wake_all: bool = False
    exceptions: bool = False
    losses_max: int = 0
    result_max: int = 0
    payload_memory_max: int = 0
    memory_max: int = MEMORY_MAX
    functions_max: int = FUNCTIONS_MAX
    jobs_max: int = JOBS_MAX
    keys_max: int = KEYS_MAX


DEFAULT = Rules()


class About(NamedTuple):
    """What the admin commands `getpid`, `verbose` and `limits` answer, and how often the ring around the rules, which
    knows all this, sends heartbeats (0: never)."""

    process_id: int
    log_level: str
    limits: dict[str, float]
    heartbeat_ms: int = 0


class Broker:
    """All jobs, functions and connections of one server.

    shard: the journal's number for this life of this server (Store.open). It is part of every new job's id and
    handle, so that handles of two servers, or of two lives of one server, never meet.
    """

    def __init__(self, shard: int, rules: Rules = DEFAULT) -> None:
        self.rules = rules
        self.effects = Effects()
        self.peers: dict[int, Peer] = {}
        self.beating: dict[int, Peer] = {}  # those that asked for heartbeats, which the ring around sends
        self.functions: dict[bytes, Function] = {}
        self.spellings: Earliest[Function] = Earliest(lambda function: function.number)  # by name in lower case
        self.jobs: dict[bytes, Job] = {}
        self.uniques: Earliest[Job] = Earliest(lambda job: job.function.number)  # that may be joined, by unique
        self.wall_offset = 0.0  # wall clock minus monotonic clock, kept up to date by the ring around
        self.delayed = Deadlines()  # by the wall clock
        self.expiring = Deadlines()  # jobs that must not wait for longer, by the wall clock
        self.timeouts = Deadlines()  # of running jobs, by the monotonic clock
        self.young: deque[tuple[float, Job]] = deque()  # (when it counts as a long one, job) of new attempts
        self.dependents: dict[int, dict[Job, None]] = {}  # id -> the jobs that wait for that one to end
        self.settling: deque[tuple[int, str]] = deque()  # ended jobs (id, outcome) whose dependents are being told
        self.stops = stops.Stops()  # commands that are being stopped
        self.crons = crons.Crons()
        self.held_keys = 0  # that count for a while (Function.uniques), at the most
        self.history: History = NoHistory()
        self.later: list[tuple[int, int, bytes]] = []  # (peer's id, number, body): packets that wait for the journal
        self.unfinished: dict[int, Progress] = {}  # of stored jobs that are not here yet
        self.doomed: list[Job] = []  # stored jobs that the life before was one lost worker too many for
        self.about = About(0, "", {})
        self.narrate = False  # whether anybody reads the notes
        self.stopping = False  # no new jobs, no more assignments
        self.no_room = ""  # why no new background job can be taken
        self.room = math.inf  # bytes that new ones may still take on the disk, until the ring around looks again
        self.kept = 0  # how many ended jobs something was kept of
        self.kept_size = 0  # bytes of that, but for what each takes at least
        self.payload_memory = 0  # bytes of background payloads
        self.shard = shard
        self.memory = 0  # and of all payloads
        self._next_id = first_id(shard)
        self._next_function = 0
        self.woken: deque[tuple[float, Function, Peer]] = deque()  # (deadline, ...), in order: the patience is constant

    # -- connections

    def connect(self, peer_id: int, fd: int, address: str) -> Peer:
        """A connection was opened."""
        assert peer_id not in self.peers
        peer = self.peers[peer_id] = Peer(peer_id, fd, address)
        return peer

    def disconnect(self, peer: Peer, now: float) -> None:
        """A connection is gone: its jobs go back, its foreground jobs that nobody else watches end."""
        del self.peers[peer.id]
        self.beating.pop(peer.id, None)
        waiting.leave(peer)
        while peer.watches:  # one that ends may take others along, which wait for it
            giving_up.unwatch(self, next(iter(peer.watches.values())), peer, now)
        self.reset_abilities(peer, now)
        stops.left(self, peer, now)
        # The first one it took is put back last, and so is first again.
        for job in reversed(list(peer.holds.values())):
            self._lose(job, now)

    # -- abilities and sleep

    def function(self, name: bytes) -> Function:
        """The function of this name, created when it is new. Raises PacketRefused for a name that cannot be one."""
        function = self.functions.get(name)
        if function is None:
            refuse_bad_function(name)
            if len(self.functions) >= self.rules.functions_max:
                raise PacketRefused(b"QUEUE_ERROR", b"Too many functions", close=False)
            function = self._add_function(name)
        return function

    def _add_function(self, name: bytes) -> Function:
        self._next_function += 1
        function = self.functions[name] = Function(name, self._next_function)
        self.spellings.add(name.lower(), function)
        return function

    def can_do(self, peer: Peer, name: bytes, timeout_s: float, now: float) -> None:
        """The worker can do `name`. A worker that sleeps already must still hear of jobs that wait for it."""
        function = self.function(name)
        if self.rules.by_registration:
            peer.can_do.pop(function, None)  # registered anew it counts as the last one
        peer.can_do[function] = timeout_s
        function.workers[peer] = None
        if peer.asleep and peer.woken_for is None:
            function.sleepers[peer] = None
            self._wake(function, now)

    def cannot_do(self, peer: Peer, name: bytes, now: float) -> None:
        """The worker can no longer do `name`; the jobs of it that it runs stay with it."""
        function = self.functions.get(name)
        if function is None or function not in peer.can_do:
            return
        del peer.can_do[function]
        del function.workers[peer]
        function.sleepers.pop(peer, None)
        if peer.woken_for is function:  # it may not come for this function; it sleeps on, notified, for any other
            peer.stop_expecting()
            self._wake(function, now)

    def reset_abilities(self, peer: Peer, now: float) -> None:
        """The worker can no longer do anything."""
        for function in list(peer.can_do):
            self.cannot_do(peer, function.name, now)

    def pre_sleep(self, peer: Peer, now: float) -> None:
        """The worker goes to sleep, unless there is a job for it: then it is woken at once."""
        woken_for = self._awake(peer)
        if not self.stopping and any(function.ready for function in peer.can_do):
            self.effects.send(peer.id, _NOOP)
        else:
            peer.sleep()
        if woken_for is not None:
            self._wake(woken_for, now)  # it declined

    def _wake(self, function: Function, now: float) -> None:
        """Let one worker come for each queued job, those first that have slept longest. Waking all, as gearmand does,
        would make most come in vain."""
        if self.stopping:
            return
        while function.sleepers and (function.wakes < function.ready or (self.rules.wake_all and function.ready)):
            peer = next(iter(function.sleepers))
            peer.wake(function, now + WAKE_PATIENCE_S)
            self.woken.append((now + WAKE_PATIENCE_S, function, peer))
            self.effects.send(peer.id, _NOOP)

    def _awake(self, peer: Peer) -> Function | None:
        """The worker came. Returns the function it was woken for."""
        function = peer.woken_for
        peer.stop_expecting()
        peer.woken_for = None
        if peer.asleep:
            peer.leave_sleepers()
            peer.asleep = False
        return function

    def tick(self, now: float) -> None:
        """Do what is due: jobs whose time has come or is up, and the next worker where a woken one has not come."""
        if self.stops.by_id:
            stops.tick(self, now)
        while (job := self.delayed.pop(now + self.wall_offset)) is not None:
            if stops.hold_back(self, job):
                continue
            job.move("due")
            job.function.delayed -= 1
            job.function.enqueue(job)
            tries.limit_waiting(self, job)
            self._wake(job.function, now)
        while (job := self.expiring.pop(now + self.wall_offset)) is not None:
            giving_up.expire(self, job, now)
        if self.crons.entries:
            crons.tick(self, now)
        tries.count_young(self, now)
        late = []
        while (job := self.timeouts.pop(now)) is not None:
            late.append(job)
        for job in reversed(late):  # the first one is put back last, and so is first again
            self._time_out(job, now)
        while self.woken and self.woken[0][0] <= now:
            deadline, function, peer = self.woken.popleft()
            if peer.expected == deadline and peer.woken_for is function:  # it may have come, and been woken again
                peer.stop_expecting()
                self._wake(function, now)

    def busy(self) -> bool:
        """Whether any job runs or could be run now."""
        return any(function.running or function.ready for function in self.functions.values())

    def next_deadline(self) -> float | None:
        """When `tick` has to be called next; None: never."""
        while self.woken and self.woken[0][2].expected != self.woken[0][0]:
            self.woken.popleft()
        first = self.woken[0][0] if self.woken else _NEVER
        while self.young:
            due, job = self.young[0]
            if tries.is_young(due, job):
                first = min(first, due)
                break
            self.young.popleft()
        if (expires := self.expiring.next()) is not None:
            first = min(first, expires - self.wall_offset)
        if (limit := self.timeouts.next()) is not None:
            first = min(first, limit)
        if (stopped := self.stops.next()) is not None:
            first = min(first, stopped)
        if (delayed := self.delayed.next()) is not None:
            first = min(first, delayed - self.wall_offset)
        if (cron := crons.next_deadline(self)) is not None:
            first = min(first, cron - self.wall_offset)
        return first if first < _NEVER else None

    # -- submitting

    def submit(
        self,
        peer: Peer | None,
        name: bytes,
        unique: bytes,
        priority: int,
        background: bool,
        payload: bytes,
        now: float,
        reducer: bytes = b"",
        due: float = 0.0,
        terms: Terms = NOTHING,
        unique_for_s: float = 0.0,
        replaces: bool = False,
    ) -> Job | None:
        """A new job, or the live one with the same key: the first submission's payload, priority, time and terms win.
        None: a background job joins one that has ended, and whose key counts for a while longer.

        peer: who submits it; None: a cron entry, whose jobs are background jobs. due: wall-clock seconds before which
        it must not run. replaces: the live one is cancelled instead, once nothing stands against the new one. Raises
        PacketRefused, and NotYet where `terms` name a job of which it is not known yet how it ended.
        """
        if self.stopping:
            raise PacketRefused(b"SHUTDOWN", b"Server is shutting down", close=False)
        if len(unique) > UNIQUE_MAX:
            raise PacketRefused(b"ARGUMENT_TOO_LARGE", b"Unique value too large", close=False)
        function = self.function(name)
        key = self._key(unique, payload)
        there = function.coalescing.get(key) if key is not None else None
        if not replaces:
            if there is not None:
                self._join(there, peer, background, now)
                return there
            if background and (id := waiting.holder(function, unique, now + self.wall_offset)):
                self._acknowledge(peer, handle_of(id))
                return None
        outcomes = waiting.outcomes(self, terms.after) if terms.after else {}
        self._must_fit(function, priority, background, len(payload), there)
        if unique_for_s:
            waiting.must_have_room(self, function, unique)
        if replaces:
            self._replace(function, unique, there, outcomes, now)
        job = Job(self._next_id, function, unique, priority, background, payload, now)
        job.reducer, job.due = reducer, due
        if terms is not NOTHING:
            course_of(job).terms = terms
        self._add(job, key, peer)
        if unique_for_s and isinstance(key, bytes):
            waiting.will_hold(self, job, now + self.wall_offset + unique_for_s)
        never = waiting.begin(self, job, terms.after, outcomes) if outcomes else b""
        if never:  # nobody is to come for it
            job.state = WAITING
            function.waiting += 1
            self.drop(job, never, now)
            return job
        self._line_up(job, now)
        if background and tries.has_come_far(job):
            tries.save_progress(self, job)
        return job

    def _add(self, job: Job, key: Key | None, peer: Peer | None) -> None:
        """A new job, with nothing against it, is there: kept or watched, and its client told."""
        self._next_id += 1
        self._take_up(job, key)
        if job.background:
            self._save(job)
            self._acknowledge(peer, job.handle)
        else:
            assert peer is not None
            self._watch(job, peer)
            self.effects.send(peer.id, response(packets.JOB_CREATED, job.handle))

    def _take_up(self, job: Job, key: Key | None) -> None:
        """It is there from now on, under its handle and its key."""
        assert job.handle not in self.jobs
        self.jobs[job.handle] = job
        self.memory += job.payload_size
        if key is not None:
            self._start_coalescing(job, key)
            if self.stops.by_key:
                stops.wait_for_key(self, job)

    def _replace(
        self, function: Function, unique: bytes, job: Job | None, outcomes: dict[bytes, str], now: float
    ) -> None:
        """Cancel the job whose key another one takes over. outcomes: how those have ended that the new one is to wait
        for; brought up to date."""
        waiting.let_go(self, function, unique)
        if job is None:
            return
        self.drop(job, b"replaced by another job with its key", now)
        for handle, outcome in outcomes.items():
            outcomes[handle] = outcome or self._ended_now(handle)

    def _ended_now(self, handle: bytes) -> str:
        """How a job that has not ended a moment ago has: by what its end has brought about, so not well."""
        return "" if waiting.live(self, handle) is not None else CANCELLED

    def _must_fit(
        self, function: Function, priority: int, background: bool, size: int, replaced: Job | None = None
    ) -> None:
        """Raise PacketRefused where one more job is too many, or a payload of this size too much. replaced: the one
        that would go, and at once if it does not run."""
        limit = function.limits[priority]
        jobs = function.jobs - (replaced is not None and replaced.worker is None)
        if len(self.jobs) >= self.rules.jobs_max or (limit and jobs >= limit):
            raise PacketRefused(b"QUEUE_ERROR", b"Job queue is full", close=False)
        if self.memory + size > self.rules.memory_max and not (background and self.rules.payload_memory_max):
            raise PacketRefused(b"QUEUE_ERROR", b"Job queue is full: no memory for the payload", close=False)
        if background:
            self._must_have_room(size)

    def _line_up(self, job: Job, now: float) -> None:
        """Queue a new job, or put it aside until its time has come, or others have ended."""
        if job.course is not None and job.course.after:
            job.state = WAITING
            job.function.waiting += 1
        elif job.due > now + self.wall_offset:
            job.state = DELAYED
            job.function.delayed += 1
            self.delayed.set(job, job.due)
        else:
            job.function.enqueue(job)
        tries.limit_waiting(self, job)
        if job.state == QUEUED:
            self._wake(job.function, now)

    def _acknowledge(self, peer: Peer | None, handle: bytes) -> None:
        """Once all of this is durable."""
        if peer is not None:
            self.effects.promise(peer.id, response(packets.JOB_CREATED, handle))

    def _join(self, job: Job, peer: Peer | None, background: bool, now: float) -> None:
        """Coalesce a submission with a live job. A background one makes the job a background job: stored, and never
        taken along by a foreground client that leaves."""
        if background:
            if not job.background:
                self._must_have_room(job.payload_size)
                job.background = True
                self._save(job)
                waiting.hold(self, job)
                tries.now_background(self, job, now)
                if job.streamed and self.rules.result_max:  # that part of its output is kept nowhere
                    job.report = keeping.Report(self.rules.result_max, cut=True)
            self._acknowledge(peer, job.handle)  # also where another has saved it, for that may not be durable yet
        else:
            assert peer is not None
            self.effects.send(peer.id, response(packets.JOB_CREATED, job.handle))
            missed = job.handle not in peer.watches
            self._watch(job, peer)
            if job.streamed and peer.extension:
                self._tell_late(job, peer, keeping.so_far(job) if missed else None)

    def _tell_late(self, job: Job, peer: Peer, said: list[tuple[int, bytes]] | None) -> None:
        """A client waits for a job from now on of which output has gone by. It gets that, where it is kept whole;
        else it is told, for what is to come is only a part."""
        if said is None:
            self.effects.send(peer.id, response(packets.FARM_JOB_JOINED, job.handle))
            return
        for number, data in said:
            self.effects.send_pieces(peer.id, with_data(RESPONSE, number, (job.handle,), data))

    def _save(self, job: Job) -> None:
        self.effects.changes.append(keeping.row(job, self.wall_offset))
        self.room -= WRITTEN_TIMES * job.payload_size
        self._hold_payload(job)

    def _hold_payload(self, job: Job) -> None:
        """Keep the payload of a background job in memory while there is room for it; the store has it in any case."""
        most = self.rules.payload_memory_max
        if most and (self.payload_memory + job.payload_size > most or self.memory > self.rules.memory_max):
            job.payload = None
            self.memory -= job.payload_size
        else:
            self.payload_memory += job.payload_size

    def _must_have_room(self, size: int) -> None:
        """Raise PacketRefused where a background job of this size cannot be stored."""
        if self.no_room:
            raise PacketRefused(b"QUEUE_ERROR", b"Disk nearly full: " + self.no_room.encode(), close=False)
        if size > STORED_PAYLOAD_MAX:
            words = b"Background payload of %d bytes: at most %d can be stored" % (size, STORED_PAYLOAD_MAX)
            raise PacketRefused(b"ARGUMENT_TOO_LARGE", words, close=False)
        if WRITTEN_TIMES * size > self.room:
            words = b"Disk nearly full: no room for a payload of %d bytes" % size
            raise PacketRefused(b"QUEUE_ERROR", words, close=False)

    # -- watching

    def _watch(self, job: Job, peer: Peer) -> None:
        if job.handle not in peer.watches:
            peer.watches[job.handle] = job
            job.watchers.append(peer)

    def drop(self, job: Job, reason: bytes, now: float) -> bytes:
        """End a job, whoever waits for it: they hear that it failed. Returns a CANCEL_ word of the extension."""
        course = course_of(job)
        course.reason = reason
        if job.state == ABANDONED:  # nobody waits for it, and its worker was told if it can be
            assert job.worker is not None
            return extension.CANCEL_TOLD if job.worker.extension else extension.CANCEL_UNHEARD
        words = b"the job was cancelled" + (b": " + reason if reason else b"")
        tries.tell_failed(self, job, words, tries.EXIT_CANCELLED)
        for watcher in job.watchers:
            del watcher.watches[job.handle]
        job.watchers.clear()
        ran = job.state == RUNNING
        told = giving_up.give_up(self, job, now)
        if ran:  # it is not to be run again, even if its worker never answers
            if job.background:
                self._end(job, CANCELLED, now)
                job.background = False
            waiting.conclude(self, job, CANCELLED, now)
        return told

    # -- running

    def grab(self, peer: Peer, now: float) -> Job | None:
        """The next job for this worker: the highest priority of any of its functions, functions taking turns."""
        woken_for = self._awake(peer) if peer.asleep or peer.woken_for is not None else None
        job = None if self.stopping else self._take(peer)
        if woken_for is not None:
            self._wake(woken_for, now)  # where it took another job than the one it was woken for
        if job is None:
            return None
        job.move("assign")
        job.worker = peer
        job.started_at = now
        job.worker_name = peer.client_id
        job.function.running += 1
        peer.holds[job.handle] = job
        timeout_s = tries.begun(self, job, now)
        if timeout_s:
            self.timeouts.set(job, now + timeout_s)
        if self.narrate:
            self._note("started", job, shown(peer.client_id))
        return job

    def _take(self, peer: Peer) -> Job | None:
        if self.rules.by_registration:
            return self._take_by_registration(peer)
        for priority in (0, 1, 2):
            for function in peer.can_do:
                if function.ready and function.queues[priority].live:
                    if len(peer.can_do) > 1:
                        peer.rotate(function)
                    return function.take(priority)
        return None

    def _take_by_registration(self, peer: Peer) -> Job | None:
        for function in reversed(peer.can_do):  # gearmand puts what was registered last first
            for priority in (0, 1, 2):
                if function.ready and function.queues[priority].live:
                    return function.take(priority)
        return None

    def held(self, peer: Peer, handle: bytes) -> Job | None:
        """The job of this handle if this worker runs it: nobody else may report on it."""
        return peer.holds.get(handle)

    def relay(self, job: Job, pieces: tuple[bytes, ...]) -> None:
        """Pass a packet of the worker on to everybody who waits for the job."""
        for watcher in job.watchers:
            self.effects.send_pieces(watcher.id, pieces)

    def try_again(self, job: Job, now: float) -> bool:
        """The worker reported that it failed. Whether it runs again: then nobody hears of this failure."""
        return job.state == RUNNING and tries.again(self, job, tries.failure(job), now)

    def finish(self, job: Job, completed: bool, now: float) -> None:
        """The worker reported the job's end, or its time is up."""
        if job.state == ABANDONED and job.worker is not None:
            stops.reported(self, job.worker, job.handle, now)
        job.move("complete" if completed else "fail")
        self._release(job)
        self._remove(job, now, job.state)

    def _lose(self, job: Job, now: float) -> None:
        """The job's worker is gone: back to the front of its queue, or dropped if nobody wants it any more."""
        if job.state == RUNNING and 0 < self.rules.losses_max <= job.losses + 1:
            self._release(job)
            job.losses += 1
            self._poison(job, now)
            return
        if job.state == RUNNING:
            tries.note_attempt(self, job, keeping.LOST, b"worker lost", now)
        self._release(job)
        job.losses += 1
        if job.id in self.stops.by_id and job.state == RUNNING:
            self._put_aside(job, now)
            return
        job.move("lose")
        if job.state != QUEUED:
            self._remove(job, now, "cancelled")
            return
        self._note_loss(job)
        job.function.requeue(job)
        course_of(job).since = now + self.wall_offset
        tries.limit_waiting(self, job)
        self._wake(job.function, now)

    def _put_aside(self, job: Job, now: float) -> None:
        """It was taken from a worker that is ending it, and must not run anywhere else before that is over."""
        job.move("retry")
        job.due = now + self.wall_offset
        job.function.delayed += 1
        self.delayed.set(job, job.due)
        self._note_loss(job)

    def _note_loss(self, job: Job) -> None:
        tries.restart_output(self, job, b"its worker was lost")
        self._note("worker lost", job, f"{job.losses} times")
        if job.background:
            tries.save_progress(self, job)

    def _poison(self, job: Job, now: float) -> None:
        """It has taken too many workers along."""
        course_of(job).reason = keeping.POISON
        tries.tell_failed(self, job, b"the job has taken %d workers along" % job.losses, EXIT_WORKER_FAILED)
        job.state = RUNNING
        job.move("fail")
        self._remove(job, now, "failed: too many workers lost")

    def _time_out(self, job: Job, now: float) -> None:
        """The worker took longer than it said it may (CAN_DO_TIMEOUT): the job goes to another one, as in gearmand."""
        assert job.worker is not None
        self._note("timed out", job, "")
        if job.state == RUNNING:  # or its worker was told already that nobody wants it
            giving_up.tell_worker(self, job, now)
        job.worker.expect_late(job.handle)
        limit_s = job.course.limit_s if job.course else 0.0
        if job.state != RUNNING or not limit_s or now < job.started_at + limit_s:
            self._lose(job, now)
        elif not tries.again(self, job, Failure(TIMEOUT, EXIT_TIMEOUT), now):
            tries.tell_failed(self, job, b"the job took longer than %gs" % limit_s, EXIT_TIMEOUT)
            self.finish(job, False, now)

    def _release(self, job: Job) -> None:
        assert job.worker is not None
        self.timeouts.drop(job)
        del job.worker.holds[job.handle]
        job.worker = None
        job.function.running -= 1

    def _remove(self, job: Job, now: float, outcome: str) -> None:
        """Forget a job that has ended."""
        assert job.state in ENDED
        del self.jobs[job.handle]
        if job.payload is not None:
            self.memory -= job.payload_size
        if not self.jobs:
            self.jobs.clear()  # a dict stays as large as it once was: 40 MB after a million jobs
        if job.key is not None:
            self._stop_coalescing(job)
        for watcher in job.watchers:
            del watcher.watches[job.handle]
        job.watchers.clear()
        if self.expiring:
            self.expiring.drop(job)
        if job.background:
            self._end(job, job.state, now)
        elif job.state != CANCELLED:
            waiting.hold(self, job)
        if job.id in self.dependents or (job.course is not None and not job.course.ended):
            waiting.conclude(self, job, job.state, now)
        if self.narrate:
            self._note(outcome, job, f"{now - job.started_at:.3f}s" if job.started_at else "never ran")

    def _end(self, job: Job, outcome: str, now: float) -> None:
        """The journal need not run a background job again."""
        self.effects.changes.append(keeping.end(job, outcome, self.rules.result_max, now, self.wall_offset))
        if self.rules.result_max:
            self.kept += 1
            if job.report is not None:
                self.kept_size += job.report.result_size + job.report.log_size
            if outcome != DONE:
                self.kept_size += job.payload_size
        if job.payload is not None:
            self.payload_memory -= job.payload_size

    def _note(self, event: str, job: Job, detail: str) -> None:
        if self.narrate:
            self.effects.notes.append(Note(event, job.handle, job.function.name, detail))

    def _key(self, unique: bytes, payload: bytes) -> Key | None:
        """What the job may be coalesced by; None: by nothing. An empty unique is no key, `-` compares the payload."""
        if unique == b"-":
            return (payload,) if payload else None
        return unique or None

    def _start_coalescing(self, job: Job, key: Key) -> None:
        job.key = key
        if job.function.coalescing.setdefault(key, job) is job and isinstance(key, bytes):
            self.uniques.add(key, job)

    def _stop_coalescing(self, job: Job) -> None:
        if job.key is not None and job.function.coalescing.get(job.key) is job:
            del job.function.coalescing[job.key]
            if isinstance(job.key, bytes):
                self.uniques.drop(job.key, job)
            if not job.function.coalescing:
                job.function.coalescing.clear()  # gives back its room

    # -- what must always be true

    def check(self) -> None:
        """Assert every invariant; for tests and the simulator (it walks everything)."""
        invariants.check(self)
