"""What only the SQLite store has to keep in bounds: memory and its write-ahead log."""

from __future__ import annotations

import functools
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from farm.broker.effects import Expire, Finish, Forget, Save
from farm.store import check as checks
from farm.store import sqlite as sqlite_store
from farm.store import tables
from farm.store.check import check
from farm.store.contract import StoreError
from farm.store.index import LogIndex
from farm.store.place import BUSY_TIMEOUT_S, reading
from farm.store.room import LOG_SIZE_MAX
from farm.store.sqlite import CACHE_SIZE, SqliteStore
from farm.store.tables import EXPIRED_AT_ONCE_MAX
from tests.cli.rig import FARM

LARGE = 64 << 20
START_S = 2.0


def ended_size(store: SqliteStore) -> int:
    """Bytes that are kept of ended jobs, as far as they are counted."""
    assert store._tables
    return store._tables.ended_size


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
    assert (tmp_path / "store" / "jobs.db").stat().st_size > 60 * 200_000 - 2 * LOG_SIZE_MAX
    assert (tmp_path / "store" / "jobs.db-wal").stat().st_size < 2 * LOG_SIZE_MAX


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
    large = Save(1, b"f", b"", 1, bytes(LOG_SIZE_MAX))
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


READ = """import sqlite3, sys
d = sqlite3.connect(sys.argv[1], isolation_level=None)
d.execute("BEGIN")
d.execute("SELECT * FROM job").fetchall()
print("reads", flush=True)
sys.stdin.read()"""


