"""What only the SQLite store has to keep: lists of the past cost little, damage is said, sizes stay right."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from farm.broker.effects import (
    Attempt,
    CronRow,
    Expire,
    Finish,
    Known,
    Progress,
    Purge,
    Revive,
    Save,
    Setting,
    UniqueUntil,
    Usage,
)
from farm.store import past as queries
from farm.store.check import check
from farm.store.repair import repair
from farm.store.sqlite import SqliteStore
from tests.contract.suite_life import failed, job


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(str(tmp_path / "store"), reserve=0)
    store.open()
    yield store
    store.close()


def bytes_read() -> int:
    """By this process, from files."""
    return int(Path("/proc/self/io").read_text().split()[1])


def size_of_ended(store: SqliteStore) -> tuple[int, int]:
    """As it is counted, and as it is."""
    assert store._tables
    (size,) = store._opened().execute("SELECT ifnull(sum(size), 0) FROM ended").fetchone()
    return store._tables.ended_size, size


def test_what_jobs_wrote_is_not_read_for_a_list(store: SqliteStore) -> None:
    """Nor are their payloads: 90 MB."""
    large, ids = bytes(1_000_000), range(1, 31)
    for id in ids:
        store.apply([Save(id, b"f", b"", 1, large), Finish(id, "failed", 1.0, 2.0, result=large, log=large)])
    store.close()
    store.open()
    before = bytes_read()
    found = store.past(100, function=b"f", outcomes=("failed",))
    assert len(store.past(100)) == len(found) == len(ids)
    assert store.about(7) in found
    assert bytes_read() - before < 1_000_000
    assert {(one.result_size, one.log_size, one.payload_size) for one in found} == {(len(large),) * 3}


@pytest.mark.parametrize(
    ("function", "outcomes", "index"),
    [
        (b"f", (), "ended_function"),
        (b"f", ("failed", "lost"), "ended_outcome"),
        (b"", ("failed",), "ended_outcome"),
        (b"f", ("done", "failed"), "ended_function"),
        (b"", ("done",), ""),
        (b"", (), ""),
    ],
)
def test_nothing_is_sorted_for_a_list(
    store: SqliteStore, function: bytes, outcomes: tuple[str, ...], index: str
) -> None:
    """It is found in order, by an index or by the table itself, so that its first rows cost as little as they are. What
    is looked up for some of them is found by an index too."""
    for query, values in queries._searches(9, function, outcomes):
        plan = [row[3] for row in store._opened().execute(f"EXPLAIN QUERY PLAN {query}", values)]
        assert [step for step in plan[1:] if not step.startswith("SEARCH attempt USING COVERING INDEX ")] == [
            "CORRELATED SCALAR SUBQUERY 1"
        ], plan
        assert f"USING INDEX {index} (" in plan[0] if index else "USING INTEGER PRIMARY KEY" in plan[0], plan


def test_the_search_for_what_is_new_ends(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """But one end whose clock was wrong does not end it."""
    monkeypatch.setattr(queries, "ENDED_BEFORE_MAX", 10)
    for id in range(1, 101):
        at = 1.0 if id == 95 else 1000.0 + id
        store.apply([Save(id, b"f", b"", 1, b"", created=5000.0 if id == 1 else at - 1), Finish(id, "done", 0.0, at)])
    assert [one.id for one in store.past(100, since=1090.0)] == [100, 99, 98, 97, 96, 94, 93, 92, 91]


def test_sizes_stay_right(store: SqliteStore) -> None:
    """Whatever comes in one batch, and when a batch is done again for want of room."""
    ids = range(1, 9)
    attempts = [Attempt(id, 1, 1.0, 2.0, "failed", log=b"x" * id) for id in ids]
    store.apply([*map(job, ids), *attempts[:4], *map(failed, ids), *map(failed, ids), *attempts, Purge(1), Revive(2)])
    assert size_of_ended(store) == (size_of_ended(store)[1],) * 2
    changes = [Purge(3), failed(2), Revive(4), failed(4), Revive(5), Finish(99, "done", 1.0, 2.0), job(10), failed(10)]
    store.write(changes)
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    store._with_ballast(error, changes)
    store.commit()
    assert size_of_ended(store) == (size_of_ended(store)[1],) * 2
    assert store.attempts(2)[0].log == b"xx", "what was kept before stays"
    store.apply([Expire(0.0, 500, now=20.0)])
    counted, there = size_of_ended(store)
    assert counted == there <= 500
    assert [save.id for save in store.load()] == [5]


def test_without_room_no_log_of_an_attempt_is_kept(store: SqliteStore) -> None:
    store._drop_ballast()
    attempt = Attempt(1, 1, 1.0, 2.0, "failed", log=b"log")
    store.apply([job(1), attempt])
    assert store.attempts(1) == [attempt._replace(log=b"")]


def test_what_said_how_long_does_not_hold_up_the_others(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Although there are more of them, at the front, than are dropped at once; and they are looked through once."""
    monkeypatch.setattr("farm.store.tables.EXPIRED_AT_ONCE_MAX", 5)
    store.apply([job(id) for id in range(1, 41)])
    store.apply([failed(id, 1.0, keep_s=1e6) for id in range(1, 21)])
    store.apply([failed(id, 2.0) for id in range(21, 24)])
    store.apply([Expire(50.0, 10**6, now=100.0)])
    assert store.ended_ids(1, 99, 99) == list(range(20, 0, -1))
    store.apply([Expire(50.0, 10**6, now=100.0)])
    assert store._tables
    assert store._tables._plain_from == 21
    store.apply([Purge(id) for id in range(10, 21)])  # so that numbers come again
    store.apply([failed(id, 3.0) for id in range(24, 27)])
    store.apply([Expire(50.0, 10**6, now=100.0)])
    assert store.ended_ids(1, 99, 99) == list(range(9, 0, -1))


