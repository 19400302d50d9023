"""Who does not read is waited for: the server's memory does not grow, and nobody else notices."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from farm.protocol import packets as p
from tests.live.conftest import Start
from tests.support import ServerProcess, Wire, do_one_job, req, wait_until, worker_and_client

MIB = 1024 * 1024
GROWTH_MAX = 16 * MIB
RECEIVE_BUFFER = 64 * 1024  # small, so that the system does not swallow what the client ought to hold up


@contextmanager
def sending(wire: Wire, pieces: list[bytes]) -> Iterator[threading.Thread]:
    """Send in the background, for the sender will be held up. At the end it must have got everything off."""
    wire.sock.settimeout(60)
    thread = threading.Thread(target=wire.raw_all, args=(pieces,))
    thread.start()
    yield thread
    thread.join(60)
    assert not thread.is_alive()


class Idle:
    """Whether a server does nothing any more: it has done everything, or it waits for somebody who does not read."""

    def __init__(self, server: ServerProcess) -> None:
        self._stat = Path(f"/proc/{server.pid}/stat")
        self._ticks = ""
        self._since = 0.0

    def __call__(self) -> bool:
        ticks = " ".join(self._stat.read_text().rpartition(")")[2].split()[11:13])  # user and system time
        if ticks != self._ticks:
            self._ticks, self._since = ticks, time.monotonic()
        return time.monotonic() - self._since > 0.2


def served_promptly(server: ServerProcess, function: bytes) -> None:
    """Another pair gets ten jobs done while all this goes on."""
    with worker_and_client(server, function) as (worker, client):
        for n in range(10):
            assert do_one_job(worker, client, function, b"x" * 1000 * n) < 1


def test_a_client_that_does_not_read_holds_up_its_worker(start: Start) -> None:
    server = start()
    size, count = 256 * 1024, 1200  # 300 MB
    with server.connect() as worker, server.connect(RECEIVE_BUFFER) as client:
        worker.send(p.CAN_DO, b"f")
        worker.expect_nothing()
        handle = client.submit(b"f")
        assert worker.grab()
        before = server.rss()
        packet = req(p.WORK_DATA, handle, b"x" * size)
        with sending(worker, [packet] * count + [req(p.WORK_COMPLETE, handle, b"end")]) as thread:
            wait_until(Idle(server), what="the worker is held up")
            assert thread.is_alive()
            assert server.rss() - before < GROWTH_MAX
            served_promptly(server, b"other")
            for _ in range(count):
                number, body = client.packet()
                assert number == p.WORK_DATA
                assert len(body) == len(handle) + 1 + size
            client.expect(p.WORK_COMPLETE, handle, b"end")
        assert server.rss() - before < GROWTH_MAX


def test_results_for_a_client_that_does_not_read_hold_up_its_worker(start: Start) -> None:
    """Each of these packets ends its job, so that nothing ties the worker to the client any more but the bytes."""
    server = start()
    size, count = MIB, 100
    with server.connect() as worker, server.connect(RECEIVE_BUFFER) as client:
        worker.send(p.CAN_DO, b"f")
        handles = [client.submit(b"f") for _ in range(count)]
        before = server.rss()
        done: list[bytes] = []

        def work() -> None:
            while job := worker.grab():
                worker.send(p.WORK_COMPLETE, job.split(b"\0")[0], b"x" * size)
                worker.expect_nothing()  # so that its next grab comes in a turn of its own
                done.append(job)

        worker.sock.settimeout(60)
        thread = threading.Thread(target=work)
        thread.start()
        wait_until(Idle(server), what="the worker is held up, or all is done")
        grown = server.rss() - before
        served_promptly(server, b"other")
        for handle in handles:
            client.expect(p.WORK_COMPLETE, handle, b"x" * size)
        thread.join(60)
        assert len(done) == count
        assert grown < GROWTH_MAX


@pytest.mark.parametrize(
    "command", [req(p.ECHO_REQ, b"x" * 100), req(p.GET_STATUS, b"H:1:1" + b"1" * 50), b"version\n"]
)
def test_a_client_that_asks_and_does_not_read_is_held_up(start: Start, command: bytes) -> None:
    server = start()
    count = 200_000
    with server.connect(RECEIVE_BUFFER) as client:
        client.send(p.ECHO_REQ, b"")
        client.expect(p.ECHO_RES, b"")
        before = server.rss()
        with sending(client, [command * 1000] * (count // 1000)):
            wait_until(Idle(server), what="the client is held up, or all is answered")
            assert server.rss() - before < GROWTH_MAX
            served_promptly(server, b"other")
            for _ in range(count):
                if command.startswith(b"v"):
                    assert client.line().startswith(b"OK ")
                else:
                    assert client.packet()[0] in (p.ECHO_RES, p.STATUS_RES)
        client.expect_nothing()
        assert server.rss() - before < GROWTH_MAX


def test_short_questions_with_long_answers(start: Start) -> None:
    """One segment holds thousands of `status` lines, each worth a listing of every function."""
    server = start()
    functions = 1000
    with server.connect(RECEIVE_BUFFER) as client, server.connect() as worker:
        worker.raw(b"".join(req(p.CAN_DO, b"function-with-a-long-name-%d" % n) for n in range(functions)))
        worker.expect_nothing()
        before = server.rss()
        with sending(client, [b"status\n" * 9000]):
            served_promptly(server, b"other")
            wait_until(Idle(server), what="the client is held up")
        assert server.rss() - before < GROWTH_MAX


@pytest.mark.parametrize("leave", [Wire.close, Wire.half_close])
def test_a_client_that_leaves_sets_its_worker_free(start: Start, leave: Callable[[Wire], None]) -> None:
    server = start()
    with server.connect() as worker, server.connect(RECEIVE_BUFFER) as client:
        worker.send(p.CAN_DO, b"f")
        worker.expect_nothing()
        handle = client.submit(b"f")
        assert worker.grab()
        with sending(worker, [req(p.WORK_DATA, handle, b"x" * 65536)] * 800) as thread:
            wait_until(Idle(server), what="the worker is held up")
            assert thread.is_alive()
            leave(client)
        worker.send(p.WORK_COMPLETE, handle, b"")
        worker.expect_nothing()


def test_one_slow_watcher_of_two_gets_everything_too(start: Start) -> None:
    server = start()
    count, size = 400, 65536
    with server.connect() as worker, server.connect() as fast, server.connect(RECEIVE_BUFFER) as slow:
        worker.send(p.CAN_DO, b"f")
        worker.expect_nothing()
        handle = fast.submit(b"f", b"", b"key")
        assert slow.submit(b"f", b"", b"key") == handle
        assert worker.grab()
        with sending(worker, [req(p.WORK_DATA, handle, b"%06d" % n + b"x" * size) for n in range(count)]):
            wait_until(Idle(server), what="the worker is held up")
            for n in range(count):
                for wire in (slow, fast):
                    number, body = wire.packet()
                    assert (number, body[len(handle) + 1 :][:6]) == (p.WORK_DATA, b"%06d" % n)


def numbered(handle: bytes, count: int, size: int) -> list[bytes]:
    """So many pieces of output, and the end."""
    pieces = [req(p.WORK_DATA, handle, b"%06d" % n + b"x" * size) for n in range(count)]
    return [*pieces, req(p.WORK_COMPLETE, handle, b"end")]


def read_numbered(wire: Wire, handle: bytes, count: int) -> None:
    """All of it, in order."""
    for n in range(count):
        number, body = wire.packet()
        assert (number, body[len(handle) + 1 :][:6]) == (p.WORK_DATA, b"%06d" % n)
    wire.expect(p.WORK_COMPLETE, handle, b"end")


def test_a_watcher_that_does_not_read_starves_nobody_and_is_dropped(start: Start) -> None:
    """The others get everything at their own pace, the server does not grow, and the log says who was dropped."""
    server = start(out_max=4 * MIB, out_stall_s=0.2)
    count, size = 2000, 65536
    with server.connect() as worker, server.connect() as fast, server.connect(RECEIVE_BUFFER) as stuck:
        worker.send(p.CAN_DO, b"f")
        worker.expect_nothing()
        handle = stuck.submit(b"f", b"", b"key")
        assert fast.submit(b"f", b"", b"key") == handle
        assert worker.grab()
        before = server.rss()
        with sending(worker, numbered(handle, count, size)):
            read_numbered(fast, handle, count)
        assert server.rss() - before < GROWTH_MAX
        assert server.log().count("dropped, ") == 1
        wait_until(lambda: len(fast.listing(b"workers")) == 2, what="only two are connected")


def test_a_farm_watcher_that_does_not_read_is_waited_for(start: Start) -> None:
    """It may be a pipe into a pager: it is paused for as long as that takes, and the others with it."""
    server = start(out_max=2 * MIB, out_stall_s=0.05)
    count, size = 400, 65536
    with server.connect() as worker, server.connect() as fast, server.connect(RECEIVE_BUFFER) as pager:
        pager.send(p.OPTION_REQ, b"farm-1")
        pager.expect(p.OPTION_RES, b"farm-1")
        worker.send(p.CAN_DO, b"f")
        worker.expect_nothing()
        handle = fast.submit(b"f", b"", b"key")
        assert pager.submit(b"f", b"", b"key") == handle
        assert worker.grab()
        before = server.rss()
        reading = threading.Thread(target=read_numbered, args=(fast, handle, count))
        reading.start()
        with sending(worker, numbered(handle, count, size)) as thread:
            wait_until(Idle(server), what="the worker is held up")
            assert thread.is_alive()
            assert server.rss() - before < GROWTH_MAX
            read_numbered(pager, handle, count)
        reading.join(60)
        assert not reading.is_alive()
        assert "dropped" not in server.log()


def test_watchers_that_are_merely_slow_are_waited_for(start: Start) -> None:
    """Whoever reads at all, and whoever does not while nobody else does."""
    server = start(out_max=2 * MIB)
    count, size = 400, 65536
    with server.connect() as worker, server.connect(RECEIVE_BUFFER) as one, server.connect(RECEIVE_BUFFER) as two:
        worker.send(p.CAN_DO, b"f")
        worker.expect_nothing()
        handle = one.submit(b"f", b"", b"key")
        assert two.submit(b"f", b"", b"key") == handle
        assert worker.grab()
        with sending(worker, numbered(handle, count, size)) as thread:
            wait_until(Idle(server), what="the worker is held up")
            assert thread.is_alive()
            readers = [threading.Thread(target=read_numbered, args=(wire, handle, count)) for wire in (one, two)]
            for reader in readers:
                reader.start()
            for reader in readers:
                reader.join(60)
                assert not reader.is_alive()
        assert "dropped" not in server.log()


def test_a_result_larger_than_the_limit_reaches_who_reads_slowly(start: Start) -> None:
    """What one packet brings is not what a reader is dropped for, however many watch."""
    server = start(out_max=MIB)
    size = 32 * MIB
    with server.connect() as worker, server.connect() as fast, server.connect(RECEIVE_BUFFER) as slow:
        worker.send(p.CAN_DO, b"f")
        worker.expect_nothing()
        handle = slow.submit(b"f", b"", b"key")
        assert fast.submit(b"f", b"", b"key") == handle
        assert worker.grab()
        with sending(worker, [req(p.WORK_DATA, handle, b"x" * size)]):
            for wire in (fast, slow):
                number, body = wire.packet()
                assert (number, len(body)) == (p.WORK_DATA, len(handle) + 1 + size)
        assert "dropped" not in server.log()


def test_64_mib_through_the_whole_cycle(start: Start) -> None:
    server = start()
    payload = bytes(range(256)) * (64 * MIB // 256)
    with worker_and_client(server, b"f") as (worker, client):
        with sending(client, [req(p.SUBMIT_JOB, b"f", b"key", payload)]):
            number, handle = client.packet()
            assert number == p.JOB_CREATED
        worker.send(p.GRAB_JOB_UNIQ)
        number, body = worker.packet()
        assert number == p.JOB_ASSIGN_UNIQ
        assert body == b"\0".join((handle, b"f", b"key", payload))
        del body
        with sending(worker, [req(p.WORK_COMPLETE, handle, payload)]):
            client.expect(p.WORK_COMPLETE, handle, payload)
        client.expect_nothing()
        worker.expect_nothing()
