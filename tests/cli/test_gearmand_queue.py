"""gearmand's SQLite queue taken in: by `farm store import --gearmand`, and by `farm gearmand -q libsqlite3`."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import tempfile
from contextlib import closing
from pathlib import Path

import pytest

from farm.protocol import packets as p
from farm.store.gearmand import queue
from tests.cli.rig import Rig, Running, connect, free_port
from tests.cli.test_gearmand import answers, start
from tests.cli.test_store import kept
from tests.interop.ends import need
from tests.support import Wire, wait_until

LAYOUT = """CREATE TABLE gearman_queue (unique_key TEXT, function_name TEXT, priority INTEGER, data BLOB,
    when_to_run INTEGER, PRIMARY KEY (unique_key, function_name))"""
BINARY = b"a\0\xff\xfe'\n"


def a_queue(path: Path, *rows: tuple[object, ...], table: str = "gearman_queue") -> Path:
    """A file as gearmand leaves it."""
    with sqlite3.connect(path) as database:
        database.execute(LAYOUT.replace("gearman_queue", f'"{table}"'))
        database.executemany(f'INSERT INTO "{table}" VALUES (CAST(? AS TEXT), CAST(? AS TEXT), ?, ?, ?)', rows)
    database.close()
    return path


ROWS: list[tuple[object, ...]] = [
    (b"key", b"resize", 1, b"text", 0),
    (b"u2", b"resize", 0, BINARY, 0),
    (b"u3", b"later", 2, b"delayed", 4_000_000_000),
    (b"", b"empty", 1, None, 0),
    (b"\xff\xfe", b"b\xff", 1, b"names of bytes", 0),
    (b"u6", b"f", 77, b"a priority that is none", -1),
]


def test_import_is_exact(lone_rig: Rig, tmp_path: Path) -> None:
    """Names, priorities, times and payloads; in the order of the queue; with new handles; once."""
    file, path = a_queue(tmp_path / "queue.db", *ROWS), tmp_path / "s"
    before = file.read_bytes()
    done = lone_rig.run("store", "import", str(path), "--gearmand", str(file))
    assert (done.status, done.out.decode(), done.err) == (0, f"{path}: 6 jobs imported\n", "")
    jobs = kept(path)
    assert [(job.unique, job.function, job.priority, job.payload, job.due) for job in jobs] == [
        (b"key", b"resize", 1, b"text", 0.0),
        (b"u2", b"resize", 0, BINARY, 0.0),
        (b"u3", b"later", 2, b"delayed", 4e9),
        (b"", b"empty", 1, b"", 0.0),
        (b"\xff\xfe", b"b\xff", 1, b"names of bytes", 0.0),
        (b"u6", b"f", 1, b"a priority that is none", 0.0),
    ]
    assert len({job.id for job in jobs}) == 6
    done = lone_rig.run("store", "import", str(path), "--gearmand", str(file), "--json")
    assert (done.status, json.loads(done.out)["imported"]) == (0, 0)
    assert "imported already" in done.err
    assert len(kept(path)) == 6
    assert file.read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["queue.db", "s"]


def test_what_cannot_be_a_job_is_said_and_the_rest_comes(lone_rig: Rig, tmp_path: Path) -> None:
    """With the reason; the file still has it."""
    rows = [(b"1", b"a b", 1, b"", 0), (b"2" * 65, b"f", 1, b"", 0), (b"3", b"f", 1, b"good", 0)]
    file = a_queue(tmp_path / "queue.db", *rows, table="my table")
    done = lone_rig.run("store", "import", str(tmp_path / "s"), "--gearmand", str(file), "--table", "my table")
    assert (done.status, len(done.err.splitlines())) == (0, 2)
    assert "Blank or control character in function name" in done.err
    assert "unique key has 65 bytes" in done.err
    assert [job.payload for job in kept(tmp_path / "s")] == [b"good"]


def test_what_is_no_queue(lone_rig: Rig, tmp_path: Path) -> None:
    """Is refused before a store is made."""
    (tmp_path / "text").write_bytes(b"no database" * 1000)
    file = a_queue(tmp_path / "queue.db", table="other")
    for name, status, words in (
        (tmp_path / "none", 66, "cannot read"),
        (tmp_path / "text", 65, "not a database"),
        (file, 65, "has no table gearman_queue"),
    ):
        done = lone_rig.run("store", "import", str(tmp_path / "s"), "--gearmand", str(name))
        assert done.status == status
        assert words in done.error
    assert not (tmp_path / "s").exists()


def test_a_queue_in_use_is_refused(lone_rig: Rig, tmp_path: Path) -> None:
    """Its jobs would run twice."""
    file = a_queue(tmp_path / "queue.db", *ROWS)
    holder = lone_rig.background(["sh", "-c", f"exec sleep 60 < {file}"])
    wait_until(lambda: b"sleep" in Path(f"/proc/{holder.pid}/cmdline").read_bytes())
    done = lone_rig.run("store", "import", str(tmp_path / "s"), "--gearmand", str(file))
    assert (done.status, done.hint) == (69, "stop gearmand first")
    holder.kill()
    assert lone_rig.run("store", "import", str(tmp_path / "s"), "--gearmand", str(file)).status == 0


def test_a_journal_that_was_left_is_played_back_in_a_copy(tmp_path: Path) -> None:
    """gearmand was killed in the middle of a change: the change is undone, and the file stays as it is."""
    file = a_queue(tmp_path / "queue.db", *ROWS)
    script = f"""
