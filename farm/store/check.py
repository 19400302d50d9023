"""Whether a store is sound, and what is in it. Nothing is changed; a server may be using it, and then its write-ahead
log is not looked at: it is being written."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from farm.broker.effects import Finish, Save
from farm.broker.job import handle_of
from farm.store.place import FILE, damage_of_log, notes_on_log, reading
from farm.store.rows import TABLES, Table, is_sound, is_sound_end
from farm.store.schema import illegible, in_a_line, must_be_a_store, selected, version_of

log = logging.getLogger("farm.store")

UNSOUND = "its checksum does not match"
# What says nothing about the file: it cannot be opened from here, or somebody has it.
_OUTSIDE = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_BUSY)
FAULTS_MAX = 100  # of the file's structure; who has more of them has the same repair before him
ROWS_AT_ONCE_MAX, SIZE_AT_ONCE_MAX = 1000, 1024 * 1024  # read before any of them is looked at
CHECKED_AT_START_MAX = 64 * 1024 * 1024  # bytes: about 0.3 s where they are small rows

JOB_COLUMNS = "id, function, unique_key, priority, payload, reducer, due, created, terms, crc"
END_COLUMNS = (
    "id, outcome, started, ended, worker, exit_code, result, log, cut, reason, number, failures, losses, cpu_s, peak,"
    " keep_s, crc"
)
_ENDED_JOB = "function, unique_key, priority, payload, reducer, due, created, terms, job_crc"


class Damage(NamedTuple):
    """A row that is not what was written. handle: empty where it is not a job's. function: or the name of a cron
    entry."""

    table: str
    handle: str
    function: bytes
    reason: str


@dataclass
class Report:
    """What was found. faults: of the file's structure, in SQLite's words. functions: how many jobs have not ended, and
    of how many that have something is kept. aside: rows that were damaged and put aside earlier. notes: what is no
    fault of what is there, but says that something may be missing."""

    directory: str
    schema: int = 0
    size: int = 0
    faults: list[str] = field(default_factory=list)
    damaged: list[Damage] = field(default_factory=list)
    functions: dict[bytes, tuple[int, int]] = field(default_factory=dict)
    aside: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Whether nothing is damaged."""
        return not self.faults and not self.damaged

    @property
    def jobs(self) -> int:
        """How many have not ended."""
        return sum(jobs for jobs, _ in self.functions.values())

    @property
    def ended(self) -> int:
        """Of how many ended ones something is kept."""
        return sum(ended for _, ended in self.functions.values())


def check(directory: str, *, is_alone: bool = False) -> Report:
    """Read every page and every row. is_alone: the caller holds the store's lock. Raises StoreError where there is no
    store, or none of this farm's."""
    log = damage_of_log(directory, is_alone=is_alone)
    report = Report(directory, size=size_of(directory), notes=notes_on_log(directory, is_alone=is_alone))
    if log:
        report.faults.append(log)
        if not os.path.getsize(os.path.join(directory, FILE)):  # SQLite would remove the log, even to read
            return report
    with reading(directory, although_damaged=True) as database:
        with _noted(report):
            report.schema = version_of(database, os.path.join(directory, FILE))
            if not report.schema and not log:  # with a log a repair has something to read
                must_be_a_store(database, os.path.join(directory, FILE))
            database.execute("BEGIN")  # all of what follows is of one moment
            found = [words for (words,) in database.execute(f"PRAGMA integrity_check({FAULTS_MAX})")]
            if found != ["ok"]:
                lines = (line for words in found for line in words.splitlines())
                report.faults += [line for line in lines if not line.startswith("*** in database")]
        with _noted(report):
            for save in sound_jobs(database, report.damaged):
                _count(report, save.function, 0)
        with _noted(report):
            for save, _ in sound_ends(database, report.damaged):
                _count(report, save.function, 1)
        with _noted(report):
            for table in TABLES:
                report.damaged += damaged_rows(database, table)
        with _noted(report):
            (report.aside,) = database.execute("SELECT count(*) FROM damaged").fetchone()
        return report


