"""The check of the write-ahead log, on logs that SQLite wrote."""

from __future__ import annotations

import io
import os
import random
import sqlite3
import struct
from pathlib import Path

import pytest

from farm.broker.effects import Save
from farm.store import wal
from farm.store.contract import StoreError
from farm.store.sqlite import SqliteStore

FRAME = 24 + 4096
UNFINISHED = wal.Finding(unfinished=True)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A database whose log has 30 transactions, the last one of several frames; nobody has it open."""
    path = tmp_path / "other.db"
    kept = tmp_path / "jobs.db"
    with_log = sqlite3.connect(path, isolation_level=None)
    with_log.execute("PRAGMA journal_mode = WAL")
    with_log.execute("PRAGMA wal_autocheckpoint = 0")
    with_log.execute("CREATE TABLE t (n, blob)")
    chance = random.Random(4)
    for number in range(29):
        with_log.execute("BEGIN")
        for _ in range(chance.randrange(1, 5) if number < 28 else 6):
            with_log.execute("INSERT INTO t VALUES (?, ?)", (number, chance.randbytes(1500)))
        with_log.execute("COMMIT")
    kept.write_bytes(path.read_bytes())
    log_of(kept).write_bytes(log_of(path).read_bytes())
    with_log.close()
    return kept


def log_of(path: Path) -> Path:
    """Where SQLite has the log of a database."""
    return Path(f"{path}-wal")


def change(path: Path, where: int, data: bytes) -> None:
    """Write something else there; from the end if negative."""
    raw = bytearray(path.read_bytes())
    where = where % len(raw)
    raw[where : where + len(data)] = data
    path.write_bytes(raw)


def rows(path: Path) -> int:
    """How many rows SQLite finds, in a copy, for it changes what it opens."""
    copy = path.parent / "copy.db"
    copy.write_bytes(path.read_bytes())
    log_of(copy).write_bytes(log_of(path).read_bytes())
    database = sqlite3.connect(copy)
    try:
        return int(database.execute("SELECT count(*) FROM t").fetchone()[0])
    finally:
        database.close()
        copy.unlink()


def test_a_whole_log_is_fine(database: Path) -> None:
    assert wal.inspect_beside(str(database)) == wal.Finding()


def test_no_log_and_an_empty_one_are_fine(database: Path) -> None:
    log_of(database).write_bytes(b"")
    assert wal.inspect_beside(str(database)) == wal.Finding()
    log_of(database).unlink()
    assert wal.inspect_beside(str(database)) == wal.Finding()


@pytest.mark.parametrize("where", [0, 3, 6, 12, 17, 21, 27, 2000])
def test_damage_in_the_middle_is_what_sqlite_would_not_tell(database: Path, where: int) -> None:
    """In a frame's page number, size, salts, checksum and page."""
    before = rows(database)
    path = log_of(database)
    place = 32 + 10 * FRAME + where
    change(path, place, bytes([path.read_bytes()[place] ^ 0x10]))
    assert rows(database) < before, "SQLite would have lost nothing"
    finding = wal.inspect_beside(str(database))
    assert "bad at frame 11" in finding.damage
    assert finding.damage.endswith("transactions follow")


def test_one_transaction_behind_it_is_enough_where_it_was_the_end_of_one(tmp_path: Path) -> None:
    """The next one began after that one was synced."""
    store = SqliteStore(str(tmp_path / "running"))
    store.open()
    for number in range(8):
        store.apply([Save(number + 1, b"f", b"", 1, b"")])
    (tmp_path / "jobs.db").write_bytes((tmp_path / "running" / "jobs.db").read_bytes())
    raw = (tmp_path / "running" / "jobs.db-wal").read_bytes()
    store.close()
    ends = [at for at in range(32, len(raw), FRAME) if raw[at + 4 : at + 8] != bytes(4)]  # frames that end one
    for end, damage in ((-2, True), (-1, False)):
        log_of(tmp_path / "jobs.db").write_bytes(raw)
        change(log_of(tmp_path / "jobs.db"), ends[end] + 1000, b"damage")
        found = wal.inspect_beside(str(tmp_path / "jobs.db"))
        assert found.damage.endswith("and a transaction follows") == damage, found
        assert found.unfinished != damage


def test_damage_that_two_frames_share_hides_no_transaction(tmp_path: Path) -> None:
    """One frame's page is damaged and the next one's header wiped, so neither that one nor the one behind it fits; but
    that one is of this use of the file, and was begun only after the first was synced."""
    store = SqliteStore(str(tmp_path / "running"))
    store.open()
    for number in range(8):
        store.apply([Save(number + 1, b"f", b"", 1, b"")])
    for name in ("jobs.db", "jobs.db-wal"):
        (tmp_path / name).write_bytes((tmp_path / "running" / name).read_bytes())
    store.close()
    log = log_of(tmp_path / "jobs.db")
    raw = log.read_bytes()
    last = len(raw) - FRAME  # each of the last three frames is a transaction
    assert all(raw[last - behind * FRAME + 4 : last - behind * FRAME + 8] != bytes(4) for behind in range(3))
    change(log, last - FRAME - 100, bytes(124))
    assert wal.inspect_beside(str(tmp_path / "jobs.db")).damage.endswith("and a transaction follows")


