"""A copy of a store at one moment, also while a server uses it; and giving room back to the disk."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time

from farm.errors import EXIT_CANNOT_CREATE, EXIT_DATA, EXIT_TRY_AGAIN
from farm.store.check import Report, check, size_of
from farm.store.contract import StoreError
from farm.store.place import (
    BUSY_TIMEOUT_S,
    FILE,
    damage_of_log,
    damaged,
    keep_owner,
    make_directory,
    must_be_ours,
    must_be_there,
    reading,
    sync,
    sync_directory,
    take_lock,
)
from farm.store.schema import fresh_shard

UNFINISHED = "jobs.db.unfinished"
# A server that wants to write waits for BUSY_TIMEOUT_S and then stops. Building the new file is the smaller half of a
# vacuum, and the only one that can be broken off.
VACUUM_PATIENCE_S = BUSY_TIMEOUT_S / 4
_INTERVAL = 10_000  # steps of SQLite between two looks at the clock, far below a millisecond


def backup(directory: str, destination: str) -> Report:
    """Copy a store into a new directory, which a server can be given. All that was acknowledged before this was called
    is in it. Returns what is in the copy. Raises StoreError."""
    _must_be_new(destination)
    with reading(directory) as database:
        make_directory(destination)
        unfinished = os.path.join(destination, UNFINISHED)
        try:
            os.chmod(destination, 0o700)
            os.close(os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            database.execute("VACUUM INTO ?", (unfinished,))
            _become_another(unfinished)
            sync(unfinished)
            os.rename(unfinished, os.path.join(destination, FILE))
            sync_directory(destination)
        except (OSError, sqlite3.Error) as error:
            with contextlib.suppress(OSError):
                os.unlink(unfinished)
            with contextlib.suppress(OSError):
                os.rmdir(destination)  # which was empty or is new
            words = error.strerror if isinstance(error, OSError) else error
            broken = getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
            status = EXIT_DATA if broken else EXIT_CANNOT_CREATE
            raise StoreError(f"cannot back up {directory} to {destination}: {words}", "", status) from error
    return check(destination)


def _must_be_new(destination: str) -> None:
    try:
        there = os.listdir(destination)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StoreError(f"{destination}: {(error.strerror or '').lower()}", "", EXIT_CANNOT_CREATE) from error
    if there:
        raise StoreError(f"{destination} is not empty", "give a backup a new directory", EXIT_CANNOT_CREATE)


def _become_another(path: str) -> None:
    """The copy's new jobs must not get the handles that the original gives to its own."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("UPDATE owner SET shard = ?", (fresh_shard(database),))


def vacuum(directory: str) -> tuple[int, int]:
    """Write the store's file anew, without the room that ended jobs have left. Returns its size before and after.
    Raises StoreError; beside a running server also when that would have to wait for too long."""
    must_be_there(directory)
    must_be_ours(directory)
    before = size_of(directory)
    lock = -1
    try:
        try:
            lock = take_lock(directory)
        except StoreError:
            pass  # a server runs
        if lock >= 0 and (damage := damage_of_log(directory, is_alone=True)):
            raise damaged(directory, damage)
        _vacuum(directory, VACUUM_PATIENCE_S if lock < 0 else 0.0)
    except OSError as error:
        raise StoreError(f"{directory}: {(error.strerror or '').lower()}", "", EXIT_CANNOT_CREATE) from error
    finally:
        if lock >= 0:
            os.close(lock)
        keep_owner(directory)
    return before, size_of(directory)


def _vacuum(directory: str, patience_s: float) -> None:
    path = os.path.join(directory, FILE)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=BUSY_TIMEOUT_S)) as database:
        try:
            if patience_s:
                deadline = time.monotonic() + patience_s
                database.set_progress_handler(lambda: time.monotonic() > deadline, _INTERVAL)
            database.execute("PRAGMA journal_size_limit = 0")
            database.execute("VACUUM")
            database.set_progress_handler(None, 0)
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            if error.sqlite_errorcode in (sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_BUSY):
                raise StoreError(
                    f"the running server would have to wait too long for {directory}",
                    "stop it first, or try when it holds less",
                    EXIT_TRY_AGAIN,
                ) from error
            raise StoreError(f"cannot vacuum {directory}: {error}", "", EXIT_CANNOT_CREATE) from error
