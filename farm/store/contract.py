"""What every store promises. A store keeps; it decides nothing.

The journal may be shared by several servers later (PostgreSQL), so ownership is part of the contract from the start:
`open` makes this process the owner, under a shard number that was never given before, and fences whoever was owner: a
former owner's `apply` fails and changes nothing, however long it was stopped or cut off.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from farm.broker.effects import Change, Save
from farm.errors import FarmError


class StoreError(FarmError):
    """The journal cannot be read or written. The server stops: what is not on disk must not be acknowledged."""


class Fenced(StoreError):
    """Another server owns the journal now. This one must stop."""


class Store(Protocol):
    """A journal of background jobs."""

    def open(self) -> int:
        """Own the journal. Returns a shard number, greater than 0, that no `open` of any journal is likely to have
        returned before and none of this journal has. Raises StoreError."""

    def load(self) -> Iterator[Save]:
        """Every job that was saved and not forgotten, oldest id first. Call it once, after `open`."""

    def apply(self, changes: Sequence[Change]) -> None:
        """All of the changes or none, in order; durable when this returns. Saving an id again or forgetting an unknown
        one changes nothing. Raises Fenced or StoreError; after that the store must not be used."""

    def close(self) -> None:
        """Give the journal up. Everything that `apply` returned for stays."""
