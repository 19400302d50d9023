"""What each change does to the tables of the SQLite store, inside a transaction that its owner begins and commits.

The hot path is a job that is saved, runs once and is done: its saves and ends go to SQLite many at a time, and it pays
for nothing else. All that is rarer is done one by one, after what came before it.
"""

from __future__ import annotations

import itertools
import logging
import sqlite3
from collections.abc import Iterable

from farm.broker.effects import (
    FINISH_OVERHEAD,
    Attempt,
    Change,
    CronGone,
    CronRow,
    Expire,
    Finish,
    Forget,
    Progress,
    Purge,
    Revive,
    Save,
    Setting,
    UniqueUntil,
    Usage,
)
from farm.broker.job import DONE, handle_of
from farm.store import past
from farm.store.rows import (
    ATTEMPT,
    CRON,
    CRON_PAYLOAD,
    PROGRESS,
    SETTING,
    UNIQUE_UNTIL,
    Table,
    checksum,
    checksum_of_end,
    is_sound,
)

log = logging.getLogger("farm.store")

BOUND_MAX = 1024 * 1024  # of a payload: SQLite keeps what was bound last to a statement; more than this is let go of
EXPIRED_AT_ONCE_MAX = 2000  # rows: a longer transaction would be felt
# Bytes of the log for a row that is dropped, besides what is in it: SQLite writes a page from which a row was deleted
# even where it is free now. Of a long row the rest is on pages of its own, and these are not written.
DROPPED_OVERHEAD, DROPPED_MAX = 256, 4096
COUNTED_AT_ONCE_MAX = 20_000  # rows: some 5 ms

_SAVE = """INSERT INTO job (id, function, unique_key, priority, reducer, due, created, crc, terms, payload)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"""
# One statement for many costs half of what one for each does.
_AT_ONCE = 32
_FORGET_ONE = "DELETE FROM job WHERE id = ?"
_FORGET_MANY = f"DELETE FROM job WHERE id IN ({', '.join('?' * _AT_ONCE)})"


def _finish(*, done: bool, attempts: bool) -> str:
    """For jobs that are done or not; attempts: there may be some. Most are done and have none: they are spared what the
    others need, which is a tenth of what it costs to keep the end of one."""
    payload, crc, size = ("NULL", "NULL", "") if done else ("payload", "crc", " + length(payload)")
    if attempts:
        size += f" + (SELECT ifnull(sum({FINISH_OVERHEAD} + length(log)), 0) FROM attempt WHERE attempt.id = job.id)"
    return f"""INSERT INTO ended
        (id, function, unique_key, priority, created, terms, reducer, due, job_crc, outcome, started, ended, worker,
         exit_code, cut, reason, number, failures, losses, cpu_s, peak, keep_s, size, crc, payload, log, result)
        SELECT id, function, unique_key, priority, created, terms, reducer, due, {crc}, ?, ?, ?, ?, ?, ?,
            ?, ?, ?, ?, ?, ?, ?, ? + length(terms){size}, ?, {payload}, ?, ?
        FROM job WHERE id = ? ON CONFLICT DO NOTHING"""


_FINISH = {
    (done, attempts): _finish(done=done, attempts=attempts) for done in (False, True) for attempts in (False, True)
}
_PROGRESS = (
    f"REPLACE INTO progress ({PROGRESS.columns}, crc) SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, ? FROM job WHERE id = ?1"
)
_NO_PROGRESS = "DELETE FROM progress WHERE id = ?"
_ATTEMPT = f"""INSERT INTO attempt ({ATTEMPT.columns}, crc) SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?
    WHERE EXISTS (SELECT 1 FROM job WHERE id = ?1) OR EXISTS (SELECT 1 FROM ended WHERE id = ?1)
    ON CONFLICT DO NOTHING"""
_USED = "UPDATE attempt SET cpu_s = ?, peak = ?, crc = ? WHERE id = ? AND number = ?"
_USED_LAST = "UPDATE ended SET cpu_s = ?, peak = ?, crc = ? WHERE id = ?"
_NO_ATTEMPTS = "DELETE FROM attempt WHERE id = ?"
_NO_ATTEMPTS_UNLESS_ENDED = f"{_NO_ATTEMPTS} AND NOT EXISTS (SELECT 1 FROM ended WHERE ended.id = attempt.id)"
TO_REVIVE = """SELECT id, function, unique_key, priority, payload, reducer, due, created, terms, job_crc
    FROM ended WHERE id = ? AND payload IS NOT NULL"""
