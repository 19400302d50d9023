"""Jobs that wait for other jobs, and what happens when a job has ended. Rules, as in broker.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from farm.broker import record, tries
from farm.broker.course import course_of, own_terms
from farm.broker.effects import UniqueUntil
from farm.broker.job import DONE, handle_of, id_of
from farm.broker.terms import ANY, OK
from farm.errors import PacketRefused
from farm.protocol import packets
from farm.protocol.packets import response

if TYPE_CHECKING:
    from farm.broker.broker import Broker
    from farm.broker.function import Function
    from farm.broker.job import Job
    from farm.broker.peer import Peer

After = tuple[tuple[bytes, bytes], ...]


# -- dependencies


def outcomes(broker: Broker, after: After) -> dict[bytes, str]:
    """How the jobs that are named have ended, "" for one that has not. Raises PacketRefused where there is no such job,
    and NotYet."""
    found = {}
    for _, handle in after:
        if live(broker, handle) is not None:
            found[handle] = ""
            continue
        if (stop := broker.stops.by_id.get(id_of(handle))) is not None:
            found[handle] = stop.outcome
            continue
        past = broker.history.about(id_of(handle))
        if past is None:
            raise PacketRefused(b"JOB_NOT_FOUND", b"after names no job that is known: " + handle[:64], close=False)
        found[handle] = past.outcome
    return found


def begin(broker: Broker, job: Job, after: After, found: dict[bytes, str]) -> bytes:
    """A new job waits for those that have not ended, and those whose command is being stopped. Returns why it can never
    run, empty: it may."""
    for condition, handle in after:
        id, outcome = id_of(handle), found[handle]
        if outcome and not _is_met(condition, outcome):
            return _unmet(condition, handle, outcome)
        if not outcome or id in broker.stops.by_id:
            add(broker, job, id, condition)
    return b""


def add(broker: Broker, job: Job, id: int, condition: bytes) -> None:
    """A new job waits for that one too."""
    course_of(job).after[id] = condition
    broker.dependents.setdefault(id, {})[job] = None


def _is_met(condition: bytes, outcome: str) -> bool:
    """OK: it is done; ANY: it has ended; FAIL: it has ended otherwise."""
    return condition == ANY or (outcome == DONE) == (condition == OK)


def _unmet(condition: bytes, handle: bytes, outcome: str) -> bytes:
    return b"needs %s:%s, which is %s" % (condition, handle, record.shown_state(outcome).encode())


def forget(broker: Broker, job: Job) -> None:
    """The job does not wait for others any more."""
    if job.course and job.course.after:
        for id in job.course.after:
            _wait_no_more(broker, job, id)
        job.course.after.clear()


def _wait_no_more(broker: Broker, job: Job, id: int) -> None:
    others = broker.dependents[id]
    del others[job]
    if not others:
        del broker.dependents[id]


def settle(broker: Broker, id: int, outcome: str, now: float) -> None:
    """A job has ended: those that waited for it go on, or never will. One after the other, for their ends settle others
    in turn, and such a chain may be longer than calls can be deep."""
    broker.settling.append((id, outcome))
    if len(broker.settling) > 1:
        return
    while broker.settling:
        ended, how = broker.settling[0]
        for job in list(broker.dependents.get(ended, ())):
            _settle(broker, job, ended, how, now)
        broker.settling.popleft()


def _settle(broker: Broker, job: Job, ended: int, outcome: str, now: float) -> None:
    condition = job.course.after.get(ended) if job.course else None
    if job.course is None or condition is None:  # another of its conditions has settled it in this very chain
        return
    if not _is_met(condition, outcome):
        broker.drop(job, _unmet(condition, handle_of(ended), outcome), now)
        return
    if ended in broker.stops.by_id:
        return  # its command may still run: once more when that is over
    _wait_no_more(broker, job, ended)
    del job.course.after[ended]
    if not job.course.after:
        _release(broker, job, now)
    if job.background:
        tries.save_progress(broker, job)


def _release(broker: Broker, job: Job, now: float) -> None:
    job.function.waiting -= 1
    course_of(job).since = now + broker.wall_offset
    if job.due > now + broker.wall_offset:
        job.move("delay")
        job.function.delayed += 1
        broker.delayed.set(job, job.due)
    else:
        job.move("release")
        job.function.enqueue(job)
    tries.limit_waiting(broker, job)
    broker._wake(job.function, now)


def restored(broker: Broker, now: float) -> None:
    """All stored jobs are here again: those that wait for jobs that are not have missed their end, or it was the end of
    a foreground job, which nobody knows any more."""
    for id in [id for id in broker.dependents if handle_of(id) not in broker.jobs]:
        past = broker.history.about(id)
        settle(broker, id, past.outcome if past else "lost", now)


# -- ends


def conclude(broker: Broker, job: Job, outcome: str, now: float) -> None:
    """Tell everybody who asked that the job has ended. Its end is among the changes already."""
    course = job.course
    if course is not None:
        course.ended = True
        tell_readers(broker, job)
        end = record.end(outcome, course.reason, course.exit_code)
        for peer in course.waiters:
            broker.effects.promise(peer.id, response(packets.FARM_ENDED, job.handle, end))
            peer.waits.pop(job.handle, None)
        course.waiters.clear()
        if course.after and course.terms.cron is not None:
            hand_down(broker, job)
    forget(broker, job)
    if (stop := broker.stops.by_id.get(job.id)) is not None:
        stop.outcome = outcome
    if job.id in broker.dependents:
        settle(broker, job.id, outcome, now)


def hand_down(broker: Broker, job: Job) -> None:
    """A cron entry's job has ended while it waited for its turn: those of the entry that are behind it wait for whom it
    waited for, for their turn has not come by that."""
    for other in broker.dependents.get(job.id, ()):
        if own_terms(other).cron == own_terms(job).cron:
            for id in course_of(job).after:
                add(broker, other, id, ANY)


def tell_readers(broker: Broker, job: Job) -> None:
    """There is more of its output, or it has ended: who waits for that asks again."""
    if job.course and job.course.readers:
        readers, job.course.readers = job.course.readers, []
        for reader in readers:
            if reader.peer not in job.course.waiters:
                reader.peer.waits.pop(job.handle, None)
            broker.later.append((reader.peer.id, packets.FARM_ASK, reader.ask))


def live(broker: Broker, handle: bytes) -> Job | None:
    """The job of this handle, unless it has ended for everybody but its worker."""
    job = broker.jobs.get(handle)
    return None if job is None or (job.course and job.course.ended) else job


def leave(peer: Peer) -> None:
    """The connection is gone: it waits for nothing."""
    for job in peer.waits.values():
        if job.course is not None:
            job.course.waiters = [other for other in job.course.waiters if other is not peer]
            job.course.readers = [reader for reader in job.course.readers if reader.peer is not peer]
    peer.waits.clear()


# -- keys that count when their job has ended


def holder(function: Function, unique: bytes, wall: float) -> int:
    """The id of the job as whose this key counts although it may have ended; 0: of none."""
    until, id = function.uniques.get(unique, (0.0, 0))
    return id if until > wall else 0


def must_have_room(broker: Broker, function: Function, unique: bytes) -> None:
    """Raise PacketRefused where one more such key is too many."""
    if broker.held_keys >= broker.rules.keys_max and unique not in function.uniques:
        raise PacketRefused(b"QUEUE_ERROR", b"Too many keys that outlive their jobs", close=False)


def will_hold(broker: Broker, job: Job, until: float) -> None:
    """The key of this new job is to count until then, also when it has ended.

    That of a background job does from now on, whatever becomes of it. A foreground job's does once it has ended, unless
    it was given up: it is kept nowhere, so when the server dies its key must not keep away those who would run it."""
    course_of(job).key_until = until
    if job.background:
        hold(broker, job)


def hold(broker: Broker, job: Job) -> None:
    """The job's key counts for as long as its submission said, if it did."""
    if job.course is None or not job.course.key_until:
        return
    until, job.course.key_until = job.course.key_until, 0.0
    broker.held_keys += job.unique not in job.function.uniques
    job.function.uniques[job.unique] = (until, job.id)
    broker.effects.changes.append(UniqueUntil(job.function.name, job.unique, job.id, until))


def let_go(broker: Broker, function: Function, unique: bytes) -> None:
    """The key counts no longer as that of any job that has ended."""
    held = function.uniques.pop(unique, None)
    if held is not None:
        broker.effects.changes.append(UniqueUntil(function.name, unique, held[1], 0.0))


def drop_old_keys(broker: Broker, wall: float) -> None:
    """Forget those whose time is up, as the store does when it is told to Expire."""
    broker.held_keys = 0
    for function in broker.functions.values():
        if function.uniques:
            function.uniques = {key: held for key, held in function.uniques.items() if held[0] > wall}
            broker.held_keys += len(function.uniques)
