"""The load generator (load.c): built with cc, run, and what it and the server's process say of one load."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.bench.servers import Server

SOURCE = Path(__file__).with_name("load.c")
FUNCTION = "bench"
RATE_MAX = 1_000_000  # no server takes so many jobs each second
LOAD_MAX_S = 600.0  # a hung load fails by itself after a minute; this is for one that creeps


class Sample(NamedTuple):
    """One load at one server. rate: jobs per second. cpu_us: of the server, for each job, until all is durable.
    latency_us: p50, p99 and p99.9 of what its clients wait for: the acknowledgement, or for `echo` the result.
    busy: processors that the server used or was kept waiting for, over the time that the load took; 1 where nothing but
    its processor holds it up."""

    rate: float
    cpu_us: float
    latency_us: tuple[float, ...] = ()
    busy: float = 0.0


def build(directory: Path) -> Path:
    """The program, made in this directory."""
    program = directory / "load"
    subprocess.run(["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", program, SOURCE], check=True)
    return program


def submit(jobs: int, clients: int = 4, window: int = 100, payload: int = 100, keys: bool = False) -> list[str]:
    """Background jobs, until each is acknowledged."""
    return ["submit", *map(str, (jobs, clients, window, payload, FUNCTION, int(keys)))]


def submit_for(seconds: float, clients: int, window: int) -> list[str]:
    """Background jobs, each with a key, for so long; those under way then are not waited for, which of gearmand's
    would take minutes."""
    return [*submit(int(seconds * RATE_MAX), clients, window, keys=True), str(seconds)]


def drain(jobs: int, workers: int = 8) -> list[str]:
    """What is queued already, taken and completed."""
    return ["drain", str(jobs), str(workers), FUNCTION]


def pipe(jobs: int, clients: int = 4, workers: int = 8, window: int = 100, payload: int = 100) -> list[str]:
    """Background jobs, submitted and done at the same time."""
    return ["pipe", *map(str, (jobs, clients, workers, window, payload, FUNCTION, 0))]


def echo(jobs: int, clients: int, workers: int, window: int = 1, payload: int = 100) -> list[str]:
    """Foreground jobs, answered with their payload."""
    return ["echo", *map(str, (jobs, clients, workers, window, payload, FUNCTION, 0))]


def measure(program: Path, server: Server, load: list[str]) -> Sample:
    """Run one load against a server."""
    before, waited = server.cpu_s(), server.waited_s()
    done = subprocess.run(
        [program, str(server.port), *load],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LOAD_MAX_S,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(load)}: {done.stderr}"
    server.settle()
    jobs, seconds, *latency = map(float, done.stdout.split())
    cpu_s, waited_s = server.cpu_s() - before, server.waited_s() - waited
    return Sample(jobs / seconds, cpu_s / jobs * 1e6, tuple(latency), (cpu_s + waited_s) / seconds)


@contextlib.contextmanager
def parked(program: Path, server: Server, workers: int, functions: int) -> Iterator[None]:
    """So many workers asleep, each able to do its share of so many functions that no load uses."""
    argv = [program, str(server.port), "park", str(workers), str(functions), "parked-"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin and process.stdout
        try:
            assert process.stdout.readline() == b"parked\n"
            yield
        finally:
            process.stdin.close()
