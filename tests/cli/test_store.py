"""`farm store`: check, backup, vacuum, export and import, beside a running server and without one."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import stat
import time
from contextlib import closing
from pathlib import Path

import pytest

from farm.broker.effects import Finish, Revive, Save
from farm.broker.job import handle_of
from farm.store.schema import VERSION
from farm.store.sqlite import SqliteStore
from tests.cli.rig import Rig, ServerRunning
from tests.support import CHECKOUT

STORES = CHECKOUT / "tests/contract/stores"

BINARY = bytes(range(256))


def filled(path: Path, *jobs: Save, ended: tuple[Finish, ...] = ()) -> Path:
    """A stopped server's store."""
    store = SqliteStore(str(path))
    store.open()
    store.apply(jobs)
    store.apply(ended)
    store.close()
    return path


def kept(path: Path) -> list[Save]:
    """What a server finds."""
    store = SqliteStore(str(path))
    store.open()
    jobs = list(store.load())
    store.close()
    return jobs


def job(n: int, payload: bytes = b"in", function: bytes = b"f", **more: object) -> Save:
    """A job of shard 5."""
    return Save(5 << 40 | n, function, b"", 1, payload, **more)  # type: ignore[arg-type]


def damage_row(path: Path, sql: str) -> None:
    """What a flipped bit does, where the page stays a page."""
    database = sqlite3.connect(path / "jobs.db")
    database.execute(sql)
    database.commit()
    database.close()


def durable(rig: Rig, path: Path) -> ServerRunning:
    """A server on that store; clients of the rig talk to it."""
    server = rig.server("--store", str(path))
    rig.env["FARM_SERVER"] = server.address
    return server


def checked(rig: Rig, path: Path, *options: str, status: int = 0) -> dict[str, object]:
    """What --json says."""
    done = rig.run("store", "check", str(path), "--json", *options)
    assert done.status == status, done.err
    found: dict[str, object] = json.loads(done.out)
    assert found["schema"] == "farm.store.check/1"
    return found


# -- check


def test_check_of_a_sound_store(lone_rig: Rig, tmp_path: Path) -> None:
    """What is in it, by function, stopped and while a server runs."""
    lately = Finish(5 << 40 | 2, "failed", 1.0, time.time())  # or the server lets go of it
    path = filled(tmp_path / "s", job(1), job(2), job(3, function=b"g"), ended=(lately,))
    server = durable(lone_rig, path)
    found = checked(lone_rig, path)
    assert server.terminate().status == 0
    assert checked(lone_rig, path) == {**found, "bytes": (path / "jobs.db").stat().st_size}
    assert (found["sound"], found["jobs"], found["ended"], found["faults"]) == (True, 2, 1, [])
    assert found["functions"] == [{"function": "f", "jobs": 1, "ended": 1}, {"function": "g", "jobs": 1, "ended": 0}]
    told = lone_rig.run("store", "check", str(path)).out.decode()
    assert f"{path}: sound; schema {VERSION}" in told
    assert "f\t1\t1\n" in told


def test_a_damaged_row_is_found_and_put_aside(lone_rig: Rig, tmp_path: Path) -> None:
    """By its handle; and afterwards the store is sound and the others are there."""
    path = filled(
        tmp_path / "s", job(1), job(2), job(3), ended=(Finish(5 << 40 | 3, "done", 1.0, 2.0, b"w", 0, b"out"),)
    )
    damage_row(path, "UPDATE job SET payload = x'00' WHERE id = 5 << 40 | 2")
    damage_row(path, "UPDATE ended SET result = x'00'")
    found = checked(lone_rig, path, status=65)
    reason = "its checksum does not match"
    damaged = [
        {"table": "job", "handle": "H:5:2", "function": "f", "reason": reason},
        {"table": "ended", "handle": "H:5:3", "function": "f", "reason": reason},
    ]
    assert (found["sound"], found["damaged"], found["jobs"]) == (False, damaged, 1)
    told = lone_rig.run("store", "check", str(path))
    assert told.status == 65
    assert b"damaged job: H:5:2 f: its checksum" in told.out
    found = checked(lone_rig, path, "--repair")
    assert found["repair"] == {"kept_as": None, "put_aside": damaged, "lost": []}
    assert (found["sound"], found["put_aside"]) == (True, 2)
    assert kept(path) == [job(1)]


