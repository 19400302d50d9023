"""A payload that only the store has, and the store does not give it."""

from __future__ import annotations

import socket
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest

from farm.broker.broker import Rules
from farm.broker.effects import Expire, Finish, Progress, Save
from farm.broker.history import Unreadable
from farm.broker.peer import Peer
from farm.loop import Loop
from farm.protocol import packets as p
from farm.server.config import ServerConfig
from farm.server.connection import Connection
from farm.server.server import Server
from farm.store.contract import StoreError
from farm.store.memory import MemoryStore
from farm.store.sqlite import SqliteStore
from tests.unit.test_server_faults import Ring


class Unread(MemoryStore):
    """It keeps everything and gives nothing back."""

    def payload(self, id: int) -> bytes:
        raise StoreError("the disk does not answer")


def test_the_server_leaves_and_gives_the_worker_no_job_without_its_payload() -> None:
    ring = Ring(Unread(), rules=Rules(payload_memory_max=1))  # type: ignore[arg-type]
    with ring.connect() as wire:
        wire.send(p.SUBMIT_JOB_BG, b"f", b"", b"payload")
        wire.send(p.CAN_DO, b"f")
        ring.loop.turn()
        assert wire.packet()[0] == p.JOB_CREATED
        wire.send(p.GRAB_JOB)
        ring.loop.turn()
        assert ring.server.failure
        ring.close()
        wire.expect_end()


def test_an_empty_piece_at_the_end_does_not_keep_the_server_busy_for_ever() -> None:
    here, there = socket.socketpair()
    with here, there, closing(Loop()) as loop:
        connection = Connection(here, cast(Peer, None), loop, 100)
        connection.queue(b"packet")
        connection.queue(b"")
        connection.flush()
        connection.queue(b"")
        connection.flush()
        assert there.recv(100) == b"packet"
        assert connection.out_size == 0


def test_a_payload_that_is_not_what_was_written_is_given_to_nobody(tmp_path: Path) -> None:
    """It is read only now, long after the start that looked at all of them."""
    store = SqliteStore(str(tmp_path))
    store.open()
    store.apply([Save(1, b"f", b"", 1, b"payload")])
    with closing(sqlite3.connect(tmp_path / "jobs.db")) as database:
        database.execute("UPDATE job SET payload = CAST('payloax' AS BLOB)")
        database.commit()
    with pytest.raises(StoreError, match="job H:0:1 is not what was written"):
        store.payload(1)
    store.close()


def test_payloads_of_failed_jobs_count_in_what_is_kept(tmp_path: Path) -> None:
    store = SqliteStore(str(tmp_path))
    store.open()
    for batch in range(10):
        ids = range(batch * 10, batch * 10 + 10)
        store.apply([Save(id, b"f", b"", 1, bytes(10_000)) for id in ids])
        store.apply([Finish(id, "failed", 0.0, 100.0) for id in ids])
        store.apply([Expire(0.0, 305_000)])
    kept = sum(store.ended(id) is not None for id in range(100))
    assert 25 <= kept <= 30
    for id in range(1000, 1040):
        store.apply([Save(id, b"f", b"", 1, b"")])
        store.apply([Finish(id, "done", 0.0, 100.0, result=bytes(10_000))])
        store.apply([Expire(0.0, 305_000)])
    kept = sum(store.ended(id) is not None for id in range(1040))
    assert 25 <= kept <= 30, "the count drifts"
    store.close()


def damaged_end(directory: Path) -> bytes:
    """A store in which what is kept of its one job is not what was written. Returns its handle."""
    store = SqliteStore(str(directory))
    store.open()
    store.apply(
        [Save(1 << 40 | 1, b"f", b"", 1, b"payload"), Finish(1 << 40 | 1, "failed", 0.0, time.time(), log=b"said")]
    )
    store.close()
    with closing(sqlite3.connect(directory / "jobs.db")) as database:
        database.execute("UPDATE ended SET log = CAST('sayd' AS BLOB)")
        database.commit()
    return b"H:1:1"


def test_who_asks_about_a_job_whose_end_is_damaged_is_told_and_the_server_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It used to leave, and whoever asked again ended the next one."""
    handle = damaged_end(tmp_path)
    ring = Ring(SqliteStore(str(tmp_path), reserve=0))  # type: ignore[arg-type]
    with ring.connect() as wire:
        wire.send(p.OPTION_REQ, b"farm-1")
        ring.loop.turn()
        wire.expect(p.OPTION_RES, b"farm-1")
        for verb in (b"job", b"output"):
            wire.send(p.FARM_ASK, verb, b'{"id": "%b"}' % handle, b"")
            ring.loop.turn()
            wire.expect_error(b"STORE_ERROR")
        wire.send(p.FARM_ASK, b"retry", b'{"ids": ["%b"]}' % handle, b"")
        ring.turn_until(lambda: not ring.server._journal.behind)
        wire.expect(p.FARM_ANSWER, b"retry", b'{"results":[{"id":"%b","outcome":"unreadable"}]}' % handle)
        wire.send(p.FARM_ASK, b"jobs", b"{}", b"")  # a listing does not look so closely
        ring.loop.turn()
        assert handle in wire.packet()[1]
        wire.send(p.FARM_ASK, b"purge", b'{"ids": ["%b"]}' % handle, b"")
        ring.turn_until(lambda: not ring.server._journal.behind)
        assert b"purged" in wire.packet()[1]
    assert not ring.server.failure
    ring.close()
    said = [record.getMessage() for record in caplog.records if "cannot read" in record.getMessage()]
    assert said == [
        f"cannot read what is kept of jobs that have ended: what is kept of job H:1:1 is damaged in {tmp_path}"
    ]


def test_a_start_that_must_know_how_a_job_ended_is_refused_where_that_cannot_be_read(tmp_path: Path) -> None:
    """A job waits for it. Nothing is decided by guessing."""

    class Mute(SqliteStore):
        def about(self, id: int) -> None:
            raise StoreError("the disk does not answer", "look at it")

    store = SqliteStore(str(tmp_path))
    store.open()
    store.apply([Save(1, b"f", b"", 1, b""), Finish(1, "done", 0.0, 100.0), Save(2, b"f", b"", 1, b"")])
    store.apply([Progress(2, 0, after=b"ok:H:0:1")])
    store.close()
    mute = Mute(str(tmp_path))
    with closing(Loop()) as loop, pytest.raises(Unreadable, match="the disk does not answer") as caught:
        Server(ServerConfig(), mute, loop)
    assert (caught.value.hint, caught.value.status) == ("look at it", 73)
    mute.close()
