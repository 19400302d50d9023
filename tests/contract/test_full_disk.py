"""What the SQLite store does while its ballast is given up, and a server whose store says so. The disk itself is in
tests/reliability/test_disk.py."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest

from farm.broker.effects import FINISH_OVERHEAD, Attempt, Change, Expire, Finish, Progress, Save
from farm.protocol import packets as p
from farm.server.upkeep import Upkeep
from farm.store.memory import MemoryStore
from farm.store.room import Room
from farm.store.sqlite import ROW_OVERHEAD, SqliteStore
from tests.contract.test_sqlite_store import ended_size
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
    assert ended_size(store) == size
    store.close()


def test_where_there_is_hardly_any_room_the_payloads_of_those_that_failed_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are written anew, those of jobs that are done are not: of one that came in the same transaction too."""
    size = 50_000
    asked: list[tuple[str, int]] = []
    store = SqliteStore(str(tmp_path / "store"), reserve=0)
    store.open()
    store.apply([Save(id, b"f", b"", 1, bytes(size)) for id in (1, 2, 3)])

    def lacking(coming: int, *_: int) -> int:
        asked.append(("lacking", coming))
        return 0

    def holds_output(kept: int, *_: int) -> bool:
        asked.append(("holds", kept))
        return kept < size

    monkeypatch.setattr(store._room, "lacking", lacking)
    monkeypatch.setattr(store._room, "holds_output", holds_output)
    store._room.is_watched = True
    rows, one = FINISH_OVERHEAD, Finish(1, "done", 0.0, 1.0)
    for changes, kept, coming in (
        ([one], rows, rows + ROW_OVERHEAD),
        ([one._replace(id=2, outcome="failed")], size + rows, size + rows + ROW_OVERHEAD),
        (
            [Save(4, b"f", b"", 1, bytes(size)), one._replace(id=4, outcome="cancelled")],
            size + rows,
            2 * size + rows + 2 * ROW_OVERHEAD,
        ),
        ([Attempt(3, 1, 0.0, 1.0, "failed", log=b"log")], rows + 3, rows + 3 + ROW_OVERHEAD),
    ):
        asked.clear()
        store.apply(changes)
        assert asked == [("lacking", coming), ("holds", kept)]
    kept_of = dict(store._opened().execute("SELECT id, length(payload) FROM ended"))
    assert kept_of == {1: None, 2: None, 4: None}, "there was no room for them"
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


class Disk:
    """So many bytes free, whatever the real one has, and so many in all."""

    def __init__(self, free: int, size: int = 1 << 40) -> None:
        self.f_bavail, self.f_blocks, self.f_frsize = free, size, 1


def test_there_is_room_again_a_little_above_the_reserve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also on a disk that is hardly larger."""
    mib = 1 << 20
    room = Room(str(tmp_path), 64 * mib)
    room.fill_ballast()

    def low(free_mib: int) -> str:
        monkeypatch.setattr("os.statvfs", lambda path: Disk(free_mib * mib))
        return room.low()

    assert not low(64)
    assert low(63) == "63 MiB free where jobs are kept, 64 MiB wanted"
    assert low(71) == "71 MiB free where jobs are kept, 72 MiB wanted"
    assert not low(72)
    assert not low(64)


def test_of_a_small_reserve_half_as_much_more_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = Room(str(tmp_path), 1000)
    room.fill_ballast()
    found = []
    for free in (999, 1499, 1500):
        monkeypatch.setattr("os.statvfs", lambda path, free=free: Disk(free))
        found.append(bool(room.low()))
    assert found == [True, True, False]


def test_what_the_ballast_needs_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = Room(str(tmp_path), 1 << 20)
    monkeypatch.setattr("os.statvfs", lambda path: Disk(7 << 20))
    assert room.low() == "7 MiB free where jobs are kept, 9 MiB wanted"


@pytest.mark.parametrize(
    ("size", "said", "reserve", "ballast", "log"),
    [
        (1 << 40, None, 64 << 20, 8 << 20, 4 << 20),
        (256 << 20, None, 32 << 20, 8 << 20, 4 << 20),
        (4 << 20, None, 512 << 10, 512 << 10, 256 << 10),
        (4 << 20, 64 << 20, 64 << 20, 512 << 10, 256 << 10),  # who says how much is right
        (0, None, 64 << 20, 8 << 20, 4 << 20),  # the file system does not know
    ],
)
def test_on_a_small_disk_all_is_smaller(
    size: int, said: int | None, reserve: int, ballast: int, log: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.statvfs", lambda path: Disk(0, size))
    room = Room(str(tmp_path), said)
    room.measure()
    assert (room.reserve, room.ballast_size, room.log_size) == (reserve, ballast, log)


def test_a_ballast_that_is_larger_than_it_should_be_becomes_smaller(tmp_path: Path) -> None:
    """It is an older farm's."""
    (tmp_path / "ballast").write_bytes(bytes(9 << 20))
    Room(str(tmp_path), 0).fill_ballast()
    assert (tmp_path / "ballast").stat().st_size == 8 << 20


