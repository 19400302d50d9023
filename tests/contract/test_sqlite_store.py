"""What only the SQLite store has to keep in bounds: memory and its write-ahead log."""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from farm.broker.effects import Expire, Finish, Save
from farm.store.contract import StoreError
from farm.store.sqlite import CACHE_SIZE, WAL_PAGES_MAX, SqliteStore
from farm.store.tables import EXPIRED_AT_ONCE_MAX

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
