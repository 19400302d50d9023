"""Each load on farm and on gearmand in turn (A B A B ...): rates, processor time for each job, and their ratios."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import NamedTuple

from tests.bench import load
from tests.bench.load import Sample
from tests.bench.servers import INTERPRETED, OURS, PEER, fresh

ROUNDS = 5
WARM_UP = 2000  # jobs before anything is measured: a first turn of everything


class Load(NamedTuple):
    """A row of the results. steps: the loads that one fresh server gets, of which the last is the one that is measured.
    rate_min, cpu_max: what is wanted of farm in parts of gearmand's; 0: nothing."""

    name: str
    what: str
    steps: tuple[list[str], ...]
    rate_min: float = 0.0
    cpu_max: float = 0.0


LOADS = (
    Load("submit", "4 clients, 100 under way each", (load.submit(150_000),), rate_min=0.4),
    Load("submit, unique keys", "the same, a key for each job", (load.submit(150_000, keys=True),)),
    # Why long queues: farm/decisions/0018-long-and-short-queues.md
    Load("drain", "8 workers, 300,000 jobs", (load.submit(300_000), load.drain(300_000)), rate_min=1.5, cpu_max=0.6),
    Load("drain, short queue", "the same, 60,000 jobs", (load.submit(60_000), load.drain(60_000))),
    Load("pipe", "4 clients and 8 workers, 300,000 jobs", (load.pipe(300_000),), rate_min=1.5, cpu_max=0.6),
    Load("pipe, shorter", "the same, 60,000 jobs", (load.pipe(60_000),)),
    Load("echo, one", "1 client, 1 worker", (load.echo(5_000, 1, 1),)),
    Load("echo", "32 clients, 32 workers", (load.echo(40_000, 32, 32),), rate_min=1.1),
    Load("echo, 64 KiB", "8 clients, 8 workers", (load.echo(5_000, 8, 8, payload=65536),)),
)

NAMES = (OURS, PEER, INTERPRETED)
Samples = dict[str, list[Sample]]


def run(rounds: int, say: Callable[[str], None], names: list[str]) -> list[tuple[Load, Samples]]:
    """Measure; an empty `names` means every load."""
    wanted = [one for one in LOADS if not names or one.name in names]
    found: list[tuple[Load, Samples]] = [(one, {name: [] for name in NAMES}) for one in wanted]
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        program = load.build(directory)
        for number in range(rounds):
            for one, samples in found:
                for server in NAMES:
                    sample = _measure(program, directory, server, one)
                    samples[server].append(sample)
                    words = f"round {number + 1}  {one.name:20} {server:11}"
                    say(f"{words} {sample.rate:9.0f} /s {sample.cpu_us:7.1f} us/job")
    return found


def _measure(program: Path, directory: Path, name: str, one: Load) -> Sample:
    with fresh(name, directory) as server:
        load.measure(program, server, load.pipe(WARM_UP))
        return [load.measure(program, server, step) for step in one.steps][-1]


def ratio(samples: Samples, of: Callable[[Sample], float], name: str = OURS) -> float:
    """The median over the rounds of farm's part of gearmand's: each round's two met the same machine."""
    return median(of(ours) / max(of(peer), 1e-9) for ours, peer in zip(samples[name], samples[PEER], strict=True))


def table(found: list[tuple[Load, Samples]]) -> str:
    """The results in Markdown."""
    lines = [
        "| load | | farm, jobs/s | gearmand | ratio | wanted | farm, us of CPU/job | gearmand | ratio | wanted |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for one, samples in found:
        rates = [thousands(median(map(_rate, samples[name]))) for name in (OURS, PEER)]
        costs = [f"{median(map(_cost, samples[name])):.1f}" for name in (OURS, PEER)]
        rate, cost = ratio(samples, _rate), ratio(samples, _cost)
        cells = [one.name, one.what, *rates, f"**{rate:.2f}**", wanted("≥", one.rate_min)]
        cells += [*costs, f"**{cost:.2f}**", wanted("≤", one.cpu_max)]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "The same without `bin/compile`, when farm is interpreted:", ""]
    lines += ["| load | farm, jobs/s | ratio | farm, us of CPU/job | ratio |", "|---|---|---|---|---|"]
    for one, samples in found:
        plain = samples[INTERPRETED]
        rate, cost = (ratio(samples, of, INTERPRETED) for of in (_rate, _cost))
        cells = [one.name, thousands(median(map(_rate, plain))), f"{rate:.2f}"]
        lines.append(f"| {' | '.join([*cells, f'{median(map(_cost, plain)):.1f}', f'{cost:.2f}'])} |")
    lines += ["", "Latency in microseconds, p50 / p99 / p99.9, of the acknowledgement, in echo of the result:", ""]
    lines += ["| load | farm | gearmand |", "|---|---|---|"]
    for one, samples in found:
        if samples[OURS][0].latency_us:
            lines.append(f"| {one.name} | {_latency(samples[OURS])} | {_latency(samples[PEER])} |")
    return "\n".join(lines)


def _rate(sample: Sample) -> float:
    return sample.rate


def _cost(sample: Sample) -> float:
    return sample.cpu_us


def wanted(sign: str, limit: float) -> str:
    """A cell of a table: what is wanted of the figure before it; 0: nothing."""
    return f"{sign} {limit:g}" if limit else ""


def thousands(rate: float) -> str:
    """A rate in a cell."""
    return f"{rate / 1000:.1f}k"


def _latency(samples: list[Sample]) -> str:
    return " / ".join(f"{median(column):.0f}" for column in zip(*(s.latency_us for s in samples), strict=True))
