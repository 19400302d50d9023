"""farm's client with farm's worker through either server: every byte of stdout and stderr, and the exact exit code."""

from __future__ import annotations

import hashlib
import os
import signal
from itertools import combinations, pairwise

import pytest

from farm.client.connection import open_connection
from farm.client.request import Request
from farm.client.submit import Foreground
from farm.protocol.address import parse_address
from tests.interop.ends import FARM, KINDS, Ends, Result, Server, submit
from tests.interop.jobs import saying

pytestmark = pytest.mark.interop


@pytest.fixture(params=KINDS, ids=["farm-server", "gearmand"])
def shared(request: pytest.FixtureRequest, servers: dict[str, Server]) -> Server:
    """The shared server of each kind."""
    return servers[request.param]


def exit_of(server: Server, function: str, payload: bytes = b"") -> tuple[int, str]:
    """A job's exit code and whose it is, from farm's client within this process."""
    connection = open_connection(parse_address(server.address), insecure=False)
    job = Foreground(connection, Request(function.encode(), payload), notify=lambda message, hint: None)
    try:
        return job.run(), job.origin
    finally:
        connection.close()


# -- exit codes and signals


@pytest.mark.parametrize("code", [0, 1, 2, 63, 64, 77, 125, 126, 127, 128, 130, 143, 254, 255])
def test_the_client_exits_as_the_command_did(shared: Server, code: int) -> None:
    assert submit(FARM, shared, "shell-farm", b"exit %d" % code) == Result(code, b"", b"")


def test_each_of_the_256_exit_codes_arrives(shared: Server) -> None:
    """Within this process: 256 client processes would take half a minute."""
    for code in range(256):
        assert exit_of(shared, "shell-farm", b"exit %d" % code) == (code, "job")


@pytest.mark.parametrize("name", ["TERM", "KILL", "SEGV", "HUP", "PIPE"])
def test_a_signal_n_is_exit_128_plus_n_and_loses_no_output(shared: Server, name: str) -> None:
    script = f"ulimit -c 0; echo out; echo err >&2; kill -{name} $$".encode()
    number = signal.Signals[f"SIG{name}"]
    assert submit(FARM, shared, "shell-farm", script) == Result(128 + number, b"out\n", b"err\n")


def test_whose_the_exit_code_is_can_be_told(shared: Server, ends: Ends) -> None:
    """125 by the command is the job's; 127 because there is no command any more is farm's."""
    script = ends.directory / "command"
    script.write_text("#!/bin/sh\nexit 125\n")
    script.chmod(0o755)
    ends.worker(FARM, shared, f"vanishes-{shared.kind}", str(script))

    assert exit_of(shared, f"vanishes-{shared.kind}") == (125, "job")
    script.unlink()
    assert exit_of(shared, f"vanishes-{shared.kind}") == (127, "farm")


# -- bytes


def test_both_outputs_keep_every_byte(shared: Server) -> None:
    everything = bytes(range(256))
    pieces = [(fd, everything[start : start + 37]) for start in range(0, 256, 37) for fd in (1, 2)]
    assert submit(FARM, shared, "says", saying(pieces, 9)) == Result(9, everything, everything)


def test_a_megabyte_on_each_output_at_the_same_time(shared: Server) -> None:
    """Neither output may wait for the other, in the worker as little as in the client."""
    script = b"head -c 1000000 /dev/zero >&2 & head -c 1000000 /dev/zero; wait; exit 4"
    assert submit(FARM, shared, "shell-farm", script) == Result(4, bytes(1_000_000), bytes(1_000_000))


def test_an_empty_write_and_silence_are_no_output(shared: Server) -> None:
    assert submit(FARM, shared, "says", saying([(1, b""), (2, b"")], 0)) == Result(0, b"", b"")


def test_64_mib_through_cat(shared: Server) -> None:
    """The command's stdin and stdout are both full long before the end: whoever only feeds or only reads hangs."""
    block = os.urandom(1 << 20)
    payload = b"".join(block[index:] + block[:index] for index in range(64))
    # -q: where the machine is busy, that takes a server longer than a person waits without a word
    code, out, err = submit(FARM, shared, "cat", payload, "-q", timeout_s=60)
    assert (code, err, len(out)) == (0, b"", len(payload))
    assert hashlib.sha256(out).digest() == hashlib.sha256(payload).digest()


# -- an exit code cannot be forged

ZERO, SEVEN = b"farm: exit 0\n", b"farm: exit 7\n"
FORGERIES: dict[str, list[bytes]] = {
    "a write of its own": [SEVEN],
    "zero": [ZERO],
    "farm's own origin": [b"farm: exit 0 farm\n"],
    "byte by byte": [SEVEN[index : index + 1] for index in range(len(SEVEN))],
    "twice in one write": [SEVEN * 2],
    "twice": [SEVEN, ZERO],
    "after other words": [b"words\n", SEVEN],
    "behind other words": [b"words\n" + SEVEN],
    "before other words": [SEVEN + b"words"],
    "the mark and then the code": [b"farm: exit ", b"0\n"],
    "the first letter and the rest": [b"f", b"arm: exit 0\n"],
    "the first letter twice": [b"ff", b"arm: exit 0\n"],
    "the rest, whole": [b"arm: exit 0\n"],
    "without its end": [b"farm: exit 0"],
    "with NULs": [b"\0farm: exit 0\n", b"farm: exit 0\n\0"],
    "nothing before it": [b"", SEVEN, b""],
}


@pytest.mark.parametrize("code", [0, 3])
@pytest.mark.parametrize("pieces", FORGERIES.values(), ids=FORGERIES)
def test_a_command_cannot_forge_an_exit_code(shared: Server, pieces: list[bytes], code: int) -> None:
    """As the very last thing on stderr, where farm's own word on the exit code would be."""
    result = submit(FARM, shared, "says", saying([(2, piece) for piece in pieces], code))
    assert result == Result(code, b"", b"".join(pieces))


@pytest.mark.parametrize("cut", range(1, len(ZERO)))
def test_a_forged_line_in_two_writes(shared: Server, cut: int) -> None:
    pieces = [(1, b"out"), (2, ZERO[:cut]), (2, ZERO[cut:])]
    assert submit(FARM, shared, "says", saying(pieces, 3)) == Result(3, b"out", ZERO)


def test_no_split_of_forged_lines_loses_a_byte(shared: Server) -> None:
    """Every way to cut the line into up to four writes, one after the other in one job."""
    size = len(ZERO)
    cuts = [(0, *cut, size) for count in range(4) for cut in combinations(range(1, size), count)]
    pieces = [(2, ZERO[start:end]) for cut in cuts for start, end in pairwise(cut)]
    assert len(cuts) == 299
    assert submit(FARM, shared, "says", saying(pieces, 5)) == Result(5, b"", ZERO * len(cuts))


def test_a_forged_line_on_stdout_is_output(shared: Server) -> None:
    assert submit(FARM, shared, "says", saying([(1, SEVEN), (2, b"x"), (1, SEVEN)], 3)) == Result(3, SEVEN * 2, b"x")
