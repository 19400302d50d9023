"""Servers of a test's own, each on a store of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.reliability.daemon import Daemon

Start = Callable[..., Daemon]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a server with options of the test's own: `start("--keep-results", "0")`."""
    daemons: list[Daemon] = []

    def start(
        *options: str, mutant: str = "", env: dict[str, str] | None = None, under: tuple[str, ...] = ()
    ) -> Daemon:
        directory = tmp_path / f"server-{len(daemons)}"
        directory.mkdir()
        daemons.append(Daemon(directory, *options, mutant=mutant, env=env))
        daemons[-1].under = under
        return daemons[-1].start()

    yield start
    for daemon in daemons:
        daemon.end()


@pytest.fixture
def daemon(start: Start) -> Daemon:
    """A server with a durable store and the defaults."""
    return start()
