"""A copy of a store at one moment, also while a server uses it; and giving room back to the disk, without one."""

from __future__ import annotations

import contextlib
import os
import sqlite3

from farm.errors import EXIT_CANNOT_CREATE, EXIT_DATA
from farm.store.check import Report, check, size_of
from farm.store.contract import StoreError
from farm.store.place import (
    BUSY_TIMEOUT_S,
    FILE,
    alone,
    damage_of_log,
    damaged,
    make_directory,
    must_be_ours,
    must_be_there,
    reading,
    sync,
    sync_directory,
)
from farm.store.schema import fresh_shard, in_a_line, is_broken, must_be_a_store

UNFINISHED = "jobs.db.unfinished"


def backup(directory: str, destination: str) -> Report:
    """Copy a store into a new directory, which a server can be given. All that was acknowledged before this was called
    is in it. Returns what is in the copy. Raises StoreError."""
    _must_be_new(destination)
    with reading(directory) as database:
        must_be_a_store(database, os.path.join(directory, FILE))
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
            status = EXIT_DATA if is_broken(error) else EXIT_CANNOT_CREATE
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
    Raises StoreError, also where a server uses the store: SQLite copies the new file back in one piece that cannot be
    broken off, and a server that wants to write meanwhile would stand still for as long, or stop."""
    must_be_there(directory)
    must_be_ours(directory)
    with alone(directory):
        if damage := damage_of_log(directory, is_alone=True):
            raise damaged(directory, damage)
        with reading(directory) as database:
            must_be_a_store(database, os.path.join(directory, FILE))
        before = size_of(directory)
        _vacuum(directory)
    return before, size_of(directory)


def _vacuum(directory: str) -> None:
    path = os.path.join(directory, FILE)
    try:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=BUSY_TIMEOUT_S)) as database:
            database.execute("PRAGMA journal_size_limit = 0")
            database.execute("VACUUM")
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as error:
        if is_broken(error):
            raise damaged(directory, in_a_line(error)) from error
        raise StoreError(f"cannot vacuum {directory}: {error}", "", EXIT_CANNOT_CREATE) from error