def test_a_field_of_a_wrong_kind_is_damage_too(lone_rig: Rig, tmp_path: Path) -> None:
    """And no traceback."""
    path = filled(tmp_path / "s", job(1), job(2))
    with sqlite3.connect(path / "jobs.db") as database:
        database.execute("PRAGMA writable_schema = ON")
        database.execute("UPDATE sqlite_schema SET sql = replace(sql, 'STRICT', '') WHERE name = 'job'")
    database.close()
    damage_row(path, "UPDATE job SET created = 'noon' WHERE id = 5 << 40 | 2")
    found = checked(lone_rig, path, status=65)
    assert [row["handle"] for row in found["damaged"]] == ["H:5:2"]  # type: ignore[attr-defined]
    checked(lone_rig, path, "--repair")
    assert kept(path) == [job(1)]


def test_a_damaged_page(lone_rig: Rig, tmp_path: Path) -> None:
    """The server refuses to start and says what to do; that saves all but what was on the page, and keeps the old."""
    jobs = [job(n, b"%06d" % n * 20) for n in range(1, 3001)]
    path = filled(tmp_path / "s", *jobs)
    content = bytearray((path / "jobs.db").read_bytes())
    for page in (40, 70):
        content[page * 4096 : page * 4096 + 2048] = bytes(2048)
    (path / "jobs.db").write_bytes(content)
    assert checked(lone_rig, path, status=65)["faults"]
    refused = lone_rig.run("server", "--store", str(path))
    assert (refused.status, refused.hint) == (65, f"farm store check --repair {path}")
    found = checked(lone_rig, path, "--repair")
    repair = found["repair"]
    assert isinstance(repair, dict)
    assert Path(repair["kept_as"]).read_bytes() == content
    *gaps, trace = repair["lost"]
    assert (len(gaps), trace[:26], found["sound"]) == (2, "rows that leave no trace, ", True), repair
    saved = kept(path)
    assert len(saved) > 2900
    assert set(saved) < set(jobs)
    for words in gaps:  # they are where it says
        low, high = (
            int(word.rpartition(":")[2].strip(",")) for word in words.replace(": those", "").split() if "H:" in word
        )
        assert not any(low < save.id & 0xFFFFFFFFFF < high for save in saved)
        assert all((5 << 40 | n) in {save.id for save in saved} for n in (low, high))
    durable(lone_rig, path)


def test_damage_in_the_log_and_the_last_commit(lone_rig: Rig, tmp_path: Path) -> None:
    """A killed server's log counts: what it has is in the repaired file, which never meets it."""
    path = tmp_path / "s"
    filled(path, *(job(n, b"x" * 100) for n in range(1, 1001)))
    store = SqliteStore(str(path))
    store.open()
    store.apply([job(5000, b"only in the log")])
    killed = tmp_path / "killed"
    killed.mkdir()
    for name in ("jobs.db", "jobs.db-wal"):
        (killed / name).write_bytes((path / name).read_bytes())
    store.close()
    content = bytearray((killed / "jobs.db").read_bytes())
    content[20 * 4096 : 21 * 4096] = bytes(4096)
    (killed / "jobs.db").write_bytes(content)
    found = checked(lone_rig, killed, "--repair")
    assert found["sound"]
    assert job(5000, b"only in the log") in kept(killed)


