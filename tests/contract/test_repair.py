"""What a repair says of pages that SQLite can read though they are damaged. Commands: tests/cli/test_store.py."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from farm.broker.effects import Finish, Save
from farm.store.check import check
from farm.store.repair import repair
from farm.store.sqlite import SqliteStore

PAGE = 4096
LEAF = 13  # the first byte of a page of a table's rows
JOBS = range(1, 201)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file of a store with jobs, one of them ended."""
    store = SqliteStore(str(tmp_path))
    store.open()
    store.apply([Save(id, b"f", b"", 1, b"payload %d" % id) for id in JOBS])
    store.apply([Finish(1, "failed", 0.0, 1.0)])
    store.close()
    return tmp_path / "jobs.db"


def root_of(path: Path, name: str) -> int:
    """Where the page begins that a table or an index has its root in."""
    with closing(sqlite3.connect(path)) as database:
        (page,) = database.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (name,)).fetchone()
    return (int(page) - 1) * PAGE


def leaf_of_jobs(content: bytes) -> int:
    """Where a page begins that has jobs in it."""
    return next(
        at for at in range(0, len(content), PAGE) if content[at] == LEAF and b"payload 100" in content[at:][:PAGE]
    )


def jobs_in(directory: Path) -> set[int]:
    store = SqliteStore(str(directory))
    store.open()
    try:
        return {save.id for save in store.load()}
    finally:
        store.close()


def test_a_row_that_is_gone_without_a_trace_is_said(path: Path) -> None:
    """The page says that it has one fewer."""
    content = bytearray(path.read_bytes())
    content[leaf_of_jobs(content) + 4] -= 1
    path.write_bytes(content)
    faults = check(str(path.parent)).faults
    assert faults
    assert not any(fault.startswith("***") for fault in faults), "a line that says nothing"
    done, report = repair(str(path.parent))
    assert report.sound
    assert len(set(JOBS) - {1} - jobs_in(path.parent)) == 1
    (words,) = done.lost
    assert words == f"rows that leave no trace, if there were any on damaged pages: {faults[0]}"


def test_where_only_an_index_is_damaged_nothing_is_lost(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA writable_schema = ON")
        database.execute(
            "UPDATE sqlite_schema SET sql = replace(sql, '(function)', '(worker)') WHERE name = 'ended_function'"
        )
        database.commit()
    assert check(str(path.parent)).faults
    done, report = repair(str(path.parent))
    assert (report.sound, done.lost, done.aside) == (True, [], [])
    assert jobs_in(path.parent) == set(JOBS) - {1}


def test_a_schema_of_which_a_part_can_be_read_hides_no_table(path: Path) -> None:
    """Its root has pages below it, and one of them is damaged."""
    content = bytearray(path.read_bytes())
    assert content[100] == 5, "the schema has one page only"
    last = int.from_bytes(content[108:112], "big")  # the page with the last of it
    content[(last - 1) * PAGE : last * PAGE] = bytes(PAGE)
    path.write_bytes(content)
    done, report = repair(str(path.parent))
    assert report.sound
    assert done.lost
    assert jobs_in(path.parent) == set(JOBS) - {1}
