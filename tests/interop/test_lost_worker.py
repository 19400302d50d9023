"""A worker is killed in the middle of a job: the job runs again, and the client's output holds one result or none."""

from __future__ import annotations

import os
import select
import signal

import pytest

from tests.interop.ends import FARM, KINDS, STOCK, Ends, Process, Result, Server, is_running
from tests.interop.jobs import SHELL, Trace
from tests.support import PATIENCE_S, wait_until

pytestmark = pytest.mark.interop

AGAIN = b"farm: the job runs again: its worker was lost\n"


def kill_first(ends: Ends, server: Server, first: Process, kind: str = FARM) -> None:
    """Kill the worker that runs the job, beside another one that has nothing to do yet."""
    ends.worker(kind, server, "job", *SHELL)
    first.send(signal.SIGKILL)
    first.result()


def test_a_file_holds_one_clean_result(server: Server, ends: Ends, trace: Trace) -> None:
    first = ends.worker(FARM, server, "job", *SHELL)
    out = ends.directory / "out"
    client = ends.submit(FARM, server, "job", trace.hang(1, "begin "), out=out)
    wait_until(lambda: out.read_bytes() == b"begin ", what="the first attempt's output")
    kill_first(ends, server, first)
    assert client.result() == Result(0, b"begin end", AGAIN)
    assert len(trace.pids()) == 2


def test_what_the_file_held_before_stays(server: Server, ends: Ends, trace: Trace) -> None:
    """Only the job's own bytes are taken back: `{ echo head; farm submit job; } > file`."""
    first = ends.worker(FARM, server, "job", *SHELL)
    out = ends.directory / "out"
    fd = os.open(out, os.O_WRONLY | os.O_CREAT)
    try:
        os.write(fd, b"head\n")
        client = ends.submit(FARM, server, "job", trace.hang(1, "begin "), out=fd)
        wait_until(lambda: out.read_bytes() == b"head\nbegin ", what="the first attempt's output")
        kill_first(ends, server, first)
        assert client.popen.wait(PATIENCE_S) == 0
    finally:
        os.close(fd)
    assert out.read_bytes() == b"head\nbegin end"


def test_a_pipe_and_a_rerun_that_is_over_at_once(server: Server, ends: Ends, trace: Trace) -> None:
    """Nothing is left to be cancelled, and nothing is said of that."""
    first = ends.worker(FARM, server, "job", *SHELL)
    read, write = os.pipe()
    with os.fdopen(read, "rb", buffering=0) as pipe:
        client = ends.submit(FARM, server, "job", trace.hang(1, "begin "), out=write)
        os.close(write)
        assert select.select([pipe], [], [], PATIENCE_S)[0]
        kill_first(ends, server, first)
        assert client.popen.wait(PATIENCE_S) == 75
        assert pipe.read() == b"begin "
    if server.kind == STOCK:  # where the end is the first that the client hears of the second attempt
        assert b"cannot cancel" not in client.err


def test_an_appended_file_cannot_be_taken_back(server: Server, ends: Ends, trace: Trace) -> None:
    """`>> file`: somebody else may have appended since."""
    first = ends.worker(FARM, server, "job", *SHELL)
    out = ends.directory / "out"
    fd = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    client = ends.submit(FARM, server, "job", trace.hang(2, "begin "), out=fd)
    os.close(fd)
    wait_until(lambda: out.read_bytes() == b"begin ", what="the first attempt's output")
    kill_first(ends, server, first)
    assert client.popen.wait(PATIENCE_S) == 75
    assert out.read_bytes() == b"begin "


def test_a_second_loss_is_taken_back_too(server: Server, ends: Ends, trace: Trace) -> None:
    worker = ends.worker(FARM, server, "job", *SHELL)
    out = ends.directory / "out"
    client = ends.submit(FARM, server, "job", trace.hang(2, "attempt $n "), out=out)
    for attempt in (b"attempt 1 ", b"attempt 2 "):
        wait_until(lambda attempt=attempt: out.read_bytes() == attempt, what=f"only {attempt!r}")  # type: ignore[misc]
        worker.send(signal.SIGKILL)
        worker.result()
        server.wait_status("job", 1, 0, 0)  # or the dead one would be counted as the next one's elder
        worker = ends.worker(FARM, server, "job", *SHELL)
    assert client.result() == Result(0, b"attempt 3 end", AGAIN * 2)


