"""Attempts: what is kept of each, when there is another one, and what a run may take. Rules, as in broker.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from farm.broker import keeping
from farm.broker.course import course_of, terms_of
from farm.broker.effects import Progress
from farm.broker.job import CANCELLED, DELAYED, DONE, EXPIRED, FAILED, QUEUED, RUNNING, WAITING, handle_of, id_of
from farm.broker.keeping import POISON, TIMED_OUT
from farm.broker.retry import TIMEOUT, Failure, delay_s, failure_of
from farm.broker.terms import NOTHING, encode_after
from farm.errors import EXIT_TIMEOUT, EXIT_WORKER_FAILED
from farm.protocol import extension, packets
from farm.protocol.names import one_word
from farm.protocol.packets import response

if TYPE_CHECKING:
    from farm.broker.broker import Broker
    from farm.broker.job import Job

# An attempt that has lasted so long is counted on disk: one that takes the machine along is seen.
COUNTED_AFTER_S: Final = 1.0
EXIT_CANCELLED = 130  # of a cancelled job: as if by Ctrl-C


def begun(broker: Broker, job: Job, now: float) -> float:
    """An attempt begins. Returns how long it may take, 0: for ever."""
    assert job.worker is not None
    limit_s = time_limit(job)
    course = course_of(job) if limit_s else job.course
    if course is not None:
        course.limit_s = limit_s  # whatever is set for its function meanwhile
        course.exit_code = course.peak = -1
        course.cpu_s = -1.0
        course.exit_is_farms = course.counted = False
        course.reason = b""
    if broker.expiring:
        broker.expiring.drop(job)
    broker.young.append((now + COUNTED_AFTER_S, job))  # a foreground job may become a background one
    workers_s = job.worker.can_do.get(job.function, 0.0)
    return min(workers_s, limit_s) if workers_s and limit_s else workers_s or limit_s


def time_limit(job: Job) -> float:
    """What a run may take by the job's or its function's terms, 0: as long as it likes. (A worker's own limit comes
    with CAN_DO_TIMEOUT.)"""
    if job.course is None and job.function.settings is NOTHING:
        return 0.0
    return terms_of(job).timeout_s or 0.0


def count_young(broker: Broker, now: float) -> None:
    """Tell the journal of those attempts that have lasted for a while."""
    while broker.young and broker.young[0][0] <= now:
        due, job = broker.young.popleft()
        if is_young(due, job) and job.background and not (job.course and job.course.counted):
            course_of(job).counted = True
            save_progress(broker, job)


def now_background(broker: Broker, job: Job, now: float) -> None:
    """A job has become a background job: how far it has come is to be known."""
    far = has_come_far(job) or (job.state == RUNNING and job.started_at + COUNTED_AFTER_S <= now)
    if far and job.state == RUNNING:
        course_of(job).counted = True
    if far:
        save_progress(broker, job)


def has_come_far(job: Job) -> bool:
    """Whether a job is no longer as its terms alone say: it was tried, or a job that it was to wait for has ended, and
    may not be known any more after a restart, or it waits for one that had its key."""
    course = job.course
    return job.tried > 0 or (
        course is not None and course.after.keys() != {id_of(handle) for _, handle in course.terms.after}
    )


def is_young(due: float, job: Job) -> bool:
    """Whether the attempt that this entry of `young` is about still runs."""
    return job.state == RUNNING and job.started_at + COUNTED_AFTER_S == due


def save_progress(broker: Broker, job: Job) -> None:
    """Let the journal know how far a background job has come."""
    course = job.course
    broker.effects.changes.append(
        Progress(
            job.id,
            job.attempts,
            course.failures if course else 0,
            job.losses,
            job.due if job.state in (DELAYED, WAITING) else 0.0,
            job.worker is not None,
            encode_after(tuple((condition, handle) for condition, handle in waits_for(job))),
            job.started_at + broker.wall_offset if job.worker is not None else 0.0,
            one_word(job.worker_name) if job.worker is not None else b"",
        )
    )


def hand_back(broker: Broker, job: Job) -> None:
    """The running attempt ends with the server, in good order: it has begun, and was not lost."""
    course = course_of(job)
    broker.effects.changes.append(Progress(job.id, job.attempts, course.failures, job.losses))


def waits_for(job: Job) -> list[tuple[bytes, bytes]]:
    """The conditions and handles that the job still waits for."""
    return [(condition, handle_of(id)) for id, condition in job.course.after.items()] if job.course else []


def again(broker: Broker, job: Job, failure: Failure, now: float) -> bool:
    """The running attempt has failed. Whether there is another one: then the job is on its way to it."""
    terms, course = terms_of(job), course_of(job)
    failures = course.failures + 1
    course.reason = failure.reason
    pause_s = delay_s(terms, failure, failures, job.id)
    if pause_s is None:
        course.failures = failures
        return False
    note_attempt(broker, job, TIMED_OUT if failure.kind == TIMEOUT else FAILED, failure.reason, now)
    broker._release(job)
    course.failures = failures
    job.move("retry")
    course.retries = terms.retries or 0
    of = b"%d of %d" % (failures, course.retries)
    course.reason = b"%s, retry %s" % (failure.reason, of)
    restart_output(broker, job, b"%s; retry %s in %.1f s" % (failure.reason, of, pause_s))
    job.due = now + broker.wall_offset + pause_s
    job.function.delayed += 1
    broker.delayed.set(job, job.due)
    limit_waiting(broker, job)
    if job.background:
        save_progress(broker, job)
    broker._note("retried", job, course.reason.decode())
    return True


def failure(job: Job) -> Failure:
    """How the running attempt failed, by what its worker said."""
    course = job.course
    return failure_of(course.exit_code, course.exit_is_farms) if course else failure_of(-1, False)


def note_attempt(broker: Broker, job: Job, outcome: str, reason: bytes, now: float) -> None:
    """Keep what is known of the running attempt, which has ended and was not the job's last."""
    if job.background and broker.rules.result_max:
        broker.effects.changes.append(keeping.attempt(job, outcome, reason, now, broker.wall_offset))


