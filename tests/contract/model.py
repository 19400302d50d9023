"""What a broker and its store should be, as one dict of jobs and a deque for each function and priority."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

Key = tuple[bytes, bytes, bytes]  # function, unique, payload (empty unless the unique is `-`)
COUNTED_AFTER_S = 1.0  # an attempt that has lasted so long when the time is looked at is written down
BACKOFF_S = 4.0  # of every job
TIMEOUT_PAUSE_S = 6.0
STOP_MAX_S = 15.0  # so long others wait for a command that its worker was told to end
TOLD = (1,)  # the workers that can be told


@dataclass
class Job:
    """watchers, worker: peers' ids. over: how it ended, empty while it lives. retries, timeout_s (0: none), expires
    (when, 0: never): its terms. after: handle -> condition of the jobs that it still waits for. failures, losses,
    before: attempts that ended so, or otherwise. tries: whether it is put aside to be tried again. cron: the entry that
    submitted it."""

    handle: bytes
    function: bytes
    unique: bytes
    payload: bytes
    priority: int
    background: bool
    due: float
    saved_due: float = 0.0
    retries: int = 0
    timeout_s: float = 0.0
    expires: float = 0.0
    after: dict[bytes, bytes] = field(default_factory=dict)
    asked_after: dict[bytes, bytes] = field(default_factory=dict)
    watchers: list[int] = field(default_factory=list)
    worker: int = 0
    started: float = 0.0
    time_up: float = 0.0
    counted: bool = False
    failures: int = 0
    losses: int = 0
    before: int = 0
    key_until: float = 0.0  # of a foreground job: until when its key counts once it has ended
    delayed: bool = False
    abandoned: bool = False
    cancelled: bool = False  # while it ran: for everybody but its worker it is over
    over: str = ""
    cron: str = ""

    @property
    def key(self) -> Key | None:
        """What a submission must have in common with it to join it."""
        return key_of(self.function, self.unique, self.payload)

    @property
    def attempts(self) -> int:
        """How many have begun."""
        return self.before + self.failures + self.losses + bool(self.worker)

    @property
    def state(self) -> str:
        """As the rules call it."""
        if self.worker:
            return "abandoned" if self.abandoned else "running"
        return "waiting" if self.after else "delayed" if self.delayed else "queued"

    @property
    def queued(self) -> bool:
        """Whether it stands in its line."""
        return not (self.worker or self.delayed or self.after)


@dataclass
class Come:
    """How far a job had come when that was written down."""

    attempts: int
    failures: int
    losses: int
    due: float
    running: bool
    after: dict[bytes, bytes]


@dataclass
class Stop:
    """A command that its worker was told to end. outcome: of its job."""

    worker: int
    until: float
    key: Key | None
    outcome: str = "cancelled"


Written = tuple[str, bytes, "Job | Come | str | None"]  # what it is about, which job, what holds


def key_of(function: bytes, unique: bytes, payload: bytes) -> Key | None:
    """An empty key is none; `-` means the payload, where there is one."""
    if unique == b"-":
        return (function, unique, payload) if payload else None
    return (function, unique, b"") if unique else None


def id_of(handle: bytes) -> int:
    """The number behind a handle."""
    _, shard, sequence = handle.split(b":")
    return int(shard, 16) << 40 | int(sequence)


def is_met(condition: bytes, outcome: str) -> bool:
    """Whether a job that was waited for has ended as it was to."""
    return condition == b"any" or (outcome == "done") == (condition == b"ok")


class Model:
    """kept, come, ended: what a crash leaves of each background job that is durable: the job, how far it has come, how
    it ended. was: of ended jobs. paused, keys (until when, as whose): of functions. losses_max: see Rules.
    jumped: by how much the wall clock was set; what is due, expires or counts until some time does so by it."""

    def __init__(self, losses_max: int) -> None:
        self.losses_max = losses_max
        self.jumped = 0.0
        self.kept: dict[bytes, Job] = {}
        self.come: dict[bytes, Come] = {}
        self.ended: dict[bytes, str] = {}
        self.was: dict[bytes, Job] = {}
        self.kept_paused: set[bytes] = set()
        self.kept_keys: dict[Key, tuple[float, bytes]] = {}
        self.handles: set[bytes] = set()
        self.start()

    def start(self) -> None:
        """A new life."""
        self.now = 0.0
        self.jobs: dict[bytes, Job] = {}
        self.queues: dict[tuple[bytes, int], deque[Job]] = {}
        self.joinable: dict[Key, Job] = {}
        self.functions: dict[bytes, tuple[int, int, int]] = {}  # and their limits
        self.abilities: dict[int, dict[bytes, float]] = {}  # of each worker: function -> timeout
        self.held: dict[int, list[Job]] = {}
        self.stops: dict[bytes, Stop] = {}
        self.late: dict[tuple[int, bytes], int] = {}  # ends that a worker owes of jobs for which its time was up
        self.paused = set(self.kept_paused)
        self.keys = {key: held for key, held in self.kept_keys.items() if held[0]}
        self._written: list[Written] = []
        self.pauses = (0.0, 0.0)  # bounds of the newest one
        self._settling: deque[tuple[bytes, str]] = deque()

    @property
    def wall(self) -> float:
        """The wall clock."""
        return self.now + self.jumped

    # -- what is kept

    def commit(self) -> None:
        """All that was decided is durable."""
        for what, handle, row in self._written:
            if what == "saved":
                assert isinstance(row, Job)
                self.kept[handle] = row
            elif what == "come":
                assert isinstance(row, Come)
                self.come[handle] = row
            elif what == "ended":
                self.was[handle] = self.kept.pop(handle)
                self.come.pop(handle, None)
                self.ended[handle] = str(row)
            elif what == "revived":
                assert isinstance(row, Job)
                del self.ended[handle]
                self.kept[handle] = row
            elif what == "purged":
                del self.ended[handle]
        self._written.clear()
        self.kept_paused = set(self.paused)
        self.kept_keys = dict(self.keys)

    def crash(self, now: float) -> None:
        """What was not committed is gone; what was written down as running is lost."""
        alive = [self.kept[handle] for handle in sorted(self.kept, key=id_of)]
        fresh = [
            replace(job, background=True, watchers=[], worker=0, time_up=0.0, counted=False, delayed=False)
            for job in alive
        ]
        self.kept = {job.handle: job for job in fresh}
        self.start()
        self.now = now
        for function in (*self.paused, *(key[0] for key in self.keys)):
            self.functions.setdefault(function, (0, 0, 0))
        doomed = [job for job in fresh if self._resume(job)]
        for job in fresh:
            self.jobs[job.handle] = job
            if job.key is not None:
                self.joinable.setdefault(job.key, job)
            self.functions.setdefault(job.function, (0, 0, 0))
        for job in fresh:
            if job not in doomed:
                self.line_up(job)
        for job in doomed:
            self._end_held(job, "failed")
        for handle in dict.fromkeys(handle for job in fresh for handle in job.after if handle not in self.jobs):
            self.settle(handle, self.ended.get(handle, "lost"))

    def _resume(self, job: Job) -> bool:
        """Returns whether it has taken one worker too many along."""
        job.abandoned = job.cancelled = False
        job.failures = job.losses = job.before = 0
        job.after = dict(job.asked_after)
        come = self.come.get(job.handle)
        job.due = job.saved_due
        if come is None:
            return False
        job.failures, job.losses, job.due = come.failures, come.losses + come.running, come.due
        job.before = come.attempts - job.failures - job.losses
        job.after = dict(come.after)
        return come.running and job.losses >= self.losses_max

    def save(self, job: Job) -> None:
        """It must be kept from now on, and how far it has come."""
        job.background = True
        job.saved_due = job.due
        self._written.append(("saved", job.handle, job))
        self._hold_key(job)
        if job.attempts - bool(job.worker) or job.after.keys() != job.asked_after.keys():
            job.counted |= bool(job.worker)
            self.write_down(job)
        elif job.worker and job.started + COUNTED_AFTER_S <= self.now:
            job.counted = True
            self.write_down(job)

    def write_down(self, job: Job) -> None:
        """How far it has come."""
        if job.background:
            due = job.due if job.delayed or job.after else 0.0
            come = Come(job.attempts, job.failures, job.losses, due, bool(job.worker), dict(job.after))
            self._written.append(("come", job.handle, come))

    # -- jobs come and go

    def add(self, job: Job, now: float) -> None:
        """A new one."""
        self.now = now
        self.handles.add(job.handle)
        self.jobs[job.handle] = job
        self.functions.setdefault(job.function, (0, 0, 0))
        if job.key is not None:
            self.joinable.setdefault(job.key, job)
            waits = [handle for handle, stop in self.stops.items() if stop.key == job.key]
            job.after = {**dict.fromkeys(waits, b"any"), **job.after}
        self.line_up(job)

    def line_up(self, job: Job) -> None:
        """Last in its line, or aside until its time, or until others have ended."""
        job.delayed = not job.after and job.due > self.wall
        if job.queued:
            self.queue(job).append(job)

    def queue(self, job: Job) -> deque[Job]:
        """The line that it stands in, or would."""
        return self.queues.setdefault((job.function, job.priority), deque())

    def count(self, function: bytes) -> int:
        """All of its jobs."""
        return sum(job.function == function for job in self.jobs.values())

    def holder_of(self, key: Key | None) -> bytes:
        """As whose handle the key counts although its job may have ended; empty: as none."""
        until, handle = self.keys.get(key, (0.0, b"")) if key else (0.0, b"")
        return handle if until > self.wall else b""

    def _hold_key(self, job: Job) -> None:
        if job.key and job.key_until:
            self.keys[job.key] = job.key_until, job.handle
            job.key_until = 0.0

    def end(self, job: Job, outcome: str) -> None:
        """It is over."""
        if job.queued:
            self.queue(job).remove(job)
        self._release(job)
        self._close(job)
        del self.jobs[job.handle]
        for other in self.jobs.values():
            if job.cron and job.handle in other.after and other.cron == job.cron:
                other.after.update(dict.fromkeys(job.after, b"any"))
        job.after.clear()
        if job.background:
            self._written.append(("ended", job.handle, outcome))
        elif outcome != "cancelled":
            self._hold_key(job)
        if not job.cancelled:
            self.settle(job.handle, outcome)

    def settle(self, handle: bytes, outcome: str) -> None:
        """Those that waited for it go on, or never will: one end after the other."""
        if handle in self.stops:
            self.stops[handle].outcome = outcome
        self._settling.append((handle, outcome))
        if len(self._settling) > 1:
            return
        while self._settling:
            ended, how = self._settling[0]
            for job in [job for job in self.jobs.values() if ended in job.after]:
                self._settle(job, ended, how)
            self._settling.popleft()

    def _settle(self, job: Job, ended: bytes, outcome: str) -> None:
        if ended not in job.after:
            return
        if not is_met(job.after[ended], outcome):
            self.cancel(job)
            return
        if ended in self.stops:
            return
        del job.after[ended]
        if not job.after:
            self.line_up(job)
        self.write_down(job)

    def unwatch(self, job: Job, peer: int) -> None:
        """This client wants it no more."""
        job.watchers.remove(peer)
        if not job.background and not job.watchers:
            self.give_up(job)

    def give_up(self, job: Job) -> None:
        """Nobody wants it."""
        if job.worker:
            self._close(job)
            job.abandoned = True
            self.tell(job)
        else:
            self.end(job, "cancelled")

    def tell(self, job: Job) -> None:
        """Its worker is to end it, if it can be told."""
        if job.worker in TOLD:
            self.stops[job.handle] = Stop(job.worker, self.now + STOP_MAX_S, job.key)

    def stop_over(self, handle: bytes) -> None:
        """What waited for a command to be gone goes on."""
        stop = self.stops.pop(handle, None)
        job = self.jobs.get(handle)
        if stop is not None and not (job is not None and job.delayed):
            self.settle(handle, stop.outcome)

    def report_late(self, worker: int, handle: bytes) -> None:
        """The end of an attempt for which this worker's time was up."""
        self.late[worker, handle] -= 1
        if not self.late[worker, handle]:
            del self.late[worker, handle]
            if handle in self.stops and self.stops[handle].worker == worker:
                self.stop_over(handle)

    def cancel(self, job: Job) -> None:
        """Somebody ends it: for its clients, and for good."""
        job.watchers.clear()
        if job.abandoned:
            return
        ran = bool(job.worker)
        self.give_up(job)
        if ran:
            if job.background:
                self._written.append(("ended", job.handle, "cancelled"))
            job.background = False
            job.cancelled = True
            self.settle(job.handle, "cancelled")

    def time_is_up(self, job: Job) -> None:
        """For a job that its worker has; it is about to be taken from it."""
        if not job.abandoned:
            self.tell(job)
        self.late[job.worker, job.handle] = self.late.get((job.worker, job.handle), 0) + 1

    def die(self, worker: int) -> None:
        """A worker is gone, and what it had goes to others."""
        self.late = {about: owed for about, owed in self.late.items() if about[0] != worker}
        for handle in [handle for handle, stop in self.stops.items() if stop.worker == worker]:
            self.stop_over(handle)
        for job in reversed(list(self.held.get(worker, ()))):
            self.lose(job)

    def fail(self, job: Job, timed_out: bool = False) -> None:
        """Its attempt has failed: it is tried again after a pause, which its test knows, or is dead."""
        if job.abandoned:
            self.stop_over(job.handle)
        if job.abandoned or job.failures >= job.retries:
            job.failures += 1
            self._release(job)
            self._end_held(job, "cancelled" if job.abandoned else "failed")
            return
        self._release(job)
        job.failures += 1
        job.delayed = True
        longest = BACKOFF_S * 2 ** (job.failures - 1)
        least = TIMEOUT_PAUSE_S if timed_out else 0.0
        self.pauses = max(least, longest * 0.75), max(least, longest)

    def _end_held(self, job: Job, outcome: str) -> None:
        self._close(job)
        del self.jobs[job.handle]
        if job.background:
            self._written.append(("ended", job.handle, outcome))
        elif outcome != "cancelled":
            self._hold_key(job)
        if not job.cancelled:
            self.settle(job.handle, outcome)

    def complete(self, job: Job) -> None:
        """Its worker is done."""
        if job.abandoned:
            self.stop_over(job.handle)
        self._release(job)
        self._end_held(job, "cancelled" if job.abandoned else "done")

    def lose(self, job: Job) -> None:
        """Its worker is gone."""
        self._release(job)
        job.losses += 1
        if job.abandoned or job.losses >= self.losses_max:
            self._end_held(job, "cancelled" if job.abandoned else "failed")
            return
        if job.handle in self.stops:
            job.delayed, job.due = True, self.now
        else:
            self.queue(job).appendleft(job)
        self.write_down(job)

    def run_again(self, job: Job, before: int) -> None:
        """An ended job is there again."""
        job = replace(
            self.was[job.handle], due=0.0, saved_due=0.0, expires=0.0, after={}, asked_after={}, failures=0, losses=0
        )
        job.before, job.worker, job.background, job.watchers = before, 0, True, []
        job.abandoned = job.cancelled = job.delayed = job.counted = False
        self._written.append(("revived", job.handle, job))
        self.add(job, self.now)
        self.write_down(job)

    def purge(self, handle: bytes) -> None:
        """Nothing is known of it any more."""
        self._written.append(("purged", handle, None))

    def pass_time(self, now: float) -> None:
        """What is due stands in line; who waits too long is gone; who is too slow loses its job."""
        self.now = now
        for handle in [handle for handle, stop in self.stops.items() if stop.until <= now]:
            self.stop_over(handle)
        for job in sorted(self.jobs.values(), key=lambda job: (job.due, id_of(job.handle))):
            if job.delayed and job.due <= self.wall and job.handle not in self.stops:
                job.delayed = False
                self.queue(job).append(job)
        while late := [job for job in self.jobs.values() if self._waits_too_long(job)]:
            self.end(min(late, key=lambda job: (job.expires, id_of(job.handle))), "expired")
        for job in self.jobs.values():
            runs = job.worker and not job.abandoned and job.background
            if runs and not job.counted and job.started + COUNTED_AFTER_S <= now:
                job.counted = True
                self.write_down(job)

    def _waits_too_long(self, job: Job) -> bool:
        return not job.attempts and 0 < job.expires <= self.wall

    def slow(self) -> Iterable[Job]:
        """Those whose time is up, the last one first, for those that are put back come in front."""
        late = [job for job in self.jobs.values() if job.worker and 0 < job.time_up <= self.now]
        return sorted(late, key=lambda job: (job.time_up, id_of(job.handle)), reverse=True)

    def _release(self, job: Job) -> None:
        if job.worker:
            self.held[job.worker].remove(job)
        job.worker, job.time_up, job.counted = 0, 0.0, False

    def _close(self, job: Job) -> None:
        if job.key is not None and self.joinable.get(job.key) is job:
            del self.joinable[job.key]
