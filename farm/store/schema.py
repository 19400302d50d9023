"""The tables of the SQLite store, their version, and how an older file becomes a newer one.

A change of the tables is a new entry in MIGRATIONS, never an edit of an old one: a store file of each version is kept
in tests/contract/stores and must open for ever.
"""

from __future__ import annotations

import random
import sqlite3

from farm.broker.job import SEQUENCE_BITS
from farm.errors import EXIT_DATA
from farm.store.contract import SHARD_START_MAX, StoreError

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

_VERSION_2 = """
CREATE TABLE imported (                         -- from where the jobs of another program's queue were taken in
    source TEXT PRIMARY KEY,                    -- its file
    mark TEXT NOT NULL,                         -- what tells whether the file has changed since
    jobs INTEGER NOT NULL,
    at REAL NOT NULL
) STRICT;
"""

# `ended` is made anew, for its new columns must stand before what may be large: they are read without that.
_VERSION_3 = """
ALTER TABLE job ADD COLUMN terms BLOB NOT NULL DEFAULT x'';  -- words; counts in crc where there are any
CREATE TABLE progress (                         -- of jobs that have not ended and are not at their beginning
    id INTEGER PRIMARY KEY,
    attempts INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    losses INTEGER NOT NULL,
    due REAL NOT NULL,                          -- takes the place of the job's own
    running INTEGER NOT NULL,
    after BLOB NOT NULL,                        -- what it still waits for
    crc INTEGER NOT NULL                        -- here and below: of all the other columns
) STRICT;
CREATE TABLE attempt (                          -- all but the last one, of jobs in `job` and `ended`
    id INTEGER NOT NULL,
    number INTEGER NOT NULL,
    started REAL NOT NULL,
    ended REAL NOT NULL,
    outcome TEXT NOT NULL,
    reason BLOB NOT NULL,
    worker BLOB NOT NULL,
    exit_code INTEGER NOT NULL,
    cpu_s REAL NOT NULL,
    peak INTEGER NOT NULL,
    log BLOB NOT NULL,
    crc INTEGER NOT NULL,
    PRIMARY KEY (id, number)
) STRICT;
CREATE TABLE setting (
    function BLOB PRIMARY KEY NOT NULL,
    words BLOB NOT NULL,
    crc INTEGER NOT NULL
) STRICT;
CREATE TABLE unique_until (                     -- keys that count for a while, also when their job has ended
    function BLOB NOT NULL,
    unique_key BLOB NOT NULL,
    id INTEGER NOT NULL,
    until REAL NOT NULL,
    crc INTEGER NOT NULL,
    PRIMARY KEY (function, unique_key)
) STRICT;
CREATE INDEX unique_until_until ON unique_until (until);
CREATE TABLE cron (
    name BLOB PRIMARY KEY NOT NULL,
    words BLOB NOT NULL,                        -- JSON
    crc INTEGER NOT NULL
) STRICT;
CREATE TABLE cron_payload (
    name BLOB PRIMARY KEY NOT NULL,
    payload BLOB NOT NULL,
    crc INTEGER NOT NULL
) STRICT;
CREATE TABLE ended_3 (
    n INTEGER PRIMARY KEY,
    id INTEGER NOT NULL UNIQUE,
    function BLOB NOT NULL,
    unique_key BLOB NOT NULL,
    priority INTEGER NOT NULL,
    created REAL NOT NULL,
    terms BLOB NOT NULL DEFAULT x'',
    reducer BLOB NOT NULL DEFAULT x'',
    due REAL NOT NULL DEFAULT 0,
    job_crc INTEGER,                            -- of the row in `job`; NULL: it ended before that was kept
    outcome TEXT NOT NULL,
    started REAL NOT NULL,
    ended REAL NOT NULL,
    worker BLOB NOT NULL,
    exit_code INTEGER NOT NULL,
    cut INTEGER NOT NULL,
    reason BLOB NOT NULL DEFAULT x'',
    number INTEGER NOT NULL DEFAULT 1,
    failures INTEGER NOT NULL DEFAULT 0,
    losses INTEGER NOT NULL DEFAULT 0,
    cpu_s REAL NOT NULL DEFAULT -1,             -- -1: unknown
    peak INTEGER NOT NULL DEFAULT -1,
    keep_s REAL NOT NULL DEFAULT -1,            -- -1: as all others
    keep_until REAL AS (CASE WHEN keep_s >= 0 THEN ended + keep_s END),
    size INTEGER NOT NULL,                      -- its attempts and its terms included
    crc INTEGER NOT NULL,
    payload BLOB,
    log BLOB NOT NULL,
    result BLOB NOT NULL
) STRICT;
INSERT INTO ended_3 (n, id, function, unique_key, priority, created, outcome, started, ended, worker, exit_code, cut,
        size, crc, payload, log, result)
    SELECT n, id, function, unique_key, priority, created, outcome, started, ended, worker, exit_code, cut,
        size, crc, payload, log, result
    FROM ended ORDER BY n;
DROP TABLE ended;
ALTER TABLE ended_3 RENAME TO ended;
CREATE INDEX ended_function ON ended (function);
-- Most jobs are done: what else there is is found without them, and they hardly pay for it.
CREATE INDEX ended_outcome ON ended (outcome) WHERE outcome <> 'done';
CREATE INDEX ended_keep_until ON ended (keep_until) WHERE keep_s >= 0;
"""

