"""A job's life through a stock server: what works there too, and what is said about the rest."""

from __future__ import annotations

import time

import pytest

from tests.interop.ends import STOCK, Ends, Result, Server
from tests.support import wait_until

pytestmark = pytest.mark.interop

RETRIES = ["--retries", "3", "--backoff", "10ms"]


def farm(ends: Ends, server: Server, *argv: str, stdin: bytes | None = None) -> Result:
    """`farm ARGV`, to its end."""
    command, *rest = argv
    return ends.start("farm", ["bin/farm", command, "-s", server.address, *rest], stdin).result()


@pytest.fixture
def gearmand(ends: Ends) -> Server:
    """A stock server."""
    return ends.server(STOCK)


def test_a_background_job_for_later(server: Server, ends: Ends) -> None:
    """Stock and farm's alike: not before its time. (gearmand wakes nobody for it, but for the next job.)"""
    ends.worker("farm", server, "job", "sh", "-c", 'date +%s.%N > "$(cat)"')
    before = time.time()
    path = ends.directory / "ran"
    done = farm(ends, server, "submit", "-b", "--in", "1500ms", "-u", "later", "job", stdin=str(path).encode())
    assert (done.code, done.err) == (0, b"")
    assert done.out.startswith(b"H:")
    if server.kind == STOCK:
        wait_until(lambda: time.time() > before + 2.5, what="its time has come")  # it counts in whole seconds
        assert farm(ends, server, "submit", "-n", "job").code != 0
    wait_until(lambda: path.exists() and path.read_text(), what="it has run")
    assert float(path.read_text()) >= before + 1.5


@pytest.mark.parametrize("options", [["-b"], []])
def test_what_a_stock_server_cannot_do_is_said_and_nothing_is_submitted(
    gearmand: Server, ends: Ends, options: list[str]
) -> None:
    done = farm(ends, gearmand, "submit", *options, "-n", *RETRIES, "job")
    assert (done.code, done.out) == (69, b"")
    words = f"farm: error: the server at {gearmand.address} is a stock Gearman server: it does not know --retries"
    assert done.err.decode().startswith(words)
    gearmand.wait_status("job", 0, 0, 0)


def test_a_workers_own_limit_works_there(gearmand: Server, ends: Ends) -> None:
    worker = ends.start(
        "worker",
        ["bin/farm", "work", "-s", gearmand.address, "--timeout", "300ms", *RETRIES, "job", "--", "sleep", "300"],
    )
    gearmand.wait_status("job", 0, 0, 1)
    done = farm(ends, gearmand, "submit", "-n", "job")
    assert done == Result(124, b"", b"farm: the command took longer than 0.3s (--timeout)\n")
    said = f"the server at {gearmand.address} is a stock Gearman server: it does not retry failed jobs\n".encode()
    assert worker.err.count(said) == 1
