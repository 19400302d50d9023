"""What is said of a write-ahead log that ends too early. A kill leaves the log and its index; what is done to them here
is done to a copy of both."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from farm.broker.effects import Save
from farm.store.check import check
from farm.store.cut import UNFINISHED, missing_of_log
from farm.store.sqlite import SqliteStore
from farm.store.wal import FRAME_HEADER, HEADER

FRAME = FRAME_HEADER + 4096
JOBS = range(1, 21)


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """The directory of a server that was killed."""
    store = SqliteStore(str(tmp_path / "store"))
    store.open()
    for id in JOBS:
        store.apply([Save(id, b"f", b"", 1, b"payload")])
    shutil.copytree(tmp_path / "store", tmp_path / "killed")
    store.close()
    return tmp_path / "killed"


def cut(directory: Path, size: int) -> None:
    with (directory / "jobs.db-wal").open("r+b") as log:
        log.truncate(size)


def size_of_log(directory: Path) -> int:
    return (directory / "jobs.db-wal").stat().st_size


def test_of_a_kill_nothing_is_said(killed: Path) -> None:
    report = check(str(killed))
    assert (report.sound, report.notes, report.jobs) == (True, [], len(JOBS))


@pytest.mark.parametrize("frames", [0, 3, 5])
def test_a_log_that_was_cut_off_between_frames_is_said(killed: Path, frames: int) -> None:
    """Behind a transaction or within one: the index knows better."""
    had = (size_of_log(killed) - HEADER) // FRAME
    cut(killed, HEADER + (had - frames) * FRAME)
    report = check(str(killed))
    assert report.sound
    words = f"the write-ahead log is cut off: it has {had - frames} frames, and had {had} when it was last written; "
    assert [note.startswith(words) for note in report.notes] == [True] * bool(frames)
    assert report.jobs == len(JOBS) if not frames else report.jobs < len(JOBS)


def test_so_it_is_where_nothing_is_left_of_it(killed: Path) -> None:
    cut(killed, 0)
    (note,) = check(str(killed)).notes
    assert "it has 0 frames" in note


def test_the_start_says_it_too(killed: Path, caplog: pytest.LogCaptureFixture) -> None:
    cut(killed, HEADER + FRAME)
    store = SqliteStore(str(killed))
    store.open()
    store.close()
    said = [record.levelname for record in caplog.records if "cut off: it has 1 frames" in record.getMessage()]
    assert said == ["ERROR"]


def test_without_its_index_only_the_middle_of_a_transaction_shows(killed: Path) -> None:
    (killed / "jobs.db-shm").unlink()
    cut(killed, size_of_log(killed) - 100)
    report = check(str(killed))
    assert (report.sound, report.notes) == (True, [UNFINISHED])


def test_what_is_in_the_file_already_is_not_missing(killed: Path) -> None:
    """All of the log was copied, and it may go."""
    store = SqliteStore(str(killed))
    store.open()
    store.apply([Save(99, b"f", b"", 1, b"payload")])
    store._opened().execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    copy = killed.parent / "copied"
    shutil.copytree(killed, copy)
    store.close()
    assert size_of_log(copy) > HEADER
    cut(copy, 0)
    assert missing_of_log(str(copy / "jobs.db")) == ""
    assert check(str(copy)).jobs == len(JOBS) + 1


def test_an_index_of_another_use_of_the_log_says_nothing(killed: Path) -> None:
    log = bytearray((killed / "jobs.db-wal").read_bytes())
    index = bytearray((killed / "jobs.db-shm").read_bytes())
    for at in (32, 32 + 48):  # the salts, in both copies
        index[at] ^= 1
    (killed / "jobs.db-shm").write_bytes(index)
    (killed / "jobs.db-wal").write_bytes(log[: HEADER + FRAME])
    assert missing_of_log(str(killed / "jobs.db")) == ""
