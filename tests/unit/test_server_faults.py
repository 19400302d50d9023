"""What the system or the disk does to a server, one turn of the loop at a time."""

from __future__ import annotations

import errno
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing

import pytest

from farm.broker.broker import Rules
from farm.broker.effects import Change, Expire, Finish, Save
from farm.loop import Loop
from farm.protocol import packets as p
from farm.protocol.address import Address
from farm.server.config import ServerConfig
from farm.server.server import Server
from farm.store.contract import Fenced, StoreError
from farm.store.memory import MemoryJournal, MemoryStore
from tests.support import PATIENCE_S, Wire, req


class FullDisk(MemoryStore):
    """It takes some changes, and then no more."""

    error = StoreError("no space left on device")

    def apply(self, changes: Sequence[Change]) -> None:
        if any(change.id & 0xFF > 1 for change in changes):
            raise self.error
        super().apply(changes)


class ImmediateDisk(MemoryStore):
    """A disk that is done before the loop goes on: the thread needs a moment only to say so."""

    waits = True

    def write(self, changes: Sequence[Change]) -> None:
        super().write(changes)
        super().commit()

    def commit(self) -> None:
        pass


class SlowDisk(MemoryStore):
    """Its commits take until `go` is set."""

    waits = True

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    def commit(self) -> None:
        self.go.wait(PATIENCE_S)
        super().commit()


class Ring:
    """A server whose turns the test makes happen."""

    def __init__(self, store: MemoryStore, **config: object) -> None:
        self.loop = Loop()
        self.server = Server(ServerConfig(listen=[Address("127.0.0.1", 0)], **config), store, self.loop)  # type: ignore[arg-type]
        self.where = self.server.listen()[0].rpartition(":")

    def connect(self) -> Wire:
        wire = Wire((self.where[0], int(self.where[2])))
        self.loop.turn()
        return wire

    def turn_until(self, condition: Callable[[], bool]) -> None:
        """Turn after turn, one at least, until it is so."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            self.loop.call_in(0.01, lambda: None)  # or a turn may wait for ever
            self.loop.turn()
            if condition():
                return
            assert time.monotonic() < deadline

    def close(self) -> None:
        self.server.close()
        self.loop.close()


@pytest.fixture
def ring() -> Iterator[Ring]:
    ring = Ring(FullDisk(), stall_s=0.05)
    yield ring
    ring.close()


@pytest.fixture
def patient() -> Iterator[Ring]:
    ring = Ring(MemoryStore(), first_packet_s=0.3, linger_s=0.05)
    yield ring
    ring.close()


@pytest.mark.parametrize("error", [StoreError("no space left on device"), Fenced("another server took over")])
def test_nobody_is_told_of_what_is_not_stored(ring: Ring, error: StoreError, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FullDisk, "error", error)
    with ring.connect() as client, ring.connect() as other:
        client.send(p.SUBMIT_JOB_BG, b"f", b"", b"stored")
        ring.loop.turn()
        assert client.packet()[0] == p.JOB_CREATED
        client.send(p.SUBMIT_JOB_BG, b"f", b"", b"not stored")
        other.send(p.ECHO_REQ, b"after it in the same turn")
        ring.loop.turn()
        assert ring.server.failure is error
        ring.server.close()
        client.expect_error(b"QUEUE_ERROR")
        client.expect_end()
        other.expect_end()


class DyingDisk(SlowDisk):
    """Its first commit waits, and fails."""

    def commit(self) -> None:
        self.go.wait(PATIENCE_S)
        raise StoreError("input/output error")


def test_who_waits_for_the_disk_hears_that_it_failed(caplog: pytest.LogCaptureFixture) -> None:
    """An answer for each promise, and none out of order; and nobody says that what may be lost is kept."""
    caplog.set_level("DEBUG")
    disk = DyingDisk()
    with closing(Ring(disk)) as ring, ring.connect() as first, ring.connect() as second:
        first.raw(req(p.SUBMIT_JOB_BG, b"f", b"", b"1") + req(p.SUBMIT_JOB_BG, b"f", b"", b"2"))
        second.raw(req(p.SUBMIT_JOB_BG, b"f", b"", b"3") + req(p.ECHO_REQ, b"x") + req(p.SUBMIT_JOB_BG, b"f", b"", b""))
        ring.turn_until(lambda: len(ring.server._broker.jobs) == 4)
        disk.go.set()
        ring.turn_until(lambda: ring.server.failure is not None)
        ring.server.close()
        for client, count in ((first, 2), (second, 1)):
            for _ in range(count):
                client.expect_error(b"QUEUE_ERROR")
            client.expect_end()
    assert "are kept" not in caplog.text


def test_a_job_may_be_given_and_end_in_one_turn_though_only_the_store_has_its_payload() -> None:
    with closing(Ring(ImmediateDisk(), rules=Rules(payload_memory_max=1))) as ring, ring.connect() as wire:
        wire.send(p.SUBMIT_JOB_BG, b"f", b"", b"payload")
        ring.turn_until(lambda: ring.server._journal.durable == 1)
        handle = wire.packet()[1]
        wire.raw(req(p.CAN_DO, b"f") + req(p.GRAB_JOB) + req(p.WORK_COMPLETE, handle, b""))
        ring.loop.turn()
        assert not ring.server.failure
        wire.expect(p.JOB_ASSIGN, handle, b"f", b"payload")


def test_who_says_that_nothing_more_comes_still_hears_what_waits_for_the_disk() -> None:
    with closing(Ring(SlowDisk())) as ring, ring.connect() as wire:
        wire.send(p.SUBMIT_JOB_BG, b"f", b"", b"payload")
        wire.half_close()
        ring.turn_until(lambda: all(connection.gone for connection in ring.server._connections.values()))
        ring.server._store.go.set()  # type: ignore[attr-defined]
        ring.turn_until(lambda: ring.server._journal.durable == 1)
        assert wire.packet()[0] == p.JOB_CREATED
        wire.expect_end()


@pytest.mark.parametrize("number", [errno.EPROTO, errno.ENETDOWN, errno.EPERM, errno.EMFILE, errno.ENOBUFS])
def test_accepting_survives_what_accept_may_say(ring: Ring, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux passes errors of the new connection on through accept(2), and a firewall may forbid one."""

    def broken(self: socket.socket) -> tuple[socket.socket, object]:
        raise OSError(number, "no")

    with ring.connect() as client:
        monkeypatch.setattr(socket.socket, "accept", broken)
        late = Wire((ring.where[0], int(ring.where[2])))
        ring.loop.turn()
        monkeypatch.undo()
        client.send(p.ECHO_REQ, b"still there")
        ring.loop.turn()
        client.expect(p.ECHO_RES, b"still there")
        late.close()


