"""The durable store: one SQLite file in a directory of its own, written ahead and synced at every commit.

What makes a commit durable: `journal_mode=WAL` with `synchronous=FULL`, set and read back, for builds of SQLite differ
in their defaults. Why rows are inserted by the owner and only COMMIT is left to another thread: decision 8.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import random
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence

from farm.broker.effects import Change, Expire, Finish, Save
from farm.errors import EXIT_CANNOT_CREATE, EXIT_UNAVAILABLE
from farm.store.contract import SHARD_START_MAX, Fenced, Store, StoreError
from farm.store.schema import bring_up_to_date, checksum, checksum_of_end

log = logging.getLogger("farm.store")

FILE, LOCK, BALLAST = "jobs.db", "lock", "ballast"
SQLITE_MIN = (3, 37, 0)  # STRICT tables
BUSY_TIMEOUT_S = 10.0  # another process may hold the file for a moment: `farm store vacuum`, a backup
WAL_PAGES_MAX = 1000  # 4 MB: then the write-ahead log is copied into the file; more would need more room on a full disk
WAL_KEPT_MAX = 16 * 1024 * 1024  # what is left of the log's file after a large transaction
CACHE_SIZE = 16 * 1024 * 1024
BALLAST_SIZE = 4 * 1024 * 1024  # given up when the disk is full, so that jobs can still end
EXPIRED_AT_ONCE_MAX = 2000  # rows: a longer transaction would be felt
DISK_RESERVE = 64 * 1024 * 1024

_SAVE = """INSERT INTO job (id, function, unique_key, priority, reducer, due, created, crc, payload)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"""
_FORGET = "DELETE FROM job WHERE id = ?"
_FINISH = """INSERT INTO ended
    (id, function, unique_key, priority, created, outcome, started, ended, worker, exit_code, cut, size, crc, payload,
     log, result)
    SELECT id, function, unique_key, priority, created, ?1, ?2, ?3, ?4, ?5, ?6,
        CASE ?1 WHEN 'done' THEN ?7 ELSE ?7 + length(payload) END, ?8,
        CASE ?1 WHEN 'done' THEN NULL ELSE payload END, ?9, ?10
    FROM job WHERE id = ?11 ON CONFLICT DO NOTHING"""
_LOAD = """SELECT id, function, unique_key, priority, payload, reducer, due, created, crc FROM job ORDER BY id"""
_ENDED = """SELECT id, outcome, started, ended, worker, exit_code, result, log, cut, crc FROM ended WHERE id = ?"""


class SqliteStore(Store):
    """A Store in a directory. reserve: bytes that must be free on its disk, or no new job is taken."""

    def __init__(self, directory: str, reserve: int = DISK_RESERVE) -> None:
        self.directory = directory
        self.reserve = reserve
        self._path = os.path.join(directory, FILE)
        self._shard = 0
        self._lock = -1
        self._writer: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None
        self._open_changes: list[Change] = []  # of the open transaction, to do them again with more room
        self._has_ballast = False
        self._is_low = False
        self._ended_size = 0

    def describe(self) -> str:
        """See Store."""
        return f"{self.directory}; every acknowledged background job is on disk"

    # -- opening

    def open(self) -> int:
        """See Store. One server at a time: a second one is refused."""
        if sqlite3.sqlite_version_info < SQLITE_MIN:
            raise StoreError(f"SQLite {sqlite3.sqlite_version} is too old: 3.37 or newer is needed")
        self._make_directory()
        try:
            self._take_lock()
            self._writer = self._connect()
            self._prepare(self._writer)
            self._reader = self._connect()
            self._fill_ballast()
        except sqlite3.Error as error:
            self.close()
            raise self._failed(error) from error
        except OSError as error:
            self.close()
            raise StoreError(f"cannot open {self.directory}: {error.strerror}", status=EXIT_CANNOT_CREATE) from error
        except BaseException:
            self.close()
            raise
        return self._shard

    def _make_directory(self) -> None:
        if os.path.isdir(self.directory):
            return
        try:
            os.makedirs(os.path.dirname(os.path.abspath(self.directory)), mode=0o755, exist_ok=True)
            os.mkdir(self.directory, 0o700)
            _sync_directory(os.path.dirname(os.path.abspath(self.directory)))
        except OSError as error:
            raise StoreError(
                f"cannot make the store's directory {self.directory}: {error.strerror}",
                "give another place with --store",
                status=EXIT_CANNOT_CREATE,
            ) from error

    def _take_lock(self) -> None:
        self._lock = os.open(os.path.join(self.directory, LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(self._lock, 32).decode("ascii", "replace").strip() or "unknown"
            raise StoreError(
                f"the store {self.directory} is in use by another farm server (process {owner})",
                "give this server a place of its own: --store PATH",
                status=EXIT_UNAVAILABLE,
            ) from None
        os.truncate(self._lock, 0)
        os.pwrite(self._lock, b"%d\n" % os.getpid(), 0)

    def _connect(self) -> sqlite3.Connection:
        # Created here, for SQLite would make it as readable as the umask says; its other files follow its mode.
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        database = sqlite3.connect(
            self._path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False, cached_statements=32
        )
        database.execute("PRAGMA trusted_schema = OFF")
        database.execute("PRAGMA cell_size_check = ON")
        database.execute(f"PRAGMA cache_size = -{CACHE_SIZE // 1024}")
        return database

    def _prepare(self, database: sqlite3.Connection) -> None:
        for pragma, value, wanted in (("journal_mode", "WAL", "wal"), ("synchronous", "FULL", 2)):
            database.execute(f"PRAGMA {pragma} = {value}")
            (found,) = database.execute(f"PRAGMA {pragma}").fetchone()
            if found != wanted:
                raise StoreError(f"{self._path}: SQLite does not take {pragma} = {value}; it says {found}")
        database.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES_MAX}")
        database.execute(f"PRAGMA journal_size_limit = {WAL_KEPT_MAX}")
        bring_up_to_date(database, self._path)
        faults = [words for (words,) in database.execute("PRAGMA quick_check(3)")]
        if faults != ["ok"]:
            raise StoreError(
                f"the store {self.directory} is damaged: {'; '.join(faults)}", f"farm store check {self.directory}"
            )
        # After an error of the disk the log may hold what the file does not: copying it writes and syncs it again.
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        database.execute("BEGIN IMMEDIATE")
        start = random.SystemRandom().randrange(SHARD_START_MAX)
        database.execute("INSERT INTO owner VALUES (1, ?) ON CONFLICT DO UPDATE SET shard = shard + 1", (start + 1,))
        (self._shard,) = database.execute("SELECT shard FROM owner").fetchone()
        database.execute("COMMIT")
        (self._ended_size,) = database.execute("SELECT ifnull(sum(size), 0) FROM ended").fetchone()

    def load(self) -> Iterator[Save]:
        """See Store. A row whose checksum is wrong is put aside, with an error in the log, and not run."""
        database = self._opened()
        damaged = []
        try:
            for *fields, crc in database.execute(_LOAD):
                save = Save(*fields)
                if checksum(save) == crc:
                    yield save
                else:
                    damaged.append(save.id)
            for id in damaged:
                self._put_aside(database, id)
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def _put_aside(self, database: sqlite3.Connection, id: int) -> None:
        from farm.broker.job import handle_of

        log.error("job %s is damaged in the store: it is put aside and will not run", handle_of(id).decode())
        database.execute("BEGIN IMMEDIATE")
        database.execute(
            """INSERT INTO damaged SELECT ?, id, function, unique_key, priority, reducer, due, created, crc, payload
            FROM job WHERE id = ?""",
            (time.time(), id),
        )
        database.execute(_FORGET, (id,))
        database.execute("COMMIT")

    # -- writing

    def write(self, changes: Sequence[Change]) -> None:
        """See Store."""
        self._opened()
        changes = tuple(changes)
        try:
            self._put(changes)
        except sqlite3.Error as error:
            self._with_ballast(error, [*self._open_changes, *changes])
        self._open_changes += changes

    def commit(self) -> None:
        """See Store."""
        database = self._opened()
        if not database.in_transaction:
            return
        try:
            database.execute("COMMIT")
        except sqlite3.Error as error:
            self._with_ballast(error, self._open_changes)
            try:
                database.execute("COMMIT")
            except sqlite3.Error as again:
                raise self._failed(again) from again
        self._open_changes = []

    def _put(self, changes: Iterable[Change]) -> None:
        database = self._opened()
        if not database.in_transaction:
            database.execute("BEGIN IMMEDIATE")
            (shard,) = database.execute("SELECT shard FROM owner").fetchone()
            if shard != self._shard:
                database.execute("ROLLBACK")
                raise Fenced(f"another server has taken the store {self.directory} over")
        saves: list[tuple[object, ...]] = []
        ends: list[tuple[object, ...]] = []
        gone: list[tuple[int]] = []
        seen: set[int] = set()
        expire: Expire | None = None
        # All saves first is the same as in order, unless what has gone is saved again.
        for change in changes:
            if isinstance(change, Save):
                if seen and change.id in seen:
                    self._execute(database, saves, ends, gone)
                    saves, ends, gone, seen = [], [], [], set()
                saves.append(
                    (*change[:4], change.reducer, change.due, change.created, checksum(change), change.payload)
                )
            elif isinstance(change, Expire):
                expire = change
            else:
                if isinstance(change, Finish):
                    size = change.size
                    self._ended_size += size
                    ends.append(
                        (*change[1:6], change.cut, size, checksum_of_end(change), change.log, change.result, change.id)
                    )
                gone.append((change.id,))
                seen.add(change.id)
        self._execute(database, saves, ends, gone)
        if expire:
            self._expire(database, expire)

    def _execute(
        self,
        database: sqlite3.Connection,
        saves: list[tuple[object, ...]],
        ends: list[tuple[object, ...]],
        gone: list[tuple[int]],
    ) -> None:
        if saves:
            database.executemany(_SAVE, saves)
        if ends:
            database.executemany(_FINISH, ends)
        if gone:
            database.executemany(_FORGET, gone)

    def _expire(self, database: sqlite3.Connection, expire: Expire) -> None:
        last, size = None, 0
        rows = database.execute("SELECT n, ended, size FROM ended ORDER BY n LIMIT ?", (EXPIRED_AT_ONCE_MAX,))
        for n, ended, row_size in rows:
            if ended >= expire.before and self._ended_size - size <= expire.size_max:
                break
            last, size = n, size + row_size
        rows.close()
        if last is not None:
            database.execute("DELETE FROM ended WHERE n <= ?", (last,))
            self._ended_size -= size

    # -- room on the disk

    def low(self) -> str:
        """See Store. Room is taken to be there again when half as much more than the reserve is free."""
        try:
            disk = os.statvfs(self.directory)
        except OSError as error:
            return f"cannot look at the disk: {error.strerror}"
        free = disk.f_bavail * disk.f_frsize
        if not self._has_ballast and free > self.reserve + BALLAST_SIZE:
            self._fill_ballast()
        self._is_low = free < (self.reserve * 3 // 2 if self._is_low else self.reserve) or not self._has_ballast
        return f"{free >> 20} MiB free where jobs are kept" if self._is_low else ""

    def _fill_ballast(self) -> None:
        path = os.path.join(self.directory, BALLAST)
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(fd, 0, BALLAST_SIZE)
            finally:
                os.close(fd)
            self._has_ballast = True
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(path)

    def _with_ballast(self, error: sqlite3.Error, changes: Sequence[Change]) -> None:
        """On a full disk, do the transaction's changes again with the room that the ballast held. Raises StoreError
        where that does not help; an error of the disk itself is never tried again."""
        database = self._opened()
        if error.sqlite_errorcode != sqlite3.SQLITE_FULL or not self._has_ballast:
            raise self._failed(error) from error
        log.error("the disk of %s is full: giving up the ballast; no new background jobs", self.directory)
        try:
            os.unlink(os.path.join(self.directory, BALLAST))
            self._has_ballast = False
            if database.in_transaction:
                database.execute("ROLLBACK")
            self._put(changes)
        except OSError as again:
            raise StoreError(f"cannot write to {self.directory}: {again.strerror}") from again
        except sqlite3.Error as again:
            raise self._failed(again) from again

    # -- reading

    def payload(self, id: int) -> bytes:
        """See Store."""
        try:
            row = self._reading().execute("SELECT payload FROM job WHERE id = ?", (id,)).fetchone()
        except sqlite3.Error as error:
            raise self._failed(error) from error
        if row is None:
            raise StoreError(f"there is no job of id {id} in {self.directory}")
        return bytes(row[0])

    def ended(self, id: int) -> Finish | None:
        """See Store."""
        try:
            row = self._reading().execute(_ENDED, (id,)).fetchone()
        except sqlite3.Error as error:
            raise self._failed(error) from error
        if row is None:
            return None
        end = Finish._make((*row[:8], bool(row[8])))
        if checksum_of_end(end) != row[9]:
            raise StoreError(f"what is kept of a job of id {id} is damaged in {self.directory}")
        return end

    # -- closing

    def close(self) -> None:
        """See Store."""
        self._shard = 0
        for database in (self._reader, self._writer):
            if database:
                with contextlib.suppress(sqlite3.Error):
                    database.rollback()
                with contextlib.suppress(sqlite3.Error):
                    database.close()
        self._reader = self._writer = None
        self._open_changes = []
        if self._lock >= 0:
            os.close(self._lock)  # and with it the lock is given up
            self._lock = -1

    def _opened(self) -> sqlite3.Connection:
        if self._writer is None:
            raise StoreError("the store is not open")
        return self._writer

    def _reading(self) -> sqlite3.Connection:
        if self._reader is None:
            raise StoreError("the store is not open")
        return self._reader

    def _failed(self, error: sqlite3.Error) -> StoreError:
        hint = ""
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            hint = f"farm store check {self.directory}"
        return StoreError(f"{self._path}: {error}", hint, status=EXIT_CANNOT_CREATE)


def _sync_directory(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