@contextmanager
def a_reader(path: Path) -> Iterator[None]:
    """Another process is in the middle of a transaction that reads, as a backup or a check of a large store is."""
    command = [sys.executable, "-c", READ, path / "jobs.db"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        try:
            assert process.stdout.readline() == b"reads\n"
            yield
        finally:
            process.stdin.close()


@pytest.mark.parametrize("kind", ["killed", "stopped"])
def test_a_start_does_not_wait_for_who_reads(tmp_path: Path, kind: str) -> None:
    """SQLite would, for 10 s, to copy the log."""
    store = SqliteStore(str(tmp_path / "store"), reserve=0)
    store.open()
    store.apply([Save(1, b"f", b"", 1, b"payload")])
    path = tmp_path / "store"
    if kind == "killed":
        path = shutil.copytree(path, tmp_path / "killed")
    store.close()
    after = SqliteStore(str(path), reserve=0)
    with a_reader(path):
        begin = time.monotonic()
        after.open()
        assert [save.id for save in after.load()] == [1]
        after.apply([Save(2, b"f", b"", 1, b"")])
        assert time.monotonic() - begin < START_S
        assert after._opened().execute("PRAGMA busy_timeout").fetchone() == (BUSY_TIMEOUT_S * 1000,)
    after.close()
    assert check(str(path)).jobs == 2


def opens_the_file_beside_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant: the process closes the file once more, and its locks are gone."""
    connect = SqliteStore._connect

    def broken(self: SqliteStore, *args: Any) -> sqlite3.Connection:
        self._create()
        return connect(self, *args)

    monkeypatch.setattr(SqliteStore, "_connect", broken)


def test_without_its_locks_what_it_acknowledged_would_be_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opens_the_file_beside_a_connection(monkeypatch)
    monkeypatch.setattr(LogIndex, "gone", lambda self: "")
    acknowledged, left = acknowledged_and_left(tmp_path / "store")
    assert left < acknowledged


def test_nothing_is_acknowledged_once_the_log_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program, as here; or whoever else."""
    opens_the_file_beside_a_connection(monkeypatch)
    with pytest.raises(StoreError, match=r"removed .*jobs\.db-wal"):
        acknowledged_and_left(tmp_path / "store")


@pytest.mark.parametrize("name", ["jobs.db", "jobs.db-wal", "jobs.db-shm"])
@pytest.mark.parametrize("replaced", [False, True])
def test_nothing_is_acknowledged_once_a_file_is_gone(
    store: SqliteStore, tmp_path: Path, name: str, replaced: bool
) -> None:
    path = tmp_path / "store" / name
    store.apply([Save(1, b"f", b"", 1, b"")])
    content = path.read_bytes()
    path.unlink()
    if replaced:
        path.write_bytes(content)
    with pytest.raises(StoreError, match=f"removed or replaced .*{name}: what is written there is lost"):
        store.apply([Save(2, b"f", b"", 1, b"")])


def test_a_look_at_the_store_from_the_same_process_leaves_its_locks(store: SqliteStore, tmp_path: Path) -> None:
    check(str(tmp_path / "store"))
    use_as_another_program(tmp_path / "store")
    assert (tmp_path / "store" / "jobs.db-wal").exists()
    store.apply([Save(1, b"f", b"", 1, b"")])


def kept_and_ended(store: SqliteStore, ends: Sequence[float]) -> None:
    """So many jobs, which ended then."""
    store.apply([Save(id, b"f", b"", 1, b"") for id, _ in enumerate(ends, 1)])
    store.apply([Finish(id, "done", 0.0, end) for id, end in enumerate(ends, 1)])


def left(store: SqliteStore) -> set[int]:
    """The jobs of which something is kept."""
    return {id for (id,) in store._opened().execute("SELECT id FROM ended")}


def expire(store: SqliteStore, change: Expire) -> None:
    """As the server does: once more for as long as something is overdue."""
    store.apply([change])
    while store.overdue:
        store.apply([change])


@pytest.mark.parametrize("wrong", [EXPIRED_AT_ONCE_MAX - 1, EXPIRED_AT_ONCE_MAX, 2 * EXPIRED_AT_ONCE_MAX + 1])
def test_however_many_ended_while_the_clock_was_wrong_hold_up_nothing(store: SqliteStore, wrong: int) -> None:
    kept_and_ended(store, [150.0] * wrong + [1.0] * 10 + [99.0])
    for _ in range(2):
        expire(store, Expire(40.0, 1 << 30, now=100.0))
        assert left(store) == {*range(1, wrong + 1), wrong + 11}
    expire(store, Expire(40.0, 1000, now=100.0))
    assert left(store) == {*range(wrong - 8, wrong + 1), wrong + 11}, "the oldest go first for want of room"


def test_what_was_kept_before_is_added_up_little_by_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start does not wait for it, and the bound on it holds all the same."""
    monkeypatch.setattr(tables, "COUNTED_AT_ONCE_MAX", 10)
    store = SqliteStore(str(tmp_path / "store"), reserve=0)
    store.open()
    kept_and_ended(store, [1.0] * 95)
    size = ended_size(store)
    store.close()
    store.open()
    assert ended_size(store) < size / 5
    assert store.keeps()
    store.apply([Save(96, b"f", b"", 1, b""), Finish(96, "done", 0.0, 1.0)])
    expire(store, Expire(0.0, size, now=3.0))
    assert ended_size(store) == size
    assert left(store) == set(range(2, 97))
    store.close()
    store.open()
    expire(store, Expire(0.0, size // 19, now=3.0))
    assert left(store) == set(range(92, 97))
    assert ended_size(store) == size // 19
    expire(store, Expire(2.0, size, now=3.0))
    assert not left(store) and not store.keeps() and ended_size(store) == 0
    store.close()


def test_what_ends_while_it_is_added_up_counts_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though SQLite numbers it as the newest one that has just gone."""
    monkeypatch.setattr(tables, "COUNTED_AT_ONCE_MAX", 10)
    store = SqliteStore(str(tmp_path / "store"), reserve=0)
    store.open()
    kept_and_ended(store, [150.0] * 60 + [1e9] * 40)
    store.close()
    store.open()
    store.apply([Expire(40.0, 1 << 30, now=100.0)])
    assert left(store) == set(range(1, 61)), "what ended last has gone, and what ended before is not added up yet"
    store.apply([Save(101, b"f", b"", 1, b""), Finish(101, "done", 0.0, 99.0)])
    expire(store, Expire(40.0, 1 << 30, now=100.0))
    ((size,),) = store._opened().execute("SELECT sum(size) FROM ended")
    assert ended_size(store) == size
    store.close()


@pytest.mark.parametrize("table", ["job", "ended"])
def test_of_a_large_file_the_jobs_are_checked_at_the_start(
    table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is kept of ended ones would hold it up; a row of it is checked when it is asked for."""
    monkeypatch.setattr(checks, "CHECKED_AT_START_MAX", 0)
    store = SqliteStore(str(tmp_path), reserve=0)
    store.open()
    store.apply([Save(id, b"f", b"", 1, b"p" * 100) for id in range(1, 201)])
    store.apply([Finish(id, "done", 0.0, 1.0, result=b"r" * 100) for id in range(1, 101)])
    (root,) = store._opened().execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).fetchone()
    store.close()
    lose_a_row(tmp_path / "jobs.db", root)
    if table == "job":
        with pytest.raises(StoreError, match="is damaged"):
            store.open()
    else:
        store.open()
        store.close()
    assert not check(str(tmp_path)).sound


def test_a_start_notices_what_an_index_does_not_find(tmp_path: Path) -> None:
    """The row is whole, and would be taken for one that was never kept."""
    store = SqliteStore(str(tmp_path), reserve=0)
    store.open()
    store.apply([Save(id, b"f", b"", 1, b"") for id in range(1000, 1010)])
    store.apply([Finish(id, "done", 0.0, 1.0) for id in range(1000, 1010)])
    index = "SELECT rootpage FROM sqlite_schema WHERE name = 'sqlite_autoindex_ended_1'"
    (root,) = store._opened().execute(index).fetchone()
    store.close()
    with (tmp_path / "jobs.db").open("r+b") as file:
        file.seek((root - 1) * 4096)
        page = file.read(4096)
        entry = page.rindex((1009).to_bytes(2, "big"))
        file.seek((root - 1) * 4096 + entry)
        file.write((1019).to_bytes(2, "big"))  # still the last one
    with pytest.raises(StoreError, match="is damaged"):
        store.open()


def lose_a_row(path: Path, root: int) -> None:
    """The first page of a table has one row fewer. Nobody who only reads the rows notices."""
    with path.open("r+b") as file:
        file.seek((root - 1) * 4096)
        inner = file.read(4096)
        assert inner[0] == 5, "the table has one page only"
        first_cell = int.from_bytes(inner[12:14], "big")
        leaf = int.from_bytes(inner[first_cell : first_cell + 4], "big")
        file.seek((leaf - 1) * 4096 + 3)
        rows = int.from_bytes(file.read(2), "big")
        file.seek((leaf - 1) * 4096 + 3)
        file.write((rows - 1).to_bytes(2, "big"))


def write_and_forget(store: SqliteStore, path: Path) -> int:
    """Far more than the log may hold; returns its size afterwards."""
    for number in range(10_000, 10_060):
        store.apply([Save(number, b"f", b"", 1, bytes(200_000))])
        store.apply([Forget(number)])
    return (path / "jobs.db-wal").stat().st_size


def test_an_export_that_nobody_reads_holds_up_no_log(store: SqliteStore, tmp_path: Path) -> None:
    store.apply([Save(id, b"f", b"", 1, b"x" * 1000) for id in range(1, 3001)])
    command = [FARM, "store", "export", str(tmp_path / "store")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as export:
        assert export.stdout
        first = export.stdout.readline()  # it has begun, and now it waits: a pipe holds a few of these lines
        assert write_and_forget(store, tmp_path / "store") < 2 * LOG_SIZE_MAX
        assert len([first, *export.stdout]) == 3000
    assert export.returncode == 0


def test_a_log_that_somebody_holds_up_is_said_once(
    store: SqliteStore, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_store, "LOG_WARNED", 1)
    with reading(str(tmp_path / "store")) as database:
        database.execute("BEGIN")
        database.execute("SELECT count(*) FROM job").fetchone()
        assert write_and_forget(store, tmp_path / "store") > 2 * LOG_SIZE_MAX
        assert [record.getMessage() for record in caplog.records] == [
            f"{tmp_path}/store/jobs.db-wal grows: something has been reading the store for long"
        ]
    write_and_forget(store, tmp_path / "store")
    assert len(caplog.records) == 1


def test_who_reads_an_export_may_leave(store: SqliteStore, tmp_path: Path) -> None:
    """As head(1) does: nothing is said of it."""
    store.apply([Save(id, b"f", b"", 1, b"x" * 1000) for id in range(1, 3001)])
    command = [FARM, "store", "export", str(tmp_path / "store")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as export:
        assert export.stdout and export.stderr
        export.stdout.readline()
        export.stdout.close()
        assert export.stderr.read() == b""


@pytest.mark.parametrize(
    "column", ["id", "function", "unique_key", "priority", "payload", "reducer", "due", "created", "terms", "crc"]
)
def test_a_start_notices_what_is_wrong_in_any_column_of_a_plain_job(column: str, tmp_path: Path) -> None:
    """Those without a key, a reducer and terms are compared in a quicker way, many at a time."""
    store = SqliteStore(str(tmp_path))
    store.open()
    store.apply([Save(id, b"f", b"", 1, b"payload %d" % id, b"", 0.0, 5.0) for id in range(1, 4)])
    store.close()
    wrong = {"id": "7", "priority": "2", "due": "1.5", "created": "6.0", "crc": "crc + 1"}.get(column, "x'78'")
    with closing(sqlite3.connect(tmp_path / "jobs.db")) as database, database:
        database.execute(f"UPDATE job SET {column} = {wrong} WHERE id = 2")
    store.open()
    assert [save.id for save in store.load()] == [1, 3]
    store.close()


FROM_THE_WORKER = {
    **dict.fromkeys(("id", "exit_code", "number", "failures", "losses", "peak"), "7"),
    **dict.fromkeys(("started", "ended", "cpu_s", "keep_s"), "1.5"),
    **dict.fromkeys(("worker", "reason", "log", "result"), "x'78'"),
    "outcome": "'cancelled'",
    "crc": "crc + 1",
}
FROM_THE_JOB = {
    **dict.fromkeys(("function", "unique_key", "terms", "reducer"), "x'78'"),
    **dict.fromkeys(("priority", "created", "due"), "2"),
}
UNCOVERED = {"n": "7", "size": "7", "cut": "1"}


@pytest.mark.parametrize("outcome", ["done", "failed"])
@pytest.mark.parametrize("column", [*FROM_THE_WORKER, *FROM_THE_JOB, *UNCOVERED, "payload", "job_crc"])
def test_what_a_check_notices_of_an_ended_job_is_what_its_manual_says(
    column: str, outcome: str, tmp_path: Path
) -> None:
    """Of what a job was submitted with only where its payload is kept."""
    store = SqliteStore(str(tmp_path))
    store.open()
    columns = {name for _, name, *_ in store._opened().execute("PRAGMA table_info(ended)")}
    assert columns == {*FROM_THE_WORKER, *FROM_THE_JOB, *UNCOVERED, "payload", "job_crc"}
    store.apply([Save(1, b"f", b"", 1, b"payload")])
    store.apply([Finish(1, outcome, 0.0, 1.0, b"worker", 0, b"result", b"log")])
    store.close()
    wrong = (FROM_THE_WORKER | FROM_THE_JOB | UNCOVERED | {"payload": "x'78'", "job_crc": "job_crc + 1"})[column]
    with closing(sqlite3.connect(tmp_path / "jobs.db")) as database, database:
        database.execute(f"UPDATE ended SET {column} = {wrong}")
    is_covered = column in FROM_THE_WORKER or (column not in UNCOVERED and outcome == "failed")
    assert check(str(tmp_path)).sound != is_covered
