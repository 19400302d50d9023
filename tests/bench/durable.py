"""Background jobs that are on disk before they are acknowledged, beside gearmand's libsqlite3 queue; and what it costs
farm's server to keep them, and how they ended."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from tests.bench import load
from tests.bench.compare import Samples, ratio, thousands, wanted
from tests.bench.load import Sample
from tests.bench.servers import OURS, PEER, fresh

CLIENTS = (1, 16, 64)
WINDOWS = (1, 100)  # jobs under way of each client: one that waits for each, one that pipelines
LOAD_S = 3.0
SYNCS = 100  # of which the median is taken
WARM_UP = 100  # jobs; gearmand takes some hundred each second
TIMES_MIN = 50.0  # gearmand's rate, of clients that pipeline; one that waits for each has one sync for each everywhere
BUSY_MIN = 0.8  # then the server is bound by its processor, and not by the disk (Sample.busy)
TIMES_OF_PROCESSOR_MIN = 20.0  # gearmand's rate, of what its processor can do by itself

JOBS = 40_000  # of each measurement of a cost
JOBS_PEER = 1_000
# Title, server, its options, whether it is durable.
KEEPERS: tuple[tuple[str, str, tuple[str, ...], bool], ...] = (
    ("farm, `--store memory`", OURS, (), False),
    ("farm, on disk, `--keep-results 0`", OURS, ("--keep-results", "0"), True),
    ("farm, on disk, `--keep-results 7d`, the default", OURS, (), True),
    ("gearmand, its queue in SQLite", PEER, (), True),
)

Rates = dict[tuple[int, int], Samples]  # by (clients, window)
Costs = dict[str, list[tuple[float, float]]]  # by title: a submission's and a drain's microseconds in each round


def run(directory: Path, rounds: int, say: Callable[[str], None]) -> str:
    """Measure everything on the disk of this directory; the tables in Markdown."""
    program = load.build(directory)
    rates: Rates = {}
    costs: Costs = {}
    for number in range(rounds):
        for key, samples in compare(program, directory).items():
            of_all = rates.setdefault(key, {OURS: [], PEER: []})
            for name in (OURS, PEER):
                of_all[name] += samples[name]
                words = f"round {number + 1}  {key[0]} clients, {key[1]} under way  {name:8}"
                say(f"{words} {samples[name][0].rate:9.0f} /s")
        for title, cost in cost_of_keeping(program, directory).items():
            costs.setdefault(title, []).append(cost)
            say(f"round {number + 1}  {title}: submit {cost[0]:.1f} us/job, drain {cost[1]:.1f} us/job")
    return "\n".join([*_rates(rates), "", *_costs(costs)])


def compare(
    program: Path, directory: Path, clients: tuple[int, ...] = CLIENTS, windows: tuple[int, ...] = WINDOWS
) -> Rates:
    """One round of submissions, each load on both servers in turn."""
    return {
        (count, window): {name: [_submit(program, directory, name, count, window)] for name in (OURS, PEER)}
        for count in clients
        for window in windows
    }


def sync_ms(directory: Path) -> float:
    """What making a page durable takes on this disk, in a file that is new, in the median: gearmand's SQLite does that
    for each job, with its journal."""
    times = []
    for _ in range(SYNCS):
        with tempfile.NamedTemporaryFile(dir=directory) as file:
            begin = time.perf_counter()
            os.write(file.fileno(), bytes(4096))
            os.fsync(file.fileno())
            times.append(time.perf_counter() - begin)
    return median(times) * 1000


def _submit(program: Path, directory: Path, name: str, clients: int, window: int) -> Sample:
    with fresh(name, directory, durable=True) as server:
        load.measure(program, server, load.submit(WARM_UP, 1, keys=True))
        return load.measure(program, server, load.submit_for(LOAD_S, clients, window))


def cost_of_keeping(program: Path, directory: Path, jobs: int = JOBS) -> dict[str, tuple[float, float]]:
    """By title, microseconds of the server's processor time for a job's submission and for its end."""
    costs = {}
    for title, name, options, durable in KEEPERS:
        count = jobs if name == OURS else min(jobs, JOBS_PEER)
        with fresh(name, directory, *options, durable=durable) as server:
            load.measure(program, server, load.pipe(WARM_UP))
            steps = (load.submit(count, keys=True), load.drain(count))
            submit, drain = [load.measure(program, server, step).cpu_us for step in steps]
            costs[title] = submit, drain
    return costs


def _rates(rates: Rates) -> list[str]:
    lines = [
        "| clients | under way each | farm, jobs/s | gearmand | ratio | wanted "
        "| farm, acknowledged after ms, p50 / p99 | gearmand |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (clients, window), samples in rates.items():
        both = [thousands(median(sample.rate for sample in samples[name])) for name in (OURS, PEER)]
        times = f"**{ratio(samples, _rate):.0f}** ({' to '.join(f'{end:.0f}' for end in _ends(samples))})"
        least = wanted("≥", TIMES_MIN if window > 1 else 0)
        cells = [str(clients), str(window), *both, times, least, *(_latency(samples[name]) for name in (OURS, PEER))]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _rate(sample: Sample) -> float:
    return sample.rate


def _ends(samples: Samples) -> tuple[float, float]:
    """The smallest and the largest of the rounds' ratios: on a slow disk farm is further ahead than on a fast one."""
    ratios = [ours.rate / peer.rate for ours, peer in zip(samples[OURS], samples[PEER], strict=True)]
    return min(ratios), max(ratios)


def _latency(samples: list[Sample]) -> str:
    return " / ".join(f"{median(sample.latency_us[index] for sample in samples) / 1000:.1f}" for index in (0, 1))


def _costs(costs: Costs) -> list[str]:
    lines = [
        "What a job with a key of its own costs the server, in microseconds of CPU of all threads, until everything "
        "is durable:",
        "",
        "| | submitted | done | both |",
        "|---|---|---|---|",
    ]
    for title, found in costs.items():
        submit, drain, both = (
            median(column) for column in ((one for one, _ in found), (two for _, two in found), map(sum, found))
        )
        lines.append(f"| {title} | {submit:.1f} | {drain:.1f} | **{both:.1f}** |")
    return lines
