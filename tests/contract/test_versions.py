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
from pathlib import Path

import pytest

from farm.broker.effects import Save
from farm.store import schema
from farm.store.contract import StoreError
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
    assert list(store.load()) == make.QUEUED
    assert [store.ended(end.id) for _, end in make.ENDED] == [end for _, end in make.ENDED]
    shard = store._shard
    assert shard not in {save.id >> 40 for save in make.QUEUED}
    store.close()
    assert version(tmp_path / "s") == schema.VERSION
    again = SqliteStore(str(tmp_path / "s"))
    assert again.open() == shard + 1
    assert list(again.load()) == make.QUEUED
    again.close()


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


def must_be_whole(directory: Path, old: Path, words: Sequence[str]) -> None:
    """It is of the one version or of the other, and no row is missing."""
    before, new = version(old), schema.VERSION + ("made-up" in words)
    database = sqlite3.connect(directory / "jobs.db")
    assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    (found,) = database.execute("PRAGMA user_version").fetchone()
    tables = {name for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    columns = {name for (_, name, *_) in database.execute("PRAGMA table_info(job)")}
    rows = database.execute("SELECT * FROM job ORDER BY id").fetchall() if found else []
    database.close()
    assert found in (before, new)
    assert ("job" in tables) == (found >= 1)
    assert ("imported" in tables) == (found >= 2)
    assert ("made_up" in tables) == ("attempts" in columns) == (found > schema.VERSION)
    with contextlib.closing(sqlite3.connect(old / "jobs.db")) as database:
        wanted = database.execute("SELECT * FROM job ORDER BY id").fetchall() if before else []
    if found > schema.VERSION:
        wanted = [(*row, len(row[-1])) for row in wanted]
    assert rows == wanted


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
