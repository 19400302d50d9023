"""Servers that all tests share, with a worker of each kind for each command; and processes of a test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.ends import KINDS, Ends, Server, ends_in
from tests.interop.jobs import ECHO, SAYS, SHELL, Trace


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    """A server of each kind. At each, echo-KIND and shell-KIND are done by a worker of that kind."""
    with ends_in(tmp_path_factory.mktemp("shared")) as ends:
        servers = {kind: ends.server(kind) for kind in KINDS}
        for server in servers.values():
            for kind in KINDS:
                ends.worker(kind, server, f"echo-{kind}", *ECHO)
                ends.worker(kind, server, f"shell-{kind}", *SHELL)
            ends.worker("farm", server, "says", *SAYS)
            ends.worker("farm", server, "cat", "cat")
        yield servers


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[Ends]:
    """Processes of the test's own."""
    with ends_in(tmp_path) as ends:
        yield ends


@pytest.fixture
def trace(tmp_path: Path) -> Iterator[Trace]:
    """A job whose attempts can be watched."""
    trace = Trace(tmp_path)
    yield trace
    trace.end()


@pytest.fixture(params=KINDS, ids=["farm-server", "gearmand"])
def kind(request: pytest.FixtureRequest) -> str:
    """Whose server: the test is run with each."""
    return str(request.param)


@pytest.fixture
def server(ends: Ends, kind: str) -> Server:
    """A server of the test's own, of each kind."""
    return ends.server(kind)


@pytest.fixture
def farm_server(ends: Ends) -> Server:
    """farm's server, for what the stock one cannot do."""
    return ends.server("farm")
