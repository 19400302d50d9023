"""What the journal must hold, batch by batch: plain dicts that share no code with the rules, the journal, the store."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from farm.broker.effects import CronRow, Known, Progress, Save, Setting, UniqueUntil
from farm.protocol import packets
from farm.store.contract import Store
from tests.sim import terms
from tests.sim.entry import stored
from tests.sim.model import Item, Terms, Wrong, id_of

Row = tuple[Any, ...]  # of a change, without the id or the names that it is found by
Change = tuple[str, Any, Row | None]  # what it is about, of which job, function or key, and what holds
SAVED, ENDED, COURSE, TRIED, USED = "saved", "ended", "course", "tried", "used"
REVIVED, PURGED, SET, KEY, CRON = "revived", "purged", "set", "key", "cron"

_EXIT = re.compile(rb"farm: exit ([0-9]{1,3})( farm)?\n")


class Kept:
    """written: how many batches of changes were given to the journal. begun: how many of them the newest commit covers,
    stored: how many are on the disk, known: how many the server has heard that of. durable, ended: what the journal
    holds then, by handle; saves: of ended jobs. settings: by function. keys: by function and key. crons: by
    name, each with the time up to which all is decided about. finished: the
    background jobs whose end is stored; they must never run again, unless somebody wants it."""

    def __init__(self) -> None:
        self.durable: dict[bytes, Row] = {}
        self.ended: dict[bytes, Row] = {}
        self.saves: dict[bytes, Row] = {}
        self.courses: dict[bytes, Row] = {}
        self.attempts: dict[bytes, list[Row]] = {}
        self.settings: dict[bytes, Row] = {}
        self.keys: dict[tuple[bytes, bytes], Row] = {}
        self.crons: dict[bytes, tuple[Row, float]] = {}
        self.finished: dict[bytes, None] = {}
        self.crash()

    def crash(self) -> None:
        """Whatever is not on the disk is gone."""
        self.written = self.begun = self.stored = self.known = 0
        self._decided: list[Change] = []
        self._batches: deque[list[Change]] = deque()
        self._over: dict[bytes, int] = {}  # handle -> the batch in which it ended, or no longer has

    @property
    def settled(self) -> bool:
        """Whether everything that was decided is durable."""
        return not self._decided and self.stored == self.written

    @property
    def latest(self) -> int:
        """The batch that must be stored for all that was decided up to now to be durable."""
        return self.written + bool(self._decided)

    def is_open(self, handle: bytes) -> bool:
        """Whether its end, or that it has none any more, was decided, and the server does not know it to be stored."""
        return self._over.get(handle, 0) > self.known

    # -- what is decided

    def save(self, item: Item, wall_offset: float) -> None:
        """A background job that must be kept."""
        created = item.queued_at + wall_offset
        row = (item.function, item.unique, item.priority, item.payload, item.reducer, item.due, created)
        self._decided.append((SAVED, item.handle, (*row, terms.words(item.terms, item.expires_at))))

    def end(
        self,
        item: Item,
        outcome: str,
        reason: bytes,
        keep: float,
        result_max: int,
        now: float,
        wall_offset: float,
    ) -> None:
        """A background job has ended. reason: why so. keep: how long that is to be known."""
        row: Row | None = None
        if result_max:
            started = item.started + wall_offset if item.started else 0.0
            result, log, cut = report(item, result_max)
            code = 0 if outcome == "done" else item.code
            waited = outcome in ("cancelled", "expired") and item.holder is None
            number = 0 if waited or not item.started else item.attempts
            times = (outcome, started, now + wall_offset, item.worker, code)
            row = (*times, result, log, cut, reason, number, item.failures, item.losses, item.cpu, item.peak, keep)
        self._over[item.handle] = self.written + 1
        self._decided.append((ENDED, item.handle, row))

    def course(self, item: Item, wall_offset: float) -> None:
        """A background job has come so far."""
        due = item.due if item.delayed or item.after else 0.0
        after = terms.write_after(item.after)
        running = item.holder is not None
        now = (item.started + wall_offset, item.worker) if running else (0.0, b"")
        row = (item.attempts, item.failures, item.losses, due, running, after, *now)
        self._decided.append((COURSE, item.handle, row))

    def tried(self, item: Item, outcome: str, reason: bytes, result_max: int, now: float, wall_offset: float) -> None:
        """An attempt of a background job has ended, and was not its last."""
        if result_max:
            log = log_end(item)
            times = (item.attempts, item.started + wall_offset, now + wall_offset)
            row = (*times, outcome, reason, item.worker, item.code, item.cpu, item.peak, log)
            self._decided.append((TRIED, item.handle, row))

    def used(self, handle: bytes, number: int, cpu: float, peak: int) -> None:
        """What an attempt used is known after its end."""
        self._decided.append((USED, handle, (number, cpu, peak)))

    def killed(self, handle: bytes, come: Row) -> None:
        """The attempt that ran then was lost with the server; when, nobody knows."""
        number, *_, started, worker = come
        lost = (number, started, 0.0, "lost", b"the server did not end cleanly", worker, -1, -1.0, -1, b"")
        self._decided.append((TRIED, handle, lost))

    def revive(self, item: Item) -> None:
        """A job that had ended has not."""
        self._over[item.handle] = self.written + 1
        self._decided.append((REVIVED, item.handle, (terms.words(item.terms, item.expires_at),)))

    def outlived(self, handle: bytes) -> None:
        """What its end said of its last attempt stays as one of the others, for it was not the last."""
        outcome, started, ended, worker, code, _, log, _, reason, number, _, _, cpu, peak, _ = self.ended[handle]
        row = (number, started, ended, last_outcome(outcome, reason), reason, worker, code, cpu, peak, log)
        self._decided.append((TRIED, handle, row))

    def purge(self, handle: bytes) -> None:
        """Nothing is to be known of an ended job any more."""
        self._over[handle] = self.written + 1
        self._decided.append((PURGED, handle, None))

    def set(self, function: bytes, settings: Terms, paused: bool) -> None:
        """What holds for a function."""
        self._decided.append((SET, function, (terms.words(settings) | ({b"paused=1"} if paused else set()),)))

    def key(self, function: bytes, unique: bytes, handle: bytes, until: float) -> None:
        """This key counts as this job's."""
        self._decided.append((KEY, (function, unique), (id_of(handle), until)))

    def cron(self, name: bytes, entry: tuple[Row, float] | None) -> None:
        """This holds of a cron entry; None: it is no more."""
        self._decided.append((CRON, name, entry))

    def decided_ends(self) -> list[bytes]:
        """The jobs that have ended in the turn that is under way."""
        return [handle for what, handle, _ in self._decided if what == ENDED]

    # -- what becomes of it

    def given(self, changes: bool) -> None:
        """The server has given a turn's changes to its journal, if there were any."""
        if changes != bool(self._decided):
            kept = [(what, about) for what, about, _ in self._decided]
            raise Wrong(f"changes given to the journal: {changes}; there were changes of {kept}")
        if changes:
            self._batches.append(self._decided)
            self._decided = []
            self.written += 1

    def begins(self) -> None:
        """A commit begins, with all that was given."""
        self.begun = self.written

    def committed(self, store: Store) -> None:
        """It is on the disk: just that must be in the journal."""
        touched: dict[bytes, None] = {}
        while self.stored < self.begun:
            self.stored += 1
            for what, about, row in self._batches.popleft():
                _APPLY[what](self, about, row)
                if what in _OF_THE_PAST:
                    touched[about] = None
        for handle in touched:
            self._compare_past(store, handle)
        _compare("jobs", {handle_of(save.id): _row(save) for save in store.load()}, self.durable)
        known = list(store.known())
        courses = {handle_of(row.id): tuple(row[1:]) for row in known if isinstance(row, Progress)}
        _compare("courses", courses, self.courses)
        _compare("settings", _settings(known), self.settings)
        keys = {(row.function, row.unique): tuple(row[2:]) for row in known if isinstance(row, UniqueUntil)}
        _compare("keys", keys, self.keys)
        crons = {row.name: stored(row.words, row.payload or b"") for row in known if isinstance(row, CronRow)}
        _compare("cron entries", crons, {name: row for name, (row, _) in self.crons.items()})

    def _compare_past(self, store: Store, handle: bytes) -> None:
        end = store.ended(id_of(handle))
        wanted = {handle: self.ended[handle]} if handle in self.ended else {}
        _compare("ended jobs", {handle: tuple(end[1:])} if end else {}, wanted)
        tried = tuple(tuple(row[1:]) for row in store.attempts(id_of(handle)))
        _compare("attempts", {handle: tried}, {handle: tuple(self.attempts.get(handle, ()))})

    def is_safe(self, handle: bytes) -> bool:
        """Whether this background job may be acknowledged."""
        return handle in self.durable or handle in self.finished

    # -- one of each kind of change

    def _save(self, handle: bytes, row: Row) -> None:
        self.durable[handle] = row

    def _end(self, handle: bytes, row: Row | None) -> None:
        save = self.durable.pop(handle)
        self.courses.pop(handle, None)
        self.finished[handle] = None
        if row is None:
            self.attempts.pop(handle, None)
        else:
            self.ended[handle], self.saves[handle] = row, save

    def _course(self, handle: bytes, row: Row) -> None:
        self.courses[handle] = row

    def _tried(self, handle: bytes, row: Row) -> None:
        rows = self.attempts.setdefault(handle, [])
        if row[0] not in [tried[0] for tried in rows]:  # or it was lost once more before another one began
            rows.append(row)

    def _used(self, handle: bytes, row: Row) -> None:
        number, *used = row
        end = self.ended.get(handle)
        if end and end[9] == number:
            self.ended[handle] = (*end[:12], *used, *end[14:])
        rows = self.attempts.get(handle, [])
        rows[:] = [(*tried[:7], *used, *tried[9:]) if tried[0] == number else tried for tried in rows]

    def _revive(self, handle: bytes, row: Row) -> None:
        del self.ended[handle], self.finished[handle]
        *save, _, created, _ = self.saves.pop(handle)
        self.durable[handle] = (*save, 0.0, created, row[0])

    def _purge(self, handle: bytes, row: None) -> None:
        for table in (self.ended, self.saves, self.attempts):
            table.pop(handle, None)

    def _set(self, function: bytes, row: Row) -> None:
        self.settings.pop(function, None)
        if row[0]:
            self.settings[function] = row

    def _key(self, key: tuple[bytes, bytes], row: Row) -> None:
        self.keys[key] = row

    def _cron(self, name: bytes, entry: tuple[Row, float] | None) -> None:
        self.crons.pop(name, None)
        if entry is not None:
            self.crons[name] = entry