def test_damage_in_the_middle_of_the_log(lone_rig: Rig, tmp_path: Path) -> None:
    """SQLite would drop what follows and say nothing: no command lets it, but the repair, which says so."""
    path, killed = tmp_path / "s", tmp_path / "killed"
    store = SqliteStore(str(path))
    store.open()
    for n in range(1, 21):
        store.apply([job(n)])
    killed.mkdir(mode=0o700)
    for name in ("jobs.db", "jobs.db-wal", "lock"):
        (killed / name).write_bytes((path / name).read_bytes())
    store.close()
    content = bytearray((killed / "jobs.db-wal").read_bytes())
    content[32 + 8 * (4096 + 24) + 100] ^= 1
    (killed / "jobs.db-wal").write_bytes(content)
    words = "write-ahead log is bad at frame 9, and"
    assert words in str(checked(lone_rig, killed, status=65)["faults"])
    for command in (
        ("server", "--store", str(killed)),
        ("store", "backup", str(tmp_path / "copy"), str(killed)),
        ("store", "vacuum", str(killed)),
        ("store", "export", str(killed)),
    ):
        done = lone_rig.run(*command)
        assert (done.status, done.hint) == (65, f"farm store check --repair {killed}"), (command, done.err)
        assert words in done.error, command
    assert (killed / "jobs.db-wal").read_bytes() == content
    repair = checked(lone_rig, killed, "--repair")["repair"]
    assert isinstance(repair, dict)
    (words,) = repair["lost"]
    assert words.startswith("frame 9 of the write-ahead log: a later one has its page, ")
    assert Path(repair["kept_as"] + "-wal").read_bytes() == content
    assert kept(killed) == [job(n) for n in range(1, 21)]


@pytest.mark.parametrize("command", [["check"], ["check", "--repair"], ["backup", "copy"], ["vacuum"], ["export"]])
def test_a_file_of_no_bytes(lone_rig: Rig, tmp_path: Path, command: list[str]) -> None:
    """Not one in which this and that table is missing, nor one that could be repaired, nor an empty store."""
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "jobs.db").touch()
    done = lone_rig.run("store", *command, str(tmp_path / "s"))
    assert (done.status, done.error) == (65, f"{tmp_path}/s/jobs.db is empty")
    assert done.hint == "take the newest backup; to begin anew, move it away"
    assert os.listdir(tmp_path / "s") in (["jobs.db"], ["jobs.db", "lock"], ["lock", "jobs.db"])
    assert (tmp_path / "s" / "jobs.db").stat().st_size == 0


@pytest.mark.parametrize(
    "command", [["check"], ["check", "--repair"], ["backup", "copy"], ["vacuum"], ["export"], ["import"]]
)
def test_the_log_of_an_empty_file_stays(lone_rig: Rig, tmp_path: Path, command: list[str]) -> None:
    """SQLite removes it as soon as it sees the two, even to read; and it may be all that there is of the jobs."""
    path, killed = tmp_path / "s", tmp_path / "killed"
    store = SqliteStore(str(path))
    store.open()
    for n in range(1, 21):
        store.apply([job(n)])
    log = (path / "jobs.db-wal").read_bytes()
    store.close()
    killed.mkdir(mode=0o700)
    (killed / "jobs.db-wal").write_bytes(log)
    (killed / "jobs.db").touch()
    done = lone_rig.run("store", *command, str(killed))
    assert done.status == 65, done.err
    assert (killed / "jobs.db-wal").read_bytes() == log


@pytest.mark.parametrize("command", [["server", "--store"], ["store", "import"]])
def test_a_store_that_is_a_file(lone_rig: Rig, tmp_path: Path, command: list[str]) -> None:
    path = filled(tmp_path / "s", job(1)) / "jobs.db"
    done = lone_rig.run(*command, str(path))
    assert (done.status, done.error) == (73, f"{path} is not a directory")


@pytest.mark.parametrize("there", [True, False])
def test_an_empty_file_is_no_new_store(lone_rig: Rig, tmp_path: Path, there: bool) -> None:
    """Its ballast shows that it had jobs."""
    path = filled(tmp_path / "s", job(1))
    (path / "jobs.db").write_bytes(b"") if there else (path / "jobs.db").unlink()
    done = lone_rig.run("server", "--store", str(path))
    assert done.status == 65
    assert f"jobs.db is {'empty' if there else 'missing'}" in done.error
    assert "move the directory away" in done.hint


