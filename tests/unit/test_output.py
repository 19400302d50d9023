"""Where a job's output goes, and taking it back when the job starts again."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from farm.client.output import Output, write_all
from farm.errors import EXIT_CANNOT_CREATE, FarmError, TryAgain


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[object]:
    """Opens `out` with flags; closes it again."""
    fds: list[int] = []

    def open_file(flags: int) -> int:
        fds.append(os.open(tmp_path / "out", flags | os.O_CREAT, 0o600))
        return fds[-1]

    yield open_file
    for fd in fds:
        os.close(fd)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe; whatever of it is still open is closed."""
    ends = os.pipe()
    yield ends
    for fd in ends:
        try:
            os.close(fd)
        except OSError:
            pass


def content(tmp_path: Path) -> bytes:
    """Of the file `out`."""
    return (tmp_path / "out").read_bytes()


def test_a_file_is_taken_back(tmp_path: Path, opened) -> None:  # type: ignore[no-untyped-def]
    output = Output(opened(os.O_WRONLY))
    output.write(b"first try")
    output.write(b", more")
    assert output.written == 15
    output.restart("its worker was lost")
    assert content(tmp_path) == b""
    output.write(b"second")
    output.restart("its worker was lost")
    output.write(b"third")
    assert content(tmp_path) == b"third"


def test_what_was_there_before_stays(tmp_path: Path, opened) -> None:  # type: ignore[no-untyped-def]
    """`{ echo header; farm submit f; } > out`: the job's part begins where the shell's ended."""
    fd = opened(os.O_WRONLY)
    os.write(fd, b"header\n")
    output = Output(fd)
    output.write(b"lost")
    output.restart("its worker was lost")
    output.write(b"kept")
    assert content(tmp_path) == b"header\nkept"


def test_what_others_wrote_meanwhile_is_not_counted_as_output(tmp_path: Path, opened) -> None:  # type: ignore[no-untyped-def]
    """`> out 2>&1`: one position for both. Everything from the job's first byte on goes, and no byte before it."""
    fd = opened(os.O_WRONLY)
    os.write(fd, b"header\n")
    output = Output(fd)
    output.write(b"lost")
    os.write(os.dup(fd), b"a message on stderr\n")
    output.restart("its worker was lost")
    output.write(b"kept")
    assert content(tmp_path) == b"header\nkept"


def test_a_file_that_was_longer_is_cut(tmp_path: Path, opened) -> None:  # type: ignore[no-untyped-def]
    """`1<> out` does not truncate: what lay behind the output was not the job's to keep either way."""
    (tmp_path / "out").write_bytes(b"x" * 10)
    output = Output(opened(os.O_RDWR))
    output.write(b"abc")
    output.restart("its worker was lost")
    output.write(b"z")
    assert content(tmp_path) == b"z"


def test_appending_cannot_be_taken_back(tmp_path: Path, opened) -> None:  # type: ignore[no-untyped-def]
    """Another program may have appended behind it."""
    output = Output(opened(os.O_WRONLY | os.O_APPEND))
    output.write(b"first")
    with pytest.raises(TryAgain, match="after 5 bytes of output"):
        output.restart("its worker was lost")
    assert content(tmp_path) == b"first"


def test_a_pipe_cannot_be_taken_back(pipe: tuple[int, int]) -> None:
    output = Output(pipe[1])
    output.restart("its worker was lost")  # nothing was written: nothing to take back
    output.write(b"x")
    with pytest.raises(TryAgain):
        output.restart("its worker was lost")


def test_what_is_a_pipe(pipe: tuple[int, int], opened) -> None:  # type: ignore[no-untyped-def]
    """Whose reader can leave while nothing is written."""
    assert Output(pipe[1]).to_pipe
    assert not Output(opened(os.O_WRONLY)).to_pipe
    one, other = socket.socketpair()
    with one, other:
        assert Output(one.fileno()).to_pipe
    assert not Output(987_654).to_pipe


def test_a_reader_that_has_left(pipe: tuple[int, int]) -> None:
    os.close(pipe[0])
    with pytest.raises(BrokenPipeError):
        Output(pipe[1]).write(b"x")


@pytest.mark.parametrize("path", ["/dev/full", "/dev/null"])
def test_what_cannot_be_written(path: str) -> None:
    """A full disk; a descriptor that is open for reading, as main puts it where stdout is closed."""
    fd = os.open(path, os.O_WRONLY if path == "/dev/full" else os.O_RDONLY)
    try:
        with pytest.raises(FarmError, match=r"^cannot write the job's output: ") as caught:
            Output(fd).write(b"x")
        assert caught.value.status == EXIT_CANNOT_CREATE
    finally:
        os.close(fd)


def test_a_full_non_blocking_pipe_is_waited_for(pipe: tuple[int, int]) -> None:
    os.set_blocking(pipe[1], False)
    data = os.urandom(500_000)
    got = bytearray()

    def read() -> None:
        while len(got) < len(data):
            got.extend(os.read(pipe[0], 10_000))

    reader = threading.Thread(target=read)
    reader.start()
    write_all(pipe[1], data)
    reader.join(10)
    assert got == data
