"""A client gives up, in each way it can: what becomes of the command, and what the client says about it."""

from __future__ import annotations

import signal

import pytest

from tests.interop.ends import FARM, KINDS, STOCK, Ends, Process, Server, is_running
from tests.interop.jobs import SHELL, Trace
from tests.support import PATIENCE_S, wait_until

pytestmark = pytest.mark.interop

SOON_S = 2.0  # about a second; a loaded machine may need another


def tree(trace: Trace) -> bytes:
    """A script of two processes in one group, neither of which ends by itself."""
    return f"{trace.note}echo begin\nsh -c '{trace.note.strip()}; exec sleep 600' &\nwait\n".encode()


def running(ends: Ends, server: Server, trace: Trace, client: str, worker: str) -> Process:
    """A client whose job is running, and that knows of it: one that is told to end before says nothing of its job."""
    if worker == FARM:
        ends.worker(worker, server, "job", *SHELL)
        process = ends.submit(client, server, "job", tree(trace))
        wait_until(lambda: process.out, what="output")
    else:  # a stock worker sends no output before the end, so the client has to say something itself
        process = ends.submit(client, server, "job", tree(trace))
        if client == FARM:
            process.says(b"waiting: no worker offers")
        ends.worker(worker, server, "job", *SHELL)
    for pid in trace.wait_attempts(2):
        assert is_running(pid)
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_farm_with_farm_ends_the_whole_process_group(
    farm_server: Server, ends: Ends, trace: Trace, number: signal.Signals
) -> None:
    client = running(ends, farm_server, trace, FARM, FARM)
    client.send(number)
    trace.wait_gone(SOON_S)
    code, out, err = client.result()
    assert (code, out) == (-number, b"begin\n")  # of the signal itself, so that a shell's loop stops too
    assert b"farm: cancelled: job H:" in err
    assert b"is being ended at its worker" in err
    farm_server.wait_status("job", 0, 0, 1)


def test_the_worker_takes_the_next_job_after_a_cancelled_one(farm_server: Server, ends: Ends, trace: Trace) -> None:
    client = running(ends, farm_server, trace, FARM, FARM)
    client.send(signal.SIGINT)
    client.result()
    assert ends.submit(FARM, farm_server, "job", b"echo next").result() == (0, b"next\n", b"")


def test_a_stock_worker_cannot_be_told(farm_server: Server, ends: Ends, trace: Trace) -> None:
    client = running(ends, farm_server, trace, FARM, STOCK)
    client.send(signal.SIGINT)
    code, _, err = client.result()
    assert code == -signal.SIGINT
    assert b"runs on: its worker is a stock one, which cannot be told; its result is dropped" in err
    assert all(map(is_running, trace.pids()))


def test_at_a_stock_worker_the_command_of_a_client_that_dies_runs_on(
    farm_server: Server, ends: Ends, trace: Trace
) -> None:
    client = running(ends, farm_server, trace, STOCK, STOCK)
    client.send(signal.SIGKILL)
    client.result()
    with farm_server.connect() as wire:  # the server has seen it go
        wait_until(lambda: len(wire.listing(b"workers")) == 2, what="only the worker and this connection are left")
    assert all(map(is_running, trace.pids()))


@pytest.mark.parametrize("worker", KINDS)
def test_gearmand_cannot_cancel(ends: Ends, trace: Trace, worker: str) -> None:
    client = running(ends, ends.server(STOCK), trace, FARM, worker)
    client.send(signal.SIGINT)
    code, _, err = client.result()
    assert code == -signal.SIGINT
    assert b"farm: this server cannot cancel: job H:" in err
    assert b"runs on if it has started" in err
    assert all(map(is_running, trace.pids()))