def restart_output(broker: Broker, job: Job, why: bytes) -> None:
    """What has gone by of the attempt that ended does not count any more."""
    job.numerator = job.denominator = b"0"
    job.report = None
    for watcher in job.watchers:
        if watcher.extension and job.streamed:
            broker.effects.send(watcher.id, response(packets.FARM_JOB_RESTARTED, job.handle, why))
    job.streamed = False


def limit_waiting(broker: Broker, job: Job) -> None:
    """Set, or take back, the time at which a job that waits has waited too long."""
    if job.course is None and job.function.settings is NOTHING and job not in broker.expiring:
        return
    terms = terms_of(job)
    created = job.queued_at + broker.wall_offset
    times = []
    if not job.attempts:
        if terms.expires_at is not None:
            times.append(terms.expires_at)
        elif terms.expires_s is not None:
            times.append(created + terms.expires_s)
    if job.state == QUEUED and terms.queue_timeout_s is not None:
        since = job.course.since if job.course else 0.0
        times.append(max(created, job.due, since) + terms.queue_timeout_s)
    if times:
        broker.expiring.set(job, min(times))
    else:
        broker.expiring.drop(job)


def tell_failed(broker: Broker, job: Job, text: bytes, code: int) -> None:
    """The server ends the job: who waits for its output hears why, and that it failed. A stock client only the latter:
    it would take the exit code for output."""
    for watcher in job.watchers:
        if watcher.extension:
            for said in (b"farm: " + text + b"\n", extension.exit_trailer(code, extension.ORIGIN_FARM)):
                broker.effects.send(watcher.id, response(packets.WORK_WARNING, job.handle, said))
        broker.effects.send(watcher.id, response(packets.WORK_FAIL, job.handle))


def exit_of(outcome: str, reason: bytes, exit_code: int) -> int:
    """The exit code that stands for a job's end, as `farm wait` gives it."""
    if outcome == DONE:
        return 0
    if outcome == CANCELLED:
        return EXIT_CANCELLED
    if outcome == EXPIRED or reason == b"timeout":
        return EXIT_TIMEOUT
    if reason == POISON:
        return EXIT_WORKER_FAILED
    return exit_code if exit_code > 0 else 1
