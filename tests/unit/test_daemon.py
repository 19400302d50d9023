"""What `serve` sets up before it has a server."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import NoReturn

import pytest

from farm.server import daemon, garbage
from farm.server.config import ServerConfig
from farm.store.contract import StoreError
from farm.store.memory import MemoryStore


class Failing(MemoryStore):
    """A store that cannot be opened, and notes how garbage is collected while it is."""

    thresholds: tuple[int, ...] = ()

    def open(self) -> NoReturn:
        """See Store."""
        self.thresholds = gc.get_threshold()
        raise StoreError("no")


@pytest.fixture
def own_thresholds() -> Iterator[None]:
    """For the other tests."""
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


@pytest.mark.usefixtures("own_thresholds")
def test_garbage_is_looked_for_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while jobs are loaded; but it is."""
    monkeypatch.setattr(daemon, "set_up", lambda logs: None)  # the test run's own log stays as it is
    store = Failing()
    with pytest.raises(StoreError):
        daemon.serve(ServerConfig(), store)
    assert store.thresholds == garbage.THRESHOLDS
    assert gc.isenabled()
    assert all(threshold > 0 for threshold in store.thresholds)
