"""What a job costs farm's server when it holds a lot else: queued jobs, functions, sleeping workers."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

from tests.bench import load
from tests.bench.servers import OURS, fresh

JOBS = 40_000  # of each measurement
DEPTHS = (0, 1_000, 10_000, 100_000, 1_000_000)
PARKED = ((0, 0), (100, 500), (1_000, 5_000))  # workers asleep, functions they can do
WORKERS = (8, 100, 1_000)
ROUNDS = 3


def run(say: Callable[[str], None], depths: tuple[int, ...] = DEPTHS, rounds: int = ROUNDS) -> str:
    """Measure each, in turns; the tables in Markdown."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        program = load.build(directory)
        return "\n".join(
            [
                *_by_depth(program, directory, say, depths, rounds),
                "",
                *_by_sleepers(program, directory, say, rounds),
                "",
                *_by_workers(program, directory, say, rounds),
            ]
        )


def _by_depth(
    program: Path, directory: Path, say: Callable[[str], None], depths: tuple[int, ...], rounds: int
) -> list[str]:
    costs: dict[int, list[tuple[float, float]]] = {depth: [] for depth in depths}
    memory = dict.fromkeys(depths, 0)
    for _ in range(rounds):
        for depth in depths:
            with fresh(OURS, directory) as server:
                load.measure(program, server, load.pipe(2000))
                if depth:
                    load.measure(program, server, load.submit(depth))
                submit = load.measure(program, server, load.submit(JOBS))
                memory[depth] = server.memory()
                drain = load.measure(program, server, load.drain(JOBS))
            costs[depth].append((submit.cpu_us, drain.cpu_us))
            say(f"{depth} queued: submit {submit.cpu_us:.1f} us/job, drain {drain.cpu_us:.1f} us/job")
    lines = ["| jobs queued already | submit, us of CPU/job | drain, us of CPU/job | the server's memory, MB |"]
    lines.append("|---|---|---|---|")
    for depth, pairs in costs.items():
        submit_us, drain_us = (median(column) for column in zip(*pairs, strict=True))
        lines.append(f"| {depth:,} | {submit_us:.1f} | {drain_us:.1f} | {memory[depth] / 1e6:.0f} |")
    return lines


def _by_sleepers(program: Path, directory: Path, say: Callable[[str], None], rounds: int) -> list[str]:
    costs: dict[tuple[int, int], list[float]] = {parked: [] for parked in PARKED}
    for _ in range(rounds):
        for workers, functions in PARKED:
            with fresh(OURS, directory) as server, load.parked(program, server, workers, functions):
                load.measure(program, server, load.pipe(2000))
                cost = load.measure(program, server, load.pipe(JOBS)).cpu_us
            costs[workers, functions].append(cost)
            say(f"{workers} sleeping workers for {functions} functions: pipe {cost:.1f} us/job")
    lines = ["| sleeping workers | functions | pipe, us of CPU/job |", "|---|---|---|"]
    return lines + [f"| {workers:,} | {functions:,} | {median(c):.1f} |" for (workers, functions), c in costs.items()]


def _by_workers(program: Path, directory: Path, say: Callable[[str], None], rounds: int) -> list[str]:
    costs: dict[int, list[float]] = {workers: [] for workers in WORKERS}
    for _ in range(rounds):
        for workers in WORKERS:
            with fresh(OURS, directory) as server:
                load.measure(program, server, load.pipe(2000))
                cost = load.measure(program, server, load.echo(JOBS, 8, workers)).cpu_us
            costs[workers].append(cost)
            say(f"echo with {workers} workers of one function: {cost:.1f} us/job")
    lines = [
        "With as many workers as clients most find their next job when they ask; with more, every job wakes the one",
        "that has slept longest, which is four packets more (NO_JOB, PRE_SLEEP, NOOP, GRAB_JOB), however many sleep.",
        "",
    ]
    lines += ["| workers that sleep for one function | echo from 8 clients, us of CPU/job |", "|---|---|"]
    return lines + [f"| {workers:,} | {median(c):.1f} |" for workers, c in costs.items()]