def test_a_file_whose_end_is_cut_off_is_repaired(lone_rig: Rig, tmp_path: Path) -> None:
    """SQLite by itself refuses all of it."""
    jobs = [job(n, b"%06d" % n * 20) for n in range(1, 301)]
    path = filled(tmp_path / "s", *jobs)
    os.truncate(path / "jobs.db", (path / "jobs.db").stat().st_size - 4096)
    refused = lone_rig.run("server", "--store", str(path))
    assert (refused.status, refused.hint) == (65, f"farm store check --repair {path}")
    assert checked(lone_rig, path, "--repair")["sound"]
    saved = kept(path)
    assert len(saved) > 250
    assert set(saved) < set(jobs)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_a_store_on_a_disk_that_is_read_only_is_not_damaged(lone_rig: Rig, tmp_path: Path) -> None:
    path = filled(tmp_path / "s", job(1))
    script = f"mount --bind {path} {path} && mount -o remount,ro,bind {path} {path} && "
    for command in (f"check {path}", f"export {path}", f"backup {tmp_path / 'copy'} {path}"):
        done = lone_rig.execute(["unshare", "--mount", "sh", "-c", f"{script} farm store {command}"], b"", None)
        if "mount" in done.err:
            pytest.skip(f"nothing can be mounted here: {done.err}")
        assert done.status == 0, (command, done.err, done.out)
    assert kept(tmp_path / "copy") == [job(1)]


@pytest.mark.parametrize("command", ["vacuum", "export", "backup"])
def test_damage_has_one_exit_code(lone_rig: Rig, tmp_path: Path, command: str) -> None:
    path = filled(tmp_path / "s", *(job(n, b"x" * 1000) for n in range(1, 200)))
    content = bytearray((path / "jobs.db").read_bytes())
    content[-10 * 4096 : -9 * 4096] = bytes(4096)
    (path / "jobs.db").write_bytes(content)
    paths = [str(tmp_path / "copy")] if command == "backup" else []
    done = lone_rig.run("store", command, *paths, str(path))
    assert done.status == 65, done.err


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("PRAGMA user_version = 99", "was written by a newer farm"),
        ("PRAGMA application_id = 1", "is not a store of farm"),
    ],
)
def test_no_backup_is_made_of_what_is_not_this_farms(lone_rig: Rig, tmp_path: Path, sql: str, words: str) -> None:
    path = filled(tmp_path / "s", job(1))
    damage_row(path, sql)
    done = lone_rig.run("store", "backup", str(tmp_path / "copy"), str(path))
    assert done.status == 65
    assert words in done.error
    assert f"{path}/jobs.db" in done.error
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("command", ["export", "backup"])
def test_an_empty_file_is_no_store(lone_rig: Rig, tmp_path: Path, command: str) -> None:
    (tmp_path / "s").mkdir(mode=0o700)
    (tmp_path / "s" / "jobs.db").touch()
    paths = [str(tmp_path / "copy")] if command == "backup" else []
    done = lone_rig.run("store", command, *paths, str(tmp_path / "s"))
    assert (done.status, done.error) == (65, f"{tmp_path}/s/jobs.db is empty")


def test_a_half_read_export_does_not_look_whole(lone_rig: Rig, tmp_path: Path) -> None:
    path = filled(tmp_path / "s", *(job(n, b"x" * 1000) for n in range(1, 1000)))
    done = lone_rig.shell(f"farm store export {path} | head -1 > /dev/null; echo ${{PIPESTATUS[0]}}")
    assert done.out == b"141\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody")
def test_another_users_store_cannot_be_opened(tmp_path: Path) -> None:
    from farm.store.contract import StoreError

    path = filled(tmp_path / "s", job(1))
    for above in (path, *path.parents):
        if above.stat().st_uid == 0 and above != Path("/"):
            above.chmod(above.stat().st_mode | 0o055)
    store = SqliteStore(str(path))
    os.seteuid(65534)
    try:
        with pytest.raises(StoreError) as caught:
            store.open()
    finally:
        os.seteuid(0)
        store.close()
    assert caught.value.status == 77


@pytest.mark.parametrize("journal_mode", ["DELETE", "WAL"])
def test_what_is_not_this_farms_is_refused_and_not_touched(lone_rig: Rig, tmp_path: Path, journal_mode: str) -> None:
    path = tmp_path / "s"
    path.mkdir()
    with closing(sqlite3.connect(path / "jobs.db")) as database:
        database.execute(f"PRAGMA journal_mode = {journal_mode}")
        database.execute("CREATE TABLE other (a)")
        database.commit()
    before = (path / "jobs.db").read_bytes()
    for command in (("server", "--store"), ("store", "vacuum"), ("store", "import")):
        done = lone_rig.run(*command, str(path), stdin=b"")
        assert done.status == 65, (command, done.err)
        assert "is not a store of farm" in done.error
    assert (path / "jobs.db").read_bytes() == before
    assert not (path / "lock").exists()


