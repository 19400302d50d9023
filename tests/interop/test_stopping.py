"""A worker is told to stop while it works for either server: the job is finished, or handed on."""

from __future__ import annotations

import signal

import pytest

from tests.interop.ends import FARM, KINDS, Ends, Result, Server
from tests.interop.jobs import SHELL, Trace
from tests.support import wait_until

pytestmark = pytest.mark.interop


@pytest.mark.parametrize("client", KINDS)
def test_it_finishes_what_runs_and_leaves(server: Server, ends: Ends, trace: Trace, client: str) -> None:
    """The result must have arrived before the connection is closed."""
    worker = ends.worker(FARM, server, "job", *SHELL)
    go = ends.directory / "go"
    script = f"{trace.note}until [ -e {go} ]; do sleep 0.01; done; head -c 1000000 /dev/zero".encode()
    process = ends.submit(client, server, "job", script)
    trace.wait_attempts(1)
    worker.send(signal.SIGTERM)
    worker.says(b"stopping when 1 running job is done")
    queued = ends.submit(FARM, server, "job", b"echo queued")  # not for this worker any more
    server.wait_status("job", 2, 1, 1)
    go.touch()
    assert process.result() == Result(0, bytes(1_000_000), b"")
    assert worker.result().code == 0
    server.wait_status("job", 1, 0, 0)
    ends.worker(FARM, server, "job", *SHELL)
    assert queued.result()[:2] == (0, b"queued\n")


def test_told_twice_it_hands_the_job_on(server: Server, ends: Ends, trace: Trace) -> None:
    worker = ends.worker(FARM, server, "job", *SHELL)
    client = ends.submit(FARM, server, "job", trace.hang(1))
    trace.wait_attempts(1)
    ends.worker(FARM, server, "job", *SHELL)
    worker.send(signal.SIGTERM)
    worker.says(b"again to end now")
    worker.send(signal.SIGTERM)
    assert worker.result().code == 128 + signal.SIGTERM
    assert client.result() == Result(0, b"end", b"")
    trace.wait_gone(2.0)


@pytest.mark.slow
def test_a_cancelled_command_that_ignores_sigterm_is_killed(farm_server: Server, ends: Ends, trace: Trace) -> None:
    """After five seconds; until then the job counts as running."""
    ends.worker(FARM, farm_server, "job", *SHELL)
    client = ends.submit(FARM, farm_server, "job", f"trap '' TERM; {trace.note}while :; do sleep 0.1; done".encode())
    trace.wait_attempts(1)
    client.send(signal.SIGINT)
    client.result()
    assert farm_server.status()["job"] == (1, 1, 1)
    trace.wait_gone(8.0)
    wait_until(lambda: farm_server.status()["job"] == (0, 0, 1), what="the worker is free again")
