"""What is kept of a background job: its row while it lives, and how it ended afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

from farm.broker.effects import Finish, Forget, Save
from farm.broker.job import DONE
from farm.protocol import packets
from farm.protocol.extension import parse_exit_trailer
from farm.protocol.names import one_word

if TYPE_CHECKING:
    from farm.broker.job import Job


class Report:
    """What a running background job has said so far, up to `size_max` bytes of it."""

    __slots__ = ("cut", "exit_code", "log", "result", "size", "size_max")

    def __init__(self, size_max: int) -> None:
        self.result: list[bytes] = []
        self.log: list[bytes] = []
        self.size = 0
        self.size_max = size_max
        self.exit_code = -1
        self.cut = False

    def take(self, number: int, data: bytes) -> None:
        """The data of a WORK_DATA, WORK_WARNING, WORK_COMPLETE or WORK_EXCEPTION."""
        if not data:
            return
        if number == packets.WORK_WARNING and (trailer := parse_exit_trailer(data)):
            self.exit_code = trailer[0]
            return
        room = self.size_max - self.size
        if len(data) > room:
            self.cut = True
            data = data[:room]
        self.size += len(data)
        (self.result if number in (packets.WORK_DATA, packets.WORK_COMPLETE) else self.log).append(data)


def row(job: Job, wall_offset: float) -> Save:
    """The job as the journal keeps it. Its payload must still be in memory."""
    assert job.payload is not None
    return Save(
        job.id,
        job.function.name,
        job.unique,
        job.priority,
        job.payload,
        job.reducer,
        job.due,
        job.queued_at + wall_offset,
    )


def end(job: Job, outcome: str, result_max: int, now: float, wall_offset: float) -> Finish | Forget:
    """What becomes of the row of a background job that has ended."""
    if not result_max:
        return Forget(job.id)
    report = job.report
    return Finish(
        job.id,
        outcome,
        job.started_at + wall_offset if job.started_at else 0.0,
        now + wall_offset,
        one_word(job.worker_name),
        0 if outcome == DONE else report.exit_code if report else -1,
        b"".join(report.result) if report else b"",
        b"".join(report.log) if report else b"",
        report.cut if report else False,
    )