@pytest.mark.parametrize(("mode", "words"), [(0o777, "write to"), (0o770, "write to"), (0o755, "look into")])
def test_a_store_that_was_open_to_others_becomes_private(mode: int, words: str, lone_rig: Rig, tmp_path: Path) -> None:
    path = filled(tmp_path / "s", job(1))
    (path / "jobs.db").chmod(0o666)
    path.chmod(mode)
    server = durable(lone_rig, path)
    assert f"others may {words} the directory" in server.err()
    assert {stat.S_IMODE((path / name).stat().st_mode) for name in os.listdir(path)} == {0o600}


def test_that_others_may_look_into_the_directory_is_said(lone_rig: Rig, tmp_path: Path) -> None:
    path = filled(tmp_path / "s", job(1))
    assert "others may" not in durable(lone_rig, path).terminate().err
    path.chmod(0o755)
    assert "others may look into the directory" in durable(lone_rig, path).err()


def test_a_file_of_which_nothing_can_be_read_stays(lone_rig: Rig, tmp_path: Path) -> None:
    """An empty store in its place would be worse."""
    path = filled(tmp_path / "s", job(1))
    (path / "jobs.db").write_bytes(b"x" * 40960)
    assert checked(lone_rig, path, status=65)["faults"] == ["file is not a database"]
    done = lone_rig.run("store", "check", "--repair", str(path))
    assert done.status == 65
    assert "nothing can be read" in done.error
    assert (path / "jobs.db").read_bytes() == b"x" * 40960
    assert sorted(os.listdir(path)) == ["ballast", "jobs.db", "lock"]


def test_an_interrupted_repair_is_ended_by_the_next_one(lone_rig: Rig, tmp_path: Path) -> None:
    """Until then no server starts on what it has left."""
    path = filled(tmp_path / "s", job(1))
    whole = filled(tmp_path / "new", job(1), job(2))
    os.rename(whole / "jobs.db", path / "jobs.db.repaired")
    done = lone_rig.run("server", "--store", str(path))
    assert (done.status, done.hint) == (65, f"farm store check --repair {path}")
    checked(lone_rig, path, "--repair")
    assert kept(path) == [job(1), job(2)]


# -- backup


def test_backup_beside_a_server(lone_rig: Rig, tmp_path: Path) -> None:
    """Private, whole, and its new jobs do not get handles that the original gives out."""
    path, copy = filled(tmp_path / "s", job(1, BINARY)), tmp_path / "copy"
    server = durable(lone_rig, path)
    handle = lone_rig.submit("-b", "g", stdin=b"while it runs").out.decode().strip()
    done = lone_rig.run("store", "backup", str(copy), str(path))
    assert (done.status, done.err) == (0, "")
    assert f"{copy}: sound" in done.out.decode()
    assert stat.S_IMODE(copy.stat().st_mode) == 0o700
    assert [(path.name, stat.S_IMODE(path.stat().st_mode)) for path in copy.iterdir()] == [("jobs.db", 0o600)]
    assert server.terminate().status == 0
    server = durable(lone_rig, path)
    theirs = lone_rig.submit("-b", "g").out.decode().split(":")[1]
    server.terminate()
    durable(lone_rig, copy)
    ours = lone_rig.submit("-b", "g").out.decode().split(":")[1]
    assert ours not in (theirs, handle.split(":")[1], "5")
    assert {save[4] for save in kept_of_running(lone_rig, copy)} == {BINARY, b"while it runs", b""}


def kept_of_running(rig: Rig, path: Path) -> list[tuple[object, ...]]:
    """Rows of a store in use."""
    with sqlite3.connect(f"file:{path}/jobs.db?mode=ro", uri=True) as database:
        rows = database.execute("SELECT id, function, unique_key, priority, payload FROM job").fetchall()
    database.close()
    return rows


def test_a_backup_never_overwrites(lone_rig: Rig, tmp_path: Path) -> None:
    """Nor is anything left of one that failed."""
    path = filled(tmp_path / "s", job(1))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    done = lone_rig.run("store", "backup", str(tmp_path / "full"), str(path))
    assert (done.status, done.hint) == (73, "give a backup a new directory")
    (path / "jobs.db").write_bytes(b"x" * 40960)
    assert lone_rig.run("store", "backup", str(tmp_path / "new"), str(path)).status == 65
    assert not (tmp_path / "new").exists() or not os.listdir(tmp_path / "new")