def test_a_peer_that_was_held_up_can_still_stall(ring: Ring) -> None:
    """While it was the server that did not read, time did not count; from then on it does."""
    with ring.connect() as wire:
        (connection,) = ring.server._connections.values()
        wire.raw(b"\0REQ" + struct.pack(">II", p.SUBMIT_JOB, 100))
        ring.loop.turn()
        connection.held = True
        watchdog = ring.server._watchdog
        watchdog._stalling[connection] -= 1  # a long time ago
        watchdog._end_stalls()  # but it was held up
        connection.held = False
        assert watchdog._stall_timer, "nobody looks at it any more"
        ring.loop.turn()  # as long as `stall_s`
        wire.expect_error(b"INVALID_PACKET")


def clients(ring: Ring, count: int) -> list[Wire]:
    return [ring.connect() for _ in range(count)]


def wait_turns(ring: Ring, condition: Callable[[], object]) -> None:
    """Turn after turn until it is so."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        ring.loop.call_in(0.01, lambda: None)
        ring.loop.turn()


def test_who_never_says_anything_is_closed(patient: Ring) -> None:
    """One timer for all of them; who has said one thing, packet or line, may be silent for ever."""
    mute, half = clients(patient, 2)
    packet, line, upload = clients(patient, 3)
    half.raw(b"\0REQ\0")
    upload.raw(b"\0REQ" + struct.pack(">II", p.SUBMIT_JOB, 10**6) + b"x" * 2**17)  # its first packet takes its time
    packet.send(p.ECHO_REQ, b"")
    line.raw(b"version\n")
    wait_turns(patient, lambda: len(patient.server._connections) == 3)
    for wire in (mute, half):
        wire.expect_error(b"INVALID_PACKET")
        wire.expect_end()
    packet.expect(p.ECHO_RES, b"")
    assert line.line().startswith(b"OK ")
    assert not patient.server._watchdog._mute
    for wire in (mute, half, packet, line, upload):
        wire.close()


def test_a_full_server_makes_room_for_who_may_have_something_to_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that has been mute longest goes, and only after a while; nobody who has spoken does."""
    ring = Ring(MemoryStore(), connections_max=3)
    spoke, old, older = clients(ring, 3)
    watchdog = ring.server._watchdog
    spoke.send(p.ECHO_REQ, b"")
    ring.loop.turn()
    early = ring.connect()
    early.expect_error(b"TOO_MANY_CONNECTIONS")  # nobody has been silent for long yet
    mute = list(watchdog._mute)
    monkeypatch.setattr("farm.server.watchdog.MUTE_S", 0.0)
    late = ring.connect()
    assert list(watchdog._mute)[:1] == mute[1:]
    old.expect_error(b"TOO_MANY_CONNECTIONS")
    old.expect_end()
    late.send(p.ECHO_REQ, b"late")
    ring.loop.turn()
    late.expect(p.ECHO_RES, b"late")
    spoke.expect(p.ECHO_RES, b"")
    assert len(ring.server._connections) == 3
    for wire in (spoke, old, older, early, late):
        wire.close()
    ring.close()