def quick_faults(database: sqlite3.Connection, path: str) -> str:
    """What is wrong with the file's structure, as far as a start can wait for that: of a large file what is kept of
    ended jobs is left out, and whether indexes are right. Each row has a checksum, which is compared when somebody asks
    for it; but of a row that its index does not find nobody would know."""
    (size,) = database.execute("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size").fetchone()
    queries = ["PRAGMA integrity_check(3)"]
    if size > CHECKED_AT_START_MAX:
        log.info("%s: the results in it are not checked at the start; farm store check does", path)
        tables = database.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name <> 'ended'")
        queries = [f"PRAGMA quick_check({name})" for (name,) in tables.fetchall()]
    found = [words for query in queries for (words,) in database.execute(query) if words != "ok"]
    return " ".join("; ".join(found[:3]).replace("*** in database main ***", "").split())


def size_of(directory: str) -> int:
    """Bytes of the store's file and its log."""
    size = 0
    for name in (FILE, f"{FILE}-wal"):
        with contextlib.suppress(FileNotFoundError):
            size += os.stat(os.path.join(directory, name)).st_size
    return size


def sound_jobs(database: sqlite3.Connection, damaged: list[Damage]) -> Iterator[Save]:
    """Every job that has not ended and is what was written; the others are noted."""
    query = f"SELECT {selected(database, 'job', JOB_COLUMNS)} FROM job WHERE id > ? ORDER BY id"
    for *fields, crc in _rows(database, query):
        save = Save(*fields)
        if is_sound(save, crc):
            yield save
        else:
            damaged.append(damage("job", save.id, save.function))


def sound_ends(database: sqlite3.Connection, damaged: list[Damage]) -> Iterator[tuple[Save, Finish]]:
    """Every ended job of which something is kept, and that; its payload is empty unless it is kept."""
    columns = selected(database, "ended", f"{END_COLUMNS}, {_ENDED_JOB}")
    for _, *row in _rows(database, f"SELECT n, {columns} FROM ended WHERE n > ? ORDER BY n"):
        end, crc = Finish._make((*row[:8], bool(row[8]), *row[9:16])), row[16]
        function, unique, priority, payload, *others, job_crc = row[17:]
        save = Save(end.id, function, unique, priority, payload or b"", *others)
        if is_sound_end(end, crc, save, job_crc):
            yield save, end
        else:
            damaged.append(damage("ended", end.id, function))


def _rows(database: sqlite3.Connection, query: str) -> Iterator[tuple[Any, ...]]:
    """All rows, in order of their first column, which is the table's key. Unless the caller has begun a transaction
    there is none while a row is looked at: a server's log grows for as long as somebody reads, and whoever takes these
    rows may be a pager that somebody has gone away from."""
    after, is_last = -(1 << 63), False
    while not is_last:
        rows: list[tuple[Any, ...]] = []
        size, error = 0, None
        cursor = database.execute(query, (after,))
        try:
            for row in cursor:
                rows.append(row)
                size += sum(len(field) for field in row if isinstance(field, bytes))
                if len(rows) == ROWS_AT_ONCE_MAX or size >= SIZE_AT_ONCE_MAX:
                    break
            else:
                is_last = True
        except sqlite3.DatabaseError as found:  # those before it can be read
            error = found
        cursor.close()
        yield from rows
        if error:
            raise error
        if rows and rows[-1][0] <= after:
            raise sqlite3.DatabaseError("keys out of order")
        after = rows[-1][0] if rows else after


def damaged_rows(database: sqlite3.Connection, table: Table) -> Iterator[Damage]:
    """Those of a table that came later than these; an older file has none of it."""
    if database.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", (table.name,)).fetchone():
        columns = selected(database, table.name, table.columns)
        for *fields, crc in database.execute(f"SELECT {columns}, crc FROM {table.name} ORDER BY rowid"):
            if not table.is_sound(fields, crc):
                yield Damage(table.name, *table.whose(fields), UNSOUND)


def damage(table: str, id: object, function: object, reason: str = UNSOUND) -> Damage:
    """A row whose fields may be anything."""
    handle = handle_of(id).decode() if isinstance(id, int) else "?"
    return Damage(table, handle, function if isinstance(function, bytes) else b"?", reason)


def _count(report: Report, function: bytes, column: int) -> None:
    counts = list(report.functions.get(function, (0, 0)))
    counts[column] += 1
    report.functions[function] = (counts[0], counts[1])


@contextlib.contextmanager
def _noted(report: Report) -> Iterator[None]:
    """A page that cannot be read ends one look at the file, and not the next one."""
    try:
        yield
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _OUTSIDE:
            raise
        words = in_a_line(error if isinstance(error, sqlite3.Error) else illegible())
        if words not in report.faults:
            report.faults.append(words)
