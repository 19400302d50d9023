"""What `farm store check --repair` makes of a damaged write-ahead log: what later transactions hold is there, what is
not is said, and nothing of a transaction that was not committed."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from farm.broker.effects import Change, Finish, Revive, Save
from farm.store import replay, wal
from farm.store.repair import REPLAYED, UNFINISHED, repair
from farm.store.sqlite import SqliteStore

FRAME = wal.FRAME_HEADER + 4096
TRANSACTIONS = 60
FUNCTION = b"f"


class Written(NamedTuple):
    """A store as a killed server left it: files, jobs that have not ended, ended ones; and the frames at which its
    transactions end, all of them in the log."""

    files: dict[str, bytes]
    jobs: dict[int, Save]
    ended: set[int]
    ends: list[int]

    @property
    def frames(self) -> int:
        """How many there are."""
        return self.ends[-1] + 1


def story(directory: Path, last: list[Change] | None = None) -> Written:
    """Jobs of all sizes, each in a transaction of its own; every third one ends a few transactions later, badly, and
    some of those are run again. last: one more transaction, of which the jobs are not among those that there are."""
    chance = random.Random(5)
    jobs: dict[int, Save] = {}
    ended: set[int] = set()
    store = SqliteStore(str(directory), reserve=0)
    store.open()
    for id in range(1, TRANSACTIONS + 1):
        changes: list[Change] = [Save(id, FUNCTION, b"", 1, chance.randbytes(chance.choice((20, 300, 6000))))]
        jobs[id] = changes[0]  # type: ignore[assignment]
        if id % 3 == 0:
            other = chance.choice(sorted(jobs))
            changes.append(Finish(other, "failed", 0.0, float(id)))
            jobs.pop(other)
            ended.add(other)
        store.apply(changes)
    if last:
        store.apply(last)
    files = {name: (directory / name).read_bytes() for name in ("jobs.db", "jobs.db-wal")}
    store.close()
    log = files["jobs.db-wal"]
    frames = range((len(log) - wal.HEADER) // FRAME)
    ends = [index for index in frames if log[wal.HEADER + index * FRAME + 4 :][:4] != bytes(4)]
    assert len(ends) == TRANSACTIONS + 1 + bool(last)  # the first is the store's own
    return Written(files, jobs, ended, ends)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return story(tmp_path_factory.mktemp("written") / "store")


class Found(NamedTuple):
    """What a repaired store has, and what the repair has said."""

    jobs: dict[int, Save]
    ended: set[int]
    lost: list[str]
    aside: int


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """In memory where that is possible: each of these repairs syncs a lot."""
    where = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else tmp_path
    directory = where / f"farm-replay-{os.getpid()}"
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


def repaired(directory: Path, files: dict[str, bytes]) -> Found:
    """Repair a store of these files, and open it."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(mode=0o700)
    for name, content in files.items():
        (directory / name).write_bytes(content)
    done, report = repair(str(directory))
    assert report.sound
    assert not {REPLAYED, UNFINISHED} & set(os.listdir(directory))
    with closing(sqlite3.connect(directory / "jobs.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        ended = {id for (id,) in database.execute("SELECT id FROM ended")}
    store = SqliteStore(str(directory), reserve=0)
    store.open()
    jobs = {save.id: save for save in store.load()}
    store.close()
    return Found(jobs, ended, done.lost, len(done.aside))


def damaged(written: Written, *places: int) -> dict[str, bytes]:
    """With a bit turned at each of these places of the log."""
    log = bytearray(written.files["jobs.db-wal"])
    for place in places:
        log[place] ^= 4
    return written.files | {"jobs.db-wal": bytes(log)}


def in_page(frame: int, at: int = 1000) -> int:
    """A place of the log."""
    return wal.HEADER + frame * FRAME + wal.FRAME_HEADER + at


def must_be_fair(written: Written, found: Found) -> None:
    """Nothing altered, nothing twice, nothing that nobody wrote; and what is missing was said."""
    assert all(written.jobs.get(id, save) == save for id, save in found.jobs.items())
    assert found.jobs.keys() | found.ended <= written.jobs.keys() | written.ended
    assert not found.jobs.keys() & found.ended
    if found.jobs != written.jobs or found.ended != written.ended:
        assert found.lost


def page_of(written: Written, frame: int) -> int:
    """The page that a frame is of."""
    head = written.files["jobs.db-wal"][wal.HEADER + frame * FRAME :]
    return int.from_bytes(head[:4], "big")


def frames_with_a_later_one(written: Written) -> list[int]:
    """Those whose page a later transaction writes again."""
    last = {page_of(written, frame): frame for frame in range(written.frames)}
    return [frame for frame in range(written.ends[-2]) if last[page_of(written, frame)] > frame]


def test_what_a_later_transaction_has_is_not_lost(written: Written, scratch: Path) -> None:
    """Most of what is damaged is of that kind."""
    frames = frames_with_a_later_one(written)
    assert len(frames) > written.frames // 2
    for frame in frames[:: max(1, len(frames) // 30)]:
        found = repaired(scratch, damaged(written, in_page(frame)))
        assert found.jobs == written.jobs, frame
        assert found.ended == written.ended
        words = f"frame {frame + 1} of the write-ahead log: a later one has its page, {page_of(written, frame)}"
        assert found.lost == [words]


def test_what_no_other_has_is_said(written: Written, scratch: Path) -> None:
    """All the other pages are there."""
    again = set(frames_with_a_later_one(written))
    frames = [frame for frame in range(1, written.ends[-2]) if frame not in again]
    missing = 0
    for frame in frames[:: max(1, len(frames) // 15)]:
        found = repaired(scratch, damaged(written, in_page(frame)))
        must_be_fair(written, found)
        (words,) = [words for words in found.lost if words.startswith("frame")]
        assert words.endswith(f"its page, {page_of(written, frame)}, is older than the others")
        missing += len(written.jobs.keys() - found.jobs.keys())
        assert len(found.jobs.keys() & written.jobs.keys()) > len(written.jobs) // 2
    assert missing > 0


def test_any_damage_of_a_log_is_fair(written: Written, scratch: Path) -> None:
    """One to three bits, in headers and pages."""
    chance = random.Random(7)
    for _ in range(60):
        places = [chance.randrange(wal.HEADER, in_page(written.ends[-4])) for _ in range(chance.randint(1, 3))]
        if chance.random() < 0.5:
            places[0] = wal.HEADER + chance.randrange(written.ends[-4]) * FRAME + chance.randrange(wal.FRAME_HEADER)
        must_be_fair(written, repaired(scratch, damaged(written, *places)))


def test_a_damaged_header_loses_nothing(written: Written, scratch: Path) -> None:
    for place in (0, 9, 17, 26):
        found = repaired(scratch, damaged(written, place))
        assert (found.jobs, found.ended) == (written.jobs, written.ended), place
        must_be_fair(written, found)


def test_what_was_copied_into_the_file_before_is_not_made_older(written: Written, tmp_path: Path) -> None:
    """An older frame of the damaged one's page must not take its place."""
    directory = tmp_path / "copied"
    directory.mkdir()
    for name, content in written.files.items():
        (directory / name).write_bytes(content)
    with closing(sqlite3.connect(directory / "jobs.db")) as database:
        database.execute("PRAGMA wal_checkpoint(PASSIVE)")
        copied = (directory / "jobs.db").read_bytes()
    assert copied != written.files["jobs.db"]
    last = {page_of(written, frame): frame for frame in range(written.frames)}
    frame = max(frame for frame in last.values() if frame < written.ends[-4])
    found = repaired(tmp_path / "s", damaged(written, in_page(frame)) | {"jobs.db": copied})
    assert (found.jobs, found.ended, found.lost) == (written.jobs, written.ended, [])


def torn(directory: Path) -> tuple[Written, dict[str, bytes]]:
    """Damaged in an early transaction, and the last one is one that a power cut tore: a middle sector of it has not
    reached the disk."""
    last: list[Change] = [Save(1000 + n, FUNCTION, b"", 1, bytes([n]) * 3000) for n in range(5)]
    written = story(directory, last)
    frames = range(written.ends[-2] + 1, written.frames)
    assert len(frames) > 4
    return written, damaged(written, in_page(frames_with_a_later_one(written)[10]), in_page(frames[2]))


def test_nothing_of_a_transaction_that_was_torn_is_there(tmp_path: Path) -> None:
    written, files = torn(tmp_path / "story")
    found = repaired(tmp_path / "s", files)
    assert (found.jobs, found.ended) == (written.jobs, written.ended)
    assert found.lost[-1] == "the last transaction of the write-ahead log, of which not all is there"


def test_it_notices_a_replay_of_what_was_torn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each transaction is taken as soon as it has an end."""

    class Hasty(replay.Taken):
        def __init__(self, frames: object, salts: wal.Pair) -> None:
            super().__init__((frame._replace(sound=True, salts=salts) for frame in frames), salts)  # type: ignore[attr-defined]

    monkeypatch.setattr(replay, "Taken", Hasty)
    with pytest.raises(AssertionError):
        test_nothing_of_a_transaction_that_was_torn_is_there(tmp_path)


def test_it_notices_a_repair_that_stops_at_the_first_bad_frame(
    written: Written, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As SQLite does, and as it was."""

    class Short(replay.Taken):
        def __init__(self, frames: object, salts: wal.Pair) -> None:
            before = []
            for frame in frames:  # type: ignore[attr-defined]
                if not frame.sound:
                    break
                before.append(frame)
            super().__init__(before, salts)

    monkeypatch.setattr(replay, "Taken", Short)
    with pytest.raises(AssertionError):
        test_what_a_later_transaction_has_is_not_lost(written, scratch)


def test_a_job_that_is_there_as_well_as_its_end_does_not_run_again(tmp_path: Path) -> None:
    """A page of the one is older than that of the other. The row is put aside."""
    store = SqliteStore(str(tmp_path / "s"), reserve=0)
    store.open()
    store.apply([Save(id, FUNCTION, b"", 1, b"payload %d" % id) for id in (1, 2)])
    store.apply([Finish(1, "failed", 0.0, 1.0)])
    with closing(sqlite3.connect(tmp_path / "s" / "jobs.db", isolation_level=None)) as database:
        (row,) = database.execute("SELECT * FROM job").fetchall()
        store.apply([Revive(1)])
        back = database.execute("SELECT * FROM job WHERE id = 1").fetchall()
        store.apply([Finish(1, "failed", 0.0, 1.0)])
        database.execute(f"INSERT INTO job VALUES ({', '.join('?' * len(row))})", *back)
    store.close()
    files = {"jobs.db": (tmp_path / "s" / "jobs.db").read_bytes()}
    with closing(sqlite3.connect(tmp_path / "s" / "jobs.db")) as database:
        query = "SELECT rootpage FROM sqlite_schema WHERE name LIKE 'sqlite_autoindex_ended%'"
        (page,) = database.execute(query).fetchone()
    content = bytearray(files["jobs.db"])
    content[(page - 1) * 4096 + 8 : page * 4096] = bytes(4096 - 8)
    found = repaired(tmp_path / "again", {"jobs.db": bytes(content)})
    assert (found.jobs.keys(), found.ended, found.aside) == ({2}, {1}, 1)
