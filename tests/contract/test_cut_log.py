"""What is said of a write-ahead log that ends too early, or is not what it was. A kill leaves the log and its index;
what is done to them here is done to a copy of both."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from farm.broker.effects import Save
from farm.store.check import check
from farm.store.cut import UNFINISHED, missing_of_log
from farm.store.repair import Repaired, repair
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


def change(directory: Path, at: int, content: bytes) -> None:
    with (directory / "jobs.db-wal").open("r+b") as log:
        log.seek(at)
        log.write(content)


def flip(directory: Path, at: int) -> None:
    change(directory, at, bytes([(directory / "jobs.db-wal").read_bytes()[at] ^ 1]))


def said_of(directory: Path, caplog: pytest.LogCaptureFixture) -> tuple[list[str], list[str]]:
    """What a check notes, and what a start of the same says as an error."""
    shutil.copytree(directory, directory.parent / "to start")
    report = check(str(directory))
    assert not any("nothing of it was acknowledged" in note for note in report.notes)
    store = SqliteStore(str(directory.parent / "to start"))
    store.open()
    found = len(list(store.load()))
    store.close()
    assert found == report.jobs < len(JOBS)
    assert not any("nothing of it was acknowledged" in record.getMessage() for record in caplog.records)
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    return report.notes, [error.partition(": ")[2] for error in errors]


@pytest.mark.parametrize("at", [0, 8, 16, FRAME_HEADER, FRAME - 1])
def test_a_bit_of_the_last_frame_is_said(killed: Path, caplog: pytest.LogCaptureFixture, at: int) -> None:
    """Of the log alone it looks as if the power had torn a transaction that nobody was told of."""
    had = (size_of_log(killed) - HEADER) // FRAME
    flip(killed, size_of_log(killed) - FRAME + at)
    notes, errors = said_of(killed, caplog)
    words = f"the write-ahead log is damaged: it has the first {had - 1} frames, and had {had} when it was last written"
    assert [note.partition(";")[0] for note in notes] == [words]
    assert errors == notes


def test_a_repair_says_it_once_more(killed: Path) -> None:
    """There is nothing to repair, and its own look has made the index anew."""
    flip(killed, size_of_log(killed) - 1)
    done, report = repair(str(killed))
    assert done == Repaired()
    assert ["the write-ahead log is damaged: " in note for note in report.notes] == [True]


@pytest.mark.parametrize("from_the_start", [False, True])
def test_a_log_of_zeros_is_said(killed: Path, caplog: pytest.LogCaptureFixture, from_the_start: bool) -> None:
    """The second half of it, as a bad disk reads it, or all."""
    had = (size_of_log(killed) - HEADER) // FRAME
    left = 0 if from_the_start else had // 2
    start = 0 if from_the_start else HEADER + left * FRAME
    change(killed, start, bytes(size_of_log(killed) - start))
    notes, errors = said_of(killed, caplog)
    assert [f"it has the first {left} frames, and had {had} " in note for note in notes] == [True]
    assert errors == notes


def test_a_log_that_is_gone_is_said(killed: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = SqliteStore(str(killed))  # so that its tables are in the file
    store.open()
    for id in JOBS:
        store.apply([Save(100 + id, b"f", b"", 1, b"payload")])
    copy = shutil.copytree(killed, killed.parent / "gone")
    store.close()
    had = (size_of_log(copy) - HEADER) // FRAME
    (copy / "jobs.db-wal").unlink()
    assert missing_of_log(str(copy / "jobs.db")).startswith(
        f"the write-ahead log is missing: it had {had} frames when it was last written; "
    )
    report = check(str(shutil.copytree(copy, copy.parent / "to check")))
    assert [note.partition(":")[0] for note in report.notes] == ["the write-ahead log is missing"]
    assert report.jobs == len(JOBS)
    caplog.clear()
    store = SqliteStore(str(copy))
    store.open()
    store.close()
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert ["the write-ahead log is missing" in error for error in errors] == [True]


@pytest.mark.parametrize("tail", [bytes(FRAME), bytes(100), None])
def test_what_the_index_does_not_know_was_not_acknowledged(
    killed: Path, caplog: pytest.LogCaptureFixture, tail: bytes | None
) -> None:
    """A kill or a power cut in the middle of a commit: nothing is missing."""
    log = (killed / "jobs.db-wal").read_bytes()
    change(killed, len(log), log[-FRAME:] if tail is None else tail)  # with the right salts
    assert missing_of_log(str(killed / "jobs.db")) == ""
    shutil.copytree(killed, killed.parent / "to start")
    report = check(str(killed))
    assert (report.sound, report.jobs) == (True, len(JOBS))
    assert report.notes in ([], [UNFINISHED])
    store = SqliteStore(str(killed.parent / "to start"))
    store.open()
    store.close()
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_after_a_clean_end_nothing_is_said(killed: Path) -> None:
    store = SqliteStore(str(killed))
    store.open()
    store.close()
    for _ in range(2):  # a check makes an index itself
        report = check(str(killed))
        assert (report.sound, report.notes, report.jobs) == (True, [], len(JOBS))


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
