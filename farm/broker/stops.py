"""Commands that are being stopped: what is ordered after a job begins when its command is gone, not when its end was
told. Rules, as in broker.py.

A worker that speaks the extension is told when a job is taken from it: cancelled, replaced, out of time. Its command
then gets TERM, and KILL a while later, and may do harm in between to whoever runs beside it. Everybody hears of the
job's end at once; but a dependent, the cron entry's next run, a job of the same key and the job's own next attempt
wait until the worker has reported the end, has gone, or has had STOP_MAX_S for it. A stock worker cannot be told, and
nobody waits for it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from farm.broker import waiting
from farm.broker.course import course_of
from farm.broker.effects import Usage
from farm.broker.job import CANCELLED, DELAYED, handle_of, id_of
from farm.broker.terms import ANY

if TYPE_CHECKING:
    from farm.broker.broker import Broker
    from farm.broker.function import Function
    from farm.broker.job import Job, Key
    from farm.broker.peer import Peer

# A worker of farm needs six seconds at the most: TERM, KILL after five, and one for what the command left behind. Twice
# that and more, for one that is busy or far away; a worker whose job cannot be stopped at all (a function of the
# library) holds up nothing for longer.
STOP_MAX_S = 15.0


class Stop:
    """One of them. worker: who was told, by the name `name`. until: monotonic seconds. number: of the attempt. outcome:
    how its job has ended, if it has. key: as what it held its key, None: it has none. kept: its end is in the store, or
    will be."""

    __slots__ = ("kept", "key", "name", "number", "outcome", "until", "worker")

    def __init__(self, job: Job, worker: Peer, until: float, kept: bool) -> None:
        self.worker = worker
        self.name = job.worker_name
        self.until = until
        self.number = job.attempts
        self.outcome = CANCELLED
        self.key = None if job.key is None else (job.function, job.key)
        self.kept = kept


class Stops:
    """All of them by the job's id, in order of time, for all have the same. by_key: the ids by function and key."""

    def __init__(self) -> None:
        self.by_id: dict[int, Stop] = {}
        self.by_key: dict[tuple[Function, Key], int] = {}

    def add(self, id: int, stop: Stop) -> None:
        """The newest of all."""
        if id in self.by_id:
            self.remove(id)
        self.by_id[id] = stop
        if stop.key is not None:
            self.by_key[stop.key] = id

    def remove(self, id: int) -> None:
        """It is over."""
        stop = self.by_id.pop(id)
        if stop.key is not None and self.by_key.get(stop.key) == id:
            del self.by_key[stop.key]

    def next(self) -> float | None:
        """When the first of them has had its time; None: there is none."""
        return next(iter(self.by_id.values())).until if self.by_id else None


def begin(broker: Broker, job: Job, now: float) -> None:
    """The worker of a running job was told to end it."""
    assert job.worker is not None
    kept = job.background and broker.rules.result_max > 0
    broker.stops.add(job.id, Stop(job, job.worker, now + STOP_MAX_S, kept))


def of_worker(broker: Broker, peer: Peer, handle: bytes) -> Stop | None:
    """The one of this handle, if this is the worker that was told."""
    stop = broker.stops.by_id.get(id_of(handle)) if broker.stops.by_id else None
    return stop if stop is not None and stop.worker is peer else None


def over(broker: Broker, id: int, now: float) -> None:
    """The command is gone, or nobody waits for that any longer: what was held up goes on."""
    stop = broker.stops.by_id[id]
    broker.stops.remove(id)
    job = broker.jobs.get(handle_of(id))
    if job is not None and job.state == DELAYED:
        course_of(job).since = now + broker.wall_offset
        broker.delayed.set(job, job.due)
    elif id in broker.dependents:
        waiting.settle(broker, id, stop.outcome, now)


def reported(broker: Broker, peer: Peer, handle: bytes, now: float) -> None:
    """This worker has reported the end of a job that it may have been told to end."""
    if of_worker(broker, peer, handle) is not None:
        over(broker, id_of(handle), now)


def left(broker: Broker, peer: Peer, now: float) -> None:
    """A connection is gone: of what it ran nothing more will be heard."""
    for id in [id for id, stop in broker.stops.by_id.items() if stop.worker is peer]:
        over(broker, id, now)


def tick(broker: Broker, now: float) -> None:
    """Wait no longer for those that have had their time."""
    while (due := broker.stops.next()) is not None and due <= now:
        over(broker, next(iter(broker.stops.by_id)), now)


def hold_back(broker: Broker, job: Job) -> bool:
    """Whether a job whose time has come must wait until its own earlier attempt is over: till then it has no time."""
    if job.id not in broker.stops.by_id:
        return False
    broker.delayed.set(job, math.inf)
    return True


def wait_for_key(broker: Broker, job: Job) -> None:
    """A new job waits for the command of an earlier one that had its key."""
    if job.key is not None and (id := broker.stops.by_key.get((job.function, job.key))):
        waiting.add(broker, job, id, ANY)


def used(broker: Broker, peer: Peer, handle: bytes, cpu_s: float, peak: int) -> bool:
    """What such a command used is known, as a rule just before its end. Whether it was one."""
    stop = of_worker(broker, peer, handle)
    if stop is not None and stop.kept:
        broker.effects.changes.append(Usage(id_of(handle), stop.number, cpu_s, peak))
    return stop is not None


def named(broker: Broker, id: int) -> bytes:
    """The name of the worker at which the job's command is being stopped; empty: there is none."""
    stop = broker.stops.by_id.get(id)
    return stop.name if stop is not None else b""
