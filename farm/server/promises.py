"""What is sent at once, and what waits for the journal. Pure: the server and the simulator share it.

A promise (JOB_CREATED for a background job) waits until the batch of changes that it speaks of is durable. Whatever is
sent to the same peer afterwards waits behind it, for a connection's packets must stay in order; nobody else waits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import takewhile
from operator import itemgetter

Send = tuple[int, bytes | int | None]  # see Effects.sends


class Promises:
    """The sends that wait, by peer."""

    def __init__(self) -> None:
        self._held: dict[int, deque[tuple[int, Send]]] = {}  # (the batch that it waits for or 0, what is sent)

    def __contains__(self, peer_id: int) -> bool:
        """Whether something waits to be sent to this peer."""
        return peer_id in self._held

    def take(self, sends: Sequence[Send], promised: Iterable[int], batch: int) -> Sequence[Send]:
        """Returns what may be sent now and keeps the rest. promised: the indices of those that wait for `batch`;
        batch 0: everything is durable."""
        waiting = set(promised) if batch else ()
        if not waiting and not self._held:
            return sends
        free: list[Send] = []
        for index, send in enumerate(sends):
            held = self._held.get(send[0])
            if index in waiting:
                if held is None:
                    held = self._held[send[0]] = deque()
                held.append((batch, send))
            elif held is not None:
                held.append((0, send))
            else:
                free.append(send)
        return free

    def release(self, durable: int) -> list[Send]:
        """What may be sent now that all batches up to `durable` are."""
        free: list[Send] = []
        for peer_id, held in list(self._held.items()):
            while held and held[0][0] <= durable:
                free.append(held.popleft()[1])
            if not held:
                del self._held[peer_id]
        return free

    def refuse(self, packet: bytes, sends: Sequence[Send], promised: Iterable[int]) -> list[Send]:
        """No promise can be kept any more, of those that wait and of those of the turn's `sends`: what is sent instead.
        A peer gets `packet` for each, up to the first answer of another kind, for answers must stay in order."""
        broken = set(promised)
        for index, send in enumerate(sends):
            self._held.setdefault(send[0], deque()).append((int(index in broken), send))
        held, self._held = self._held, {}
        return [(peer_id, packet) for peer_id, queue in held.items() for _ in takewhile(itemgetter(0), queue)]

    def drop(self, peer_id: int) -> None:
        """The peer is gone; nothing can be sent to it."""
        self._held.pop(peer_id, None)