import os, sqlite3
database = sqlite3.connect({str(file)!r}, isolation_level=None)
database.execute("PRAGMA cache_size = 1"); database.execute("PRAGMA cache_spill = 1")
database.execute("BEGIN")
database.execute("DELETE FROM gearman_queue")
for n in range(2000):
    database.execute("INSERT INTO gearman_queue VALUES (?, 'f', 1, zeroblob(1000), 0)", (n,))
os._exit(0)
"""
    subprocess.run(["python3", "-c", script], check=True)
    assert (tmp_path / "queue.db-journal").stat().st_size > 0
    before = file.read_bytes()
    with queue(str(file), str(tmp_path)) as database:
        assert database.execute("SELECT count(*) FROM gearman_queue").fetchone() == (6,)
    assert file.read_bytes() == before


def test_a_real_gearmands_queue(lone_rig: Rig, tmp_path: Path) -> None:
    """Debian's gearmand, killed with its backlog; farm in its place runs all of it, once, in order of priority."""
    need("gearmand", "gearman")
    file, port = tmp_path / "queue.db", free_port()
    env = {"PATH": lone_rig.env["PATH"] + ":/usr/sbin"}
    options = ["-q", "libsqlite3", "--libsqlite3-db", str(file), "-L", "127.0.0.1"]
    gearmand = lone_rig.background(["gearmand", *options, "-p", str(port), "-l", "gearmand.log"], env)
    wait_until(lambda: answers(port) or gearmand.ended)
    if gearmand.ended:
        pytest.skip("this gearmand is built without libsqlite3")
    with Wire(("127.0.0.1", port)) as wire:
        wire.submit(b"f", b"low", b"1", p.SUBMIT_JOB_LOW_BG)
        wire.submit(b"f", BINARY, b"2", p.SUBMIT_JOB_BG)
        wire.submit(b"f", b"high", b"3", p.SUBMIT_JOB_HIGH_BG)
        wire.send(p.SUBMIT_JOB_EPOCH, b"f", b"4", b"4000000000", b"delayed")
        assert wire.packet()[0] == p.JOB_CREATED
    gearmand.kill()
    for life in (1, 2):
        running, port = start(lone_rig, *options[:4])
        assert running.err().count("imported 4 jobs") == (life == 1)
        with Wire(("127.0.0.1", port)) as worker:
            worker.send(p.CAN_DO, b"f")
            taken = [worker.grab().split(b"\0", 2) for _ in range(4)]
            assert [body[2:] for body in taken] == ([[b"high"], [BINARY], [b"low"], []] if life == 1 else [[]] * 4)
            worker.send(p.OPTION_REQ, b"farm-sync")
            assert worker.packet()[0] == p.OPTION_RES
            for body in taken[:3] if life == 1 else []:
                worker.send(p.WORK_COMPLETE, body[0], b"")
            worker.expect_nothing()
        running.kill()


def test_farm_in_gearmands_place_keeps_its_jobs(lone_rig: Rig, tmp_path: Path) -> None:
    """Beside the file, which need not exist; without -q they last as long as the server, as with gearmand."""
    file = tmp_path / "queue.db"
    for options, left in (((), 0), (("-q", "libsqlite3", "--libsqlite3-db", str(file)), 1)):
        running, port = start(lone_rig, *options)
        with Wire(("127.0.0.1", port)) as wire:
            wire.submit(b"f", b"kept", number=p.SUBMIT_JOB_BG)
        running.kill()
        running, port = start(lone_rig, *options)
        assert lone_rig.counts("f", f"127.0.0.1:{port}")[0] == left
        running.kill()
    assert not file.exists()
    assert [job.payload for job in kept(tmp_path / "queue.db.farm")] == [b"kept"]


