"""The job and its life as a table of moves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from farm.broker.course import Course
    from farm.broker.function import Function
    from farm.broker.keeping import Report
    from farm.broker.peer import Peer

HIGH, NORMAL, LOW = 0, 1, 2
PRIORITY_NAMES = ("high", "normal", "low")

WAITING = "waiting"  # for other jobs to end
DELAYED = "delayed"  # not to be run before its time, the first time or again
QUEUED = "queued"
RUNNING = "running"
ABANDONED = "abandoned"  # running, but nobody wants the result any more; its worker has been told if it can be
DONE = "done"
FAILED = "failed"  # people are shown `dead`: it is kept, and can be run again
CANCELLED = "cancelled"
EXPIRED = "expired"  # it has waited too long

ENDED = frozenset((DONE, FAILED, CANCELLED, EXPIRED))

# (state, event) -> next state. A missing key is a bug in the broker, never bad input.
MOVES: Final = {
    (WAITING, "release"): QUEUED,
    (WAITING, "delay"): DELAYED,
    (WAITING, "abandon"): CANCELLED,
    (WAITING, "expire"): EXPIRED,
    (DELAYED, "due"): QUEUED,
    (DELAYED, "abandon"): CANCELLED,
    (DELAYED, "expire"): EXPIRED,
    (QUEUED, "assign"): RUNNING,
    (QUEUED, "abandon"): CANCELLED,
    (QUEUED, "expire"): EXPIRED,
    (RUNNING, "lose"): QUEUED,
    (RUNNING, "retry"): DELAYED,
    (RUNNING, "complete"): DONE,
    (RUNNING, "fail"): FAILED,
    (RUNNING, "abandon"): ABANDONED,
    (ABANDONED, "lose"): CANCELLED,
    (ABANDONED, "complete"): CANCELLED,
    (ABANDONED, "fail"): CANCELLED,
}

# What coalesces jobs of one function: the unique key, or, for the unique `-`, the payload in a tuple of its own so that
# it can never equal a key.
Key = bytes | tuple[bytes]


SEQUENCE_BITS = 40  # of an id; the bits above are the shard in which the job was born
SEQUENCE_MAX: Final = (1 << SEQUENCE_BITS) - 1


def first_id(shard: int) -> int:
    """The id of the first job that is born in this shard."""
    return shard << SEQUENCE_BITS | 1


def handle_of(id: int) -> bytes:
    """What clients and workers call the job. It stays the same when another server takes the job over."""
    return b"H:%x:%d" % (id >> SEQUENCE_BITS, id & SEQUENCE_MAX)


def id_of(handle: bytes) -> int:
    """The id of the job of this handle; 0: it cannot be one."""
    parts = handle.split(b":")
    try:
        shard, sequence = int(parts[1], 16), int(parts[2])
    except (IndexError, ValueError):
        return 0
    id = shard << SEQUENCE_BITS | sequence
    return id if 0 < sequence < 1 << SEQUENCE_BITS and 0 < id < 1 << 63 and handle_of(id) == handle else 0


class Job:
    """One job. Mutable, owned by the broker; a million of them must fit in memory, hence plain slots.

    id: grows with each job of a server's life and never repeats; the handle is the same in readable form.
    priority: HIGH, NORMAL or LOW. watchers: the peers that wait for its packets (foreground submitters).
    reducer: of a reduce job, else empty. due: wall-clock seconds before which it must not run, 0: none.
    streamed: part of this attempt's output has gone by. losses: how many workers were lost on it. course: what most
    jobs do not have; None: that.
    """

    __slots__ = (
        "background",
        "course",
        "denominator",
        "due",
        "function",
        "handle",
        "id",
        "key",
        "losses",
        "numerator",
        "payload",
        "payload_size",
        "priority",
        "queued_at",
        "reducer",
        "report",
        "started_at",
        "state",
        "streamed",
        "unique",
        "watchers",
        "worker",
        "worker_name",
    )

    def __init__(
        self,
        id: int,
        function: Function,
        unique: bytes,
        priority: int,
        background: bool,
        payload: bytes,
        now: float,
    ) -> None:
        self.id = id
        self.handle = handle_of(id)
        self.function = function
        self.unique = unique
        self.key: Key | None = None
        self.priority = priority
        self.background = background
        self.payload: bytes | None = payload  # None: only the store has it
        self.payload_size = len(payload)
        self.queued_at = now
        self.reducer = b""
        self.due = 0.0
        self.started_at = 0.0
        self.state = QUEUED
        self.watchers: list[Peer] = []
        self.worker: Peer | None = None
        self.numerator = b"0"
        self.denominator = b"0"
        self.streamed = False
        self.losses = 0
        self.report: Report | None = None  # what it has said, where that is kept
        self.worker_name = b""  # of the last worker that took it
        self.course: Course | None = None

    def __repr__(self) -> str:  # never the payload
        return f"<Job {self.handle.decode()} {self.function.name!r} {self.state}>"

    @property
    def tried(self) -> int:
        """How many attempts have ended and did not end it."""
        course = self.course
        return self.losses + course.before + course.failures if course else self.losses

    @property
    def attempts(self) -> int:
        """How many have begun."""
        return self.tried + (self.worker is not None)

    def move(self, event: str) -> None:
        """Go to the state that the table gives for `event`."""
        self.state = MOVES[self.state, event]
