"""A store file of each version opens for ever (R22), a newer one is refused, a migration is whole or has not been."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from farm.store import schema
from farm.store.contract import StoreError
from farm.store.sqlite import SqliteStore
from tests.contract.stores import make
from tests.support import CHECKOUT

STORES = Path(__file__).parent / "stores"
FILES = sorted(STORES.glob("version-*.db"))


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


# A process that migrates a store of version N and dies of SIGKILL at the n-th write or sync of the migration.
_MIGRATE = """
import sys
from farm.store import schema
from farm.store.sqlite import SqliteStore
schema.MIGRATIONS = (*schema.MIGRATIONS, {step!r})
schema.VERSION = len(schema.MIGRATIONS)
store = SqliteStore(sys.argv[1])
print("go", flush=True)
store.open()
store.close()
print("done", flush=True)
"""
# Made up: what is expected of a real one. It changes every row, and needs many pages.
_STEP = """
ALTER TABLE job ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0;
UPDATE job SET attempts = length(payload);
CREATE TABLE made_up (id INTEGER PRIMARY KEY, payload BLOB) STRICT;
INSERT INTO made_up SELECT id, payload FROM job;
CREATE INDEX made_up_index ON made_up (payload);
"""


def migrate(directory: Path, kill_after_s: float) -> tuple[bool, float]:
    """In a process that is killed so long after its beginning. Returns whether it was done, and how long it took."""
    argv = [sys.executable, "-P", "-c", _MIGRATE.format(step=_STEP), str(directory)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(CHECKOUT)}) as process:
        assert process.stdout
        assert process.stdout.readline() == b"go\n"
        begin = time.monotonic()
        try:
            process.wait(kill_after_s)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        done = process.stdout.read() == b"done\n"
        return done, time.monotonic() - begin


@pytest.mark.parametrize("old", [0, schema.VERSION])
def test_killed_in_a_migration(old: int, tmp_path: Path) -> None:
    """Of a new file, and of a full one: afterwards it is whole, of the one version or of the other."""
    from farm.broker.effects import Save

    jobs = [Save(1 << 40 | n, b"f", b"", 1, b"%05d" % n * 100) for n in range(1, 4001)] if old else []

    def prepared(name: str) -> Path:
        directory = tmp_path / name
        shutil.copytree(tmp_path / "old", directory)
        return directory

    if old:
        store = SqliteStore(str(tmp_path / "old"))
        store.open()
        store.apply(jobs)
        store.close()
    else:
        (tmp_path / "old").mkdir()
        (tmp_path / "old" / "jobs.db").touch()
    done, whole_s = migrate(prepared("whole"), 60.0)
    assert done
    for n in range(12):
        directory = prepared(str(n))
        migrate(directory, whole_s * (n + 0.5) / 12)
        database = sqlite3.connect(directory / "jobs.db")
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        (found,) = database.execute("PRAGMA user_version").fetchone()
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        rows = database.execute("SELECT id, payload FROM job ORDER BY id").fetchall() if found else []
        changed = database.execute("SELECT sum(attempts) FROM job").fetchone()[0] if found > schema.VERSION else 0
        database.close()
        assert found in (old, schema.VERSION + 1)
        assert ("made_up" in tables) == (found == schema.VERSION + 1)
        assert ("job" in tables) == bool(found)
        if old:
            assert rows == [(job.id, job.payload) for job in jobs]
        assert (changed or 0) == (sum(len(job.payload) for job in jobs) if found > schema.VERSION else 0)
        assert migrate(directory, 60.0)[0], "and it is done the next time"
        assert version(directory) == schema.VERSION + 1
