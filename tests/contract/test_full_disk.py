"""What the SQLite store does while its ballast is given up, and a server whose store says so. The disk itself is in
tests/reliability/test_disk.py."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest

from farm.broker.effects import Change, Finish, Save
from farm.protocol import packets as p
from farm.store.memory import MemoryStore
from farm.store.sqlite import SqliteStore
from tests.unit.test_server_faults import Ring


def full() -> sqlite3.OperationalError:
    """What SQLite says."""
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    return error


def test_a_job_can_end_but_what_it_wrote_is_not_kept(tmp_path: Path) -> None:
    store = SqliteStore(str(tmp_path / "store"), reserve=0)
    store.open()
    store.apply([Save(1, b"f", b"", 1, b"payload"), Save(2, b"f", b"", 1, b"")])
    store.apply([Finish(1, "done", 0.0, 1.0, result=b"kept")])
    assert not store.pressed
    store._with_ballast(full(), [Finish(2, "done", 0.0, 1.0, b"worker", 0, b"result", b"log")])
    store.commit()
    assert store.pressed
    assert not (tmp_path / "store" / "ballast").exists()
    assert store.ended(1) == Finish(1, "done", 0.0, 1.0, result=b"kept")
    assert store.ended(2) == Finish(2, "done", 0.0, 1.0, b"worker", 0, cut=True)
    assert not store.low(), "there is room, so the ballast is put by again"
    assert not store.pressed
    assert (tmp_path / "store" / "ballast").exists()
    store.close()


def test_the_payload_of_one_that_failed_is_not_kept_either(tmp_path: Path) -> None:
    """It would have to be written once more."""
    store = SqliteStore(str(tmp_path / "store"), reserve=0)
    store.open()
    store.apply([Save(id, b"f", b"", 1, b"payload") for id in (1, 2)])
    store.apply([Finish(1, "failed", 0.0, 1.0)])
    end = Finish(2, "failed", 0.0, 1.0)
    store.write([end])
    store._with_ballast(full(), [end])
    store.commit()
    kept = {id: (payload, cut) for id, payload, cut in store._opened().execute("SELECT id, payload, cut FROM ended")}
    assert kept == {1: (b"payload", 0), 2: (None, 1)}
    size = sum(size for (size,) in store._opened().execute("SELECT size FROM ended"))
    assert store._ended_size == size
    store.close()


@pytest.mark.parametrize("code", [sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE])
def test_the_ballast_is_given_up_to_start(code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SqliteStore(str(tmp_path), reserve=0)
    store.open()
    store.apply([Save(1, b"f", b"", 1, b"payload")])
    store.close()
    prepare = SqliteStore._prepare

    def tight(self: SqliteStore, database: sqlite3.Connection) -> None:
        if os.path.exists(tmp_path / "ballast"):
            error = full()
            error.sqlite_errorcode = code
            raise error
        prepare(self, database)

    monkeypatch.setattr(SqliteStore, "_prepare", tight)
    store.open()
    assert store.pressed
    assert [save.id for save in store.load()] == [1]
    store.close()


class Tight(MemoryStore):
    """Its first commit takes the last room."""

    def apply(self, changes: Sequence[Change]) -> None:
        super().apply(changes)
        self.pressed = True

    def low(self) -> str:
        return "0 MiB free where jobs are kept" if self.pressed else ""


def test_the_server_looks_at_the_disk_as_soon_as_the_store_is_pressed() -> None:
    """Not a second later: by then the rest of the room would be used up by new jobs."""
    ring = Ring(Tight())
    with ring.connect() as client:
        for _ in range(2):
            client.send(p.SUBMIT_JOB_BG, b"f", b"", b"")
            ring.loop.turn()
        assert client.packet()[0] == p.JOB_CREATED
        client.expect_error(b"QUEUE_ERROR")
    ring.close()
