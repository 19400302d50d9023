"""The durable store: one SQLite file in a directory of its own, written ahead and synced at every commit.

What makes a commit durable: `journal_mode=WAL` with `synchronous=FULL`, set and read back, for builds of SQLite differ
in their defaults. Why rows are inserted by the owner and only COMMIT is left to another thread: decision 8.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence

from farm.broker.effects import FINISH_OVERHEAD, Attempt, Change, Expire, Finish, Forget, Known, Past, Save
from farm.broker.job import DONE
from farm.errors import EXIT_CANNOT_CREATE, EXIT_DATA, EXIT_NO_PERMISSION, EXIT_UNAVAILABLE
from farm.store import jobs, past
from farm.store.adopt import Source, adopt, imported
from farm.store.check import quick_faults
from farm.store.contract import SHARD_START_MAX, Fenced, Store, StoreError
from farm.store.cut import missing_of_log
from farm.store.index import LogIndex
from farm.store.known import known
from farm.store.place import (
    BUSY_TIMEOUT_S,
    FILE,
    REPAIRED,
    cannot_open,
    damaged,
    make_directory,
    make_private,
    must_be_ours,
    take_lock,
)
from farm.store.room import OTHERS_PART, Room
from farm.store.schema import bring_up_to_date, illegible, in_a_line
from farm.store.shrink import copy_log, give_back, sizes
from farm.store.tables import Tables
from farm.store.wal import inspect_beside

log = logging.getLogger("farm.store")
NOTICE = 25  # as in farm/server/logs.py

NO_ROOM = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE)  # the second when its shared memory does not fit either
SQLITE_MIN = (3, 37, 0)  # STRICT tables
ROW_OVERHEAD = 256  # bytes of a row, of an ended job with its indexes, besides what counts of it
LOG_WARNED = 16  # times as long as it should be
LOG_KEPT = 4  # and as it is left at most after a large transaction
CACHE_SIZE = 16 * 1024 * 1024


class SqliteStore(Store):
    """A Store in a directory. reserve: as in Room.

    While the ballast is given up, nothing of what jobs wrote is kept, nor the payload of those that failed: they can
    end, however much that is.
    """

    def __init__(self, directory: str, reserve: int | None = None) -> None:
        self.directory = directory
        self._path = os.path.join(directory, FILE)
        self._shard = 0
        self._lock = -1
        self._is_new = False
        self._writer: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None
        self._log: LogIndex | None = None
        self._log_is_long = False  # said so: one line each time, not one for each commit
        self._keeps_nothing = False  # said so
        self._open_changes: list[Change] = []  # of the open transaction, to do them again with more room
        self._room = Room(directory, reserve)
        self._tables: Tables | None = None  # the writer's

    def describe(self) -> str:
        """See Store."""
        return (
            f"{self.directory}{', which is new' if self._is_new else ''}; every acknowledged background job is on disk"
        )

    # -- opening

    def give_to(self, user: int, group: int) -> None:
        """See Store. A directory that is there already stays whose it is."""
        if make_directory(self.directory):
            os.chown(self.directory, user, group)
        owner = os.stat(self.directory).st_uid
        if owner != user:
            raise StoreError(
                f"the store {self.directory} belongs to another user",
                f"chown -R {user}:{group} {self.directory}",
                EXIT_NO_PERMISSION,
            )

    def open(self) -> int:
        """See Store. One server at a time: a second one is refused."""
        if sqlite3.sqlite_version_info < SQLITE_MIN:
            raise StoreError(
                f"SQLite {sqlite3.sqlite_version} is too old: 3.37 or newer is needed", status=EXIT_UNAVAILABLE
            )
        make_directory(self.directory)
        missing = ""
        with contextlib.suppress(OSError):  # said below
            missing = missing_of_log(self._path)
        must_be_ours(self.directory)
        try:
            self._take_lock()
            if os.path.exists(os.path.join(self.directory, REPAIRED)):
                raise StoreError(
                    f"a repair of the store {self.directory} was interrupted",
                    f"farm store check --repair {self.directory}",
                    EXIT_DATA,
                )
            make_private(self.directory)
            self._room.measure()
            self._check_log(missing)
            self._create()
            self._writer = self._open_writer()
            self._reader = self._connect()
            self._log = LogIndex(self._path)
            self._room.fill_ballast()
        except (sqlite3.Error, UnicodeDecodeError) as error:
            self.close()
            raise self._failed(error if isinstance(error, sqlite3.Error) else illegible()) from error
        except OSError as error:
            self.close()
            raise cannot_open(self.directory, error) from error
        except BaseException:
            self.close()
            raise
        return self._shard

    def _take_lock(self) -> None:
        self._lock = take_lock(self.directory)

    def _check_log(self, missing: str) -> None:
        """Before SQLite sees it: SQLite would drop what follows a damaged place of its log, and say nothing."""
        finding = inspect_beside(self._path)
        if finding.damage:
            raise damaged(self.directory, finding.damage)
        if missing:
            log.error("%s: %s", self._path, missing)
        elif finding.unfinished:
            log.log(
                NOTICE,
                "%s-wal ends in an unfinished transaction: where a kill or a power cut left it so, nothing of it was "
                "acknowledged; where it was cut off or damaged otherwise, what came after is gone",
                self._path,
            )

    def _create(self) -> None:
        """Else SQLite would make it as readable as the umask says; its other files follow its mode.

        Before the first connection and never beside one: POSIX takes all of a process's locks on a file when it closes
        any descriptor of it. SQLite would not know; another program that opened the store and left it would then think
        itself the last, and remove the log that jobs are still written to."""
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))

    def _open_writer(self) -> sqlite3.Connection:
        """With the room that the ballast holds where it is needed: the server before may have died of a full disk."""
        try:
            return self._connect(self._prepare)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode not in NO_ROOM or not self._room.is_ballast_there():
                raise
        self._drop_ballast()
        return self._connect(self._prepare)

    def _connect(self, prepare: Callable[[sqlite3.Connection], None] | None = None) -> sqlite3.Connection:
        database = sqlite3.connect(
            self._path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False, cached_statements=64
        )
        try:
            database.execute("PRAGMA trusted_schema = OFF")
            database.execute("PRAGMA cell_size_check = ON")
            database.execute(f"PRAGMA cache_size = -{CACHE_SIZE // 1024}")
            if prepare:
                prepare(database)
        except BaseException:
            database.close()
            raise
        return database

    def _prepare(self, database: sqlite3.Connection) -> None:
        for pragma, value, wanted in (("journal_mode", "WAL", "wal"), ("synchronous", "FULL", 2)):
            database.execute(f"PRAGMA {pragma} = {value}")
            (found,) = database.execute(f"PRAGMA {pragma}").fetchone()
            if found != wanted:
                raise StoreError(f"{self._path}: SQLite does not take {pragma} = {value}; it says {found}")
        database.execute("PRAGMA wal_autocheckpoint = 0")  # see _shorten_log
        database.execute(f"PRAGMA journal_size_limit = {LOG_KEPT * self._room.log_size}")
        # Where it is on, as in Debian's build, a job that ends writes zeros over all of its payload first.
        database.execute("PRAGMA secure_delete = OFF")
        self._is_new = bring_up_to_date(database, self._path) == 0
        if faults := quick_faults(database, self._path):
            raise damaged(self.directory, faults)
        # After an error of the disk the log may hold what the file does not: copying it writes and syncs it again.
        copy_log(database, BUSY_TIMEOUT_S)
        database.execute("BEGIN IMMEDIATE")
        start = random.SystemRandom().randrange(SHARD_START_MAX)
        database.execute("INSERT INTO owner VALUES (1, ?) ON CONFLICT DO UPDATE SET shard = shard + 1", (start + 1,))
        (self._shard,) = database.execute("SELECT shard FROM owner").fetchone()
        database.execute("COMMIT")
        self._tables = Tables(database)
        self._tables.expired_log_max = self._room.log_size
        self._tables.ended_max = self._room.ended_max
        self._tables.others_min = self._room.ended_max // OTHERS_PART

    def known(self) -> Iterator[Known]:
        """See Store. A row whose checksum is wrong is said, and not used."""
        try:
            yield from known(self._opened())
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def load(self) -> Iterator[Save]:
        """See Store. A row whose checksum is wrong is put aside, with an error in the log, and not run."""
        try:
            yield from jobs.load(self._opened())
        except sqlite3.Error as error:
            raise self._failed(error) from error

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
        if self._log and (gone := self._log.gone()):
            raise StoreError(f"somebody has removed or replaced {gone}: what is written there is lost")
        self._shorten_log(database)

    def _shorten_log(self, database: sqlite3.Connection) -> None:
        """Copy the log into the file once it is long. SQLite would do that by itself, and say nothing when the disk
        fails; then the log would grow for as long as the server runs. On a full disk the log may wait."""
        assert self._log
        try:
            if self._room.is_cramped:
                self._room.is_cramped = False  # until the next look: a transaction must not wait for this each time
                give_back(database, self._room, self._path, BUSY_TIMEOUT_S)
            if self._log.size() >= self._room.log_size:
                database.execute("PRAGMA wal_checkpoint(PASSIVE)")
                self._warn_of_log(self._log.size())
                self.pressed |= self._room.is_short(*sizes(database))  # the file has become larger
        except OSError as error:
            raise StoreError(f"cannot look at the disk of {self.directory}: {error.strerror}") from error
        except sqlite3.Error as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
                raise self._failed(error) from error
            self.pressed = True

    def _warn_of_log(self, size: int) -> None:
        """size: of what could not be copied, for somebody reads the file as it was before that was written."""
        is_long = size >= LOG_WARNED * self._room.log_size
        if is_long and not self._log_is_long:
            log.warning("%s-wal grows: something has been reading the store for long", self._path)
        self._log_is_long = is_long

    def _put(self, changes: Iterable[Change]) -> None:
        database = self._opened()
        if not database.in_transaction:
            self._begin(database)
        assert self._tables
        if not self._room.has_ballast:
            changes = self._with_what_there_is_room_for(database, list(changes))
        with_output = self._room.has_ballast
        if self._room.is_watched:
            changes = list(changes)
            with_output = self._make_way(database, changes) and with_output
        self._tables.put(changes, with_output=with_output)
        self.overdue = self._tables.overdue
        self.gave_way |= self._tables.gave_way

    def _make_way(self, database: sqlite3.Connection, changes: list[Change]) -> bool:
        """There is hardly any room: the oldest results give theirs to what comes. Returns whether there is some for
        what these jobs wrote: else it would cost the ballast, and with that all new jobs."""
        assert self._tables
        ends = [change for change in changes if isinstance(change, Finish)]
        attempts = [FINISH_OVERHEAD + len(change.log) for change in changes if isinstance(change, Attempt)]
        saves = {change.id: len(change.payload) for change in changes if isinstance(change, Save)}
        rows = len(ends) + len(attempts) + len(saves)
        if not rows:
            return True
        kept = sum(end.size for end in ends) + sum(attempts)
        again = [end.id for end in ends if end.outcome != DONE]  # their payloads are written anew
        kept += self._tables.payload_size(again) + sum(saves.get(id, 0) for id in again)
        lacking = self._room.lacking(kept + sum(saves.values()) + rows * ROW_OVERHEAD, *sizes(database))
        if lacking > 0:
            self._tables.make_way(lacking)
        return not kept or self._room.holds_output(kept, *sizes(database))

    def _with_what_there_is_room_for(self, database: sqlite3.Connection, changes: list[Change]) -> list[Change]:
        """Of jobs that end not even that is kept where the disk is used up: for what is deleted nothing must grow."""
        ends = sum(isinstance(change, Finish | Attempt) for change in changes)
        (size,) = database.execute("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size").fetchone()
        if self._room.holds_ends(ends, size):
            return changes
        if ends and not self._keeps_nothing:
            log.error("the disk of %s is used up: nothing at all is kept of jobs that end", self.directory)
            self._keeps_nothing = True
        some = (change for change in changes if not isinstance(change, Attempt | Expire))
        return [Forget(change.id) if isinstance(change, Finish) else change for change in some]

    def _begin(self, database: sqlite3.Connection) -> None:
        assert self._tables
        self._tables.begins()  # first, for there may be no room even for that
        database.execute("BEGIN IMMEDIATE")
        (shard,) = database.execute("SELECT shard FROM owner").fetchone()
        if shard != self._shard:
            database.execute("ROLLBACK")
            raise Fenced(f"another server has taken the store {self.directory} over")

    def adopt(self, jobs: Iterable[tuple[Save, Finish | None]], source: Source | None = None) -> int:
        """Take in jobs from elsewhere, as adopt.py does: all of them or none, durable when this returns. Call it
        between `open` and the first `write`; the shard is another one afterwards. Returns how many were new. Errors as
        `write`, and whatever `jobs` raises."""
        database = self._opened()
        if not self._room.has_ballast:  # then what jobs wrote would not be kept
            raise StoreError(f"the disk of {self.directory} is full", "make room on it, and try again")
        try:
            self._begin(database)
            new, shard = adopt(database, self._put, self._shard + 1, jobs, source)
            database.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._failed(error) from error
        finally:
            if database.in_transaction:
                database.rollback()
                assert self._tables
                self._tables.undone()
        self._shard = shard
        return new

    def imported(self, source: str) -> str:
        """The mark with which this source was taken in; empty: it was not."""
        return imported(self._opened(), source)

    # -- room on the disk

    def low(self) -> str:
        """See Store."""
        self.pressed = False
        with self._read() as database:
            inside, used = sizes(database)
        tables = self._tables
        kept, gives = (tables.ended_size, tables.gives_way) if tables else (0, False)
        why = self._room.low(inside, used, kept, gives=gives)
        self.room, self.shortage = self._room.left, self._room.shortage
        return why

    def _drop_ballast(self) -> None:
        self.pressed = True
        self._keeps_nothing = False
        self._room.drop_ballast()

    def _with_ballast(self, error: sqlite3.Error, changes: Sequence[Change]) -> None:
        """On a full disk, do the transaction's changes again with the room that the ballast held. Raises StoreError
        where that does not help; an error of the disk itself is never tried again."""
        database = self._opened()
        if error.sqlite_errorcode != sqlite3.SQLITE_FULL or not self._room.has_ballast:
            raise self._failed(error) from error
        try:
            self._drop_ballast()
            if database.in_transaction:
                database.execute("ROLLBACK")
            assert self._tables
            self._tables.undone()
            self._put(changes)
        except OSError as again:
            raise StoreError(f"cannot write to {self.directory}: {again.strerror}") from again
        except sqlite3.Error as again:
            raise self._failed(again) from again

    # -- reading

    def payload(self, id: int) -> bytes:
        """See Store."""
        with self._read() as database:
            return jobs.payload(database, id, self.directory)

    def keeps(self) -> bool:
        """See Store."""
        return self._tables is not None and self._tables.keeps

    def ended(self, id: int) -> Finish | None:
        """See Store."""
        with self._read() as database:
            return past.ended(database, id, self.directory)

    def past(
        self, limit: int, before: int = 0, function: bytes = b"", outcomes: Sequence[str] = (), since: float = 0.0
    ) -> list[Past]:
        """See Store."""
        with self._read() as database:
            return past.past(database, limit, before, function, outcomes, since)

    def about(self, id: int) -> Past | None:
        """See Store."""
        with self._read() as database:
            return past.about(database, id)

    def attempts(self, id: int) -> list[Attempt]:
        """See Store."""
        with self._read() as database:
            return past.attempts(database, id)

    def ended_ids(self, first: int, last: int, limit: int) -> list[int]:
        """See Store."""
        with self._read() as database:
            return past.ended_ids(database, first, last, limit)

    @contextlib.contextmanager
    def _read(self) -> Iterator[sqlite3.Connection]:
        """What was committed."""
        if self._reader is None:
            raise StoreError("the store is not open")
        try:
            yield self._reader
        except sqlite3.Error as error:
            raise self._failed(error) from error

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
        self._reader = self._writer = self._tables = None
        if self._log:
            self._log.close()
            self._log = None
        self._open_changes = []
        if self._lock >= 0:
            os.close(self._lock)  # and with it the lock is given up
            self._lock = -1

    def _opened(self) -> sqlite3.Connection:
        if self._writer is None:
            raise StoreError("the store is not open")
        return self._writer

    def _failed(self, error: sqlite3.Error) -> StoreError:
        code = getattr(error, "sqlite_errorcode", 0)
        if code in NO_ROOM:
            hint = f"make room on its disk, or copy it to another one: farm store backup TO {self.directory}"
            return StoreError(f"{self._path}: {in_a_line(error)}", hint)
        if code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return StoreError(
                f"{self._path}: {in_a_line(error)}", f"farm store check --repair {self.directory}", EXIT_DATA
            )
        return StoreError(f"{self._path}: {in_a_line(error)}", status=EXIT_CANNOT_CREATE)
