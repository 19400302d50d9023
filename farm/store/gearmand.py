"""gearmand's SQLite queue, so that a move to farm loses no backlog: read, never written.

Its table has a row for each background job: unique_key TEXT, function_name TEXT, priority INTEGER (0 high, 1 normal,
2 low), data BLOB (NULL where it is empty), when_to_run INTEGER (seconds, 0: at once); handles are not in it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sqlite3
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from urllib.parse import quote

from farm.broker.effects import Finish, Save
from farm.broker.job import HIGH, LOW, NORMAL
from farm.errors import EXIT_DATA, EXIT_NO_INPUT, EXIT_UNAVAILABLE, PacketRefused
from farm.protocol.limits import STORED_PAYLOAD_MAX, UNIQUE_MAX
from farm.protocol.names import refuse_bad_function, shown
from farm.store.adopt import Source
from farm.store.contract import StoreError
from farm.store.sqlite import SqliteStore

log = logging.getLogger("farm.store")

TABLE = "gearman_queue"


class MovedStore(SqliteStore):
    """A store that takes in the queue that gearmand left in a file, when it is opened for the first time."""

    def __init__(self, directory: str, file: str, table: str = TABLE, reserve: int | None = None) -> None:
        super().__init__(directory, reserve)
        self._file = os.path.realpath(file)
        self._table = table

    def open(self) -> int:
        """See Store."""
        shard = super().open()
        try:
            return self._move_in() or shard
        except BaseException:
            self.close()
            raise

    def _move_in(self) -> int:
        if not os.path.exists(self._file) or not has_queue(self._file, self._table):
            return 0
        source = source_of(self._file)
        if mark := self.imported(source.path):
            if mark != source.mark:
                log.warning("%s has changed since it was imported; what is new in it is not taken in", self._file)
            return 0
        count = adopt_queue(self, self._file, self._table, lambda words: log.error("%s: %s", self._file, words))
        log.warning("imported %d jobs of gearmand's from %s, which is not used any more", count, self._file)
        return self._shard


def source_of(file: str) -> Source:
    """What the store remembers of a queue that it took in."""
    there = os.stat(file)
    return Source(os.path.realpath(file), f"{there.st_size} bytes, changed {there.st_mtime_ns}")


def adopt_queue(store: SqliteStore, file: str, table: str, skipped: Callable[[str], None]) -> int:
    """Take gearmand's queue into an opened store, with new handles. Returns how many jobs came; `skipped` hears of
    those that cannot be jobs of farm's. Raises StoreError."""
    _must_be_unused(file)
    source = source_of(file)
    with queue(file, store.directory) as database:
        return store.adopt(_jobs(database, table, skipped), source)


def has_queue(file: str, table: str) -> bool:
    """Whether a file is a SQLite database with that table. Raises StoreError where it cannot be read."""
    with queue(file) as database:
        return bool(database.execute("SELECT 1 FROM sqlite_schema WHERE name = ? COLLATE NOCASE", (table,)).fetchone())


@contextlib.contextmanager
def queue(file: str, scratch: str | None = None) -> Iterator[sqlite3.Connection]:
    """gearmand's file, to be read. Where gearmand was killed in the middle of a change its journal still lies there,
    and has to be played back: into a copy, for the file stays as it is. Raises StoreError."""
    try:
        with contextlib.ExitStack() as stack:
            if not stat.S_ISREG(os.stat(file).st_mode):
                raise StoreError(f"{file} is no regular file", "", EXIT_NO_INPUT)
            os.close(os.open(file, os.O_RDONLY | os.O_CLOEXEC))
            if any(os.path.exists(file + suffix) for suffix in ("-journal", "-wal")):
                copies = stack.enter_context(tempfile.TemporaryDirectory(prefix="gearmand-", dir=scratch))
                for suffix in ("", "-journal", "-wal"):
                    if os.path.exists(file + suffix):
                        shutil.copyfile(file + suffix, os.path.join(copies, "queue" + suffix))
                where = os.path.join(copies, "queue")
                mode = "rw"
            else:
                where, mode = os.path.abspath(file), "ro"
            uri = f"file:{quote(os.fsencode(where))}?mode={mode}"
            database = stack.enter_context(contextlib.closing(sqlite3.connect(uri, uri=True, isolation_level=None)))
            database.text_factory = bytes
            yield database
    except OSError as error:
        raise StoreError(f"cannot read {file}: {(error.strerror or '').lower()}", "", EXIT_NO_INPUT) from error
    except sqlite3.Error as error:
        raise StoreError(f"cannot read gearmand's queue in {file}: {error}", "", EXIT_DATA) from error


def _jobs(
    database: sqlite3.Connection, table: str, skipped: Callable[[str], None]
) -> Iterator[tuple[Save, Finish | None]]:
    name = '"' + table.replace('"', '""') + '"'
    now = time.time()
    for number, (unique, function, priority, data, due) in enumerate(_rows(database, name), 1):
        try:
            yield _job(_as_bytes(unique), _as_bytes(function), priority, _as_bytes(data), due, now), None
        except PacketRefused as refused:
            skipped(f"job {number}, {shown(_as_bytes(function))}, is left out: {refused.text.decode()}")


def _rows(database: sqlite3.Connection, name: str) -> Iterator[tuple[object, ...]]:
    """Its errors are gearmand's file's, not those of the store that takes the rows in."""
    columns = "unique_key, function_name, priority, data, when_to_run"
    try:
        try:
            rows = database.execute(f"SELECT {columns} FROM {name} ORDER BY rowid")
        except sqlite3.OperationalError:  # a table WITHOUT ROWID
            rows = database.execute(f"SELECT {columns} FROM {name}")
        yield from rows
    except sqlite3.Error as error:
        raise StoreError(f"cannot read gearmand's queue: {error}; nothing was imported", "", EXIT_DATA) from error


def _job(unique: bytes, function: bytes, priority: object, data: bytes, due: object, now: float) -> Save:
    refuse_bad_function(function)
    for value, most, what in ((unique, UNIQUE_MAX, b"unique key"), (data, STORED_PAYLOAD_MAX, b"payload")):
        if len(value) > most:
            raise PacketRefused(b"ARGUMENT_TOO_LARGE", b"Its %s has %d bytes: at most %d" % (what, len(value), most))
    level = priority if isinstance(priority, int) and HIGH <= priority <= LOW else NORMAL
    when = float(due) if isinstance(due, int) and due > 0 else 0.0
    return Save(0, function, unique, level, data, due=when, created=now)


def _as_bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else b"" if value is None else str(value).encode()


def _must_be_unused(file: str) -> None:
    """gearmand holds no lock on its file, but its descriptor shows, at least to root and to its own user."""
    there = os.stat(file)
    for process in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):  # it is somebody else's, or has ended
            for fd in os.listdir(f"/proc/{process}/fd"):
                with contextlib.suppress(OSError):
                    held = os.stat(f"/proc/{process}/fd/{fd}")
                    if (held.st_dev, held.st_ino) == (there.st_dev, there.st_ino) and int(process) != os.getpid():
                        raise StoreError(
                            f"{file} is in use (process {process})", "stop gearmand first", EXIT_UNAVAILABLE
                        )