def test_a_rerun_that_fails_or_is_silent_takes_back_too(server: Server, ends: Ends, trace: Trace) -> None:
    """Not only the next output says that the first attempt is void: its end does."""
    first = ends.worker(FARM, server, "job", *SHELL)
    out = ends.directory / "out"
    script = f"{trace.note}[ {trace.attempt} = 1 ] || exit 3\nprintf begin; exec sleep 600".encode()
    client = ends.submit(FARM, server, "job", script, out=out)
    wait_until(lambda: out.read_bytes() == b"begin", what="the first attempt's output")
    kill_first(ends, server, first)
    assert client.result() == Result(3, b"", AGAIN)


def test_nothing_is_said_of_a_loss_before_any_output(server: Server, ends: Ends, trace: Trace) -> None:
    """Whoever waits has lost nothing."""
    first = ends.worker(FARM, server, "job", *SHELL)
    client = ends.submit(FARM, server, "job", trace.hang(1))
    trace.wait_attempts(1)
    kill_first(ends, server, first)
    assert client.result() == Result(0, b"end", b"")


def test_a_pipe_that_has_output_already_is_exit_75(server: Server, ends: Ends, trace: Trace) -> None:
    """What a pipe's reader has cannot be taken back, and a second attempt would repeat it."""
    first = ends.worker(FARM, server, "job", *SHELL)
    read, write = os.pipe()
    with os.fdopen(read, "rb", buffering=0) as pipe:
        client = ends.submit(FARM, server, "job", trace.hang(2, "begin "), out=write)
        os.close(write)
        assert select.select([pipe], [], [], PATIENCE_S)[0]
        kill_first(ends, server, first)
        assert client.popen.wait(PATIENCE_S) == 75
        assert pipe.read() == b"begin "
    assert (
        b"farm: error: the job runs again after 6 bytes of output, which it would repeat: its worker was lost"
        in client.err
    )
    assert b"hint: submit it again" in client.err
    if server.kind == FARM:
        server.wait_status("job", 0, 0, 1)
        trace.wait_gone(2.0)
    else:
        assert b"this server cannot cancel: job H:" in client.err


def test_what_a_stock_client_gets(server: Server, ends: Ends, trace: Trace) -> None:
    """It cannot be told: it has the lost attempt's output as well. The table says so."""
    first = ends.worker(FARM, server, "job", *SHELL)
    out = ends.directory / "out"
    client = ends.submit(STOCK, server, "job", trace.hang(1, "begin "), out=out)
    wait_until(lambda: out.read_bytes() == b"begin ", what="the first attempt's output")
    kill_first(ends, server, first)
    assert client.result() == Result(0, b"begin begin end", b"")


@pytest.mark.parametrize("client", KINDS)
def test_a_stock_worker_sends_its_result_whole(server: Server, ends: Ends, trace: Trace, client: str) -> None:
    first = ends.worker(STOCK, server, "job", *SHELL)
    process = ends.submit(client, server, "job", trace.hang(1, "begin "))
    trace.wait_attempts(1)
    kill_first(ends, server, first, STOCK)
    assert process.result() == Result(0, b"begin end", b"")


def test_the_command_dies_with_its_worker(server: Server, ends: Ends, trace: Trace) -> None:
    """It must not run on beside the second attempt. It is the command itself that dies, see farm/worker/child.py."""
    worker = ends.worker(FARM, server, "job", *SHELL)
    ends.submit(FARM, server, "job", trace.hang(9))
    (command,) = trace.wait_attempts(1)
    assert is_running(command)
    worker.send(signal.SIGKILL)
    trace.wait_gone(2.0)


def test_the_job_goes_to_another_worker_that_waits(server: Server, ends: Ends, trace: Trace) -> None:
    """And at once: nobody has to ask again."""
    workers = [ends.worker(FARM, server, "job", *SHELL) for _ in range(2)]
    client = ends.submit(FARM, server, "job", trace.hang(1))
    (command,) = trace.wait_attempts(1)
    (busy,) = [worker for worker in workers if b": started" in worker.err]
    assert is_running(command)
    busy.send(signal.SIGKILL)
    assert client.result() == Result(0, b"end", b"")


def test_what_the_command_started_dies_with_the_worker_too(farm_server: Server, ends: Ends, trace: Trace) -> None:
    """A shell line's own children are no children of the worker's: the system tells them nothing of its end."""
    worker = ends.worker(FARM, farm_server, "job", *SHELL)
    ends.submit(FARM, farm_server, "job", f"sh -c '{trace.note.strip()}; exec sleep 600'; true".encode())
    trace.wait_attempts(1)
    worker.send(signal.SIGKILL)
    trace.wait_gone(2.0)
