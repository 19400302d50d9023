"""The file that says which servers failed lately: private, bounded, and never an error."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from farm.client.connection import chance
from farm.client.remembered import FORGET_S, READ_MAX, Remembered, path_of
from farm.client.servers import RETRY_MAX_S, ServerList
from farm.protocol.address import Address, parse_address

A, B = Address("127.0.0.1", 1), Address("127.0.0.1", 2)


class Process:
    """One call of farm, with two servers unless told otherwise."""

    def __init__(self, path: Path, *addresses: Address) -> None:
        self.servers = ServerList(addresses or (A, B))
        self.memory = Remembered(self.servers, str(path))
        self.memory.recall()

    def finds_down(self, *addresses: Address) -> None:
        """They do not answer."""
        for address in addresses:
            self.servers.failed(address, time.monotonic(), chance)
        self.memory.keep()

    def finds_up(self, address: Address) -> None:
        """It answers."""
        self.servers.worked(address)
        self.memory.keep()

    @property
    def known(self) -> set[str]:
        """The servers that it knows to have failed."""
        return set(self.servers.failures())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file will be; not even the directory is there yet."""
    return tmp_path / "cache" / "farm" / "servers"


def test_the_next_process_knows_and_forgets_again(path: Path) -> None:
    Process(path).finds_down(A)
    second = Process(path)
    assert second.known == {str(A)}
    second.finds_up(A)
    assert Process(path).known == set()


def test_it_is_private_and_leaves_nothing_else_behind(path: Path) -> None:
    Process(path).finds_down(A)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert os.listdir(path.parent) == ["servers"]


def test_nothing_is_written_without_news(path: Path) -> None:
    Process(path).finds_up(A)
    assert not path.parent.parent.exists()
    Process(path).finds_down(A)
    before = path.stat()
    third = Process(path)
    third.finds_up(B)
    assert path.stat() == before


def test_a_lone_server_is_not_remembered(path: Path) -> None:
    Process(path, A).finds_down(A)
    assert not path.parent.parent.exists()
    Process(path).finds_down(A)
    assert Process(path, A).known == set()


def test_servers_of_other_calls_stay_in_it(path: Path) -> None:
    elsewhere = parse_address("unix:/tmp/a place/socket")
    Process(path, A, elsewhere).finds_down(elsewhere)
    Process(path).finds_down(A)
    assert Process(path, elsewhere, A).known == {str(elsewhere), str(A)}


def test_a_line_end_in_a_path_forges_nothing(path: Path) -> None:
    forged = Address(path=f"/x\n9 {time.monotonic() + 9:.3f} {B}")
    Process(path, A, forged).finds_down(A, forged)
    assert Process(path).known == {str(A)}
    assert Process(path, A, forged).known == {str(A)}


def test_old_failures_and_those_of_another_clock_do_not_count(path: Path) -> None:
    path.parent.mkdir(parents=True)
    now = time.monotonic()
    for until in (now - FORGET_S - 1, now + RETRY_MAX_S + 60):
        path.write_text(f"3 {until:.3f} {A}\n")
        assert Process(path).known == set()
    path.write_text(f"3 {now:.3f} {A}\n")
    assert Process(path).known == {str(A)}


JUNK = [b"", b"\n", b"\0", b"\xff\xfe", b"1\n", b"x y z\n", b"1 nan 127.0.0.1:1\n", b"1 inf 127.0.0.1:1\n", b"9" * 6000]


@pytest.mark.parametrize("junk", [*JUNK, b"1 1 a\n" * READ_MAX])
def test_junk_counts_as_empty_and_is_replaced(path: Path, junk: bytes) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(junk)
    process = Process(path)
    assert process.known == set()
    process.finds_down(A)
    assert Process(path).known == {str(A)}
    assert path.stat().st_size < 100


def test_what_is_no_file_is_let_be(path: Path, tmp_path: Path) -> None:
    path.mkdir(parents=True)
    Process(path).finds_down(A)
    assert os.listdir(path.parent) == ["servers"]
    path.rmdir()
    os.mkfifo(path)  # nobody writes into it: whoever opens it to read would wait
    assert Process(path).known == set()
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").write_text(f"1 {time.monotonic():.3f} {A}\n")
    assert Process(path).known == set()


def test_a_place_where_nothing_can_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file" / "farm" / "servers", Path("/proc/farm/servers"), Path("/x\0y/servers")):
        process = Process(place)
        process.finds_down(A)
        assert process.known == {str(A)}


def test_where_it_is() -> None:
    home, run, cache = {"HOME": "/me"}, {"XDG_RUNTIME_DIR": "/run/me"}, {"XDG_CACHE_HOME": "/cache"}
    assert path_of(home | run | cache) == "/run/me/farm/servers"
    assert path_of(home | cache) == "/cache/farm/servers"
    assert path_of(home) == "/me/.cache/farm/servers"
    assert path_of(home | {"XDG_RUNTIME_DIR": "here", "XDG_CACHE_HOME": "there"}) == "/me/.cache/farm/servers"
    assert path_of({}) == path_of({"HOME": ""}) == ""