EVERYTHING: list[Known] = [
    Progress(1, 1),
    Setting(b"f", b"paused=1"),
    UniqueUntil(b"f", b"k", 1, 5e9),
    CronRow(b"nightly", b"{}", b"payload"),
]


@pytest.mark.parametrize(
    ("table", "column", "gone", "words"),
    [
        ("progress", "attempts", [0], "how far job H:0:1 has come"),
        ("setting", "words", [1], "the settings of function f"),
        ("unique_until", "until", [2], "a key of function f"),
        ("cron", "words", [3], "cron entry nightly"),
        ("cron_payload", "payload", [3], "the payload of cron entry nightly"),
        ("attempt", "log", [], "an attempt of job H:0:1"),
    ],
)
def test_a_damaged_row_is_said_and_not_used(
    table: str, column: str, gone: list[int], words: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """By the server, which leaves it, by a check, and a repair puts it aside."""
    caplog.set_level(logging.ERROR, "farm.store")
    directory = str(tmp_path / "store")
    store = SqliteStore(directory, reserve=0)
    store.open()
    store.apply([job(1), Attempt(1, 1, 1.0, 2.0, "failed"), *EVERYTHING])
    store.close()
    with closing(sqlite3.connect(tmp_path / "store" / "jobs.db")) as database:
        wrong = {"attempts": 7, "until": 6e9}.get(column, b"wrong")
        assert database.execute(f"UPDATE {table} SET {column} = ?", (wrong,)).rowcount == 1
        database.commit()
    left = [row for n, row in enumerate(EVERYTHING) if n not in gone]
    store.open()
    assert list(store.known()) == left
    assert store.attempts(1) == ([] if table == "attempt" else [Attempt(1, 1, 1.0, 2.0, "failed")])
    store.close()
    assert words in caplog.text
    report = check(directory)
    assert [damage.table for damage in report.damaged] == [table]
    done, report = repair(directory)
    assert (done.aside[0].table, report.sound, report.aside) == (table, True, 1)
    store.open()
    assert list(store.known()) == left
    store.close()


def test_a_damaged_end_is_not_run_again(store: SqliteStore, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What would run is not what was submitted."""
    store.apply([job(1), failed(1)])
    store.close()
    with closing(sqlite3.connect(tmp_path / "store" / "jobs.db")) as database:
        database.execute("UPDATE ended SET payload = x'00'")
        database.commit()
    assert [damage.table for damage in check(str(tmp_path / "store")).damaged] == ["ended"]
    store.open()
    store.apply([Revive(1)])
    assert list(store.load()) == []
    assert store.about(1) is not None
    assert "the ended job H:0:1 is damaged" in caplog.text


def test_what_was_used_is_not_put_into_a_damaged_row(store: SqliteStore) -> None:
    """It would be given a checksum that is right."""
    attempt = Attempt(1, 1, 1.0, 2.0, "timeout")
    store.apply([job(1), attempt, failed(1), job(2), failed(2)])
    store._opened().execute("UPDATE ended SET log = x'ff' WHERE id = 1")
    store._opened().execute("UPDATE attempt SET log = x'ff' WHERE id = 1")
    before = size_of_ended(store)
    store.apply([Usage(1, 2, 0.5, 7), Usage(1, 1, 0.5, 7), Usage(2, 2, 0.5, 7)])
    assert [row for (row,) in store._opened().execute("SELECT cpu_s FROM ended ORDER BY id")] == [-1.0, 0.5]
    assert store.attempts(1) == []
    assert size_of_ended(store) == before
