"""What a turn of the rules wants done, in order: first the journal's changes, then what is sent.

The order is the promise: a submitter hears JOB_CREATED for a background job only after its `Save` is on stable storage.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class Save(NamedTuple):
    """Keep a background job: it is acknowledged once this is durable.

    priority: 0 high, 1 normal, 2 low. due: wall-clock seconds before which it must not run, 0: none. created:
    wall-clock seconds. terms: what it was submitted with besides, as words (farm/broker/terms.py).
    """

    id: int
    function: bytes
    unique: bytes
    priority: int
    payload: bytes
    reducer: bytes = b""
    due: float = 0.0
    created: float = 0.0
    terms: bytes = b""


class Forget(NamedTuple):
    """The background job of this id has ended and need not be run again, and nothing of it is kept."""

    id: int


class Finish(NamedTuple):
    """The background job of this id has ended; this is kept for a while.

    outcome: one of ENDED in farm/broker/job.py. started (0: it never ran), ended: wall-clock seconds. worker: its name.
    exit_code: -1 where the worker gave none. result, log: what it wrote to stdout and stderr. cut: that is not all,
    for it grew too large, or the job became a background job when some of it had gone by. reason: why it ended so, in a
    few words. number: which attempt this describes, counted from 1; 0: none, it ended while it waited, or at a restart,
    and its attempts are all rows of their own. failures, losses: how many attempts ended so, this one included. cpu_s,
    peak: what its command used, seconds and bytes, -1: unknown. keep_s: how long this is kept, -1: as long as all
    others.
    """

    id: int
    outcome: str
    started: float
    ended: float
    worker: bytes = b""
    exit_code: int = -1
    result: bytes = b""
    log: bytes = b""
    cut: bool = False
    reason: bytes = b""
    number: int = 1
    failures: int = 0
    losses: int = 0
    cpu_s: float = -1.0
    peak: int = -1
    keep_s: float = -1.0

    @property
    def size(self) -> int:
        """About how many bytes it takes to keep this."""
        return FINISH_OVERHEAD + len(self.result) + len(self.log)


FINISH_OVERHEAD = 100  # bytes, for the fields of a row that are always there


class Expire(NamedTuple):
    """Drop what is kept of jobs that ended before `before` (wall-clock seconds), and the oldest until the rest is at
    most `size_max` bytes.

    room: so many bytes of it must go in any case, for new jobs have no room: the oldest, of jobs that are done only. Of
    the others, which can be run again, nobody else has the payload.

    now: wall-clock seconds. What says that it ended later was written while the clock was wrong: it holds up nobody who
    ended after it, and is dropped when it would be kept for more than twice as long as anything else.
    """

    before: float
    size_max: int
    now: float = math.inf
    room: int = 0

    def drops(self, ended: float) -> bool:
        """Whether what ended then is too old, or wrong by too much."""
        return ended < self.before or ended > self.now + (self.now - self.before)

    def stops_at(self, ended: float) -> bool:
        """Whether all that ended after this one, which is not dropped, is younger than what is to be dropped."""
        return ended <= self.now


class Progress(NamedTuple):
    """How far a background job that has not ended has come; it replaces what was kept of that before. A job of which
    nothing is kept is at its beginning.

    attempts: how many have begun. failures, losses: how many of them ended so. due: wall-clock seconds before which it
    must not run (again), 0: none. running: the newest attempt had not ended, and counts as lost after a restart.
    after: the jobs that it still waits for, as in its terms. started, worker: of the running attempt: wall-clock
    seconds, 0: unknown, as in a file of an earlier version; the worker's name.
    """

    id: int
    attempts: int
    failures: int = 0
    losses: int = 0
    due: float = 0.0
    running: bool = False
    after: bytes = b""
    started: float = 0.0
    worker: bytes = b""


class Attempt(NamedTuple):
    """One attempt of a background job that was not its last one, or is not any more, for the job was run again. Kept
    for as long as the job is.

    number: from 1. outcome: `failed`, `lost`, `timeout` or `cancelled`. log: the end of what it wrote to stderr. ended:
    0: unknown, the server was killed meanwhile. The others as in Finish.
    """

    id: int
    number: int
    started: float
    ended: float
    outcome: str
    reason: bytes = b""
    worker: bytes = b""
    exit_code: int = -1
    cpu_s: float = -1.0
    peak: int = -1
    log: bytes = b""


class Usage(NamedTuple):
    """What the command of this attempt used, which is known after its end is: the row that describes the attempt, that
    of the job's end or one of its own, gets these in place of what it has. Fields as in Finish."""

    id: int
    number: int
    cpu_s: float
    peak: int


