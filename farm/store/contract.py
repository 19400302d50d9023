"""What every store promises. A store keeps; it decides nothing.

The journal may be shared by several servers later (PostgreSQL), so ownership is part of the contract from the start:
`open` makes this process the owner, under a shard number that was never given before, and fences whoever was owner: a
former owner's `write` or `commit` fails and changes nothing, however long it was stopped or cut off.

Writing is in two steps, because only the second waits for the disk: `write` puts changes into the open transaction and
is quick; `commit` makes durable what was written since the last one, and may be called in another thread, as long as
nobody calls `write` meanwhile.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

from farm.broker.effects import Attempt, Change, Finish, Known, Past, Save
from farm.errors import EXIT_CANNOT_CREATE, FarmError

# A new journal counts its shards from a random number below this, so that its handles do not repeat another's. An id
# has 40 bits for the sequence and must fit into the 63 bits that databases have: 23 are left, one of them to grow.
SHARD_START_MAX = 1 << 22


class StoreError(FarmError):
    """The journal cannot be read or written. The server stops: what is not on disk must not be acknowledged."""

    status = EXIT_CANNOT_CREATE


class Fenced(StoreError):
    """Another server owns the journal now. This one must stop."""


class Store(ABC):
    """A journal of background jobs."""

    waits = True  # whether `commit` waits for a disk, so that it belongs in another thread
    overdue = False  # whether the last Expire to be written has left something to another one
    room = math.inf  # bytes that new jobs may take, as `low` found the disk
    # Bytes that what is kept of ended jobs should give up for new ones, as `low` found the disk. gave_way: whether some
    # was dropped for that since somebody has set this to False.
    shortage, gave_way = 0, False
    held = 0  # bytes that it has in memory of jobs that have ended
    pressed = False  # whether a write or commit had no room but what was put by: `low` should be asked at once

    @abstractmethod
    def describe(self) -> str:
        """Where jobs are kept, for the log."""

    def give_to(self, user: int, group: int) -> None:
        """Before `open`, as root: that user will open it. Raises StoreError."""
        return

    @abstractmethod
    def open(self) -> int:
        """Own the journal. Returns a shard number, greater than 0, that no `open` of any journal is likely to have
        returned before and none of this journal has. Raises StoreError."""

    @abstractmethod
    def load(self) -> Iterator[Save]:
        """Every job that was saved and has not ended, oldest id first. Call it once, after `open`."""

    @abstractmethod
    def known(self) -> Iterator[Known]:
        """Everything else that a server must know again: how far jobs have come, settings, keys, cron entries. Call it
        once, after `open`, before `load`."""

    @abstractmethod
    def write(self, changes: Sequence[Change]) -> None:
        """Put changes, in order, into the open transaction. Saving an id again, or ending an unknown one, changes
        nothing; nor does what is said of an unknown job or entry, or of an attempt that is known. Where there is hardly
        room left, nothing that a job wrote or used need be kept of it, and where there is none, nothing at all, so that
        it can end.
        Raises Fenced or StoreError; after that the store must not be used."""

    @abstractmethod
    def commit(self) -> None:
        """All that was written since the last commit or none of it; durable when this returns. Errors as `write`."""

    def apply(self, changes: Sequence[Change]) -> None:
        """Write and commit."""
        self.write(changes)
        self.commit()

    @abstractmethod
    def payload(self, id: int) -> bytes:
        """The payload of a saved job that has not ended, or of one that has, where it is kept: it may be asked for
        before its Revive is committed. Never while another thread writes or commits for the first time what is asked
        for: ask only for what was committed. Raises StoreError."""

    @abstractmethod
    def ended(self, id: int) -> Finish | None:
        """How a job ended that was committed as such and is still kept."""

    @abstractmethod
    def past(
        self, limit: int, before: int = 0, function: bytes = b"", outcomes: Sequence[str] = (), since: float = 0.0
    ) -> list[Past]:
        """What is kept of ended jobs, newest end first, at most `limit` of them. before: only those that ended before
        the one of this `n`, 0: all. function: of this one only, empty: of all; outcomes likewise. since: created at or
        after. Only what was committed, as in `ended`."""

    @abstractmethod
    def about(self, id: int) -> Past | None:
        """The same of one job."""

    @abstractmethod
    def attempts(self, id: int) -> list[Attempt]:
        """The attempts of a job that are kept, in order."""

    @abstractmethod
    def ended_ids(self, first: int, last: int, limit: int) -> list[int]:
        """The ids of ended jobs that are kept, from `first` to `last`, the highest first, at most `limit`."""

    @abstractmethod
    def keeps(self) -> bool:
        """Whether anything is kept of jobs that have ended, or of their keys. At once: nothing is read for it."""

    def low(self) -> str:
        """Why no new job should be taken: the place where jobs are kept is nearly full; empty: there is `room`."""
        return ""

    @abstractmethod
    def close(self) -> None:
        """Give the journal up. Everything that `commit` returned for stays; what was only written does not."""