# -- vacuum


def test_vacuum_gives_room_back(lone_rig: Rig, tmp_path: Path) -> None:
    """And loses nothing."""
    jobs = [job(n, b"x" * 2000) for n in range(1, 2001)]
    path = filled(tmp_path / "s", *jobs, ended=tuple(Finish(save.id, "done", 1.0, 2.0) for save in jobs[1:]))
    done = lone_rig.run("store", "vacuum", str(path))
    assert (done.status, done.err) == (0, "")
    assert (path / "jobs.db").stat().st_size < 500_000
    assert kept(path) == jobs[:1]


def test_a_running_server_is_not_held_up_by_a_vacuum(lone_rig: Rig, tmp_path: Path) -> None:
    """It would stand still, or stop with 'database is locked'."""
    jobs = [job(n, b"x" * 2000) for n in range(1, 101)]
    path = filled(tmp_path / "s", *jobs, ended=tuple(Finish(save.id, "done", 1.0, 2.0) for save in jobs))
    server = durable(lone_rig, path)
    before = (path / "jobs.db").stat().st_size
    done = lone_rig.run("store", "vacuum", str(path))
    assert (done.status, done.hint) == (69, "stop the server first")
    assert (path / "jobs.db").stat().st_size == before
    assert lone_rig.submit("-b", "g", stdin=b"goes on").status == 0
    assert server.terminate().status == 0
    assert len(kept(path)) == 1


# -- export and import


def test_export_and_import_are_exact(lone_rig: Rig, tmp_path: Path) -> None:
    """Every field, jobs that have ended too; and again changes nothing."""
    jobs = [
        job(1, b"text \xc3\xa9\n", due=4e9, created=1.5, terms=b"retries=3"),
        job(2, BINARY, function=b"b\xff", reducer=b"r"),
        Save(6 << 40 | 1, b"f", b"u\xfe", 0, b""),
        job(4),
        job(5, b"again", due=7.5, reducer=b"r\xff", terms=b"retries=2 keep=9"),
    ]
    ends = (
        Finish(jobs[3].id, "done", 1.0, 2.0, b"w", 0, BINARY, b"log", True),
        Finish(jobs[4].id, "failed", 1.0, 2.0, b"w", 3, b"", b"", False, b"exit 3", 3, 2, 1, 0.5, 1 << 30, 9.5),
    )
    path = filled(tmp_path / "s", *jobs, ended=ends)
    printed = lone_rig.run("store", "export", str(path), "--ended")
    assert (printed.status, printed.err) == (0, "")
    lines = [json.loads(line) for line in printed.out.splitlines()]
    assert {line["schema"] for line in lines} == {"farm.store/1"}
    assert [line["handle"] for line in lines] == [handle_of(save.id).decode() for save in (*jobs[:2], *jobs[2:])]
    assert lines[0]["payload"] == "text é\n"
    assert len(lone_rig.run("store", "export", str(path)).out.splitlines()) == 3
    other = tmp_path / "other"
    for expected in ((5, 0), (0, 5)):
        done = lone_rig.run("store", "import", str(other), "--json", stdin=printed.out)
        assert (done.status, done.err) == (0, "")
        said = json.loads(done.out)
        assert (said["imported"], said["known"]) == expected
    assert lone_rig.run("store", "export", str(other), "--ended").out == printed.out
    assert kept(other) == jobs[:3]
    store = SqliteStore(str(other))
    assert store.open() > 6, "new handles must not be those that came"
    assert [store.ended(end.id) for end in ends] == list(ends)
    store.apply([Revive(jobs[4].id)])
    assert list(store.load())[-2] == jobs[4]._replace(due=0.0)
    store.close()


