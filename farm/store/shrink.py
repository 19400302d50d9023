"""Room that the files of an open store have and do not need, given back to the disk.

SQLite's file does not become smaller by itself, and its log keeps the size that it once had. On a disk that they have
filled nothing is left for what cannot be inside them: the log of what comes, and the ballast.
"""

from __future__ import annotations

import logging
import sqlite3

from farm.store.room import Room

log = logging.getLogger("farm.store")
NOTICE = 25  # as in farm/server/logs.py

PAGES = "SELECT page_size * freelist_count, page_size * (page_count - freelist_count) FROM pragma_page_count, "
PAGES += "pragma_freelist_count, pragma_page_size"


def sizes(database: sqlite3.Connection) -> tuple[int, int]:
    """Bytes of pages in the file that are free, and of all the others. Raises sqlite3.Error."""
    inside, used = database.execute(PAGES).fetchone()
    return inside, used


def give_back(database: sqlite3.Connection, room: Room, path: str, timeout_s: float) -> None:
    """What can be given back without anything but the room that there is. No transaction may be open. It waits for
    nobody: where somebody reads the store, a backup, it is for another time. timeout_s: for which the connection waits
    otherwise. Raises sqlite3.Error, OSError."""
    database.execute("PRAGMA busy_timeout = 0")
    try:
        inside, used = sizes(database)
        if room.gives_back(inside, used):
            if _begin_log_anew(database):
                database.execute("PRAGMA temp_store = MEMORY")  # there may be no room for a file anywhere
                database.execute("VACUUM")  # into the log, and from there
                _begin_log_anew(database)
                log.log(NOTICE, "%s: %d KiB that were free inside are the disk's again", path, inside >> 10)
        elif room.holds_new_log() and not room.holds_ends(0, inside + used):
            _begin_log_anew(database)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise
    finally:
        database.execute(f"PRAGMA busy_timeout = {int(timeout_s * 1000)}")


def copy_log(database: sqlite3.Connection, timeout_s: float) -> None:
    """Into the file, as far as nobody needs the file as it is: where somebody reads, a backup or a check, the log keeps
    its size. timeout_s: as above; here too nobody is waited for. Raises sqlite3.Error."""
    database.execute("PRAGMA busy_timeout = 0")
    try:
        _begin_log_anew(database)
    finally:
        database.execute(f"PRAGMA busy_timeout = {int(timeout_s * 1000)}")


def _begin_log_anew(database: sqlite3.Connection) -> bool:
    """Whether all of it is in the file, and its own is empty."""
    (is_busy, _, _) = database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return not is_busy
