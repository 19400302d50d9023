"""The directory of a store: private, for one server at a time, and synced when names in it change."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from urllib.parse import quote

from farm.errors import EXIT_CANNOT_CREATE, EXIT_DATA, EXIT_NO_INPUT, EXIT_NO_PERMISSION, EXIT_UNAVAILABLE
from farm.store.contract import StoreError
from farm.store.cut import UNFINISHED, missing_of_log
from farm.store.schema import illegible, in_a_line, is_broken, version_of
from farm.store.wal import inspect_beside

log = logging.getLogger("farm.store")

FILE, LOCK, BALLAST = "jobs.db", "lock", "ballast"
REPAIRED = "jobs.db.repaired"  # a repair's result that has not taken the place of the damaged file yet
LOOK_S = 0.05  # far longer than looking at the lock takes
BUSY_TIMEOUT_S = 10.0  # another process may hold the file for a moment: a backup or a check that begins or ends


def make_directory(directory: str) -> bool:
    """Make a private directory, and those above it, unless it is there. Returns whether it was made. Raises
    StoreError."""
    if os.path.isdir(directory):
        return False
    if os.path.exists(directory):
        raise StoreError(f"{directory} is not a directory", "a store is a directory: name that", EXIT_CANNOT_CREATE)
    path, missing = os.path.abspath(directory), []
    while not os.path.isdir(path):
        missing.append(path)
        path = os.path.dirname(path)
    try:
        for path in reversed(missing):
            os.mkdir(path, 0o700 if path == missing[0] else 0o755)
            sync_directory(os.path.dirname(path))
    except OSError as error:
        raise StoreError(
            f"cannot make the store's directory {directory}: {error.strerror}",
            "give another place with --store",
            status=EXIT_CANNOT_CREATE,
        ) from error
    return True


def must_be_ours(directory: str) -> None:
    """Raise StoreError, having changed nothing, where the file is another program's or a newer farm's, or where it is
    missing though its ballast shows that it was there."""
    path, ballast, repaired = (os.path.join(directory, name) for name in (FILE, BALLAST, REPAIRED))
    with _said(directory), contextlib.ExitStack() as stack:
        is_there = os.path.exists(path)
        if not is_there or not os.stat(path).st_size:
            if os.path.exists(ballast) and not os.path.exists(repaired):
                raise StoreError(
                    f"the store {directory} is damaged: {FILE} is {'empty' if is_there else 'missing'}",
                    "take the newest backup; to begin anew, move the directory away",
                    EXIT_DATA,
                )
            return
        uri = f"file:{quote(os.path.abspath(path))}?mode=ro"
        stack.enter_context(contextlib.suppress(sqlite3.DatabaseError))  # damage is said by those who look for it
        database = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY_TIMEOUT_S)
        stack.enter_context(contextlib.closing(database))
        version_of(database, path)


def make_private(directory: str) -> None:
    """What others may read or write of a store that was there already is this user's alone from now on; of the
    directory it is only said, for somebody may have wanted it."""
    mode = os.stat(directory).st_mode
    if mode & 0o077:
        what = "write to" if mode & 0o022 else "look into"
        log.warning("others may %s the directory %s (mode %o)", what, directory, mode & 0o777)
    for name in (FILE, f"{FILE}-wal", f"{FILE}-shm"):
        with contextlib.suppress(FileNotFoundError):
            there = os.stat(os.path.join(directory, name))
            if there.st_mode & 0o077 and there.st_uid == os.geteuid():
                os.chmod(os.path.join(directory, name), 0o600)


def take_lock(directory: str) -> int:
    """Be the only one who writes there, until the descriptor is closed. Raises StoreError when somebody is, OSError."""
    lock = os.open(os.path.join(directory, LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(LOOK_S)  # it may have been held by somebody who only looked whether it is: see is_in_use
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.read(lock, 32).decode("ascii", "replace").strip() or "unknown"
        os.close(lock)
        raise StoreError(
            f"the store {directory} is in use by another farm server (process {owner})",
            "give this server a place of its own: --store PATH",
            status=EXIT_UNAVAILABLE,
        ) from None
    os.pwrite(lock, b"%-20d\n" % os.getpid(), 0)  # over the last one, which a full disk allows
    return lock


def is_in_use(directory: str) -> bool:
    """Whether somebody holds the lock. Raises OSError."""
    try:
        lock = os.open(os.path.join(directory, LOCK), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def damage_of_log(directory: str, *, is_alone: bool = False) -> str:
    """Why SQLite must not have the store's write-ahead log; empty: it may, or a server is using it, which has looked
    before it did. is_alone: the caller holds the lock. Raises StoreError where there is no store."""
    must_be_there(directory)
    with _said(directory):
        if not is_alone and is_in_use(directory):
            return ""
        damage = inspect_beside(os.path.join(directory, FILE)).damage
        return "" if damage and not is_alone and is_in_use(directory) else damage  # has begun to write it meanwhile


def notes_on_log(directory: str, *, is_alone: bool = False) -> list[str]:
    """What a log that is not damaged shows of its end, before SQLite opens it; none where a server is using it. Raises
    StoreError."""
    path = os.path.join(directory, FILE)
    with _said(directory):
        if not os.path.exists(path) or (not is_alone and is_in_use(directory)):
            return []
        missing = missing_of_log(path)
        notes = [missing] if missing else [UNFINISHED] if inspect_beside(path).unfinished else []
        return [] if notes and not is_alone and is_in_use(directory) else notes  # has begun to write it meanwhile


def damaged(directory: str, how: str) -> StoreError:
    """What is said of a store that cannot be used as it is."""
    return StoreError(f"the store {directory} is damaged: {how}", f"farm store check --repair {directory}", EXIT_DATA)


@contextlib.contextmanager
def alone(directory: str) -> Iterator[None]:
    """No server uses the store meanwhile. Raises StoreError when one does."""
    must_be_there(directory)
    with _said(directory):
        try:
            lock = take_lock(directory)
        except StoreError as error:
            raise StoreError(error.message, "stop the server first", error.status) from None
        try:
            yield
        finally:
            keep_owner(directory)
            os.close(lock)


@contextlib.contextmanager
def reading(directory: str, *, although_damaged: bool = False, file: str = FILE) -> Iterator[sqlite3.Connection]:
    """The store's file, to be read only, also while a server uses it. file: or another one there, which nobody uses and
    which has no log. Raises StoreError."""
    if not although_damaged and (damage := damage_of_log(directory)):
        raise damaged(directory, damage)
    must_be_there(directory)
    path = os.path.abspath(os.path.join(directory, file))
    # Where nothing can be written SQLite cannot make its index of the log, and needs none where there is no log.
    is_fixed = file != FILE or (not os.access(directory, os.W_OK, effective_ids=True) and not _has_log(path))
    with _said(directory):
        # SQLite's words say less. Not by opening it: see SqliteStore._create.
        if not os.access(path, os.R_OK, effective_ids=True):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        database = sqlite3.connect(
            f"file:{quote(os.fsencode(path))}?mode=ro{'&immutable=1' if is_fixed else ''}",
            uri=True,
            isolation_level=None,
            timeout=BUSY_TIMEOUT_S,
        )
        try:
            database.text_factory = lambda text: text.decode("utf-8", "replace")  # damage is no reason to give up
            database.execute("PRAGMA trusted_schema = OFF")
            yield database
        finally:
            database.close()
            keep_owner(directory)


def _has_log(path: str) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.stat(f"{path}-wal").st_size > 0
    return False


def cannot_open(directory: str, error: OSError) -> StoreError:
    """What is said of a directory in which a server cannot work."""
    words = f"cannot open {directory}: {(error.strerror or str(error)).lower()}"
    if error.errno in (errno.EACCES, errno.EPERM):
        return StoreError(words, "it is another user's; give another place with --store", EXIT_NO_PERMISSION)
    return StoreError(words, "", EXIT_CANNOT_CREATE)


def must_be_there(directory: str) -> None:
    """Raise StoreError where there is no store, or where it is not for this user to see."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        try:
            os.stat(os.path.join(directory, FILE))
        except PermissionError as error:
            raise StoreError(f"{directory}: permission denied", "it is another user's", EXIT_NO_PERMISSION) from error
    if not os.path.isfile(os.path.join(directory, FILE)) and not os.path.isfile(os.path.join(directory, REPAIRED)):
        raise StoreError(
            f"there is no store in {directory}", "name the directory that farm server --store has", EXIT_NO_INPUT
        )