def test_what_is_free_in_the_file_is_room_as_long_as_the_log_has_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mib = 1 << 20
    (tmp_path / "jobs.db-wal").write_bytes(bytes(3 * mib))  # and 1 MiB to come
    room = Room(str(tmp_path), 64 * mib)
    room.fill_ballast()

    def low(free_mib: float, inside_mib: int) -> tuple[str, int]:
        monkeypatch.setattr("os.statvfs", lambda path: Disk(int(free_mib * mib)))
        return room.low(inside_mib * mib), room.left // mib

    assert low(63, 0)[0] == "63 MiB free where jobs are kept, 64 MiB wanted"
    assert low(63, 100) == ("", 99)
    assert low(11, 100) == ("", 20), "a payload goes into the log first"
    assert low(2, 100) == ("", 2)
    assert low(1.5, 100)[0] == "512 KiB free beside what is kept, for the log of what comes, 1 MiB wanted"


def test_where_the_disk_is_used_up_nothing_is_kept_of_jobs_that_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor of attempts; that a job has failed and is tried again is."""
    store = SqliteStore(str(tmp_path / "store"), reserve=0)
    store.open()
    store.apply([Save(id, b"f", b"", 1, b"payload") for id in (1, 2, 3)])
    store._drop_ballast()
    monkeypatch.setattr("os.statvfs", lambda path: Disk(1 << 20))
    store.apply([Finish(1, "done", 0.0, 1.0), Finish(2, "failed", 0.0, 1.0)])
    store.apply([Attempt(3, 1, 0.0, 1.0, "failed"), Progress(3, 1, failures=1), Expire(2.0, 0)])
    monkeypatch.undo()
    assert [store.ended(id) for id in (1, 2)] == [None, None]
    assert [save.id for save in store.load()] == [3]
    assert store.attempts(3) == []
    assert list(store.known()) == [Progress(3, 1, failures=1)]
    said = [record.getMessage() for record in caplog.records if "used up" in record.getMessage()]
    assert said == [f"the disk of {tmp_path / 'store'} is used up: nothing at all is kept of jobs that end"]
    store.close()


def test_what_is_kept_is_no_more_than_a_part_of_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.statvfs", lambda path: Disk(4 << 20, 4 << 20))
    store = SqliteStore(str(tmp_path / "store"))
    store.open()
    for id in range(1, 31):
        store.apply([Save(id, b"f", b"", 1, b""), Finish(id, "done", 0.0, 1.0, result=bytes(100_000))])
    store.apply([Expire(0.0, 1 << 30)])
    assert sum(store.ended(id) is not None for id in range(1, 31)) == 10
    store.close()


class Crowded(MemoryStore):
    """It has no room until something is dropped."""

    def low(self) -> str:
        return "" if self.dropped else "0 MiB free where jobs are kept"

    dropped = False

    def apply(self, changes: Sequence[Change]) -> None:
        self.dropped |= any(isinstance(change, Expire) for change in changes)
        super().apply(changes)

    def keeps(self) -> bool:
        return True


def test_what_is_too_much_goes_as_soon_as_there_is_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be all that there is no room for."""
    monkeypatch.setattr(Upkeep, "_look_at_results", lambda self: None)
    ring = Ring(Crowded())
    with ring.connect() as client:
        ring.turn_until(lambda: not ring.server._broker.no_room)
        client.send(p.SUBMIT_JOB_BG, b"f", b"", b"")
        ring.loop.turn()
        assert client.packet()[0] == p.JOB_CREATED
    ring.close()
