"""What the rules can ask about jobs that have ended: a port that the ring around them fills with its store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from farm.broker.effects import Attempt, Finish, Past
from farm.errors import FarmError


class NotYet(Exception):
    """The job's end was decided and is not durable yet: ask again when it is."""


class Unreadable(FarmError):
    """The store cannot say, or what it keeps of the job is damaged. Nobody is harmed but who has asked."""


class History(Protocol):
    """See the methods of these names of farm/store/contract.py. Each may raise Unreadable, and NotYet where it names a
    job."""

    def ended(self, id: int) -> Finish | None:
        """How a job ended."""

    def about(self, id: int) -> Past | None:
        """The same without what it wrote."""

    def attempts(self, id: int) -> list[Attempt]:
        """Those before its last one, or of a job that has not ended."""

    def past(
        self, limit: int, before: int = 0, function: bytes = b"", outcomes: Sequence[str] = (), since: float = 0.0
    ) -> list[Past]:
        """Ended jobs, newest end first."""

    def ended_ids(self, first: int, last: int, limit: int) -> list[int]:
        """Their ids in a range, newest first."""

    def payload(self, id: int) -> bytes:
        """Of an ended job of which it is kept."""


class NoHistory:
    """Nothing is known of the past."""

    def ended(self, id: int) -> Finish | None:
        """See History."""
        return None

    def about(self, id: int) -> Past | None:
        """See History."""
        return None

    def attempts(self, id: int) -> list[Attempt]:
        """See History."""
        return []

    def past(
        self, limit: int, before: int = 0, function: bytes = b"", outcomes: Sequence[str] = (), since: float = 0.0
    ) -> list[Past]:
        """See History."""
        return []

    def ended_ids(self, first: int, last: int, limit: int) -> list[int]:
        """See History."""
        return []

    def payload(self, id: int) -> bytes:
        """See History."""
        raise KeyError(id)
