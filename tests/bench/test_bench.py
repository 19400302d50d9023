"""The benchmarks measure what they say: each load does all of its jobs, and a result replaces the one before."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench import load, results
from tests.bench.compare import ratio
from tests.bench.load import Sample
from tests.bench.servers import OURS, PEER, Server, fresh, on_memory
from tests.cli.rig import connect
from tests.interop.ends import need
from tests.support import CHECKOUT, PATIENCE_S, wait_until

pytestmark = pytest.mark.interop


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The load generator."""
    need("cc")
    return load.build(tmp_path_factory.mktemp("load"))


@pytest.fixture(params=[OURS, PEER])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """Each of the two servers."""
    if request.param == PEER:
        need("gearmand")
    with fresh(request.param, tmp_path) as server:
        yield server


def status(server: Server) -> dict[bytes, tuple[int, ...]]:
    """(jobs, running jobs, workers) of each function."""
    with connect(f"127.0.0.1:{server.port}") as wire:
        rows = [line.split() for line in wire.listing(b"status")]
    return {row[0]: tuple(map(int, row[1:])) for row in rows}


def test_submit_queues_and_drain_takes(program: Path, server: Server) -> None:
    assert load.measure(program, server, load.submit(300, keys=True)).rate > 0
    assert status(server)[b"bench"] == (300, 0, 0)
    assert load.measure(program, server, load.drain(300)).latency_us == ()
    wait_until(lambda: status(server)[b"bench"][0] == 0, what="all are done")


def test_jobs_of_a_pipe_and_an_echo_are_done(program: Path, server: Server) -> None:
    load.measure(program, server, load.pipe(300))
    p50, p99, p999 = load.measure(program, server, load.echo(300, 3, 2, payload=100_000)).latency_us
    assert 0 < p50 <= p99 <= p999
    assert server.cpu_s() > 0
    wait_until(lambda: status(server)[b"bench"][0] == 0, what="all are done")


def test_parked_workers_do_their_share(program: Path, server: Server) -> None:
    with load.parked(program, server, workers=0, functions=0):
        assert not any(row.startswith(b"parked") for row in status(server))
    with load.parked(program, server, workers=4, functions=12):
        rows = status(server)
    assert [rows[b"parked-%d" % number] for number in range(12)] == [(0, 0, 1)] * 12


def test_a_server_that_errs_fails_the_load(program: Path, server: Server) -> None:
    too_long = "x" * 70
    with pytest.raises(AssertionError, match="the function's name is too long"):
        load.measure(program, server, ["drain", "1", "1", too_long])
    argv = load.pipe(10)
    server.process.kill()
    server.process.wait()
    server.cpu_s = server.waited_s = lambda: 0.0  # type: ignore[method-assign]
    with pytest.raises(AssertionError, match="connect"):
        load.measure(program, server, argv)


def test_a_ratio_is_of_each_round() -> None:
    ours = [Sample(10, 4), Sample(30, 4), Sample(90, 4)]
    peer = [Sample(10, 8), Sample(10, 2), Sample(10, 4)]
    assert ratio({OURS: ours, PEER: peer}, lambda sample: sample.rate) == 3
    assert ratio({OURS: ours, PEER: peer}, lambda sample: sample.cpu_us) == 1


def test_a_section_replaces_the_one_before(tmp_path: Path) -> None:
    file = tmp_path / "RESULTS.md"
    results.write("One", "bin/bench one", "first", file)
    results.write("Two", "bin/bench two", "second", file)
    results.write("One", "bin/bench one", "third", file)
    text = file.read_text()
    assert text.count("## One") == text.count("## Two") == 1
    assert "first" not in text
    assert text.index("third") < text.index("second")


def _processes_with(words: str) -> list[int]:
    """Processes that have these words on their command line."""
    found = []
    for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
        with contextlib.suppress(OSError):
            if words.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_nothing_behind(tmp_path: Path, number: int) -> None:
    need("cc", "gearmand")
    if on_memory(tmp_path):
        pytest.skip("the directory for tests is not on a disk")
    server, anything = f"--store\0{tmp_path}/", f"{tmp_path}/"  # on their command lines
    argv = [str(CHECKOUT / "bin/bench"), "restart", "--rounds", "1", "--directory", str(tmp_path)]
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as bench:
        assert bench.stderr
        try:
            wait_until(
                lambda: (_processes_with(server) and len(_processes_with(anything)) > 1) or bench.poll() is not None,
                what="a load on a server",
            )
            bench.send_signal(number)
            assert bench.wait(PATIENCE_S) == 128 + number
            assert b"Traceback" not in bench.stderr.read()
        finally:
            bench.kill()
            left = _processes_with(anything)
            for pid in left:
                os.kill(pid, signal.SIGKILL)
    assert not left
    assert not list(tmp_path.iterdir())


def test_what_is_wanted_and_missed() -> None:
    """Of the tables as they were written: in each the figure before `wanted`, or the last bold one."""
    missed = results.missed(TABLES)
    assert missed == [
        "drain: ratio 1.16, wanted ≥ 1.5",
        "pipe: ratio 0.85, wanted ≥ 1.5",
        "pipe: ratio 0.81, wanted ≤ 0.6",
        "2: ratio 20, wanted ≥ 50",
        "late: ratio 2.10, wanted ≤ 2",
        "given back: ratio 41%, wanted ≥ 50%",
    ]
    assert results.missed("no table") == []


TABLES = """
| load | | farm, jobs/s | gearmand | ratio | wanted | farm, us of CPU/job | gearmand | ratio | wanted |
|---|---|---|---|---|---|---|---|---|---|
| submit | 4 clients | 131.2k | 284.2k | **0.46** | ≥ 0.4 | 7.4 | 4.1 | **1.93** |  |
| drain | 8 workers | 38.2k | 34.0k | **1.16** | ≥ 1.5 | 20.3 | 32.8 | **0.58** | ≤ 0.6 |
| pipe | both | 27.7k | 31.2k | **0.85** | ≥ 1.5 | 26.3 | 35.5 | **0.81** | ≤ 0.6 |

| clients | under way each | farm, jobs/s | gearmand | ratio | wanted | farm, ms, p50 / p99 | gearmand |
|---|---|---|---|---|---|---|---|
| 1 | 100 | 17.8k | 0.1k | **134** (20 to 248) | ≥ 50 | 4.0 / 24.0 | 345.3 / 1868.2 |
| 2 | 100 | 17.8k | 0.1k | **20** (2 to 24) | ≥ 50 | 4.0 / 24.0 | 345.3 / 1868.2 |

| | farm | gearmand | ratio | wanted |
|---|---|---|---|---|
| serving | **1.95** | | | ≤ 2 |
| late | **2.10** | | | ≤ 2 |
| bytes | 585 | 912 | **0.64** | ≤ 1 |
| given back | **41%** | 2% | | ≥ 50% |
"""