_OF_THE_PAST = (ENDED, TRIED, USED, REVIVED, PURGED)
_APPLY: dict[str, Callable[..., None]] = {
    SAVED: Kept._save,
    ENDED: Kept._end,
    COURSE: Kept._course,
    TRIED: Kept._tried,
    USED: Kept._used,
    REVIVED: Kept._revive,
    PURGED: Kept._purge,
    SET: Kept._set,
    KEY: Kept._key,
    CRON: Kept._cron,
}


def exit_code(data: bytes) -> int:
    """What a warning says of the command's exit code, -1: nothing."""
    match = _EXIT.fullmatch(data)
    return int(match[1]) if match and int(match[1]) <= 255 else -1


def report(item: Item, size_max: int) -> tuple[bytes, bytes, bool]:
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


def log_end(item: Item) -> bytes:
    """Of what it has written to stderr the end, whatever is cut."""
    said = [data for number, data in item.said if number in (packets.WORK_WARNING, packets.WORK_EXCEPTION)]
    return b"".join(data for data in said if exit_code(data) < 0)


def last_outcome(outcome: str, reason: bytes) -> str:
    """How a job's last attempt ended, by how the job did."""
    of_dead = {b"poison": "lost", b"timeout": "timeout"}
    return of_dead.get(reason, outcome) if outcome == "failed" else outcome


def handle_of(id: int) -> bytes:
    """The handle of the job of this id, as it was given to everybody."""
    return b"H:%x:%d" % (id >> 40, id % 2**40)


def _row(save: Save) -> Row:
    return (*save[1:-1], frozenset(save.terms.split()))


def _settings(known: Iterable[Known]) -> dict[bytes, Row]:
    return {row.function: (frozenset(row.words.split()),) for row in known if isinstance(row, Setting)}


def _compare(what: str, found: Mapping[Any, Row], wanted: Mapping[Any, Row]) -> None:
    if found != wanted:
        missing = [about for about in wanted if about not in found]
        extra = [about for about in found if about not in wanted]
        altered = [(row, wanted[about]) for about, row in found.items() if wanted.get(about, row) != row]
        raise Wrong(f"{what} in the journal: missing {missing}, too many {extra}, altered {altered[:1]}")
