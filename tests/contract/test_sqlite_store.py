"""What only the SQLite store has to keep in bounds: memory and its write-ahead log."""

from __future__ import annotations

import functools
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from farm.broker.effects import Expire, Finish, Save
from farm.store.check import check
from farm.store.contract import StoreError
from farm.store.index import LogIndex
from farm.store.sqlite import CACHE_SIZE, EXPIRED_AT_ONCE_MAX, WAL_PAGES_MAX, SqliteStore

LARGE = 64 << 20


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(str(tmp_path / "store"), reserve=0)
    store.open()
    yield store
    store.close()


def resident() -> int:
    """Bytes of this process that are in memory."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * 4096


def test_a_large_payload_is_let_go_of_once_it_is_on_disk(store: SqliteStore) -> None:
    """SQLite would keep its copy until the next job is saved."""
    before = resident()
    store.apply([Save(1, b"f", b"", 1, bytes(LARGE))])
    assert resident() - before < CACHE_SIZE + LARGE // 2
    assert store.payload(1) == bytes(LARGE)


def test_the_log_is_copied_into_the_file_and_used_again(store: SqliteStore, tmp_path: Path) -> None:
    for number in range(1, 60):
        store.apply([Save(number, b"f", b"", 1, bytes(200_000))])
    assert (tmp_path / "store" / "jobs.db").stat().st_size > 60 * 200_000 - 2 * WAL_PAGES_MAX * 4096
    assert (tmp_path / "store" / "jobs.db-wal").stat().st_size < 2 * WAL_PAGES_MAX * 4096


@pytest.mark.parametrize("code", [sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_FULL])
def test_an_error_while_it_is_copied_is_one_of_the_store(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Swallowed, the log would grow until the disk is full. On a full disk it is no error: it is tried again."""

    class Failing(sqlite3.Connection):
        def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
            if sql.startswith("PRAGMA wal_checkpoint(PASSIVE)"):
                error = sqlite3.OperationalError("disk I/O error")
                error.sqlite_errorcode = code
                raise error
            return super().execute(sql, *args)

    monkeypatch.setattr(sqlite3, "connect", functools.partial(sqlite3.connect, factory=Failing))
    store = SqliteStore(str(tmp_path / "store"), reserve=0)
    store.open()
    large = Save(1, b"f", b"", 1, bytes(WAL_PAGES_MAX * 4096))
    if code == sqlite3.SQLITE_FULL:
        store.apply([large])
        assert store.pressed, "the server should look at the disk"
    else:
        with pytest.raises(StoreError, match="disk I/O error"):
            store.apply([large])
    assert (tmp_path / "store" / "ballast").exists()
    store.close()


def test_more_than_is_dropped_at_once_is_said(store: SqliteStore) -> None:
    """One transaction of any size would hold the server up; the server asks again."""
    jobs = range(1, EXPIRED_AT_ONCE_MAX + 2)
    store.apply([Save(id, b"f", b"", 1, b"") for id in jobs])
    store.apply([Finish(id, "done", 0.0, 1.0) for id in jobs])
    store.apply([Expire(2.0, 0, now=3.0)])
    assert store.keeps() and store.overdue
    store.apply([Expire(2.0, 0, now=3.0)])
    assert not store.keeps() and not store.overdue


def test_a_transaction_that_is_done_again_counts_once(store: SqliteStore) -> None:
    changes = [Save(1, b"f", b"", 1, b""), Finish(1, "done", 0.0, 1.0)]
    store.write(changes)
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    store._with_ballast(error, changes)
    store.commit()
    store.apply([Expire(2.0, 0, now=3.0)])
    assert store.ended(1) is None
    assert not store.keeps()


def use_as_another_program(path: Path) -> None:
    """Open the store's file to read and write, look at it, and leave: what any tool of SQLite's does."""
    look = "import sqlite3, sys; d = sqlite3.connect(sys.argv[1]); d.execute('SELECT * FROM job').fetchall(); d.close()"
    subprocess.run([sys.executable, "-c", look, path / "jobs.db"], check=True)


def acknowledged_and_left(path: Path) -> tuple[set[int], set[int]]:
    """Jobs saved around such a visit, and those that are there after a kill."""
    store = SqliteStore(str(path), reserve=0)
    store.open()
    store.apply([Save(1, b"f", b"", 1, b"")])
    use_as_another_program(path)
    store.apply([Save(2, b"f", b"", 1, b"")])
    copy = path.parent / "as a kill leaves it"
    shutil.copytree(path, copy)
    store.close()
    after = SqliteStore(str(copy), reserve=0)
    after.open()
    left = {save.id for save in after.load()}
    after.close()
    return {1, 2}, left


def test_another_program_may_open_the_store_and_leave(tmp_path: Path) -> None:
    acknowledged, left = acknowledged_and_left(tmp_path / "store")
    assert left == acknowledged


def opens_the_file_beside_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant: the process closes the file once more, and its locks are gone."""
    connect = SqliteStore._connect

    def broken(self: SqliteStore, *args: Any) -> sqlite3.Connection:
        self._create()
        return connect(self, *args)

    monkeypatch.setattr(SqliteStore, "_connect", broken)


def test_without_its_locks_what_it_acknowledged_would_be_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opens_the_file_beside_a_connection(monkeypatch)
    monkeypatch.setattr(LogIndex, "is_there", lambda self: True)
    acknowledged, left = acknowledged_and_left(tmp_path / "store")
    assert left < acknowledged


def test_nothing_is_acknowledged_once_the_log_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has removed it."""
    opens_the_file_beside_a_connection(monkeypatch)
    with pytest.raises(StoreError, match=r"removed .*jobs\.db-wal"):
        acknowledged_and_left(tmp_path / "store")


def test_a_look_at_the_store_from_the_same_process_leaves_its_locks(store: SqliteStore, tmp_path: Path) -> None:
    check(str(tmp_path / "store"))
    use_as_another_program(tmp_path / "store")
    assert (tmp_path / "store" / "jobs.db-wal").exists()
    store.apply([Save(1, b"f", b"", 1, b"")])
