"""The tables of the SQLite store, their version, and how an older file becomes a newer one.

A change of the tables is a new entry in MIGRATIONS, never an edit of an old one: a store file of each version is kept
in tests/contract/stores and must open for ever.
"""

from __future__ import annotations

import sqlite3
import struct
import zlib

from farm.broker.effects import Finish, Save
from farm.store.contract import StoreError

APPLICATION_ID = 0x6661726D  # "farm", in the header of the file, so that no other program's file is taken for one

# The payload and the results stand last: SQLite reads a row from the front, and skips what is not asked for.
_VERSION_1 = """
CREATE TABLE owner (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    shard INTEGER NOT NULL                      -- of the newest owner; grows with every open
) STRICT;
CREATE TABLE job (                              -- background jobs that have not ended
    id INTEGER PRIMARY KEY,                     -- shard << 40 | sequence
    function BLOB NOT NULL,
    unique_key BLOB NOT NULL,
    priority INTEGER NOT NULL,                  -- 0 high, 1 normal, 2 low
    reducer BLOB NOT NULL,
    due REAL NOT NULL,                          -- wall-clock seconds; 0: at once
    created REAL NOT NULL,
    crc INTEGER NOT NULL,                       -- of all the other columns
    payload BLOB NOT NULL
) STRICT;
CREATE TABLE ended (                            -- what is kept of those that have
    n INTEGER PRIMARY KEY,                      -- in order of their end
    id INTEGER NOT NULL UNIQUE,
    function BLOB NOT NULL,
    unique_key BLOB NOT NULL,
    priority INTEGER NOT NULL,
    created REAL NOT NULL,
    outcome TEXT NOT NULL,                      -- done, failed or cancelled
    started REAL NOT NULL,                      -- 0: it never ran
    ended REAL NOT NULL,
    worker BLOB NOT NULL,
    exit_code INTEGER NOT NULL,                 -- -1: the worker gave none
    cut INTEGER NOT NULL,                       -- whether result or log is only the beginning
    size INTEGER NOT NULL,
    crc INTEGER NOT NULL,                       -- of what the worker reported
    payload BLOB,                               -- of jobs that were not done, so that they can be run again
    log BLOB NOT NULL,
    result BLOB NOT NULL
) STRICT;
CREATE TABLE damaged (                          -- rows of `job` whose checksum was wrong, as they were found
    found REAL NOT NULL,
    id INTEGER, function BLOB, unique_key BLOB, priority INTEGER, reducer BLOB, due REAL, created REAL, crc INTEGER,
    payload BLOB
) STRICT;
"""

MIGRATIONS = (_VERSION_1,)  # MIGRATIONS[n] makes version n + 1 of version n; 0 is an empty file
VERSION = len(MIGRATIONS)


def bring_up_to_date(database: sqlite3.Connection, where: str) -> int:
    """Create or migrate the tables, in one transaction. Returns the version that was found, 0 for a new file. Raises
    StoreError for a file of another program or of a newer farm."""
    (application,) = database.execute("PRAGMA application_id").fetchone()
    (version,) = database.execute("PRAGMA user_version").fetchone()
    (tables,) = database.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if (tables or version) and application != APPLICATION_ID:
        raise StoreError(f"{where} is not a store of farm", "give another place with --store")
    if version > VERSION:
        raise StoreError(
            f"{where} was written by a newer farm (schema {version}; this one knows {VERSION})",
            "use that version, or another place with --store",
        )
    if version < VERSION:
        marks = f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION};"
        database.executescript(f"BEGIN IMMEDIATE; {''.join(MIGRATIONS[version:])} {marks} COMMIT")
    return int(version)


_numbers = struct.Struct(">qqdd")


def checksum(save: Save) -> int:
    """CRC-32 of every column of a row of `job`."""
    names = b"%d %d %d " % (len(save.function), len(save.unique), len(save.reducer))
    head = _numbers.pack(save.id, save.priority, save.due, save.created)
    return zlib.crc32(save.payload, zlib.crc32(b"".join((head, names, save.function, save.unique, save.reducer))))


def checksum_of_end(end: Finish) -> int:
    """CRC-32 of what a row of `ended` has from the worker."""
    head = _numbers.pack(end.id, end.exit_code, end.started, end.ended)
    return zlib.crc32(end.log, zlib.crc32(end.result, zlib.crc32(head + end.outcome.encode() + end.worker)))