def test_a_queued_job_is_dropped(farm_server: Server, ends: Ends) -> None:
    client = ends.submit(FARM, farm_server, "nobody")
    farm_server.wait_status("nobody", 1, 0, 0)
    client.says(b"waiting: no worker offers")
    client.send(signal.SIGINT)
    code, _, err = client.result()
    assert code == -signal.SIGINT
    assert b"was not running" in err
    farm_server.wait_status("nobody", 0, 0, 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("client", KINDS)
def test_a_client_that_just_dies_ends_the_command_too(
    farm_server: Server, ends: Ends, trace: Trace, client: str, number: signal.Signals
) -> None:
    """A stock client says nothing when it goes, and neither does one that is killed."""
    process = running(ends, farm_server, trace, client, FARM)
    process.send(number)
    trace.wait_gone(SOON_S)
    farm_server.wait_status("job", 0, 0, 1)


@pytest.mark.parametrize("worker", KINDS)
def test_through_gearmand_the_command_of_a_client_that_dies_runs_on(ends: Ends, trace: Trace, worker: str) -> None:
    server = ends.server(STOCK)
    client = running(ends, server, trace, STOCK, worker)
    client.send(signal.SIGKILL)
    client.result()
    server.wait_status("job", 1, 1, 1)
    assert all(map(is_running, trace.pids()))


def test_a_second_client_of_the_job_keeps_it(farm_server: Server, ends: Ends, trace: Trace) -> None:
    """The second one is a raw connection: it knows for sure when it has joined."""
    ends.worker(FARM, farm_server, "job", *SHELL)
    client = ends.submit(FARM, farm_server, "job", tree(trace), "-u", "same")
    wait_until(lambda: client.out, what="output")
    trace.wait_attempts(2)
    with farm_server.connect() as second:
        second.submit(b"job", b"", b"same")
        client.send(signal.SIGINT)
        assert b"runs on: others wait for it" in client.result().err
        assert all(map(is_running, trace.pids()))
    trace.wait_gone(SOON_S)


def test_a_client_that_joins_too_late_says_so_and_harms_nobody(farm_server: Server, ends: Ends, trace: Trace) -> None:
    """Part of the output has gone by, so its own would not be whole."""
    ends.worker(FARM, farm_server, "job", *SHELL)
    client = ends.submit(FARM, farm_server, "job", trace.hang(9, "part "), "-u", "same")
    wait_until(lambda: client.out, what="a part of the output")
    code, out, err = ends.submit(FARM, farm_server, "job", b"", "-u", "same").result()
    assert (code, out) == (75, b"")
    assert b"with this unique key runs already, and part of its output has gone by" in err
    assert client.popen.poll() is None
    assert all(map(is_running, trace.pids()))


# -- the reader of the output leaves


def reader_leaves(ends: Ends, server: Server, script: bytes) -> Process:
    """`farm submit job | head -n 1 >first`, and the shell's word on how farm submit ended."""
    line = f"bin/farm submit -s {server.address} job | head -n 1; echo ${{PIPESTATUS[0]}}"
    return ends.start("pipeline", ["bash", "-c", line], script)


def test_an_endless_producer_ends_with_head(farm_server: Server, ends: Ends, trace: Trace) -> None:
    ends.worker(FARM, farm_server, "job", *SHELL)
    pipeline = reader_leaves(ends, farm_server, f"{trace.note}exec yes line".encode())
    code, out, err = pipeline.result()
    assert (code, out, err) == (0, b"line\n141\n", b"")  # nothing is said, as in any pipe
    trace.wait_gone(SOON_S)
    farm_server.wait_status("job", 0, 0, 1)


def test_a_producer_that_falls_silent_ends_with_head(farm_server: Server, ends: Ends, trace: Trace) -> None:
    """No further write would tell that the reader has left."""
    ends.worker(FARM, farm_server, "job", *SHELL)
    pipeline = reader_leaves(ends, farm_server, f"{trace.note}echo line; exec sleep 600".encode())
    assert pipeline.result(PATIENCE_S)[:2] == (0, b"line\n141\n")
    trace.wait_gone(SOON_S)


def test_through_gearmand_it_says_that_the_producer_runs_on(ends: Ends, trace: Trace) -> None:
    server = ends.server(STOCK)
    ends.worker(FARM, server, "job", *SHELL)
    pipeline = reader_leaves(ends, server, f"{trace.note}exec yes line".encode())
    code, out, err = pipeline.result()
    assert (code, out) == (0, b"line\n141\n")
    assert b"farm: this server cannot cancel: job H:" in err
    assert all(map(is_running, trace.pids()))