def test_a_job_written_by_hand_gets_a_new_handle(lone_rig: Rig, tmp_path: Path) -> None:
    """Function and payload are enough; and a server runs it."""
    line = b'{"schema":"farm.store/1","function":"f","payload":"by hand"}\n'
    done = lone_rig.run("store", "import", str(tmp_path / "s"), stdin=line + b"\n" + line)
    assert (done.status, done.out.decode()) == (0, f"{tmp_path / 's'}: 2 jobs imported\n")
    server = durable(lone_rig, tmp_path / "s")
    with server.connect() as worker:
        worker.send(1, b"f")
        first, second = worker.grab().split(b"\0"), worker.grab().split(b"\0")
        assert first[1:] == second[1:] == [b"f", b"by hand"]
        new = worker.submit(b"f", b"another", number=18)
        assert len({first[0], second[0], new}) == 3


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"nonsense", "Expecting value"),
        (b"[]", "not an object"),
        (b'{"schema":"farm.store/2","function":"f"}', "schema"),
        (b'{"schema":"farm.store/1"}', "function"),
        (b'{"schema":"farm.store/1","function":"a b"}', "unction name"),
        (b'{"schema":"farm.store/1","function":"f","unique":"%s"}' % (b"u" * 65), "unique"),
        (b'{"schema":"farm.store/1","function":"f","priority":"urgent"}', "high, normal, low"),
        (b'{"schema":"farm.store/1","function":"f","due":1e400}', "due"),
        (b'{"schema":"farm.store/1","function":"f","due":1%s}' % (b"0" * 400), "due"),
        (b'{"schema":"farm.store/1","function":"f","payload_base64":"?"}', "payload"),
        (b'{"schema":"farm.store/1","function":"f","payload":7}', "payload"),
        (b'{"schema":"farm.store/1","function":"f","handle":"H:vm:1"}', "H:vm:1"),
        (b'{"schema":"farm.store/1","function":"f","handle":"H:7fffff:1"}', "H:7fffff:1"),
        (b'{"schema":"farm.store/1","function":"f","outcome":"lost"}', "outcome"),
        (b'{"schema":"farm.store/1","function":"f","outcome":"failed","failures":1.5}', "failures"),
        (b'{"schema":"farm.store/1","function":"f","outcome":"failed","keep_s":true}', "keep_s"),
        (b'{"schema":"farm.store/1","function":"f","terms":"%s"}' % (b"x" * 70_000), "terms"),
        (b'{"schema":"farm.store/1","function":"f","payload":"\\ud800"}', "payload"),
        (b"\xff", "line 2"),
    ],
)
def test_what_cannot_be_imported(lone_rig: Rig, tmp_path: Path, line: bytes, words: str) -> None:
    """The number of the line, why, and nothing of the others either."""
    good = b'{"schema":"farm.store/1","function":"f"}\n'
    done = lone_rig.run("store", "import", str(tmp_path / "s"), stdin=good + line + b"\n" + good)
    assert done.status == 65
    assert done.error.startswith("line 2: ")
    assert words in done.error
    assert kept(tmp_path / "s") == []


def test_damaged_jobs_are_not_exported(lone_rig: Rig, tmp_path: Path) -> None:
    """They are named, and the exit code says so."""
    path = filled(tmp_path / "s", job(1), job(2))
    damage_row(path, "UPDATE job SET payload = x'00' WHERE id = 5 << 40 | 2")
    done = lone_rig.run("store", "export", str(path))
    assert done.status == 65
    assert len(done.out.splitlines()) == 1
    assert "warning: left out: H:5:2 f" in done.err


# -- where, and who else is there


def test_where_the_store_is(lone_rig: Rig, tmp_path: Path) -> None:
    """The argument, else FARM_STORE, else the server's default."""
    path = filled(tmp_path / "s", job(1))
    assert str(path) in lone_rig.run("store", "check", env={"FARM_STORE": str(path)}).out.decode()
    done = lone_rig.run("store", "check", env={"FARM_STORE": "memory"})
    assert (done.status, done.error) == (64, "a store in memory has no directory")
    for action in (["check"], ["check", "--repair"], ["backup", str(tmp_path / "b")], ["vacuum"], ["export"]):
        done = lone_rig.run("store", *action, str(tmp_path / "none"))
        assert (done.status, done.error) == (66, f"there is no store in {tmp_path / 'none'}"), action
    assert not (tmp_path / "none").exists()


