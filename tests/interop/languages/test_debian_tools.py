"""Debian's `gearman` and `gearadmin` (1.1.20) against farm's server: every option that a server can notice."""

from __future__ import annotations

from pathlib import Path

import pytest

from farm import __version__
from farm.protocol import packets as p
from tests.interop.languages import installed
from tests.interop.languages.desk import Desk, Process, Result, random_name
from tests.support import Wire

pytestmark = [pytest.mark.interop, pytest.mark.languages]


def gearman(desk: Desk, *options: str, stdin: bytes = b"") -> Process:
    """Start the client, or with -w the worker."""
    installed.need("gearman")
    return desk.start("gearman", ["gearman", "-h", "127.0.0.1", "-p", str(desk.port), *options], stdin)


def gearadmin(desk: Desk, *options: str) -> Result:
    """Run it to its end."""
    installed.need("gearadmin")
    return desk.start("gearadmin", ["gearadmin", "-h", "127.0.0.1", "-p", str(desk.port), *options]).result()


@pytest.fixture
def cat(desk: Desk) -> str:
    """A function of farm's worker that returns what it gets."""
    return desk.farm_worker("farm-collect", "--collect", "--", "cat")


# -- gearman, the client


@pytest.mark.parametrize(
    ("options", "out"),
    [
        ((), b"one\ntwo\n"),
        (("-I",), b"one\ntwo\n"),
        (("-L",), b"one\ntwo\n"),
        (("-n",), b"one\ntwo\n"),
        (("-N",), b"onetwo"),
        (("-P",), b"%s: one\ntwo\n"),
        (("-u", "the-key"), b"one\ntwo\n"),
        (("-t", "20000"), b"one\ntwo\n"),
        (("-s",), b""),
        (("-b",), b""),
        (("-b", "-I"), b""),
        (("-b", "-L"), b""),
        (("-b", "-n"), b""),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_an_option_of_the_client(desk: Desk, cat: str, options: tuple[str, ...], out: bytes) -> None:
    result = gearman(desk, *options, "-f", cat, stdin=b"one\ntwo\n").result()
    assert result == Result(0, out.replace(b"%s", cat.encode()), b"")
    desk.wait_status(cat, 0, 0, 3)


def test_data_as_an_argument_of_two_functions(desk: Desk, cat: str) -> None:
    """Without a worker the second would wait for ever."""
    again = desk.farm_worker("farm-rev", "--collect", "--", "rev")
    code, out, err = gearman(desk, "-f", cat, "-f", again, "abc").result()
    assert (code, sorted(out.split()), err) == (0, [b"abccba"], b"") or sorted([out[:3], out[3:6]]) == [b"abc", b"cba"]


def test_the_client_gives_up_in_time(desk: Desk, function: str) -> None:
    """Debian's says so on stderr and, as ever, exits 0; the job goes with it."""
    result = gearman(desk, "-t", "200", "-f", function, "abc").result()
    assert b"GEARMAN_TIMEOUT" in result.err
    desk.wait_status(function, 0, 0, 0)


# -- gearman, the worker


@pytest.mark.parametrize(
    ("options", "out"),
    [((), b"one\ntwo\n"), (("-n",), b"one\none\ntwo\n"), (("-N",), b"oneone\ntwo")],
    ids=["", "-n", "-N"],
)
def test_an_option_of_the_worker(desk: Desk, function: str, options: tuple[str, ...], out: bytes) -> None:
    """It ends after one job. With -n and -N it sends, for each line, all lines so far: so it does with gearmand."""
    worker = gearman(desk, "-w", "-c", "1", *options, "-f", function, "--", "cat")
    assert desk.submit(function, b"one\ntwo\n") == Result(0, out, b"")
    assert worker.result().code == 0
    desk.wait_status(function, 0, 0, 0)


def test_a_worker_of_two_functions_with_a_pid_file(desk: Desk, tmp_path: Path) -> None:
    names = [random_name(), random_name()]
    pid = tmp_path / "pid"
    worker = gearman(desk, "-w", "-i", str(pid), "-f", names[0], "-f", names[1], "--", "cat")
    for name in names:
        assert desk.submit(name, b"data") == Result(0, b"data", b"")
    assert int(pid.read_text()) == worker.popen.pid


def test_a_command_that_fails(desk: Desk, function: str) -> None:
    gearman(desk, "-w", "-f", function, "--", "false")
    code, out, err = desk.submit(function)
    assert (code, out, err.startswith(b"farm: ")) == (1, b"", True)


# -- gearadmin


def test_what_the_server_is(desk: Desk) -> None:
    assert gearadmin(desk, "--server-version") == Result(0, f"{__version__}+farm\n".encode(), b"")
    assert gearadmin(desk, "--server-verbose").out == b"NOTICE\n"
    assert int(gearadmin(desk, "--getpid").out) == desk.server_pid


def test_functions_are_made_and_dropped(desk: Desk, function: str) -> None:
    assert gearadmin(desk, "--create-function", function).code == 0
    assert f"{function}\t0\t0\t0" in gearadmin(desk, "--status").out.decode().splitlines()
    assert gearadmin(desk, "--drop-function", function).code == 0
    assert function not in gearadmin(desk, "--status").out.decode()


def test_jobs_are_listed_and_cancelled(desk: Desk, function: str, wire: Wire) -> None:
    handle = wire.submit(function.encode(), unique=function.encode(), number=p.SUBMIT_JOB_HIGH_BG).decode()
    assert f"{handle}\t0\t0\t1" in gearadmin(desk, "--show-jobs").out.decode().splitlines()
    assert function in gearadmin(desk, "--show-unique-jobs").out.decode().splitlines()
    assert f"{function}\t1\t0\t0\t0" in gearadmin(desk, "--priority-status").out.decode().splitlines()
    assert gearadmin(desk, "--cancel-job", handle).code == 0
    assert handle not in gearadmin(desk, "--show-jobs").out.decode()


def test_workers_are_listed(desk: Desk, cat: str) -> None:
    lines = gearadmin(desk, "--workers").out.decode().splitlines()
    assert sum(line.endswith(f" : {cat}") for line in lines) == 3
