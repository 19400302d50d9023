"""A store file of each version opens for ever (R22), a newer one is refused, a migration is whole or has not been."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from farm.broker.effects import Known, Revive, Save
from farm.store import schema
from farm.store.backup import backup
from farm.store.check import check, sound_ends, sound_jobs
from farm.store.contract import StoreError
from farm.store.place import reading
from farm.store.repair import repair
from farm.store.sqlite import SqliteStore
from tests.contract.stores import make
from tests.support import CHECKOUT

STORES = Path(__file__).parent / "stores"
FILES = sorted(STORES.glob("version-*.db"))
MOMENTS = 8  # of a migration, at which it is killed


def opened(directory: Path, file: Path) -> SqliteStore:
    """A store on a copy of this file."""
    directory.mkdir()
    shutil.copyfile(file, directory / "jobs.db")
    store = SqliteStore(str(directory))
    store.open()
    return store


def is_of_3(file: Path) -> bool:
    """Or newer: it has rows of every table of version 3."""
    return int(file.stem.partition("-")[2]) >= 3


def known_in(file: Path) -> list[Known]:
    """What a server must know besides jobs."""
    if file.stem == "version-3":
        return make.KNOWN
    return make.KNOWN_4 if is_of_3(file) else []


def queued_in(file: Path) -> list[Save]:
    """The jobs of a file, in order."""
    return sorted([*make.QUEUED, *(make.ALSO_QUEUED if is_of_3(file) else [])])


def version(directory: Path) -> int:
    """Of the file, whoever may have it open."""
    database = sqlite3.connect(directory / "jobs.db")
    (number,) = database.execute("PRAGMA user_version").fetchone()
    database.close()
    return int(number)


def test_there_is_a_file_of_each_version() -> None:
    """Whoever adds a migration checks one in: tests/contract/stores/make.py."""
    assert [path.name for path in FILES] == [f"version-{n}.db" for n in range(1, schema.VERSION + 1)]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_opens_and_is_exact(file: Path, tmp_path: Path) -> None:
    """Queued, delayed, unique, binary and ended jobs, and the next handles are new."""
    store = opened(tmp_path / "s", file)
    queued = queued_in(file)
    assert list(store.known()) == known_in(file)
    assert list(store.load()) == queued
    assert [store.ended(end.id) for _, end in make.ENDED] == [end for _, end in make.ENDED]
    for save, end in make.ALSO_ENDED if is_of_3(file) else []:
        assert store.ended(end.id) == end
        assert [store.attempts(save.id) for save in make.ALSO_QUEUED[:1]] == [make.ATTEMPTS[:1]]
        assert store.attempts(end.id) == make.ATTEMPTS[1:]
    assert [past.id for past in store.past(10, outcomes=("failed",))][-1] == make.ENDED[1][1].id
    shard = store._shard
    assert shard not in {save.id >> 40 for save in make.QUEUED}
    store.close()
    assert version(tmp_path / "s") == schema.VERSION
    again = SqliteStore(str(tmp_path / "s"))
    assert again.open() == shard + 1
    assert list(again.load()) == queued
    again.close()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_what_ended_in_an_older_version_can_be_run_again(file: Path, tmp_path: Path) -> None:
    store = opened(tmp_path / "s", file)
    save, end = make.ENDED[1]
    store.apply([Revive(end.id)])
    assert save in list(store.load())
    store.close()
    assert check(str(tmp_path / "s")).sound


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_is_read_as_it_is(file: Path, tmp_path: Path) -> None:
    """A check, an export and a backup look at a store that no server of this version has opened, and leave it so."""
    directory = tmp_path / "s"
    directory.mkdir()
    shutil.copyfile(file, directory / "jobs.db")
    report = check(str(directory))
    assert report.sound, report
    assert report.jobs == len(queued_in(file))
    with reading(str(directory)) as database:
        assert list(sound_jobs(database, [])) == queued_in(file)
        assert [end for _, end in sound_ends(database, [])][:3] == [end for _, end in make.ENDED]
    assert backup(str(directory), str(tmp_path / "copy")).jobs == report.jobs
    assert version(directory) == int(file.stem.partition("-")[2])


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_damaged_one_is_repaired(file: Path, tmp_path: Path) -> None:
    """What can be read of it is in a file of this version."""
    directory = tmp_path / "s"
    directory.mkdir()
    shutil.copyfile(file, directory / "jobs.db")
    with closing(sqlite3.connect(directory / "jobs.db")) as database:
        query = "SELECT rootpage FROM sqlite_schema WHERE name LIKE 'sqlite_autoindex_ended%'"
        (page,) = database.execute(query).fetchone()
    content = bytearray((directory / "jobs.db").read_bytes())
    content[(page - 1) * 4096 + 8 : page * 4096] = bytes(4096 - 8)
    (directory / "jobs.db").write_bytes(content)
    done, report = repair(str(directory))
    assert done.kept_as
    assert report.sound
    store = SqliteStore(str(directory))
    store.open()
    assert list(store.known()) == known_in(file)
    assert list(store.load()) == queued_in(file)
    assert [store.ended(end.id) for _, end in make.ENDED] == [end for _, end in make.ENDED]
    store.close()


def test_a_schema_that_cannot_be_read_is_damage(tmp_path: Path) -> None:
    """SQLite repeats in its words what it cannot read, and that is no UTF-8."""
    opened(tmp_path / "s", FILES[-1]).close()
    path = tmp_path / "s" / "jobs.db"
    path.write_bytes(path.read_bytes().replace(b"CREATE TABLE progress", b"CREATE T\xa0BLE progress"))
    with pytest.raises(StoreError, match="malformed database schema") as caught:
        SqliteStore(str(tmp_path / "s")).open()
    assert (caught.value.status, caught.value.hint[:24]) == (65, "farm store check --repair"[:24])
    assert "malformed database schema" in check(str(tmp_path / "s")).faults
    done, report = repair(str(tmp_path / "s"))
    assert report.sound
    assert "entries of progress" in done.lost
    store = SqliteStore(str(tmp_path / "s"))
    store.open()
    assert list(store.load()) == queued_in(FILES[-1])
    store.close()


def test_a_newer_store_is_refused_and_not_touched(tmp_path: Path) -> None:
    """With both versions in one line, and the exit code of data that cannot be read."""
    opened(tmp_path / "s", FILES[-1]).close()
    path = tmp_path / "s" / "jobs.db"
    database = sqlite3.connect(path)
    database.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    database.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match=f"newer farm .schema {schema.VERSION + 1}; this one knows {schema.VERSION}"):
        SqliteStore(str(tmp_path / "s")).open()
    assert path.read_bytes() == before
    for argv in (["server", "--listen", "127.0.0.1:0", "--store"], ["store", "check"], ["store", "export"]):
        done = subprocess.run(
            [CHECKOUT / "bin/farm", *argv, tmp_path / "s"], capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 65, done.stderr
        assert re.search(r"^farm: error: .*newer farm", done.stderr, re.M), done.stderr


def migrate(directory: Path, fatal: int, *words: str) -> int:
    """In a process (migrating.py) that dies at this step. Returns how many there were; 0: it has died."""
    argv = [sys.executable, "-P", "-m", "tests.contract.migrating", str(directory), str(fatal), *words]
    done = subprocess.run(argv, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(CHECKOUT)}, timeout=60)
    assert done.returncode in (0, -signal.SIGKILL)
    return int(done.stdout or 0)


def columns_of(directory: Path) -> str:
    """Those of a job, as a file has them."""
    with closing(sqlite3.connect(directory / "jobs.db")) as database:
        return ", ".join(name for (_, name, *_) in database.execute("PRAGMA table_info(job)"))


def must_be_whole(directory: Path, old: Path, words: Sequence[str]) -> None:
    """It is of the one version or of the other, and no row is missing."""
    before, new = version(old), schema.VERSION + ("made-up" in words)
    database = sqlite3.connect(directory / "jobs.db")
    assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    (found,) = database.execute("PRAGMA user_version").fetchone()
    tables = {name for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    columns = {name for (_, name, *_) in database.execute("PRAGMA table_info(job)")}
    columns_before = columns_of(old) if before else "*"
    rows = database.execute(f"SELECT {columns_before} FROM job ORDER BY id").fetchall() if found else []
    made_up = found > schema.VERSION
    sizes = (
        database.execute(f"SELECT {'attempts' if made_up else '0'}, length(payload) FROM job").fetchall()
        if found
        else []
    )
    database.close()
    assert found in (before, new)
    assert ("job" in tables) == (found >= 1)
    assert ("imported" in tables) == (found >= 2)
    assert ("made_up" in tables) == ("attempts" in columns) == (found > schema.VERSION)
    with contextlib.closing(sqlite3.connect(old / "jobs.db")) as database:
        wanted = database.execute("SELECT * FROM job ORDER BY id").fetchall() if before else []
    assert rows == wanted
    assert all(attempts == (size if made_up else 0) for attempts, size in sizes)


def killed(tmp_path: Path, *words: str) -> None:
    """Migrate `tmp_path / "old"` and die at several of its steps, from the first to the last; then do it again."""
    old = tmp_path / "old"

    def copy(name: str) -> Path:
        return Path(shutil.copytree(old, tmp_path / name))

    steps = migrate(copy("whole"), 0, *words)
    must_be_whole(tmp_path / "whole", old, words)
    for fatal in sorted({1 + (steps - 1) * n // (MOMENTS - 1) for n in range(MOMENTS)}):
        directory = copy(str(fatal))
        assert not migrate(directory, fatal, *words)
        must_be_whole(directory, old, words)
        assert migrate(directory, 0, *words), "and it is done the next time"
        assert version(directory) == version(tmp_path / "whole") == schema.VERSION + ("made-up" in words)


def full_store(directory: Path) -> None:
    """Of the newest version, with some MB of jobs."""
    store = SqliteStore(str(directory))
    store.open()
    store.apply([Save(1 << 40 | n, b"f", b"", 1, b"%05d" % n * 100) for n in range(1, 4001)])
    store.close()


def test_killed_while_a_new_file_is_made(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "jobs.db").touch()
    killed(tmp_path)


@pytest.mark.parametrize("file", FILES[:-1], ids=lambda file: file.stem)
def test_killed_in_a_migration(file: Path, tmp_path: Path) -> None:
    """Of each older version, as it was checked in."""
    (tmp_path / "old").mkdir()
    shutil.copyfile(file, tmp_path / "old" / "jobs.db")
    killed(tmp_path)


@pytest.mark.slow
def test_killed_in_a_migration_that_changes_everything(tmp_path: Path) -> None:
    """There is none yet: a made-up one."""
    full_store(tmp_path / "old")
    killed(tmp_path, "made-up")


@pytest.mark.parametrize("file", FILES[:-1], ids=lambda file: file.stem)
def test_a_migration_in_pieces_is_noticed(file: Path, tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    shutil.copyfile(file, tmp_path / "old" / "jobs.db")
    with pytest.raises(AssertionError, match="assert"):
        killed(tmp_path, "mutant")


@pytest.mark.slow
def test_one_in_pieces_that_changes_everything_is_noticed(tmp_path: Path) -> None:
    full_store(tmp_path / "old")
    with pytest.raises(AssertionError, match="assert"):
        killed(tmp_path, "mutant", "made-up")
