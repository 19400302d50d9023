"""A connection as the rules see it: client, worker and administrator at once, for any connection may be all three."""

from __future__ import annotations

from typing import TYPE_CHECKING

from farm.errors import PacketRefused

if TYPE_CHECKING:
    from farm.broker.function import Function
    from farm.broker.job import Job
    from farm.broker.terms import Terms

LATE_MAX = 1000  # a worker runs a few jobs at a time; this is room for a long row of too slow ones, some 100 KB


class Peer:
    """One connection.

    id: given by the server, never used twice. fd, address: only shown. can_do: function -> timeout in seconds (0:
    none), in the order in which they are tried. woken_for: the function whose job a NOOP was sent for since it fell
    asleep; expected: until when it counts as on its way (Function.wakes), 0: it does not. ended: the handle of the job
    that this worker ended last with WORK_EXCEPTION. late: the handles of jobs that were taken from it because its time
    was up, and how many ends of each it has still to report, for it may have been given one again. refused: a fault
    closes the connection; nothing more counts. heartbeats: it asked for them, and promised its own, so that its silence
    means that it is dead. sync: it wants its echoes only when all before them is durable. may_change, may_stop: which
    admin commands it may give.
    """

    __slots__ = (
        "address",
        "asleep",
        "can_do",
        "client_id",
        "ended",
        "exceptions",
        "expected",
        "extension",
        "fd",
        "heartbeats",
        "holds",
        "id",
        "late",
        "may_change",
        "may_stop",
        "refused",
        "sync",
        "terms",
        "waits",
        "watches",
        "woken_for",
    )

    def __init__(self, id: int, fd: int, address: str) -> None:
        self.id = id
        self.fd = fd
        self.address = address
        self.client_id = b"-"
        self.exceptions = False
        self.extension = False
        self.heartbeats = False
        self.can_do: dict[Function, float] = {}
        self.asleep = False
        self.woken_for: Function | None = None
        self.expected = 0.0
        self.holds: dict[bytes, Job] = {}  # jobs it runs, by handle
        self.watches: dict[bytes, Job] = {}  # jobs it waits for, by handle
        self.waits: dict[bytes, Job] = {}  # jobs of which it wants to hear the end or more output, by handle
        self.terms: dict[bytes, Terms] = {}  # of jobs that do not say otherwise, by function (FARM_TERMS)
        self.ended = b""
        self.late: dict[bytes, int] = {}
        self.refused = False
        self.sync = False
        self.may_change = True
        self.may_stop = False

    def __repr__(self) -> str:
        return f"<Peer {self.id} {self.client_id!r}>"

    def sleep(self) -> None:
        """Fall asleep; from now on a queued job may wake it."""
        assert self.woken_for is None
        self.asleep = True
        for function in self.can_do:
            function.sleepers[self] = None

    def wake(self, function: Function, deadline: float) -> None:
        """A NOOP goes out for a job of `function`: not to be woken again until it sleeps anew."""
        self.leave_sleepers()
        self.woken_for = function
        self.expected = deadline
        function.wakes += 1

    def leave_sleepers(self) -> None:
        """No longer one whom a queued job may wake."""
        for function in self.can_do:
            function.sleepers.pop(self, None)

    def stop_expecting(self) -> None:
        """It came, it left, or its time is up: somebody else may be woken in its place."""
        if self.expected:
            assert self.woken_for is not None
            self.expected = 0.0
            self.woken_for.wakes -= 1

    def rotate(self, function: Function) -> None:
        """Try `function` last from now on, so that no busy function starves the others."""
        self.can_do[function] = self.can_do.pop(function)

    def expect_late(self, handle: bytes) -> None:
        """Its time is up, and it does not know: reports on this job may still come."""
        self.late[handle] = self.late.pop(handle, 0) + 1
        if len(self.late) > LATE_MAX:
            del self.late[next(iter(self.late))]

    def must_be_allowed(self) -> None:
        """Raise PacketRefused where a change of others' jobs or of the server is not taken from here."""
        if not self.may_change:
            words = b"This is taken from the server's own machine only"
            raise PacketRefused(b"PERMISSION_DENIED", words, close=False)

    def late_end(self, handle: bytes) -> None:
        """One of the ends has come that `late` counts."""
        self.late[handle] -= 1
        if not self.late[handle]:
            del self.late[handle]