def test_a_file_that_changed_after_the_import_is_said(lone_rig: Rig, tmp_path: Path) -> None:
    """Somebody went back to gearmand for a while: taking all in again would run old jobs again."""
    file = a_queue(tmp_path / "queue.db", *ROWS)
    options = ("-q", "libsqlite3", "--libsqlite3-db", str(file))
    start(lone_rig, *options)[0].kill()
    with sqlite3.connect(file) as database:
        database.execute("INSERT INTO gearman_queue VALUES ('new', 'f', 1, 'x', 0)")
    database.close()
    running, port = start(lone_rig, *options)
    assert "has changed since it was imported" in running.err()
    with connect(f"127.0.0.1:{port}") as wire:
        assert sum(int(row.split(b"\t")[1]) for row in wire.listing(b"status")) == 6
    running.signal(signal.SIGTERM)


def test_a_table_of_another_name(lone_rig: Rig, tmp_path: Path) -> None:
    """--libsqlite3-table."""
    file = a_queue(tmp_path / "queue.db", *ROWS, table="jobs")
    options = ("-q", "libsqlite3", "--libsqlite3-db", str(file), "--libsqlite3-table", "jobs")
    assert "imported 6 jobs" in start(lone_rig, *options)[0].err()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody")
def test_another_users_store_belongs_to_them(lone_rig: Rig, tmp_path: Path) -> None:
    """Made by root for them, opened by them, and by them again; and root's is refused."""
    made = tmp_path.relative_to(tempfile.gettempdir()).parts
    for place in (tmp_path, *tmp_path.parents[: len(made) - 1]):  # pytest makes them for this user only
        place.chmod(0o755)
    file = a_queue(tmp_path / "queue.db", *ROWS)
    options = ("-u", "nobody", "-q", "libsqlite3", "--libsqlite3-db", str(file))
    for _ in range(2):
        running, port = start(lone_rig, *options)
        with Wire(("127.0.0.1", port)) as wire:
            wire.submit(b"f", b"x", number=p.SUBMIT_JOB_BG)
        _is_nobody(running)
        place = tmp_path / "queue.db.farm"
        assert {entry.stat().st_uid for entry in (place, *place.iterdir())} == {65534}
        running.kill()
    assert len(kept(place)) == 8
    os.chown(place, 0, 0)
    done = lone_rig.run("gearmand", "-L", "127.0.0.1", "-p", str(free_port()), *options)
    assert done.status == 77
    assert "belongs to another user" in done.error


def _is_nobody(running: Running) -> None:
    status = Path(f"/proc/{running.pid}/status")
    wait_until(lambda: "Uid:\t65534\t65534" in status.read_text(), what="it is nobody")


def test_importing_a_changed_file_is_said_and_not_done(lone_rig: Rig, tmp_path: Path) -> None:
    """Which of its jobs were there before cannot be told, so a person must say that all may come again."""
    file, link, path = a_queue(tmp_path / "queue.db", *ROWS), tmp_path / "link.db", str(tmp_path / "s")
    link.symlink_to(file)
    command = ("store", "import", path, "--gearmand", str(file))
    assert lone_rig.run(*command).status == 0
    assert b" 0 jobs imported" in lone_rig.run("store", "import", path, "--gearmand", str(link)).out
    with closing(sqlite3.connect(file)) as database:
        database.execute("INSERT INTO gearman_queue VALUES ('new', 'f', 1, 'x', 0)")
        database.commit()
    done = lone_rig.run(*command)
    assert (done.status, done.hint) == (65, "--again imports all of it once more")
    assert len(kept(Path(path))) == 6
    assert lone_rig.run(*command, "--again").status == 0
    assert len(kept(Path(path))) == 13


def test_a_damaged_queue_is_not_said_to_be_farms_store(lone_rig: Rig, tmp_path: Path) -> None:
    file = a_queue(tmp_path / "queue.db", *ROWS)
    with closing(sqlite3.connect(file)) as database:
        database.execute("CREATE TABLE other AS SELECT unique_key FROM gearman_queue")
    for table in ("other", "GEARMAN_QUEUE"):
        path = tmp_path / f"store of {table}"
        done = lone_rig.run("store", "import", str(path), "--gearmand", str(file), "--table", table)
        if table == "other":
            assert done.status == 65
            assert "hint" not in done.err
            assert "gearmand's queue" in done.error
        else:
            assert done.status == 0
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    done = lone_rig.run("store", "import", str(tmp_path / "p"), "--gearmand", str(pipe))
    assert (done.status, "is no regular file" in done.error) == (66, True)
