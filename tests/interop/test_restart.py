"""A server goes and comes back: workers find it again, and a client that waits is told what happened."""

from __future__ import annotations

import re
import signal

import pytest

from tests.interop.ends import FARM, KINDS, STOCK, Ends, Result, Server, submit
from tests.interop.jobs import SHELL, Trace
from tests.support import wait_until

pytestmark = pytest.mark.interop


def restart(ends: Ends, server: Server, number: int = signal.SIGKILL) -> Server:
    """End it, and start another one on the same port."""
    server.process.send(number)
    server.process.result()
    return ends.server(server.kind, server.port)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_serves_the_restarted_server(server: Server, ends: Ends, number: signal.Signals) -> None:
    worker = ends.worker(FARM, server, "job", *SHELL, slots=2)
    again = restart(ends, server, number)
    again.wait_status("job", 0, 0, 2)
    assert submit(FARM, again, "job", b"echo done") == Result(0, b"done\n", b"")
    said = worker.err.decode()
    assert said.count(f"no server at {server.address}: ") == 1
    assert said.count(f"again working on 'job' for {server.address}") == 1


def test_a_worker_may_be_started_before_its_server(ends: Ends, kind: str) -> None:
    gone = ends.server(kind)
    gone.process.send(signal.SIGKILL)
    gone.process.result()
    argv = ["bin/farm", "work", "-s", gone.address, "job", "--", *SHELL]
    ends.start("worker", argv).says(b"trying again until there is one")
    server = ends.server(kind, gone.port)
    server.wait_status("job", 0, 0, 1)
    assert submit(FARM, server, "job", b"echo done") == Result(0, b"done\n", b"")


def test_the_client_of_a_running_job_says_what_happened(server: Server, ends: Ends, trace: Trace) -> None:
    ends.worker(FARM, server, "job", *SHELL)
    client = ends.submit(FARM, server, "job", trace.hang(9, "part "))
    trace.wait_attempts(1)
    wait_until(lambda: client.out, what="a part of the output")
    server.process.send(signal.SIGKILL)
    code, out, err = client.result()
    assert (code, out) == (69, b"part ")
    error, hint = err.decode().splitlines()
    assert re.fullmatch(
        rf"farm: error: the server at {server.address} closed the connection, and no end of job H:\S+ had come.*", error
    )
    assert hint.startswith("hint: ")


def test_the_client_of_a_queued_job_says_what_happened(server: Server, ends: Ends) -> None:
    client = ends.submit(FARM, server, "nobody")
    server.wait_status("nobody", 1, 0, 0)
    server.process.send(signal.SIGTERM)
    code, out, err = client.result()
    assert (code, out) == (69, b"")
    assert f"the server at {server.address} closed the connection".encode() in err


def test_the_command_ends_when_its_server_has_gone(server: Server, ends: Ends, trace: Trace) -> None:
    """Its result could not be delivered, and a server that kept the job gives it to somebody else."""
    worker = ends.worker(FARM, server, "job", *SHELL)
    ends.submit(FARM, server, "job", trace.hang(9))
    trace.wait_attempts(1)
    server.process.send(signal.SIGKILL)
    worker.says(b"ending its command, its server has gone")
    trace.wait_gone(2.0)


def test_farms_server_lets_a_running_job_end_before_it_goes(farm_server: Server, ends: Ends, trace: Trace) -> None:
    ends.worker(FARM, farm_server, "job", *SHELL)
    go = ends.directory / "go"
    script = f"{trace.note}until [ -e {go} ]; do sleep 0.01; done; echo done".encode()
    client = ends.submit(FARM, farm_server, "job", script)
    trace.wait_attempts(1)
    farm_server.process.send(signal.SIGTERM)
    farm_server.process.says(b"waiting for 1 running job")
    go.touch()
    assert client.result() == Result(0, b"done\n", b"")
    assert farm_server.process.result().code == 0


def test_no_server_at_all(ends: Ends, kind: str) -> None:
    server = ends.server(kind)
    server.process.send(signal.SIGKILL)
    server.process.result()
    code, out, err = submit(FARM, server, "job")
    assert (code, out) == (69, b"")
    assert err.startswith(f"farm: error: no server at {server.address}: connection refused\nhint: ".encode())


def test_a_worker_of_two_servers_serves_the_one_that_is_left(ends: Ends) -> None:
    """One of each kind."""
    both = [ends.server(kind) for kind in KINDS]
    addresses = ",".join(server.address for server in both)
    ends.start("worker", ["bin/farm", "work", "-s", addresses, "job", "--", *SHELL])
    for server in both:
        server.wait_status("job", 0, 0, 1)
        assert submit(FARM, server, "job", b"exit 7").code == 7
    both[0].process.send(signal.SIGKILL)
    both[0].process.result()
    assert submit(STOCK, both[1], "job", b"echo left") == Result(0, b"left\n", b"")