_VERSION_4 = """
ALTER TABLE progress ADD COLUMN started REAL NOT NULL DEFAULT 0;  -- of the running attempt; 0: unknown
ALTER TABLE progress ADD COLUMN worker BLOB NOT NULL DEFAULT x''; -- these two count in crc where they say anything
"""

MIGRATIONS = (
    _VERSION_1,
    _VERSION_2,
    _VERSION_3,
    _VERSION_4,
)  # MIGRATIONS[n] makes version n + 1 of version n; 0 is an empty file
VERSION = len(MIGRATIONS)


def version_of(database: sqlite3.Connection, where: str) -> int:
    """The version of a file's tables, 0 for a new file. Raises StoreError for a file of another program or of a newer
    farm."""
    (application,) = database.execute("PRAGMA application_id").fetchone()
    (version,) = database.execute("PRAGMA user_version").fetchone()
    try:
        (tables,) = database.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except UnicodeDecodeError as error:
        raise illegible() from error
    if (tables or version) and application != APPLICATION_ID:
        raise StoreError(f"{where} is not a store of farm", "give another place with --store", EXIT_DATA)
    if version > VERSION:
        raise StoreError(
            f"{where} was written by a newer farm (schema {version}; this one knows {VERSION})",
            "use that version, or another place with --store",
            EXIT_DATA,
        )
    return int(version)


def illegible() -> sqlite3.DatabaseError:
    """What SQLite would have said of a damaged schema: its words repeat the damage, and Python cannot read them."""
    error = sqlite3.DatabaseError("malformed database schema")
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def in_a_line(error: sqlite3.Error) -> str:
    """SQLite's words. Of a damaged schema they are several lines of it."""
    return " ".join(str(error).split())


def must_be_a_store(database: sqlite3.Connection, where: str) -> None:
    """Raise StoreError as `version_of`, and for an empty file."""
    if not version_of(database, where):
        raise StoreError(f"{where} is empty", "take the newest backup; to begin anew, move it away", EXIT_DATA)


def is_broken(error: BaseException) -> bool:
    """Whether SQLite says that the file itself is damaged."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def bring_up_to_date(database: sqlite3.Connection, where: str) -> int:
    """Create or migrate the tables, in one transaction. Returns the version that was found; errors as `version_of`."""
    version = version_of(database, where)
    if version < VERSION:
        marks = f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION};"
        database.executescript(f"BEGIN IMMEDIATE; {''.join(MIGRATIONS[version:])} {marks} COMMIT")
    return version


# What a file that is older than a column has in its place: as the migration makes it.
_DEFAULTS = {
    "terms": "x''",
    "reducer": "x''",
    "due": "0.0",
    "job_crc": "NULL",
    "reason": "x''",
    "number": "1",
    "failures": "0",
    "losses": "0",
    "cpu_s": "-1.0",
    "peak": "-1",
    "keep_s": "-1.0",
    "started": "0.0",
    "worker": "x''",
}


def selected(database: sqlite3.Connection, table: str, columns: str) -> str:
    """These columns of a file of any version, for a SELECT: who only reads a file must not bring it up to date."""
    there = {row[1] for row in database.execute(f"PRAGMA table_info({table})")}
    return ", ".join(
        f"{_DEFAULTS[name]} AS {name}" if name in _DEFAULTS and name not in there else name
        for name in columns.split(", ")
    )


OPENS_MAX = 1 << 16  # how often a store may be opened before its shards meet those that a fresh one has kept clear of


def fresh_shard(database: sqlite3.Connection) -> int:
    """For a copy of a store: a shard that neither is in it nor will be the original's, which counts on from its own."""
    rows = database.execute(
        f"SELECT DISTINCT id >> {SEQUENCE_BITS} FROM (SELECT id FROM job UNION SELECT id FROM ended)"
    )
    taken = {int(shard) for (shard,) in rows}
    while True:
        start = 1 + random.SystemRandom().randrange(SHARD_START_MAX)
        if not any(start <= shard <= start + OPENS_MAX for shard in taken):
            return start
