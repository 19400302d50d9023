"""What only the SQLite store has to keep in bounds: memory and its write-ahead log."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from farm.broker.effects import Save
from farm.store.sqlite import CACHE_SIZE, SqliteStore

LARGE = 64 << 20


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(str(tmp_path / "store"), reserve=0)
    store.open()
    yield store
    store.close()


def resident() -> int:
    """Bytes of this process that are in memory."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * 4096


def test_a_large_payload_is_let_go_of_once_it_is_on_disk(store: SqliteStore) -> None:
    """SQLite would keep its copy until the next job is saved."""
    before = resident()
    store.apply([Save(1, b"f", b"", 1, bytes(LARGE))])
    assert resident() - before < CACHE_SIZE + LARGE // 2
    assert store.payload(1) == bytes(LARGE)