def test_what_needs_a_stopped_server(lone_rig: Rig, tmp_path: Path) -> None:
    """Says so."""
    path = filled(tmp_path / "s", job(1))
    durable(lone_rig, path)
    for argv in (["check", "--repair", str(path)], ["vacuum", str(path)], ["import", str(path)]):
        done = lone_rig.run("store", *argv)
        assert (done.status, done.hint) == (69, "stop the server first")
        assert "in use" in done.error


def test_stdin_that_cannot_be_read(lone_rig: Rig, tmp_path: Path) -> None:
    """It is closed: one line."""
    done = lone_rig.shell(f"farm store import {tmp_path}/s <&-")
    assert done.status == 66
    assert done.error.startswith("cannot read stdin: ")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody")
def test_another_users_store_is_not_said_to_be_missing(tmp_path: Path) -> None:
    """It is only not to be seen."""
    from farm.store.contract import StoreError
    from farm.store.place import must_be_there

    path = filled(tmp_path / "s", job(1))
    os.seteuid(65534)
    try:
        with pytest.raises(StoreError, match="permission denied") as caught:
            must_be_there(str(path))
    finally:
        os.seteuid(0)
    assert caught.value.status == 77


def test_another_programs_file(lone_rig: Rig, tmp_path: Path) -> None:
    """Is left alone."""
    (tmp_path / "s").mkdir()
    with sqlite3.connect(tmp_path / "s" / "jobs.db") as database:
        database.execute("CREATE TABLE theirs (x)")
    database.close()
    for action in (["check"], ["export"], ["import"]):
        done = lone_rig.run("store", *action, str(tmp_path / "s"))
        assert done.status == 65
        assert "is not a store of farm" in done.error


@pytest.mark.skipif(os.geteuid() != 0, reason="only root works on another user's store")
def test_root_leaves_another_users_store_to_them(lone_rig: Rig, tmp_path: Path) -> None:
    """Also the files that a repair makes anew."""
    path = filled(tmp_path / "s", *(job(n, b"x" * 100) for n in range(1, 500)))
    content = bytearray((path / "jobs.db").read_bytes())
    content[10 * 4096 : 11 * 4096] = bytes(4096)
    (path / "jobs.db").write_bytes(content)
    for entry in (path, *path.iterdir()):
        os.chown(entry, 65534, 65534)
    checked(lone_rig, path, "--repair")
    lone_rig.run("store", "import", str(path), stdin=b"")
    lone_rig.run("store", "vacuum", str(path))
    assert {entry.stat().st_uid for entry in (path, *path.iterdir())} == {65534}


@pytest.mark.parametrize("version", sorted(STORES.glob("version-*.db")), ids=lambda path: path.stem)
def test_a_server_starts_on_a_store_of_every_version(lone_rig: Rig, version: Path) -> None:
    """Those that are checked in hold a cron entry with too little in it: it is named, and stays."""
    store = lone_rig.home / "store"
    store.mkdir(mode=0o700)
    shutil.copy(version, store / "jobs.db")
    server = lone_rig.server("--store", str(store))
    lone_rig.env["FARM_SERVER"] = server.address
    assert lone_rig.run("jobs", "--json").status == 0
    assert lone_rig.run("cron", "list").status == 0
    server.terminate()
    assert server.wait().status == 0
    assert lone_rig.run("store", "check", str(store)).status == 0
    with closing(sqlite3.connect(store / "jobs.db")) as database:
        rows = database.execute("SELECT count(*) FROM cron").fetchone()[0] if version.stem > "version-2" else 0
    assert ("is not understood" in server.err()) == bool(rows)


def test_results_are_dropped_by_their_size_and_not_by_the_thousand(lone_rig: Rig) -> None:
    """Twenty failed jobs of a MiB, of which four may be kept."""
    server = lone_rig.server("--store", "memory", "--keep-results-size", "4M")
    lone_rig.env["FARM_SERVER"] = server.address
    lone_rig.worker("fail", "--", "false")
    for _ in range(20):
        id = lone_rig.submit("-b", "fail", stdin=bytes(1 << 20)).out.decode().strip()
        assert lone_rig.run("wait", id).status == 1
    kept = json.loads(lone_rig.run("jobs", "--json", "--limit", "100").out)["jobs"]
    assert 3 <= len(kept) <= 5