class Revive(NamedTuple):
    """The background job of this id, which has ended and of which the payload is kept, has not: it is to be run again.
    What was kept of its end goes, its attempts stay. It has no due time any more, and these terms; None: as before."""

    id: int
    terms: bytes | None = None


class Purge(NamedTuple):
    """Drop what is kept of an ended job."""

    id: int


class Setting(NamedTuple):
    """What holds for a function, as words; empty: nothing is kept of it."""

    function: bytes
    words: bytes


class UniqueUntil(NamedTuple):
    """This key of the function counts as this job's until then (wall-clock seconds), also when the job has ended."""

    function: bytes
    unique: bytes
    id: int
    until: float


class CronRow(NamedTuple):
    """A cron entry, as JSON. payload: None: as it was before."""

    name: bytes
    words: bytes
    payload: bytes | None


class CronGone(NamedTuple):
    """The cron entry of this name is no more."""

    name: bytes


Known = Progress | Setting | UniqueUntil | CronRow  # what a store tells at its start besides jobs
Change = (
    Save
    | Forget
    | Finish
    | Expire
    | Progress
    | Attempt
    | Usage
    | Revive
    | Purge
    | Setting
    | UniqueUntil
    | CronRow
    | CronGone
)


class Past(NamedTuple):
    """What is kept of an ended job, but for what it wrote and its payload.

    n: grows in order of their ends. payload_size: -1: the payload is not kept. tried: the highest number of any Attempt
    that is kept of it, where its end describes none (`number` is 0); else 0. The others as in Save and Finish.
    """

    n: int
    id: int
    function: bytes
    unique: bytes
    priority: int
    created: float
    terms: bytes
    outcome: str
    started: float
    ended: float
    worker: bytes
    exit_code: int
    cut: bool
    reason: bytes
    number: int
    failures: int
    losses: int
    cpu_s: float
    peak: int
    result_size: int
    log_size: int
    payload_size: int
    reducer: bytes = b""
    tried: int = 0


class Note(NamedTuple):
    """One line for the log: what happened to which job. Never a payload."""

    event: str
    handle: bytes
    function: bytes
    detail: str


class Effects:
    """An ordered list of what must happen; the ring around the rules makes it happen.

    changes: for the journal, all or nothing. sends: (peer's id, bytes), or (peer's id, None) to close the connection
    after what was sent to it before, or (peer's id, a job's id) to send that job's payload, which only the store has.
    promises: the indices of those sends that must wait until all changes up to now are durable; the others need not,
    but for what was sent to the same peer before. reads: whether any of the sends is a job's id. notes: for the log.
    """

    __slots__ = ("changes", "notes", "promises", "reads", "sends", "shutdown")

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.sends: list[tuple[int, bytes | int | None]] = []
        self.promises: list[int] = []
        self.reads = False
        self.notes: list[Note] = []
        self.shutdown = ""  # "now" or "graceful": an administrator wants the server to end

    def __bool__(self) -> bool:
        return bool(self.sends or self.changes or self.notes or self.shutdown)

    def send(self, peer_id: int, packet: bytes) -> None:
        """One whole packet, or one piece of it with the next piece following at once."""
        self.sends.append((peer_id, packet))

    def promise(self, peer_id: int, packet: bytes) -> None:
        """One whole packet that must not be sent before every change up to now is durable."""
        self.promises.append(len(self.sends))
        self.sends.append((peer_id, packet))

    def send_payload(self, peer_id: int, job_id: int) -> None:
        """The payload of a stored job, as a piece of a packet."""
        self.sends.append((peer_id, job_id))
        self.reads = True

    def send_pieces(self, peer_id: int, pieces: Sequence[bytes]) -> None:
        """One packet in pieces."""
        for piece in pieces:
            self.sends.append((peer_id, piece))

    def close(self, peer_id: int) -> None:
        """Close the connection once everything before this is sent."""
        self.sends.append((peer_id, None))
