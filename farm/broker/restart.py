"""What an earlier life of the server has kept comes back, as does a job that has ended and is run again. Rules, as in
broker.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from farm.broker import crons, functions, keeping, tries, waiting
from farm.broker.course import course_of
from farm.broker.effects import CronRow, Known, Note, Past, Progress, Revive, Save, UniqueUntil
from farm.broker.job import DONE, Job, handle_of
from farm.broker.terms import NOTHING, Terms, encode, parse_after, parse_stored
from farm.errors import PacketRefused

if TYPE_CHECKING:
    from farm.broker.broker import Broker
    from farm.broker.function import Function


def know(broker: Broker, known: Known) -> None:
    """What a store knows besides jobs; before `restore`."""
    if isinstance(known, Progress):
        broker.unfinished[known.id] = known
        return
    if isinstance(known, UniqueUntil) and not known.until:
        return
    if isinstance(known, CronRow):
        crons.know(broker, known)
        return
    function = broker.functions.get(known.function) or broker._add_function(known.function)
    if isinstance(known, UniqueUntil):
        function.uniques[known.unique] = (known.until, known.id)
    else:
        functions.apply(function, known.words)


def restore(broker: Broker, saved: Save, now: float) -> None:
    """Queue a job again that the journal kept from an earlier life of this server. It was acknowledged, so no limit
    on what is new refuses it."""
    id, name, unique, priority, payload, reducer, due, created, terms = saved
    function = broker.functions.get(name) or broker._add_function(name)
    job = Job(id, function, unique, priority, True, payload, created - broker.wall_offset if created else now)
    broker._take_up(job, broker._key(unique, payload) if unique else None)
    broker._hold_payload(job)
    job.reducer = reducer
    # Most jobs are plain, and the start waits for each of them. Nobody is there yet to be woken.
    if not terms and not due and function.settings is NOTHING and id not in broker.unfinished:
        function.enqueue(job)
        return
    job.due = due or 0.0  # the one 0.0, not a float for each of a million jobs
    if terms:
        course_of(job).terms = _stored_terms(broker, saved)
        crons.lives_again(broker, job)
    progress = broker.unfinished.pop(id, None)
    if progress is not None:
        resume(broker, job, progress)
        course_of(job).since = now + broker.wall_offset
    after = (
        parse_after(progress.after, None)  # besides those that it named it may wait for some more
        if progress is not None
        else job.course.terms.after
        if job.course
        else ()
    )
    if after:
        waiting.begin(broker, job, after, dict.fromkeys((handle for _, handle in after), ""))
    if progress is not None and progress.running and 0 < broker.rules.losses_max <= job.losses:
        broker.doomed.append(job)  # when those are here too that wait for it
        return
    broker._line_up(job, now)


def _stored_terms(broker: Broker, saved: Save) -> Terms:
    """Of a stored job. It was acknowledged, so it runs even where this version does not understand them."""
    try:
        return parse_stored(saved.terms)
    except PacketRefused as refused:
        words = refused.text.decode(errors="replace")
        broker.effects.notes.append(Note("terms not understood", handle_of(saved.id), saved.function, words))
        return NOTHING


def resume(broker: Broker, job: Job, progress: Progress) -> None:
    """It had come so far before the restart; what ran then, and was not handed back, was lost with the server."""
    course = course_of(job)
    course.failures = progress.failures
    course.before = max(0, progress.attempts - progress.failures - progress.losses - progress.running)
    job.losses = progress.losses + progress.running
    job.due = progress.due
    if progress.running and broker.rules.result_max:  # said again at the next start, unless another one has begun
        broker.effects.changes.append(keeping.killed(progress))


def restored(broker: Broker, now: float) -> None:
    """All that a store knows is here."""
    broker.unfinished.clear()
    doomed, broker.doomed = broker.doomed, []
    for job in doomed:
        broker._poison(job, now)
    waiting.restored(broker, now)


def hand_back(broker: Broker) -> None:
    """The server leaves in good order: what still runs is not the fault of any job."""
    for peer in broker.peers.values():
        for job in peer.holds.values():
            if job.background and job.course is not None and job.course.counted:
                tries.hand_back(broker, job)


def refusal(broker: Broker, past: Past) -> str:
    """Why an ended job cannot be run again, as `farm retry` says it; empty: it can."""
    if past.outcome == DONE:
        return "done"
    if handle_of(past.id) in broker.jobs or past.id in broker.stops.by_id:  # its worker has not given it up yet
        return "live"
    if past.payload_size < 0:
        return "gone"
    function = broker.functions.get(past.function)
    return "exists" if past.unique and function is not None and past.unique in function.coalescing else ""


def revive(broker: Broker, past: Past, payload: bytes, now: float) -> None:
    """A job that has ended badly is run again, under its handle."""
    function = broker.function(past.function)
    job = Job(past.id, function, past.unique, past.priority, True, payload, now)
    job.queued_at = past.created - broker.wall_offset
    job.reducer = past.reducer
    course = course_of(job)
    course.terms = parse_stored(past.terms)._replace(after=(), expires_at=_expiry_anew(broker, function, now))
    end, earlier = broker.history.ended(past.id), [attempt.number for attempt in broker.history.attempts(past.id)]
    course.before = max(past.number, past.failures + past.losses, *earlier)
    course.since = now + broker.wall_offset
    broker._take_up(job, broker._key(past.unique, payload))
    broker._hold_payload(job)
    broker.effects.changes.append(Revive(job.id, encode(course.terms)))
    if past.number:
        broker.effects.changes.append(keeping.last_attempt(past, end.log if end else b""))
    tries.save_progress(broker, job)
    crons.run_again(broker, job)
    broker._note("run again", job, "")
    broker._line_up(job, now)


def _expiry_anew(broker: Broker, function: Function, now: float) -> float | None:
    """When a job that is run again expires, as if it were submitted now without a word about that."""
    expires_s = function.settings.expires_s
    return None if expires_s is None else now + broker.wall_offset + expires_s
