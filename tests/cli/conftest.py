"""What the tests of the command line share: one server for each module, and a rig for each test."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.rig import Rig, ServerRunning

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerRunning]:
    """One server for all tests of a module; it must still be well at the end, with nothing left to do."""
    rig = Rig(tmp_path_factory.mktemp("server"))
    server = rig.server()
    yield server
    log = server.terminate()
    rig.end()
    assert log.status == 0, log.err


@pytest.fixture
def rig(tmp_path: Path, server: ServerRunning) -> Iterator[Rig]:
    """A rig whose FARM_SERVER is the module's server."""
    rig = Rig(tmp_path, server.address)
    yield rig
    rig.end()


@pytest.fixture
def lone_rig(tmp_path: Path) -> Iterator[Rig]:
    """A rig without any server."""
    rig = Rig(tmp_path)
    yield rig
    rig.end()


@pytest.fixture
def function() -> str:
    """A function name that no other test uses."""
    return f"f{next(_numbers)}"