def test_a_turn_that_was_held_up_gives_no_job_before_its_time(ring: Ring) -> None:
    """The turn's own time is its beginning; the wall clock has gone on since."""
    ring.loop.now = time.monotonic() - 100
    ring.server._end_turn()
    assert abs(ring.server._broker.wall_offset - (time.time() - time.monotonic())) < 50


def test_a_worker_is_given_what_came_in_the_same_turn(patient: Ring) -> None:
    """Whoever was ready first: workers are read from last, so none is sent to sleep while a job has come already."""
    with patient.connect() as worker, patient.connect() as client:
        worker.send(p.CAN_DO, b"f")
        patient.loop.turn()
        worker.send(p.GRAB_JOB)
        client.send(p.SUBMIT_JOB, b"f", b"", b"payload")
        patient.loop.turn()
        assert worker.packet()[0] == p.JOB_ASSIGN
        client.send(p.SUBMIT_JOB, b"f", b"", b"")
        patient.loop.turn()
        assert [client.packet()[0] for _ in range(2)] == [p.JOB_CREATED] * 2


@pytest.mark.parametrize("keep_s", [0.0, 1.0])
def test_what_an_earlier_life_has_kept_grows_old_too(keep_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though nobody comes, and this life keeps nothing."""
    monkeypatch.setattr("farm.server.upkeep.EXPIRE_EVERY_S", 0.05)
    journal = MemoryJournal()
    earlier = MemoryStore(journal)
    earlier.open()
    soon = time.time() - keep_s + 0.3
    for id, at in enumerate((1.0, soon), 1):
        earlier.apply([Save(id, b"f", b"", 1, b""), Finish(id, "done", 0.0, at)])
    with closing(Ring(MemoryStore(journal), keep_results_s=keep_s)) as ring:
        ring.turn_until(lambda: list(journal.ended) == [2] or time.time() >= soon)
        ring.turn_until(lambda: not journal.ended)


def test_what_is_left_over_is_dropped_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """An Expire drops so much, and then the loop goes on; the rest does not wait for a minute."""

    class OneAtATime(MemoryStore):
        def _expire(self, change: Expire) -> None:
            ended = self._journal.ended
            del ended[next(iter(ended))]
            self.overdue = bool(ended)

    monkeypatch.setattr("farm.server.upkeep.EXPIRE_AGAIN_S", 0.01)
    journal = MemoryJournal()
    journal.ended = {id: Finish(id, "done", 0.0, 1.0) for id in range(1, 6)}
    with closing(Ring(OneAtATime(journal))) as ring:
        ring.turn_until(lambda: not journal.ended)
