"""What the journal must hold, batch by batch: plain dicts that share no code with the rules, the journal, the store."""

from __future__ import annotations

import re
from collections import deque

from farm.protocol import packets
from farm.store.memory import MemoryJournal
from tests.sim.model import Item, Wrong

Row = tuple[object, ...]  # of a Save, a Finish, a Progress or an Attempt, without the id
SAVED, ENDED, COURSE, TRIED = "saved", "ended", "course", "tried"  # what a change is about

_EXIT = re.compile(rb"farm: exit ([0-9]{1,3})( farm)?\n")


class Kept:
    """written: how many batches of changes were given to the journal. begun: how many of them the newest commit covers,
    stored: how many are on the disk, known: how many the server has heard that of. durable, ended: what the journal
    holds then, by handle. finished: the background jobs whose end is stored; they must never run again."""

    def __init__(self) -> None:
        self.durable: dict[bytes, Row] = {}
        self.ended: dict[bytes, Row] = {}
        self.courses: dict[bytes, Row] = {}
        self.attempts: dict[bytes, list[Row]] = {}
        self.finished: dict[bytes, None] = {}
        self.crash()

    def crash(self) -> None:
        """Whatever is not on the disk is gone."""
        self.written = self.begun = self.stored = self.known = 0
        self._decided: list[tuple[str, bytes, Row | None]] = []  # (what it is about, handle, row)
        self._batches: deque[list[tuple[str, bytes, Row | None]]] = deque()

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
        row = (item.function, item.unique, item.priority, item.payload, item.reducer, item.due, created, b"")
        self._decided.append((SAVED, item.handle, row))

    def end(self, item: Item, outcome: str, reason: bytes, result_max: int, now: float, wall_offset: float) -> None:
        """A background job has ended. reason: why so, empty: what its worker said."""
        row: Row | None = None
        if result_max:
            started = item.started + wall_offset if item.started else 0.0
            result, log, cut = _report(item, result_max)
            code = 0 if outcome == "done" else item.code
            number = item.attempts if outcome != "cancelled" or item.holder is not None else 0
            times = (outcome, started, now + wall_offset, item.worker, code)
            row = (*times, result, log, cut, reason, number, item.failures, item.losses, -1.0, -1, -1.0)
        self._decided.append((ENDED, item.handle, row))

    def course(self, item: Item) -> None:
        """A background job has come so far."""
        row = (item.attempts, item.failures, item.losses, 0.0, item.holder is not None, b"")
        self._decided.append((COURSE, item.handle, row))

    def tried(self, item: Item, outcome: str, reason: bytes, result_max: int, now: float, wall_offset: float) -> None:
        """An attempt of a background job has ended, and was not its last."""
        if result_max:
            _, log, _ = _report(item, result_max)
            times = (item.attempts, item.started + wall_offset, now + wall_offset)
            row = (*times, outcome, reason, item.worker, item.code, -1.0, -1, log)
            self._decided.append((TRIED, item.handle, row))

    def decided_ends(self) -> list[bytes]:
        """The jobs that have ended in the turn that is under way."""
        return [handle for what, handle, _ in self._decided if what == ENDED]

    # -- what becomes of it

    def given(self, changes: bool) -> None:
        """The server has given a turn's changes to its journal, if there were any."""
        if changes != bool(self._decided):
            kept = [(what, handle) for what, handle, _ in self._decided]
            raise Wrong(f"changes given to the journal: {changes}; there were changes of {kept}")
        if changes:
            self._batches.append(self._decided)
            self._decided = []
            self.written += 1

    def begins(self) -> None:
        """A commit begins, with all that was given."""
        self.begun = self.written

    def committed(self, journal: MemoryJournal) -> None:
        """It is on the disk: just that must be in the journal."""
        fresh: dict[bytes, Row] = {}
        while self.stored < self.begun:
            self.stored += 1
            for what, handle, row in self._batches.popleft():
                self._apply(what, handle, row)
                if what == ENDED and row is not None:
                    fresh[handle] = row
        _compare("jobs", {handle_of(id): tuple(save[1:]) for id, save in journal.jobs.items()}, self.durable)
        found = [(handle_of(id), tuple(end[1:])) for id, end in list(journal.ended.items())[len(self.ended) :]]
        _compare("ended jobs", dict(found), fresh)
        self.ended.update(fresh)
        _compare("courses", {handle_of(id): tuple(row[1:]) for id, row in journal.progress.items()}, self.courses)
        tried = {
            handle_of(id): tuple(tuple(row[1:]) for row in rows.values())
            for id, rows in journal.attempts.items()
            if rows
        }
        _compare("attempts", tried, {handle: tuple(rows) for handle, rows in self.attempts.items()})

    def _apply(self, what: str, handle: bytes, row: Row | None) -> None:
        if what == ENDED:
            del self.durable[handle]
            self.courses.pop(handle, None)
            self.finished[handle] = None
            if row is None:
                self.attempts.pop(handle, None)
        elif row is not None and what == SAVED:
            self.durable[handle] = row
        elif row is not None and what == COURSE:
            self.courses[handle] = row
        elif row is not None:
            self.attempts.setdefault(handle, []).append(row)

    def is_safe(self, handle: bytes) -> bool:
        """Whether this background job may be acknowledged."""
        return handle in self.durable or handle in self.finished


def exit_code(data: bytes) -> int:
    """What a warning says of the command's exit code, -1: nothing."""
    match = _EXIT.fullmatch(data)
    return int(match[1]) if match and int(match[1]) <= 255 else -1


def _report(item: Item, size_max: int) -> tuple[bytes, bytes, bool]:
    """Result, log, and whether that is not all."""
    result, log, cut = b"", b"", item.missed
    for number, data in item.said:
        if number == packets.WORK_WARNING and exit_code(data) >= 0:
            continue
        kept = data[: size_max - len(result) - len(log)]
        cut |= kept != data
        if number in (packets.WORK_DATA, packets.WORK_COMPLETE):
            result += kept
        else:
            log += kept
    return result, log, cut


def handle_of(id: int) -> bytes:
    """The handle of the job of this id, as it was given to everybody."""
    return b"H:%x:%d" % (id >> 40, id % 2**40)


def _compare(what: str, found: dict[bytes, Row], wanted: dict[bytes, Row]) -> None:
    if found != wanted:
        missing = [handle for handle in wanted if handle not in found]
        extra = [handle for handle in found if handle not in wanted]
        altered = [(row, wanted[handle]) for handle, row in found.items() if wanted.get(handle, row) != row]
        raise Wrong(f"{what} in the journal: missing {missing}, too many {extra}, altered {altered[:1]}")
