"""What a turn of the rules wants done, in order: first the journal's changes, then what is sent.

The order is the promise: a submitter hears JOB_CREATED for a background job only after its `Save` is on stable storage.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class Save(NamedTuple):
    """Keep a background job: it is acknowledged once this is durable.

    priority: 0 high, 1 normal, 2 low. due: wall-clock seconds before which it must not run, 0: none.
    """

    id: int
    function: bytes
    unique: bytes
    priority: int
    payload: bytes
    reducer: bytes = b""
    due: float = 0.0


class Forget(NamedTuple):
    """The background job of this id has ended and need not be run again."""

    id: int


Change = Save | Forget


class Note(NamedTuple):
    """One line for the log: what happened to which job. Never a payload."""

    event: str
    handle: bytes
    function: bytes
    detail: str


class Effects:
    """An ordered list of what must happen; the ring around the rules makes it happen.

    changes: for the journal, all or nothing. sends: (peer's id, bytes), or (peer's id, None) to close the connection
    after what was sent to it before. notes: for the log.
    """

    __slots__ = ("changes", "notes", "sends", "shutdown")

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.sends: list[tuple[int, bytes | None]] = []
        self.notes: list[Note] = []
        self.shutdown = ""  # "now" or "graceful": an administrator wants the server to end

    def __bool__(self) -> bool:
        return bool(self.sends or self.changes or self.notes or self.shutdown)

    def send(self, peer_id: int, packet: bytes) -> None:
        """One whole packet, or one piece of it with the next piece following at once."""
        self.sends.append((peer_id, packet))

    def send_pieces(self, peer_id: int, pieces: Sequence[bytes]) -> None:
        """One packet in pieces."""
        for piece in pieces:
            self.sends.append((peer_id, piece))

    def close(self, peer_id: int) -> None:
        """Close the connection once everything before this is sent."""
        self.sends.append((peer_id, None))
