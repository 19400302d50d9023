"""Stopping: results still reach their clients, nothing new begins, and it ends within its bound."""

from __future__ import annotations

import socket
import time

import pytest

from farm.protocol import packets as p
from tests.live.conftest import Start
from tests.support import PATIENCE_S, ServerProcess, Wire, wait_until, worker_and_client


def refuses_connections(server: ServerProcess) -> bool:
    try:
        server.connect().close()
    except ConnectionRefusedError:
        return True
    return False


def stopping(server: ServerProcess) -> None:
    """Ask it to stop, and wait until it has begun to."""
    server.terminate()
    wait_until(lambda: "stopping" in server.log())


def test_a_running_foreground_job_is_still_delivered(start: Start) -> None:
    server = start(stop_grace_s=20)
    with worker_and_client(server, b"f") as (worker, client):
        handle = client.submit(b"f")
        queued = client.submit(b"f")
        worker.grab()
        stopping(server)
        assert refuses_connections(server)
        worker.send(p.WORK_DATA, handle, b"part")
        client.expect(p.WORK_DATA, handle, b"part")
        client.send(p.SUBMIT_JOB, b"f", b"", b"")
        client.expect_error(b"SHUTDOWN")
        worker.send(p.GRAB_JOB)
        worker.expect(p.NO_JOB)  # though one is queued
        client.send(p.GET_STATUS, queued)
        client.expect(p.STATUS_RES, queued, b"1", b"0", b"0", b"0")
        assert server.process.poll() is None
        worker.send(p.WORK_COMPLETE, handle, b"out")
        client.expect(p.WORK_COMPLETE, handle, b"out")
        assert server.wait() == 0
        client.expect_end()
        worker.expect_end()
    assert "stopped" in server.log()


def test_a_result_that_is_not_read_yet_is_still_delivered(start: Start) -> None:
    server = start(stop_grace_s=20)
    with server.connect() as worker, server.connect(64 * 1024) as client:
        worker.send(p.CAN_DO, b"f")
        handle = client.submit(b"f")
        worker.grab()
        worker.send(p.WORK_COMPLETE, handle, b"x" * 20_000_000)  # more than the system's buffers hold
        worker.expect_nothing()
        stopping(server)
        client.expect(p.WORK_COMPLETE, handle, b"x" * 20_000_000)
        client.expect_end()
    assert server.wait() == 0


def test_without_a_running_job_it_stops_at_once(start: Start) -> None:
    server = start(stop_grace_s=20)
    with worker_and_client(server, b"f") as (worker, client):
        client.submit(b"f", number=p.SUBMIT_JOB_BG)
        server.terminate()
        assert server.wait(PATIENCE_S) == 0
        client.expect_end()
        worker.expect_end()
    assert "1 jobs had not ended" in server.log()


def test_a_running_background_job_may_end_too(start: Start) -> None:
    server = start(stop_grace_s=20)
    with worker_and_client(server, b"f") as (worker, client):
        handle = client.submit(b"f", number=p.SUBMIT_JOB_BG)
        worker.grab()
        stopping(server)
        client.expect_nothing()
        worker.send(p.WORK_COMPLETE, handle, b"")
        assert server.wait(PATIENCE_S) == 0
        worker.expect_end()
    assert "had not ended" not in server.log()


def test_a_job_that_nobody_wants_any_more_is_not_waited_for(start: Start) -> None:
    """Its worker runs on and reports to nobody."""
    server = start(stop_grace_s=20)
    with worker_and_client(server, b"f") as (worker, client), server.connect() as admin:
        handle = client.submit(b"f", number=p.SUBMIT_JOB_BG)
        worker.grab()
        admin.raw(b"cancel job " + handle + b"\n")
        assert admin.line().startswith(b"OK")
        server.terminate()
        assert server.wait(PATIENCE_S) == 0


@pytest.mark.parametrize("number", [p.SUBMIT_JOB, p.SUBMIT_JOB_BG])
def test_a_job_that_does_not_end_is_waited_for_only_so_long(start: Start, number: int) -> None:
    server = start(stop_grace_s=0.3)
    with worker_and_client(server, b"f") as (worker, client):
        client.submit(b"f", number=number)
        worker.grab()
        begin = time.monotonic()
        server.terminate()
        assert server.wait(PATIENCE_S) == 0
        assert time.monotonic() - begin >= 0.3
        client.expect_end()
    assert "its time is up" in server.log()


def test_a_client_that_does_not_read_is_waited_for_only_so_long(start: Start) -> None:
    server = start(stop_grace_s=0.3)
    with server.connect() as worker, server.connect(64 * 1024) as client:
        worker.send(p.CAN_DO, b"f")
        handle = client.submit(b"f")
        worker.grab()
        worker.send(p.WORK_COMPLETE, handle, b"x" * 30_000_000)
        worker.expect_nothing()  # one result that is not read holds no worker up
        server.terminate()
        assert server.wait(PATIENCE_S) == 0


def test_a_lost_worker_ends_the_waiting(start: Start) -> None:
    server = start(stop_grace_s=20)
    with worker_and_client(server, b"f") as (worker, client):
        client.submit(b"f")
        worker.grab()
        stopping(server)
        worker.close()
        assert server.wait(PATIENCE_S) == 0
        client.expect_end()


def test_a_client_that_leaves_ends_the_waiting(start: Start) -> None:
    server = start(stop_grace_s=20)
    with worker_and_client(server, b"f") as (worker, client):
        client.submit(b"f")
        worker.grab()
        stopping(server)
        client.close()
        assert server.wait(PATIENCE_S) == 0


def test_the_second_signal_stops_at_once(start: Start) -> None:
    server = start(stop_grace_s=60)
    with worker_and_client(server, b"f") as (worker, client):
        client.submit(b"f")
        worker.grab()
        stopping(server)
        server.terminate()
        server.wait(PATIENCE_S)
        client.expect_end()
    assert "at once" in server.log()


def test_the_port_is_free_at_once_for_the_next_server(start: Start) -> None:
    first = start()
    host, port = first.where
    with first.connect() as wire:
        first.terminate()
        assert first.wait() == 0
        wire.expect_end()
    second = start(listen=[f"{host}:{port}"])
    with second.connect() as wire:
        wire.expect_nothing()


def test_a_half_open_connection_does_not_hold_it_up(start: Start) -> None:
    server = start(stop_grace_s=20)
    with socket.create_connection(server.where), Wire(server.where) as wire:
        wire.raw(b"\0REQ\0\0")
        server.terminate()
        assert server.wait(PATIENCE_S) == 0
