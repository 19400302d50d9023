"""What is kept of a background job: its row while it lives, and how it ended afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

from farm.broker.course import own_terms, terms_of
from farm.broker.effects import Attempt, Finish, Forget, Past, Progress, Save
from farm.broker.job import DONE, FAILED
from farm.broker.terms import encode
from farm.protocol import packets
from farm.protocol.extension import ORIGIN_FARM, ORIGIN_JOB, exit_trailer, parse_exit_trailer, safe_pieces

if TYPE_CHECKING:
    from farm.broker.job import Job

LOST, TIMED_OUT = "lost", "timeout"  # outcomes of an attempt, besides those of a job
KILLED = b"the server did not end cleanly"  # why an attempt was lost of which the end is not known
POISON = b"poison"  # why a job has failed that took too many workers along
ATTEMPT_LOG_MAX = 16 * 1024  # bytes of its stderr that are kept of an attempt that was not the last


class Report:
    """What a running background job has said so far, up to `size_max` bytes of it: in pieces, and their sizes. cut:
    that is not all. log_rest: the end of what it has written to stderr beyond that."""

    __slots__ = ("cut", "log", "log_rest", "log_size", "result", "result_size", "size_max")

    def __init__(self, size_max: int, cut: bool = False) -> None:
        self.result: list[bytes] = []
        self.log: list[bytes] = []
        self.log_rest = b""
        self.result_size = 0
        self.log_size = 0
        self.size_max = size_max
        self.cut = cut

    def take(self, number: int, data: bytes) -> None:
        """The data of a WORK_DATA, WORK_WARNING, WORK_COMPLETE or WORK_EXCEPTION."""
        if not data:
            return
        if number == packets.WORK_WARNING and parse_exit_trailer(data):
            return
        room = self.size_max - self.result_size - self.log_size
        is_result = number in (packets.WORK_DATA, packets.WORK_COMPLETE)
        if len(data) > room:
            self.cut = True
            if not is_result:
                self.log_rest = (self.log_rest + data[room:])[-ATTEMPT_LOG_MAX:]
            data = data[:room]
            if not data:
                return
        if is_result:
            self.result.append(data)
            self.result_size += len(data)
        else:
            self.log.append(data)
            self.log_size += len(data)

    @property
    def log_end(self) -> bytes:
        """What it has written to stderr last: there it says what went wrong, however much came before."""
        return (b"".join(self.log) + self.log_rest)[-ATTEMPT_LOG_MAX:]


def so_far(job: Job) -> list[tuple[int, bytes]] | None:
    """What the running attempt of a background job has said, as numbers and data of a worker's packets, for one who
    begins to listen; None: that is not kept, or not all of it. Each stream is in order, and stderr comes last: that may
    be the exit code already."""
    report = job.report
    if not job.background or report is None or report.cut:
        return None
    result = b"".join(report.result)
    said = [(packets.WORK_DATA, result)] if result else []
    said += [(packets.WORK_WARNING, piece) for piece in safe_pieces(b"".join(report.log))]
    course = job.course
    if course is not None and course.exit_code >= 0:
        trailer = exit_trailer(course.exit_code, ORIGIN_FARM if course.exit_is_farms else ORIGIN_JOB)
        said.append((packets.WORK_WARNING, trailer))
    return said


def row(job: Job, wall_offset: float) -> Save:
    """The job as the journal keeps it. Its payload must still be in memory."""
    assert job.payload is not None
    values = (
        job.id,
        job.function.name,
        job.unique,
        job.priority,
        job.payload,
        job.reducer,
        job.due,
        job.queued_at + wall_offset,
        encode(own_terms(job)),
    )
    return tuple.__new__(Save, values)  # its own constructor is Python code, and takes three times as long


def end(job: Job, outcome: str, result_max: int, now: float, wall_offset: float) -> Finish | Forget:
    """What becomes of the row of a background job that has ended."""
    if not result_max:
        return Forget(job.id)
    report, course, keep_s = job.report, job.course, terms_of(job).keep_s
    values = (
        job.id,
        outcome,
        job.started_at + wall_offset if job.started_at else 0.0,
        now + wall_offset,
        job.worker_name,
        0 if outcome == DONE else _exit_code(job),
        b"".join(report.result) if report else b"",
        b"".join(report.log) if report else b"",
        report.cut if report else False,
        course.reason if course else b"",
        _number(job, outcome),
        course.failures if course else 0,
        job.losses,
        course.cpu_s if course else -1.0,
        course.peak if course else -1,
        -1.0 if keep_s is None else keep_s,
    )
    return tuple.__new__(Finish, values)  # as in `row`


def _number(job: Job, outcome: str) -> int:
    """Which attempt its end describes. A failure or loss that ended it is counted already."""
    if outcome == DONE:
        return job.tried + 1
    if outcome == FAILED:
        return job.tried if job.started_at else 0  # or it was lost with the server, and is a row of its own
    return job.attempts if job.worker is not None else 0


def _exit_code(job: Job) -> int:
    return job.course.exit_code if job.course else -1


def last_attempt(past: Past, log: bytes) -> Attempt:
    """The attempt that ended a job. log: what it wrote to stderr."""
    outcome = past.outcome
    if outcome == FAILED:
        outcome = LOST if past.reason == POISON else TIMED_OUT if past.reason == b"timeout" else outcome
    return Attempt(
        past.id,
        past.number,
        past.started,
        past.ended,
        outcome,
        past.reason,
        past.worker,
        past.exit_code,
        past.cpu_s,
        past.peak,
        log[-ATTEMPT_LOG_MAX:],
    )


def killed(progress: Progress) -> Attempt:
    """The attempt that ran when the server was killed. When it ended nobody knows."""
    return Attempt(progress.id, progress.attempts, progress.started, 0.0, LOST, KILLED, progress.worker)


def attempt(job: Job, outcome: str, reason: bytes, now: float, wall_offset: float) -> Attempt:
    """The running attempt, which has ended and was not the job's last. Of what it wrote to stderr the end is kept:
    there it says what went wrong."""
    course = job.course
    return Attempt(
        job.id,
        job.attempts,
        job.started_at + wall_offset,
        now + wall_offset,
        outcome,
        reason,
        job.worker_name,
        _exit_code(job),
        course.cpu_s if course else -1.0,
        course.peak if course else -1,
        job.report.log_end if job.report else b"",
    )
