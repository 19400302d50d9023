"""Repairing a store that no server uses: damaged rows are put aside; where the file itself is damaged, what can be read
goes into a new one, and the old one stays under another name.

Where its log is damaged, it is read from a copy that has what the log still holds (replay.py).

How a damaged table is read: forwards until a page cannot be read, then backwards from the other end, then in the middle
of what is left, and so on; so what is lost is what is on the damaged pages, and not what lies behind them.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from farm.broker.effects import Finish, Save
from farm.broker.job import SEQUENCE_BITS, handle_of
from farm.errors import EXIT_CANNOT_CREATE, EXIT_DATA
from farm.store.check import END_COLUMNS, JOB_COLUMNS, UNSOUND, Damage, Report, check, damage
from farm.store.contract import SHARD_START_MAX, StoreError
from farm.store.place import FILE, REPAIRED, alone, damage_of_log, reading, sync, sync_directory
from farm.store.replay import replay
from farm.store.rows import TABLES, is_sound, is_sound_end
from farm.store.schema import APPLICATION_ID, VERSION, bring_up_to_date, fresh_shard, in_a_line, selected, version_of

UNFINISHED = "jobs.db.unfinished"
REPLAYED = "jobs.db.replayed"
PROBES_MAX = 20_000  # looks for rows between damaged pages, for each table: about a second
_LEAST, _MOST = -(1 << 63), (1 << 63) - 1

# (table, its key, columns): first those of a change, then their checksum, then the others
_CHECKED = (
    ("job", "id", JOB_COLUMNS),
    (
        "ended",
        "n",
        f"{END_COLUMNS}, function, unique_key, priority, payload, reducer, due, created, terms, job_crc, n, size",
    ),
    *((table.name, "rowid", f"{table.columns}, crc") for table in TABLES),
)
_DAMAGED = "found, id, function, unique_key, priority, reducer, due, created, crc, payload"
_TABLES = (*_CHECKED, ("damaged", "rowid", _DAMAGED), ("imported", "rowid", "source, mark, jobs, at"))
_LATER = {table.name: table for table in TABLES}


@dataclass
class Repaired:
    """What was done. kept_as: the damaged file's new name; empty: the file was sound, or only rows of it were damaged.
    aside: damaged rows that were put aside. lost: what could not be read, in words."""

    kept_as: str = ""
    aside: list[Damage] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


def repair(directory: str) -> tuple[Repaired, Report]:
    """Make the store one that a server opens. Returns what was done and what is in it now. Raises StoreError when a
    server uses it, or when nothing of it can be read."""
    with alone(directory):
        done = Repaired()
        if os.path.exists(os.path.join(directory, REPAIRED)):
            done.kept_as = _take_place(directory)
        report = check(directory, is_alone=True)
        if report.faults:
            done = _salvage(directory)
            done.lost += _without_a_trace(report.faults)
        elif report.damaged:
            done.aside = report.damaged
            _put_aside(directory)
        after = check(directory, is_alone=True)
        if not report.faults:  # the log is as it was, and its index, which knew how long it should be, was made anew
            after.notes = report.notes
        return done, after


def _without_a_trace(faults: list[str]) -> list[str]:
    """A page whose cells cannot all be found is read without an error, and nobody knows which rows are missing. Not so
    where only an index is damaged, or the log, of which it is known what it had."""
    others = [fault for fault in faults if " index " not in fault and "write-ahead log" not in fault]
    return [f"rows that leave no trace, if there were any on damaged pages: {others[0]}"] if others else []


def _put_aside(directory: str) -> None:
    path = os.path.join(directory, FILE)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA synchronous = FULL")
        bring_up_to_date(database, path)
        database.execute("BEGIN IMMEDIATE")
        for table, key, columns in _CHECKED:
            names = _names(columns)
            rows = database.execute(f"SELECT {key}, {columns} FROM {table}")
            for at, *row in [row for row in rows if not _is_sound(table, row[1:])]:
                _keep_damaged(database, dict(zip(names, row, strict=True)))
                database.execute(f"DELETE FROM {table} WHERE {key} = ?", (at,))
        _drop_orphans(database)
        database.execute("COMMIT")


def _salvage(directory: str) -> Repaired:
    """Write what can be read into a new file, and let that take the place of the damaged one."""
    unfinished = os.path.join(directory, UNFINISHED)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(unfinished)
    os.close(os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    done = Repaired()
    try:
        with (
            _readable(directory, done.lost) as old,
            contextlib.closing(sqlite3.connect(unfinished, isolation_level=None)) as new,
        ):
            # SQLite then reads also a file that is shorter than it should be, or of which it understands a part only.
            old.execute("PRAGMA writable_schema = ON")
            _must_be_legible(old, directory)
            bring_up_to_date(new, unfinished)
            new.execute("BEGIN")
            there = _tables_of(old)
            for table, key, columns in _TABLES:
                if table in there:
                    _copy(old, new, done, table, key, columns)
            _must_not_be_back(new, done)
            _drop_orphans(new)
            new.execute("INSERT INTO owner VALUES (1, ?)", (_shard(old, new),))
            new.execute("COMMIT")
    except BaseException:
        os.unlink(unfinished)
        raise
    sync(unfinished)
    os.rename(unfinished, os.path.join(directory, REPAIRED))
    sync_directory(directory)
    done.kept_as = _take_place(directory)
    return done


@contextlib.contextmanager
def _readable(directory: str, lost: list[str]) -> Iterator[sqlite3.Connection]:
    """The damaged store; where SQLite would leave out a part of its log, a copy in which that is. lost: gets what is
    not in it, in words."""
    if not damage_of_log(directory, is_alone=True):
        with reading(directory, although_damaged=True) as database:
            yield database
        return
    copy = os.path.join(directory, REPLAYED)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(copy)
    os.close(os.open(copy, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        try:
            lost += replay(os.path.join(directory, FILE), copy)
        except OSError as error:
            raise StoreError(f"cannot copy {directory}: {error.strerror}", "", EXIT_CANNOT_CREATE) from error
        with reading(directory, although_damaged=True, file=REPLAYED) as database:
            yield database
    finally:
        os.unlink(copy)


def _must_not_be_back(database: sqlite3.Connection, done: Repaired) -> None:
    """A job that is there as it was before it ended, and its end too: a page of the one is older than that of the
    other. It has run."""
    query = f"SELECT {', '.join(_names(JOB_COLUMNS))} FROM job WHERE id IN (SELECT id FROM ended)"
    for row in database.execute(query).fetchall():
        fields = dict(zip(_names(JOB_COLUMNS), row, strict=True))
        _keep_damaged(database, fields)
        database.execute("DELETE FROM job WHERE id = ?", (fields["id"],))
        done.aside.append(damage("job", fields["id"], fields["function"], "it has ended"))


def _must_be_legible(old: sqlite3.Connection, directory: str) -> None:
    """An empty store in the place of a damaged one would help nobody."""
    try:
        (application,), (version,) = (
            old.execute(f"PRAGMA {name}").fetchone() for name in ("application_id", "user_version")
        )
        if application != APPLICATION_ID or not 0 < version <= VERSION:  # else a part of the schema will do
            version_of(old, os.path.join(directory, FILE))
        old.execute("SELECT max(id) FROM (SELECT id FROM job LIMIT 0)")
    except sqlite3.DatabaseError as error:
        raise StoreError(
            f"nothing can be read of {os.path.join(directory, FILE)}: {in_a_line(error)}; it stays as it is",
            "take the newest backup; to begin anew, move the directory away",
            EXIT_DATA,
        ) from error


def _tables_of(old: sqlite3.Connection) -> set[str]:
    """The names of the tables that may be there. An older file has not all of them."""
    try:
        return {name for (name,) in old.execute("SELECT name FROM sqlite_schema")}
    except sqlite3.DatabaseError:
        return {table for table, _, _ in _TABLES}


def _copy(old: sqlite3.Connection, new: sqlite3.Connection, done: Repaired, table: str, key: str, columns: str) -> None:
    names = _names(columns)
    gaps: list[tuple[int, int]] = []
    for row in _rows(old, table, key, columns, gaps):
        fields = dict(zip(names, row, strict=True))
        try:
            if _is_sound(table, row):
                marks = ", ".join("?" * len(names))
                new.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks})", row)
                continue
        except sqlite3.IntegrityError:  # twice, or of a wrong kind in spite of its checksum
            pass
        _keep_damaged(new, fields)
        later = _LATER.get(table)
        where = later.whose(row) if later else None
        done.aside.append(
            Damage(table, *where, UNSOUND) if where else damage(table, fields.get("id"), fields.get("function"))
        )
    done.lost += [_in_words(table, *gap) for gap in gaps]


def _drop_orphans(database: sqlite3.Connection) -> None:
    """What is said of jobs that are not there any more, and halves of cron entries."""
    database.execute("DELETE FROM progress WHERE id NOT IN (SELECT id FROM job)")
    database.execute("DELETE FROM attempt WHERE id NOT IN (SELECT id FROM job UNION SELECT id FROM ended)")
    database.execute("DELETE FROM cron WHERE name NOT IN (SELECT name FROM cron_payload)")
    database.execute("DELETE FROM cron_payload WHERE name NOT IN (SELECT name FROM cron)")


def _keep_damaged(database: sqlite3.Connection, fields: dict[str, object]) -> None:
    columns = [name for name in _names(_DAMAGED) if name in fields and name != "found"]
    try:
        database.execute(
            f"INSERT INTO damaged (found, {', '.join(columns)}) VALUES (?{', ?' * len(columns)})",
            (time.time(), *(fields[name] for name in columns)),
        )
    except sqlite3.IntegrityError:  # a field is not of the kind that it was
        database.execute("INSERT INTO damaged (found) VALUES (?)", (time.time(),))


def _is_sound(table: str, row: tuple[object, ...]) -> bool:
    if table == "job":
        return is_sound(Save._make(row[:9]), row[9])
    if table == "ended":
        return is_sound_end(Finish._make(row[:16]), row[16], Save._make((row[0], *row[17:25])), row[25])
    later = _LATER.get(table)
    return later is None or later.is_sound(row[:-1], row[-1])


def _rows(
    database: sqlite3.Connection, table: str, key: str, columns: str, gaps: list[tuple[int, int]]
) -> Iterator[tuple[object, ...]]:
    """Every row that can be read. gaps: gets the keys between which nothing could, both exclusive."""
    ranges, probes, found = deque([(_LEAST, _MOST)]), 0, selected(database, table, columns)
    while ranges:
        low, high = ranges.popleft()
        if high - low < 2:
            continue
        probes += 1
        if probes > PROBES_MAX:
            gaps.append((low, high))
            continue
        for order in ("", " DESC"):
            query = f"SELECT {key}, {found} FROM {table} WHERE {key} > ? AND {key} < ? ORDER BY {key}{order}"
            try:
                for at, *row in database.execute(query, (low, high)):
                    if not (isinstance(at, int) and low < at < high):
                        raise sqlite3.DatabaseError("keys out of order")
                    low, high = (low, at) if order else (at, high)
                    yield tuple(row)
            except sqlite3.DatabaseError:
                continue
            break
        else:
            middle = (low + high) // 2
            if high - low > 2:
                ranges += [(low, middle + 1), (middle, high)]
            elif high - low == 2:
                gaps.append((low, high))
    gaps[:] = _merged(gaps)


def _merged(gaps: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for low, high in sorted(gaps):
        if merged and low < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return merged


def _in_words(table: str, low: int, high: int) -> str:
    first, last = low < 0, high == _MOST
    if table != "job":
        return f"entries of {table}" if first or last else f"at most {high - low - 1} entries of {table}"
    after = "from the first one on" if first else f"after {handle_of(low).decode()}"
    before = "to the last one" if last else f"before {handle_of(high).decode()}"
    return f"jobs {after}, {before}: those that there were"


def _shard(old: sqlite3.Connection, new: sqlite3.Connection) -> int:
    """The old one where it can be believed, so that it goes on counting."""
    (newest,) = new.execute(f"SELECT ifnull(max(id >> {SEQUENCE_BITS}), 0) FROM job").fetchone()
    with contextlib.suppress(sqlite3.DatabaseError):
        row = old.execute("SELECT shard FROM owner").fetchone()
        if row and isinstance(row[0], int) and newest <= row[0] < 2 * SHARD_START_MAX - 1:
            return int(row[0])
    return fresh_shard(new)


def _take_place(directory: str) -> str:
    """Let the finished new file take the place of the damaged one, whose log goes first: it must never meet another
    file. Interrupted anywhere, doing it again ends it. Returns the damaged one's new name."""
    path = os.path.join(directory, FILE)
    kept_as = f"{path}.damaged-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    try:
        for suffix in ("", "-wal"):
            if os.path.exists(path + suffix):
                with contextlib.suppress(FileExistsError):
                    os.link(path + suffix, kept_as + suffix)
        sync_directory(directory)
        for suffix in ("-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path + suffix)
        sync_directory(directory)
        os.rename(os.path.join(directory, REPAIRED), path)
        sync_directory(directory)
    except OSError as error:
        raise StoreError(f"cannot put the repaired file in place: {error.strerror}", "", EXIT_CANNOT_CREATE) from error
    return kept_as


def _names(columns: str) -> list[str]:
    return [name.strip() for name in columns.split(",")]
