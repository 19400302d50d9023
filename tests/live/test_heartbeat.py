"""Who owes a sign of life and gives none is given up; everybody else may be silent for ever."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from farm.protocol import packets as p
from tests.live.conftest import Start
from tests.support import ServerProcess, Wire, req, wait_until

BEAT_S = 0.4  # long enough for a loaded machine to be in time three times in a row
SILENT = 5  # heartbeats: longer than who promised may be silent


@pytest.fixture
def server(start: Start) -> ServerProcess:
    """One with a fast pulse."""
    return start(heartbeat_s=BEAT_S)


def asked(server: ServerProcess, receive_buffer: int = 0) -> Wire:
    """A connection that asked for heartbeats."""
    wire = server.connect(receive_buffer)
    for option in (b"farm-1", b"farm-heartbeat"):
        wire.send(p.OPTION_REQ, option)
        wire.expect(p.OPTION_RES, option)
    wire.expect(p.FARM_HEARTBEAT, b"400")
    return wire


def at_work(wire: Wire, client: Wire, function: bytes = b"f") -> bytes:
    """It runs a job of the client's; returns the handle."""
    wire.send(p.CAN_DO, function)
    handle = client.submit(function)
    wire.send(p.GRAB_JOB)
    while (packet := wire.packet())[0] == p.FARM_HEARTBEAT:
        pass
    assert packet[0] == p.JOB_ASSIGN
    return handle


def running(client: Wire, handle: bytes) -> bool:
    """Whether a worker has the job."""
    client.send(p.GET_STATUS, handle)
    number, body = client.packet()
    assert number == p.STATUS_RES
    return body.split(b"\0")[2] == b"1"


@contextmanager
def alive(wire: Wire) -> Iterator[threading.Event]:
    """It shows that it lives until the event is set."""
    dies = threading.Event()

    def beat() -> None:
        while not dies.wait(BEAT_S / 2):
            wire.raw(req(p.FARM_ALIVE))

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield dies
    finally:
        dies.set()
        thread.join()


def test_a_worker_that_falls_silent_loses_its_job(server: ServerProcess) -> None:
    with asked(server) as worker, server.connect() as client:
        handle = at_work(worker, client)
        with alive(worker) as dies:
            for _ in range(SILENT):
                assert worker.packet() == (p.FARM_HEARTBEAT, b"400")
            assert running(client, handle)
            dies.set()
            wait_until(lambda: not running(client, handle), what="the job is queued again")
        assert server.log().count("no sign of life for") == 1


def test_who_did_not_ask_may_be_silent(server: ServerProcess) -> None:
    """A library's worker computes, a stock one knows nothing of it: neither is judged."""
    with server.connect() as silent, server.connect() as stock, server.connect() as client, asked(server) as watch:
        silent.send(p.OPTION_REQ, b"farm-1")
        silent.expect(p.OPTION_RES, b"farm-1")
        handles = [at_work(silent, client, b"a"), at_work(stock, client, b"b")]
        with alive(watch):
            for _ in range(SILENT):
                assert watch.packet() == (p.FARM_HEARTBEAT, b"400")
        assert all(running(client, handle) for handle in handles)
        for wire in (silent, stock):
            wire.expect_nothing()


def test_other_bytes_are_as_good_a_sign(server: ServerProcess) -> None:
    """Half packets too: a large result takes its time."""
    with asked(server) as worker, server.connect() as client:
        handle = at_work(worker, client)
        result = req(p.WORK_COMPLETE, handle, b"x" * 60)
        for index in range(2 * SILENT):
            worker.raw(result[index : index + 1])
            assert worker.packet() == (p.FARM_HEARTBEAT, b"400")
        worker.raw(result[2 * SILENT :])
        client.expect(p.WORK_COMPLETE, handle, b"x" * 60)


def test_who_is_held_up_by_the_server_is_not_judged_and_hears_that_it_lives(server: ServerProcess) -> None:
    with asked(server) as worker, server.connect(receive_buffer=65536) as client:
        handle = at_work(worker, client)
        worker.sock.settimeout(60)
        pieces = [req(p.WORK_DATA, handle, b"x" * 65536)] * 800 + [req(p.WORK_COMPLETE, handle, b"end")]
        thread = threading.Thread(target=worker.raw_all, args=(pieces,))
        thread.start()  # it hangs in its send: nothing it might promise reaches the server
        for _ in range(SILENT):
            assert worker.packet() == (p.FARM_HEARTBEAT, b"400")
        assert thread.is_alive()
        for _ in range(800):
            assert client.packet()[0] == p.WORK_DATA
        client.expect(p.WORK_COMPLETE, handle, b"end")
        thread.join()
        assert "no sign of life" not in server.log()


def test_a_server_that_was_stopped_itself_judges_nobody_for_it(server: ServerProcess) -> None:
    """As when the whole machine stood still: nobody sent anything meanwhile."""
    with asked(server) as worker, server.connect() as client:
        handle = at_work(worker, client)
        with alive(worker):
            worker.packet()
        os.kill(server.pid, signal.SIGSTOP)
        time.sleep(SILENT * BEAT_S)  # not for anything to happen: the server is to find that it was away for so long
        os.kill(server.pid, signal.SIGCONT)
        number = worker.packet()[0]
        with alive(worker):
            for _ in range(SILENT):
                number = worker.packet()[0]
                assert number == p.FARM_HEARTBEAT
            assert running(client, handle)
        assert "no sign of life" not in server.log()


def test_heartbeats_do_not_pile_up_before_who_does_not_read(server: ServerProcess) -> None:
    """Half a megabyte waits for it, and not one heartbeat more."""
    with asked(server, receive_buffer=4096) as worker, server.connect() as client:
        worker.send(p.CAN_DO, b"f")
        payload = b"x" * (8 * 1024 * 1024)  # more than the system takes
        client.submit(b"f", payload)
        worker.send(p.GRAB_JOB)
        wait_until(lambda: b"\t1\t1\t1\n" in client.listing(b"status")[0], what="it is assigned")
        with alive(worker):
            time.sleep(SILENT * BEAT_S)  # for what must not come
        seen = []
        while not seen or seen[-1] != p.JOB_ASSIGN:
            seen.append(worker.packet()[0])
        worker.send(p.ECHO_REQ, b"")
        while seen[-1] != p.ECHO_RES:
            seen.append(worker.packet()[0])
        after = seen[seen.index(p.JOB_ASSIGN) :]
        assert after.count(p.FARM_HEARTBEAT) <= 2


def test_without_heartbeats_nobody_is_judged(start: Start) -> None:
    server = start(heartbeat_s=0)
    with server.connect() as worker:
        for option in (b"farm-1", b"farm-heartbeat"):
            worker.send(p.OPTION_REQ, option)
            worker.expect(p.OPTION_RES, option)
        worker.send(p.FARM_ALIVE)
        worker.expect_nothing()
