"""Servers for the live tests: one that many tests share, and a way to start others."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import ServerProcess, do_one_job, worker_and_client

Start = Callable[..., ServerProcess]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a server with settings of the test's own: `start(stall_s=0.2)`."""
    servers: list[ServerProcess] = []

    def start(**options: Any) -> ServerProcess:
        servers.append(ServerProcess(tmp_path, **options))
        return servers[-1].started()

    yield start
    for server in servers:
        server.end()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One server for all tests of a module: what one of them does to it, the next ones would notice."""
    server = ServerProcess(tmp_path_factory.mktemp("server"), stall_s=0.5, linger_s=0.5).started()
    yield server
    server.end()


@pytest.fixture
def function() -> bytes:
    """A function name that no other test uses."""
    return b"f-" + uuid.uuid4().hex.encode()


@pytest.fixture
def unharmed(server: ServerProcess) -> Iterator[None]:
    """Whatever the test does to the shared server, an old pair and a new one still get their jobs done."""
    with worker_and_client(server, b"before") as (worker, client):
        do_one_job(worker, client, b"before")
        yield
        do_one_job(worker, client, b"before")
        with worker_and_client(server, b"after") as (worker, client):
            do_one_job(worker, client, b"after")
