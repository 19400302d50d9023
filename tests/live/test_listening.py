"""Where a server listens, who may connect, and how many."""

from __future__ import annotations

import os
import signal
import socket
import stat
from pathlib import Path

import pytest

from farm.errors import EXIT_NO_PERMISSION, EXIT_UNAVAILABLE
from farm.protocol import packets as p
from tests.live.conftest import Start
from tests.support import ServerProcess, Wire, do_one_job, wait_until, worker_and_client


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "farm.sock")


def refused(directory: Path, address: str) -> tuple[int, str]:
    """Exit status and words of a server that cannot listen there."""
    server = ServerProcess(directory, listen=[address])
    status = server.wait()
    server.end()
    return status, server.log()


def test_unix_socket(start: Start, path: str) -> None:
    server = start(listen=[f"unix:{path}"])
    assert server.addresses() == [f"unix:{path}"]
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    with Wire(path) as worker, Wire(path) as client:
        worker.send(p.CAN_DO, b"f")
        worker.expect_nothing()
        do_one_job(worker, client, b"f", b"x" * 1_000_000)
        assert any(b" unix " in line for line in client.listing(b"workers"))
    server.terminate()
    assert server.wait() == 0
    assert not os.path.exists(path)


def test_a_stale_unix_socket_is_replaced(start: Start, path: str) -> None:
    killed = start(listen=[f"unix:{path}"])
    killed.process.send_signal(signal.SIGKILL)
    killed.wait()
    assert os.path.exists(path)
    start(listen=[f"unix:{path}"])
    with Wire(path) as wire:
        wire.expect_nothing()


def test_a_live_unix_socket_is_refused_and_unharmed(start: Start, path: str, tmp_path: Path) -> None:
    start(listen=[f"unix:{path}"])
    status, words = refused(tmp_path, f"unix:{path}")
    assert status == EXIT_UNAVAILABLE
    assert f"cannot listen on unix:{path}: address already in use" in words
    with Wire(path) as wire:
        wire.expect_nothing()


def test_a_file_that_is_no_socket_is_refused_and_kept(path: str, tmp_path: Path) -> None:
    Path(path).write_text("precious")
    status, words = refused(tmp_path, f"unix:{path}")
    assert status == EXIT_UNAVAILABLE
    assert "the file exists and is no socket" in words
    assert Path(path).read_text() == "precious"


@pytest.mark.parametrize("place", ["/no/such/directory/s", "/tmp/" + "x" * 200])
def test_a_place_where_no_unix_socket_can_be(place: str, tmp_path: Path) -> None:
    status, words = refused(tmp_path, f"unix:{place}")
    assert status == EXIT_UNAVAILABLE
    assert f"farm: error: cannot listen on unix:{place}: " in words


def test_a_port_in_use(start: Start, tmp_path: Path) -> None:
    server = start()
    address = "{}:{}".format(*server.where)
    status, words = refused(tmp_path, address)
    assert status == EXIT_UNAVAILABLE
    assert f"farm: error: cannot listen on {address}: address already in use" in words
    assert "hint: another server runs there already" in words
    with worker_and_client(server, b"f") as (worker, client):
        do_one_job(worker, client, b"f")


def test_a_name_that_has_no_address(tmp_path: Path) -> None:
    status, words = refused(tmp_path, "no-such-host.invalid:1")
    assert status == EXIT_UNAVAILABLE
    assert "cannot resolve 'no-such-host.invalid'" in words


def test_an_address_that_others_can_reach_needs_to_be_meant(tmp_path: Path, start: Start) -> None:
    status, words = refused(tmp_path, "0.0.0.0:0")
    assert status == EXIT_NO_PERMISSION
    assert "--insecure" in words
    with start(listen=["0.0.0.0:0"], insecure=True).connect() as wire:
        wire.expect_nothing()


def test_several_addresses_at_once(start: Start, path: str) -> None:
    server = start(
        listen=["127.0.0.1:0", f"unix:{path}", "[::1]:0"] if _has_ipv6() else ["127.0.0.1:0", f"unix:{path}"]
    )
    with server.connect() as worker, Wire(path) as client:
        worker.send(p.CAN_DO, b"f")
        worker.expect_nothing()
        do_one_job(worker, client, b"f")


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_more_connections_than_descriptors(start: Start) -> None:
    """The first ones keep working, the others are told, the log stays short, and all is well once they have left."""
    server = start(nofile=128)
    with worker_and_client(server, b"f") as (worker, client):
        crowd: list[Wire] = []
        try:
            crowd += [server.connect() for _ in range(300)]
            do_one_job(worker, client, b"f")
            crowd[-1].expect_error(b"TOO_MANY_CONNECTIONS")
            crowd[-1].expect_end()
            crowd[0].expect_nothing()
            assert len(server.log().splitlines()) < 10, server.log()
            assert "too many connections" in server.log()
        finally:
            for wire in crowd:
                wire.close()
        wait_until(lambda: server.fds() < 20, what="the crowd is gone")
        with server.connect() as wire:
            wire.expect_nothing()
        do_one_job(worker, client, b"f")


def test_out_of_descriptors(start: Start) -> None:
    """Where the system gives fewer than it said at first, accepting pauses and goes on later."""
    server = start(nofile=200)
    server.limit_descriptors(40)
    with worker_and_client(server, b"f") as (worker, client):
        crowd = [server.connect() for _ in range(100)]
        wait_until(lambda: "cannot accept" in server.log())
        do_one_job(worker, client, b"f")
        for wire in crowd:
            wire.close()
        with server.connect() as wire:
            wire.expect_nothing()
        do_one_job(worker, client, b"f")
        assert len(server.log().splitlines()) < 15, server.log()


def test_a_limit_on_connections_above_that_of_descriptors(start: Start) -> None:
    """Is cut to what there is, and said: whoever comes too much is told, and does not hang."""
    server = start(nofile=128, connections_max=100_000)
    assert "--max-connections 100000: only 64, for 128 files may be open" in server.log()
    with worker_and_client(server, b"f") as (worker, client):
        crowd = [server.connect() for _ in range(200)]
        crowd[-1].expect_error(b"TOO_MANY_CONNECTIONS")
        do_one_job(worker, client, b"f")
        assert "cannot accept" not in server.log()
        for wire in crowd:
            wire.close()


def test_connections_that_come_and_go_leave_nothing(start: Start) -> None:
    server = start()
    with worker_and_client(server, b"f") as (worker, client):
        fds = server.fds()
        for n in range(10_000):
            with server.connect() as wire:
                if n % 10 == 0:
                    wire.expect_nothing()
                elif n % 10 == 1:
                    wire.send(p.CAN_DO, b"f")
                elif n % 10 == 2:
                    wire.send(p.SUBMIT_JOB, b"nobody", b"", b"x")
        wait_until(lambda: server.fds() <= fds, what="descriptors are given back")
        assert client.listing(b"status") == [b"f\t0\t0\t1\n", b"nobody\t0\t0\t0\n"]
        assert len(client.listing(b"workers")) == 2
        do_one_job(worker, client, b"f")
