"""What the journal must hold, batch by batch: plain dicts that share no code with the rules, the journal, the store."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping

from farm.broker.effects import Finish, Save
from farm.protocol import packets
from tests.sim.model import Item, Wrong

Row = tuple[object, ...]  # of a Save or a Finish, without the id

_EXIT = re.compile(rb"farm: exit ([0-9]{1,3})( farm)?\n")


class Kept:
    """written: how many batches of changes were given to the journal. begun: how many of them the newest commit covers,
    stored: how many are on the disk, known: how many the server has heard that of. durable, ended: what the journal
    holds then, by handle. finished: the background jobs whose end is stored; they must never run again."""

    def __init__(self) -> None:
        self.durable: dict[bytes, Row] = {}
        self.ended: dict[bytes, Row] = {}
        self.finished: dict[bytes, None] = {}
        self.crash()

    def crash(self) -> None:
        """Whatever is not on the disk is gone."""
        self.written = self.begun = self.stored = self.known = 0
        self._decided: list[tuple[bytes, bool, Row | None]] = []  # (handle, whether it ended, its row)
        self._batches: deque[list[tuple[bytes, bool, Row | None]]] = deque()

    @property
    def settled(self) -> bool:
        """Whether everything that was decided is durable."""
        return not self._decided and self.stored == self.written

    @property
    def latest(self) -> int:
        """The batch that must be stored for all that was decided up to now to be durable."""
        return self.written + bool(self._decided)

    # -- what is decided

    def save(self, item: Item, wall_offset: float) -> None:
        """A background job that must be kept."""
        created = item.queued_at + wall_offset
        row = (item.function, item.unique, item.priority, item.payload, item.reducer, item.due, created)
        self._decided.append((item.handle, False, row))

    def end(self, item: Item, outcome: str, result_max: int, now: float, wall_offset: float) -> None:
        """A background job has ended."""
        row: Row | None = None
        if result_max:
            started = item.started + wall_offset if item.started else 0.0
            code, result, log, cut = _report(item, result_max)
            row = (outcome, started, now + wall_offset, item.worker, 0 if outcome == "done" else code, result, log, cut)
        self._decided.append((item.handle, True, row))

    # -- what becomes of it

    def given(self, changes: bool) -> None:
        """The server has given a turn's changes to its journal, if there were any."""
        if changes != bool(self._decided):
            kept = [handle for handle, _, _ in self._decided]
            raise Wrong(f"changes given to the journal: {changes}; there were changes of {kept}")
        if changes:
            self._batches.append(self._decided)
            self._decided = []
            self.written += 1

    def begins(self) -> None:
        """A commit begins, with all that was given."""
        self.begun = self.written

    def committed(self, jobs: Mapping[int, Save], ended: Mapping[int, Finish]) -> None:
        """It is on the disk: just that must be in the journal."""
        fresh: dict[bytes, Row] = {}
        while self.stored < self.begun:
            self.stored += 1
            for handle, over, row in self._batches.popleft():
                if over:
                    del self.durable[handle]
                    self.finished[handle] = None
                    if row is not None:
                        fresh[handle] = row
                elif row is not None:
                    self.durable[handle] = row
        _compare("jobs", {handle_of(id): tuple(save[1:]) for id, save in jobs.items()}, self.durable)
        found = [(handle_of(id), tuple(finish[1:])) for id, finish in list(ended.items())[len(self.ended) :]]
        _compare("ended jobs", dict(found), fresh)
        self.ended.update(fresh)

    def is_safe(self, handle: bytes) -> bool:
        """Whether this background job may be acknowledged."""
        return handle in self.durable or handle in self.finished


def _report(item: Item, size_max: int) -> tuple[int, bytes, bytes, bool]:
    """Exit code, result, log, and whether that is not all."""
    code, result, log, cut = -1, b"", b"", item.missed
    for number, data in item.said:
        if number == packets.WORK_WARNING and (match := _EXIT.fullmatch(data)) and int(match[1]) <= 255:
            code = int(match[1])
            continue
        kept = data[: size_max - len(result) - len(log)]
        cut |= kept != data
        if number in (packets.WORK_DATA, packets.WORK_COMPLETE):
            result += kept
        else:
            log += kept
    return code, result, log, cut


def handle_of(id: int) -> bytes:
    """The handle of the job of this id, as it was given to everybody."""
    return b"H:%x:%d" % (id >> 40, id % 2**40)


def _compare(what: str, found: dict[bytes, Row], wanted: dict[bytes, Row]) -> None:
    if found != wanted:
        missing = [handle for handle in wanted if handle not in found]
        extra = [handle for handle in found if handle not in wanted]
        altered = [(row, wanted[handle]) for handle, row in found.items() if wanted.get(handle, row) != row]
        raise Wrong(f"{what} in the journal: missing {missing}, too many {extra}, altered {altered[:1]}")