def test_a_page_of_zeros_is_damage(database: Path) -> None:
    for page in range(3, 20):
        raw = log_of(database).read_bytes()
        change(log_of(database), page * 4096, bytes(4096))
        assert wal.inspect_beside(str(database)).damage, page
        log_of(database).write_bytes(raw)


@pytest.mark.parametrize("where", range(0, 32, 4))
def test_a_damaged_header_hides_everything_from_sqlite(database: Path, where: int) -> None:
    path = log_of(database)
    change(path, where, bytes([path.read_bytes()[where] ^ 1]))
    with pytest.raises(sqlite3.OperationalError):
        rows(database)  # not even the table
    assert "header" in wal.inspect_beside(str(database)).damage


def test_a_first_page_of_zeros_is_damage_too(database: Path) -> None:
    change(log_of(database), 0, bytes(4096))
    assert "header" in wal.inspect_beside(str(database)).damage


def test_a_torn_header_of_a_log_that_is_used_again_is_none(database: Path) -> None:
    """All that was in it has been copied into the file before."""
    copied = sqlite3.connect(database)
    log = log_of(database).read_bytes()
    copied.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    copied.close()
    log_of(database).write_bytes(log)
    change(log_of(database), 14, os.urandom(6))
    assert wal.inspect_beside(str(database)) == UNFINISHED


@pytest.mark.parametrize("cut", [1, 20, 4000, FRAME - 1, FRAME, FRAME + 1, 3 * FRAME, 3 * FRAME + 7])
def test_an_unfinished_last_transaction_is_the_work_of_a_power_cut(database: Path, cut: int) -> None:
    os.truncate(log_of(database), log_of(database).stat().st_size - cut)
    assert wal.inspect_beside(str(database)) == UNFINISHED


@pytest.mark.parametrize("end", [1, 31, 33, 40, 32 + FRAME - 1])
def test_a_log_that_was_just_begun(database: Path, end: int) -> None:
    os.truncate(log_of(database), end)
    assert wal.inspect_beside(str(database)) == UNFINISHED