_NO_END = "DELETE FROM ended WHERE id = ? RETURNING n, size"
_NO_OLD_KEYS = """DELETE FROM unique_until
    WHERE rowid IN (SELECT rowid FROM unique_until WHERE until < ? ORDER BY until LIMIT ?)"""

_MAY_BE_EMPTY = frozenset((PROGRESS, ATTEMPT, UNIQUE_UNTIL))


class _Pending:
    """Rows that are not with SQLite yet. Those of one list are in order, and whatever else there is of a job that is in
    `over` must wait until they are written: saves are written first, ends last."""

    __slots__ = ("ends", "forgotten", "over", "progress", "saves", "with_output")

    def __init__(self, with_output: bool) -> None:
        self.with_output = with_output
        self.saves: list[tuple[object, ...]] = []
        self.progress: dict[int, Progress] = {}
        self.ends: list[Finish] = []
        self.over: set[int] = set()
        self.forgotten: list[tuple[int]] = []

    def clear(self) -> None:
        """They are with SQLite."""
        for rows in (self.saves, self.progress, self.ends, self.over, self.forgotten):
            rows.clear()


class Tables:
    """The tables of an open store. ended_size: bytes that ended jobs take. overdue: the last Expire has left some.
    gave_way: some were dropped for want of room since the last transaction began. gives_way: there may be more."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self.overdue = self.gave_way = False
        self.ended_size = 0
        self.ended_max = 1 << 62  # bytes, whatever an Expire says
        self.others_min = 1 << 62  # bytes of what is kept of jobs that are not done, which give way to nothing
        self.expired_log_max = 1 << 62  # bytes of the log for one Expire
        self._log_left = 0  # of that
        # Rows of `ended` up to this n are not in that yet.
        (self._uncounted,) = database.execute("SELECT ifnull(max(n), 0) FROM ended").fetchone()
        self._count()
        self._before = (self.ended_size, self._uncounted)  # the open transaction
        self._looked_to = 0  # up to this n the last Expire found nothing too old, and did not come to an end
        # Those that had a row: while they have none they need not be asked about any job.
        self._filled = {table for table in _MAY_BE_EMPTY if self._has_rows(table)}
        self._plain_from = 0  # no row of `ended` below this n is one whose job did not say how long it is kept
        self._done_from = 0  # nor one of a job that is done below this
        self.gives_way = self._uncounted > 0 or self.ended_size > 0  # there may be one of those

    @property
    def keeps(self) -> bool:
        """Whether there is anything that an Expire may drop."""
        return self.ended_size > 0 or self._uncounted > 0 or UNIQUE_UNTIL in self._filled

    def begins(self) -> None:
        """A transaction is about to begin."""
        self.gave_way = False
        self._before = (self.ended_size, self._uncounted)

    def undone(self) -> None:
        """It was rolled back."""
        self.ended_size, self._uncounted = self._before
        self._filled = set(_MAY_BE_EMPTY)
        self._plain_from = self._done_from = 0
        self.gives_way = True

    def _has_rows(self, table: Table) -> bool:
        return bool(self._database.execute(f"SELECT EXISTS (SELECT 1 FROM {table.name})").fetchone()[0])

    # -- changes

    def put(self, changes: Iterable[Change], *, with_output: bool) -> None:
        """Into the open transaction. with_output: what jobs wrote is kept, and the payloads of those that were not
        done. Raises sqlite3.Error."""
        pending = _Pending(with_output)
        over = pending.over
        expire: Expire | None = None
        for change in changes:
            if isinstance(change, Save):
                if over and change.id in over:
                    self._flush(pending)
                pending.saves.append(_row(change))
            elif isinstance(change, Finish):
                over.add(change.id)
                pending.ends.append(change)
            elif isinstance(change, Forget):
                over.add(change.id)
                pending.forgotten.append((change.id,))
            elif isinstance(change, Progress):
                if over and change.id in over:
                    self._flush(pending)
                pending.progress[change.id] = change
            elif isinstance(change, (Attempt, Usage, Revive, Purge)):
                self._flush(pending)
                self._put_rare(change, with_output)
            elif isinstance(change, Expire):
                expire = change
            else:
                self._put_other(change)
        self._flush(pending)
        if expire:
            self._expire(expire)

    def _flush(self, pending: _Pending) -> None:
        database = self._database
        if pending.saves:
            self._save(pending.saves)
        progress = [PROGRESS.row(one) for id, one in pending.progress.items() if id not in pending.over]
        if progress:
            self._filled.add(PROGRESS)
            database.executemany(_PROGRESS, progress)
        if pending.ends:
            self._finish(pending.ends, pending.with_output)
        if pending.over:
            self._forget(sorted(pending.over))
            if PROGRESS in self._filled:
                database.executemany(_NO_PROGRESS, [(id,) for id in pending.over])
        if pending.forgotten and ATTEMPT in self._filled:
            database.executemany(_NO_ATTEMPTS_UNLESS_ENDED, pending.forgotten)
        pending.clear()

    def _save(self, saves: list[tuple[object, ...]]) -> None:
        self._database.executemany(_SAVE, saves)
        *fields, payload = saves[-1]
        if isinstance(payload, bytes) and len(payload) > BOUND_MAX:
            self._database.execute(_SAVE, (*fields, b""))  # it is there, so this changes nothing

    def _finish(self, ends: list[Finish], with_output: bool) -> None:
        """Ends of unknown jobs add nothing, so what they take is asked afterwards."""
        if not with_output:
            ends = [_without_output(end) for end in ends]
        database = self._database
        attempts = ATTEMPT in self._filled
        (newest,) = database.execute("SELECT ifnull(max(n), 0) FROM ended").fetchone()
        for done, alike in itertools.groupby(ends, lambda end: end.outcome == DONE or not with_output):
            database.executemany(_FINISH[done, attempts], map(_end_row, alike))
        (size,) = database.execute("SELECT ifnull(sum(size), 0) FROM ended WHERE n > ?", (newest,)).fetchone()
        self.ended_size += size
        self._plain_from = min(self._plain_from, newest + 1)
        self._done_from = min(self._done_from, newest + 1)
        self.gives_way = True

    def payload_size(self, ids: list[int]) -> int:
        """Bytes of the payloads of these jobs, which have not ended. Raises sqlite3.Error."""
        query = "SELECT ifnull(sum(length(payload)), 0) FROM job WHERE id = ?"
        return sum(self._database.execute(query, (id,)).fetchone()[0] for id in ids)

    def _forget(self, ids: list[int]) -> None:
        whole = len(ids) - len(ids) % _AT_ONCE
        for at in range(0, whole, _AT_ONCE):
            self._database.execute(_FORGET_MANY, ids[at : at + _AT_ONCE])
        self._database.executemany(_FORGET_ONE, [(id,) for id in ids[whole:]])

    # -- what is rare

    def _put_rare(self, change: Attempt | Usage | Revive | Purge, with_output: bool) -> None:
        if isinstance(change, Attempt):
            self._attempt(change if with_output else change._replace(log=b""))
        elif isinstance(change, Usage):
            if with_output:  # it writes the whole row anew
                self._used(change)
        elif isinstance(change, Revive):
            self._revive(change.id, change.terms)
        elif self._drop_end(change.id):
            self._database.execute(_NO_ATTEMPTS, (change.id,))

    def _attempt(self, attempt: Attempt) -> None:
        self._filled.add(ATTEMPT)
        if self._database.execute(_ATTEMPT, ATTEMPT.row(attempt)).rowcount > 0:
            size = FINISH_OVERHEAD + len(attempt.log)
            found = self._database.execute(
                "UPDATE ended SET size = size + ? WHERE id = ? RETURNING n", (size, attempt.id)
            ).fetchall()  # none while the job has not ended
            self.ended_size += sum(size for (n,) in found if n > self._uncounted)

    def _used(self, usage: Usage) -> None:
        """Into the row that describes the attempt. One that is damaged stays so, or nobody would see that it is."""
        end = past.sound_end(self._database, usage.id)
        if end is not None and end.number == usage.number:
            end = end._replace(cpu_s=usage.cpu_s, peak=usage.peak)
            self._database.execute(_USED_LAST, (end.cpu_s, end.peak, checksum_of_end(end), end.id))
            return
        for attempt in past.attempts(self._database, usage.id):
            if attempt.number == usage.number:
                *_, cpu_s, peak, _, crc = ATTEMPT.row(attempt._replace(cpu_s=usage.cpu_s, peak=usage.peak))
                self._database.execute(_USED, (cpu_s, peak, crc, usage.id, usage.number))

    def _revive(self, id: int, terms: bytes | None) -> None:
        row = self._database.execute(TO_REVIVE, (id,)).fetchone()
        if row is None:
            return
        save = Save(*row[:-1])
        if row[-1] is not None and not is_sound(save, row[-1]):
            log.error("what is kept of the ended job %s is damaged: it is not run again", handle_of(id).decode())
            return
        self._drop_end(id)
        self._save([_row(save._replace(due=0.0, terms=save.terms if terms is None else terms))])

    def _drop_end(self, id: int) -> bool:
        rows = self._database.execute(_NO_END, (id,)).fetchall()
        self._discount(rows)
        return bool(rows)

    def _discount(self, rows: Iterable[tuple[int, int]]) -> None:
        """These rows of `ended` are gone: (n, size)."""
        self.ended_size -= sum(size for n, size in rows if n > self._uncounted)
        if self._uncounted:  # the next row comes after the newest that is left, and is counted when it does
            (newest,) = self._database.execute("SELECT ifnull(max(n), 0) FROM ended").fetchone()
            self._uncounted = min(self._uncounted, newest)

    def _count(self) -> None:
        """Go on with adding up what was kept before this was opened, newest first: of millions of rows, all at once
        would hold the start up."""
        rows, oldest, size = self._database.execute(
            """SELECT count(*), min(n), ifnull(sum(size), 0)
            FROM (SELECT n, size FROM ended WHERE n <= ? ORDER BY n DESC LIMIT ?)""",
            (self._uncounted, COUNTED_AT_ONCE_MAX),
        ).fetchone()
        self.ended_size += size
        self._uncounted = oldest - 1 if rows == COUNTED_AT_ONCE_MAX else 0

    def _put_other(self, change: Setting | UniqueUntil | CronRow | CronGone) -> None:
        """What does not concern a row of a job comes in order among its own kind, and that is enough."""
        if isinstance(change, UniqueUntil):
            self._filled.add(UNIQUE_UNTIL)
            self._replace(UNIQUE_UNTIL, change)
        elif isinstance(change, CronRow):
            self._cron_row(change)
        elif isinstance(change, CronGone):
            self._database.execute("DELETE FROM cron WHERE name = ?", (change.name,))
            self._database.execute("DELETE FROM cron_payload WHERE name = ?", (change.name,))
        elif change.words:
            self._replace(SETTING, change)
        else:
            self._database.execute("DELETE FROM setting WHERE function = ?", (change.function,))

    def _cron_row(self, change: CronRow) -> None:
        if change.payload is not None:
            self._replace(CRON_PAYLOAD, (change.name, change.payload))
        elif not self._database.execute("SELECT 1 FROM cron WHERE name = ?", (change.name,)).fetchone():
            return
        self._replace(CRON, change[:2])

    def _replace(self, table: Table, fields: tuple[object, ...]) -> None:
        marks = ", ".join("?" * (len(fields) + 1))
        self._database.execute(f"REPLACE INTO {table.name} ({table.columns}, crc) VALUES ({marks})", table.row(fields))

    # -- what is dropped

    def _expire(self, expire: Expire) -> None:
        """First what is too old, then what its own time is over of, then the oldest of what is too much, then of what
        there is no room for."""
        if self._uncounted:
            self._count()
        before = self.ended_size
        left, self._log_left = EXPIRED_AT_ONCE_MAX, self.expired_log_max
        left -= self._drop(self._too_old(expire, left))
        timed = self._database.execute(
            "SELECT n, id, size FROM ended WHERE keep_s >= 0 AND keep_until < ? ORDER BY keep_until LIMIT ?",
            (expire.now, left),
        ).fetchall()
        left -= self._drop([row for row in timed if self._has_log_for(row[2])])
        left -= self._drop(self._too_much(expire, left))
        left -= self._drop(self._in_the_way(expire.room - (before - self.ended_size), left))
        self.gave_way |= expire.room > 0 and self.ended_size < before
        if UNIQUE_UNTIL in self._filled:
            left -= self._database.execute(_NO_OLD_KEYS, (expire.now, left)).rowcount
            if not self._has_rows(UNIQUE_UNTIL):
                self._filled.discard(UNIQUE_UNTIL)
        self.overdue = left <= 0 or self._log_left <= 0 or self._looked_to > 0 or self._uncounted > 0

    def _too_old(self, expire: Expire, most: int) -> list[tuple[int, int, int]]:
        start = max(self._plain_from, self._looked_to + 1)
        rows = self._database.execute(
            "SELECT n, ended, id, size FROM ended WHERE n >= ? AND keep_s < 0 ORDER BY n LIMIT ?", (start, most)
        ).fetchall()
        if not rows and not self._looked_to:  # or the others would be looked through each time
            (self._plain_from,) = self._database.execute("SELECT ifnull(max(n), 0) + 1 FROM ended").fetchone()
        gone: list[tuple[int, int, int]] = []
        kept, is_last = 0, len(rows) < most
        for n, ended, id, size in rows:
            if expire.drops(ended):
                if not self._has_log_for(size):
                    kept, is_last = kept or n, True
                    break
                gone.append((n, id, size))
            else:
                kept = kept or n
                if expire.stops_at(ended):
                    is_last = True
                    break
        if rows and not self._looked_to:
            self._plain_from = kept or rows[-1][0] + 1
        # What says that it ended in the future holds up nothing that comes after it: the next Expire goes on there.
        self._looked_to = 0 if is_last else rows[-1][0]
        return gone

    def _too_much(self, expire: Expire, most: int) -> list[tuple[int, int, int]]:
        excess = self.ended_size - min(expire.size_max, self.ended_max)
        gone: list[tuple[int, int, int]] = []
        if excess > 0:
            for row in self._database.execute("SELECT n, id, size FROM ended ORDER BY n LIMIT ?", (most,)):
                if excess <= 0 or not self._has_log_for(row[2]):
                    break
                gone.append(row)
                excess -= row[2]
        return gone

    def make_way(self, room: int) -> None:
        """Drop so many bytes of the oldest results in the open transaction, as an Expire does that wants room."""
        self._log_left = self.expired_log_max
        self.gave_way |= self._drop(self._in_the_way(room, EXPIRED_AT_ONCE_MAX)) > 0

    def _in_the_way(self, room: int, most: int) -> list[tuple[int, int, int]]:
        """Of jobs that are done first. The others only where they are very much: nobody else has their payloads."""
        gone: list[tuple[int, int, int]] = []
        if room <= 0 or most <= 0:
            return gone
        query = "SELECT n, id, size FROM ended NOT INDEXED WHERE n >= ? AND outcome = ? ORDER BY n LIMIT ?"
        for row in self._database.execute(query, (self._done_from, DONE, most)):
            if room <= 0 or not self._has_log_for(row[2]):
                self._done_from = row[0]  # or others would be looked through each time
                return gone
            gone.append(row)
            room -= row[2]
        if len(gone) == most:
            return gone
        (newest,) = self._database.execute("SELECT ifnull(max(n), 0) FROM ended").fetchone()
        self._done_from = newest + 1
        room = min(room, self.ended_size - sum(size for _, _, size in gone) - self.others_min)
        self.gives_way = room > 0
        if room > 0 and not gone:
            for row in self._database.execute("SELECT n, id, size FROM ended ORDER BY n LIMIT ?", (most,)):
                if room <= 0 or not self._has_log_for(row[2]):
                    break
                gone.append(row)
                room -= row[2]
        return gone

    def _has_log_for(self, size: int) -> bool:
        """Whether a row of that size may be dropped in this transaction too."""
        if self._log_left <= 0:
            return False
        self._log_left -= DROPPED_OVERHEAD + min(size, DROPPED_MAX)
        return True

    def _drop(self, rows: list[tuple[int, int, int]]) -> int:
        """Rows of `ended`: (n, id, size). Returns how many."""
        if rows:
            self._database.executemany("DELETE FROM ended WHERE n = ?", [(n,) for n, _, _ in rows])
            if ATTEMPT in self._filled:
                self._database.executemany(_NO_ATTEMPTS, [(id,) for _, id, _ in rows])
            self._discount((n, size) for n, _, size in rows)
        return len(rows)


# Rows are bound as bytearrays: for bytes Python's sqlite3 first looks whether somebody has registered an adapter, which
# costs more than all else about a small field (measured: a sixth of what it costs to save a job and to keep its end).
# A truth is an int for the same reason. Large ones would have to be copied, and are left as they are.
_COPIED_MAX = 4096


def _row(save: Save) -> tuple[object, ...]:
    id, function, unique, priority, payload, reducer, due, created, terms = save
    names = bytearray(function), bytearray(unique), priority, bytearray(reducer)
    return id, *names, due, created, checksum(save), bytearray(terms), _bound(payload)


def _end_row(end: Finish) -> tuple[object, ...]:
    id, outcome, started, ended, worker, exit_code, result, log, cut, reason, *later = end
    head = outcome, started, ended, bytearray(worker), exit_code, int(cut), bytearray(reason), *later
    return *head, end.size, checksum_of_end(end), _bound(log), _bound(result), id


def _bound(value: bytes) -> bytes | bytearray:
    return bytearray(value) if len(value) <= _COPIED_MAX else value


def _without_output(end: Finish) -> Finish:
    lost = end.outcome != DONE or bool(end.result + end.log)
    return end._replace(result=b"", log=b"", cut=end.cut or lost)