def keep_owner(directory: str) -> None:
    """What root has made in another user's store belongs to that user, or their server could not open it."""
    if os.geteuid():
        return
    owner = os.stat(directory)
    for entry in os.scandir(directory):
        with contextlib.suppress(FileNotFoundError):
            if entry.stat(follow_symlinks=False).st_uid != owner.st_uid:
                os.chown(entry.path, owner.st_uid, owner.st_gid, follow_symlinks=False)


@contextlib.contextmanager
def _said(directory: str) -> Iterator[None]:
    """Errors of the system and of SQLite as StoreError."""
    try:
        yield
    except BrokenPipeError:  # who reads what is printed has gone, and that is nothing about the store
        raise
    except OSError as error:
        status = EXIT_CANNOT_CREATE if error.errno == errno.EROFS else EXIT_NO_INPUT
        raise StoreError(f"{error.filename or directory}: {(error.strerror or '').lower()}", "", status) from error
    except (sqlite3.Error, UnicodeDecodeError) as error:
        found = error if isinstance(error, sqlite3.Error) else illegible()
        status = EXIT_DATA if is_broken(found) else EXIT_CANNOT_CREATE
        raise StoreError(
            f"the store {directory}: {in_a_line(found)}", f"farm store check {directory}", status
        ) from error


def sync(path: str) -> None:
    """Make a file's content durable."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_directory(path: str) -> None:
    """Make the names in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
