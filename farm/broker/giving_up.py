"""Jobs that somebody does not want any more, or that nobody may have: clients that leave, cancels, expiry. Rules, as in
broker.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from farm.broker import stops, tries
from farm.broker.course import course_of
from farm.broker.job import ABANDONED, DELAYED, EXPIRED, QUEUED, RUNNING
from farm.errors import EXIT_TIMEOUT
from farm.protocol import extension, packets
from farm.protocol.packets import response

if TYPE_CHECKING:
    from farm.broker.broker import Broker
    from farm.broker.job import Job
    from farm.broker.peer import Peer


def unwatch(broker: Broker, job: Job, peer: Peer, now: float) -> bytes:
    """`peer` no longer waits for `job`; when nobody does and it is no background job, it ends. Returns the outcome
    as one of the extension's CANCEL_ words."""
    del peer.watches[job.handle]
    job.watchers.remove(peer)
    if job.background or job.watchers:
        return extension.CANCEL_SHARED
    return give_up(broker, job, now)


def cancel(broker: Broker, peer: Peer, handle: bytes, now: float) -> bytes:
    """A client gives up a job that it waits for. Returns one of the extension's CANCEL_ words."""
    job = peer.watches.get(handle)
    return extension.CANCEL_UNKNOWN if job is None else unwatch(broker, job, peer, now)


def cancel_by_admin(broker: Broker, handle: bytes, now: float) -> bool:
    """Whoever waits for the job hears that it failed; a background job is forgotten. False: no such job."""
    job = broker.jobs.get(handle)
    if job is None or job.state == ABANDONED:
        return False
    broker.drop(job, b"", now)
    return True


def expire(broker: Broker, job: Job, now: float) -> None:
    """It has waited too long."""
    before = job.state
    job.move("expire")
    course_of(job).reason = b"waited too long"
    _stop_waiting(broker, job, before)
    tries.tell_failed(broker, job, b"the job has waited too long and has expired", EXIT_TIMEOUT)
    broker._remove(job, now, EXPIRED)


def give_up(broker: Broker, job: Job, now: float) -> bytes:
    """Nobody wants the job any more: it goes, or its worker is told. Returns a CANCEL_ word of the extension."""
    before = job.state
    job.move("abandon")
    broker._stop_coalescing(job)  # nobody may join a job that is being given up
    if before != RUNNING:
        _stop_waiting(broker, job, before)
        broker._remove(job, now, "cancelled")
        return extension.CANCEL_DROPPED
    return tell_worker(broker, job, now)


def _stop_waiting(broker: Broker, job: Job, before: str) -> None:
    """It has left one of the states in which jobs wait, without having been run."""
    if before == QUEUED:
        job.function.discard(job)
    elif before == DELAYED:
        job.function.delayed -= 1
        broker.delayed.drop(job)
    else:
        job.function.waiting -= 1


def tell_worker(broker: Broker, job: Job, now: float) -> bytes:
    """That nobody wants the job, if it can be told. Returns a CANCEL_ word of the extension."""
    assert job.worker is not None
    if not job.worker.extension:
        return extension.CANCEL_UNHEARD
    stops.begin(broker, job, now)
    broker.effects.send(job.worker.id, response(packets.FARM_JOB_CANCEL, job.handle))
    return extension.CANCEL_TOLD
