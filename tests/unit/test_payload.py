"""Reading a payload: all of it, or a refusal before more of it is held than a packet can carry."""

from __future__ import annotations

import os
import threading
import tracemalloc
from pathlib import Path

import pytest

from farm.client import payload
from farm.client.payload import READ_SIZE, read_payload
from farm.errors import InputError, UsageError

MOST = 3 * READ_SIZE + 7


@pytest.fixture(autouse=True)
def most(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit that a test can reach."""
    monkeypatch.setattr(payload, "PAYLOAD_MAX", MOST)


def piped(data: bytes, tmp_path: Path) -> bytes:
    """What is read from a pipe."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=[data])
    writer.start()
    try:
        return read_payload(str(path))
    finally:
        writer.join()
        path.unlink()


@pytest.mark.parametrize("size", [0, 1, READ_SIZE, READ_SIZE + 1, MOST])
def test_all_of_it(size: int, tmp_path: Path) -> None:
    data = os.urandom(size)
    (tmp_path / "file").write_bytes(data)
    assert read_payload(str(tmp_path / "file")) == data
    assert piped(data, tmp_path) == data


def test_a_file_that_is_too_long_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"x" * (MOST + 1))
    monkeypatch.setattr(payload, "READ_SIZE", None)  # to read would raise, or take all
    tracemalloc.start()
    with pytest.raises(UsageError, match="is longer than a packet can be"):
        read_payload(str(tmp_path / "file"))
    assert tracemalloc.get_traced_memory()[1] < 100_000
    tracemalloc.stop()


def test_what_never_ends_is_refused_and_not_held() -> None:
    tracemalloc.start()
    with pytest.raises(UsageError, match=r"^/dev/zero is longer than a packet can be$"):
        read_payload("/dev/zero")
    assert tracemalloc.get_traced_memory()[1] < 2 * MOST
    tracemalloc.stop()


def test_what_is_there_counts_not_what_a_file_began_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`(read line; farm submit f) < file`: what was read before is not part of the payload."""
    (tmp_path / "file").write_bytes(b"x" * MOST + b"payload")
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    os.lseek(fd, MOST, os.SEEK_SET)
    monkeypatch.setattr(payload.os, "open", lambda *_: fd)
    assert read_payload("file") == b"payload"


def test_no_room_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> bytes:
        raise MemoryError

    monkeypatch.setattr(payload, "_read", full)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="it does not fit into memory"):
        read_payload(str(tmp_path / "file"))