def test_sectors_of_the_last_transaction_may_be_missing(database: Path) -> None:
    """Whatever is there of it: with one transaction it is never taken for damage."""
    whole = log_of(database).read_bytes()
    chance = random.Random(7)
    begin = len(whole) - 3 * FRAME  # it is longer than that
    for _ in range(200):
        raw = bytearray(whole)
        gone = 0
        for sector in range(begin // 512 + 1, len(whole) // 512 + 1):
            if chance.random() < 0.5:
                raw[sector * 512 : sector * 512 + 512] = bytes(len(raw[sector * 512 : sector * 512 + 512]))
                gone += 1
        log_of(database).write_bytes(raw)
        assert wal.inspect_beside(str(database)) == (UNFINISHED if gone else wal.Finding())


@pytest.mark.parametrize("content", ["randomblob", "zeroblob"])  # zeros: the end of the page before may be the same
def test_sectors_of_an_older_use_may_be_in_their_place(content: str, tmp_path: Path) -> None:
    """A header in two sectors may be of both uses: what it says of an end is then the older one's."""
    path = tmp_path / "jobs.db"
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA wal_autocheckpoint = 0")
    database.execute("CREATE TABLE t (n, blob)")
    database.execute(f"INSERT INTO t VALUES (0, {content}(600))")
    for _ in range(120):
        database.execute("UPDATE t SET n = n + 1")  # each is a transaction of one frame
    database.execute("PRAGMA wal_checkpoint(RESTART)")
    database.execute("UPDATE t SET n = n + 1")
    old = log_of(path).read_bytes()
    database.execute(f"INSERT INTO t VALUES (0, {content}(300000))")
    new = log_of(path).read_bytes()
    begin = next(at for at in range(32, len(new), FRAME) if new[at : at + FRAME] != old[at : at + FRAME])
    end = max(at for at in range(32, len(new), FRAME) if new[at : at + FRAME] != old[at : at + FRAME])
    assert (end - begin) // FRAME > 60
    sectors = range(begin - begin % 512, end + FRAME, 512)
    chance = random.Random(9)
    for lost in [[at] for at in sectors] + [[at for at in sectors if chance.random() < 0.3] for _ in range(300)]:
        raw = bytearray(new)
        for at in lost:
            raw[at : at + 512] = old[at : at + 512]
        log_of(path).write_bytes(raw)
        assert not wal.inspect_beside(str(path)).damage, lost
    log_of(path).write_bytes(new)
    database.close()


def test_an_older_use_of_the_file_behind_the_end_is_nothing(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("CREATE TABLE t (blob)")
    for _ in range(20):
        database.execute("INSERT INTO t VALUES (randomblob(3000))")
    database.execute("PRAGMA wal_checkpoint(RESTART)")
    for _ in range(3):
        database.execute("INSERT INTO t VALUES (randomblob(3000))")
    assert log_of(path).stat().st_size > 15 * FRAME
    assert wal.inspect_beside(str(path)) == wal.Finding()
    database.close()


@pytest.mark.parametrize("file", ["missing", "empty"])
def test_a_log_without_its_file(database: Path, file: str) -> None:
    """SQLite would remove the log."""
    database.unlink()
    if file == "empty":
        database.touch()
    assert "missing or empty" in wal.inspect_beside(str(database)).damage


def slow_sums(log: bytes, page_size: int, order: str) -> bytes:
    """The log with every checksum as the documentation says, one word after the other."""

    def add(data: bytes, sums: tuple[int, int]) -> tuple[int, int]:
        one, two = sums
        for first, second in struct.iter_unpack(f"{order}II", data):
            one = (one + first + two) % 2**32
            two = (two + second + one) % 2**32
        return one, two

    sums = add(log[:24], (0, 0))
    out = [log[:24], struct.pack(">II", *sums)]
    for place in range(32, len(log), 24 + page_size):
        sums = add(log[place : place + 8] + log[place + 24 : place + 24 + page_size], sums)
        out += [log[place : place + 16], struct.pack(">II", *sums), log[place + 24 : place + 24 + page_size]]
    return b"".join(out)


@pytest.mark.parametrize("page_size", [512, 4096, 65536])
@pytest.mark.parametrize(("magic", "order"), [(0x377F0682, "<"), (0x377F0683, ">")])
@pytest.mark.parametrize("frames", [1, 7, 1025])
def test_checksums_are_those_of_the_documentation(page_size: int, magic: int, order: str, frames: int) -> None:
    """Of machines of either byte order; more frames than are in memory at once where that does not take long."""
    if frames > 7 and page_size > 512:
        frames = 9
    chance = random.Random(page_size)
    salts = chance.randbytes(8)
    head = struct.pack(">IIII", magic, 3007000, page_size, 1) + salts + bytes(8)
    one = [struct.pack(">II", 2, 2) + salts + bytes(8) + chance.randbytes(page_size) for _ in range(frames)]
    # The largest numbers are those that could run over.
    one[-1] = struct.pack(">II", 2, 2) + salts + bytes(8) + b"\xff" * page_size
    log = slow_sums(head + b"".join(one), page_size, order)
    assert wal.inspect(io.BytesIO(log), len(log), page_size, _no_page) == wal.Finding()
    bad = bytearray(log)
    bad[-1] ^= 1
    assert wal.inspect(io.BytesIO(bad), len(log), page_size, _no_page) == UNFINISHED


def _no_page(number: int) -> bytes:
    raise AssertionError("the file is asked only where the header is bad")


# -- in the store


@pytest.fixture
def store_with_log(tmp_path: Path) -> Path:
    """The directory of a store with ten transactions in its log, as a kill leaves it."""
    running, killed = tmp_path / "running", tmp_path / "killed"
    store = SqliteStore(str(running))
    store.open()
    for number in range(10):
        store.apply([Save(number + 1, b"f", b"", 1, b"payload")])
    killed.mkdir()
    for name in ("jobs.db", "jobs.db-wal"):
        (killed / name).write_bytes((running / name).read_bytes())
    store.close()
    return killed


def test_the_store_refuses_a_damaged_log_and_leaves_it_as_it_is(store_with_log: Path) -> None:
    path = store_with_log / "jobs.db-wal"
    change(path, 32 + 3 * FRAME + 100, b"damage")
    raw = path.read_bytes()
    with pytest.raises(StoreError, match=r"is damaged: its write-ahead log is bad at frame") as refused:
        SqliteStore(str(store_with_log)).open()
    assert refused.value.hint == f"farm store check --repair {store_with_log}"
    assert path.read_bytes() == raw


def test_the_store_says_that_its_log_ends_too_soon(store_with_log: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = store_with_log / "jobs.db-wal"
    os.truncate(path, path.stat().st_size - 100)
    store = SqliteStore(str(store_with_log))
    with caplog.at_level(25, "farm.store"):
        store.open()
    assert "ends in an unfinished transaction" in caplog.text
    assert [save.id for save in store.load()] == list(range(1, 10))
    store.close()
