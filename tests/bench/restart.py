"""A backlog: how soon a server that was killed serves again, and what a queued job costs in memory, against gearmand.

gearmand keeps its jobs in memory only here: that is its cheapest way. Both get the same jobs, each on its own.
"""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.bench import load
from tests.bench.servers import OURS, PEER, Server, fresh, running

JOBS = 1_000_000  # whose memory is measured
RESTART_JOBS = 100_000
RESTART_ENDED = 2_000_000  # about as many small ones as `--keep-results-size` lets be
SERVING_MAX_S = 2.0
PER_JOB_MAX = 1.0  # memory, in parts of gearmand's
RETURNED_MIN = 0.5  # of the memory that the jobs took, when they are done
PAYLOADS, PAYLOAD_SIZE = 10_000, 20_000  # 200 MB
PAYLOAD_MEMORY = 32_000_000
# SQLite's two caches, of the writer and the reader, the jobs without their payloads, and what is on its way in and out.
BESIDE_PAYLOADS = 2 * 16 * 1024 * 1024 + 32_000_000


class Memory(NamedTuple):
    """Resident bytes: with no job, with all of them, and with none again."""

    empty: int
    full: int
    drained: int

    def per_job(self, jobs: int) -> float:
        """Bytes."""
        return (self.full - self.empty) / jobs

    def returned(self) -> float:
        """The share of what the jobs took that came back."""
        return (self.full - self.drained) / (self.full - self.empty)


class Restart(NamedTuple):
    """serving_s: from the start of a server's process to its first answer. waited_s: of that, for a processor that
    others had."""

    serving_s: float
    waited_s: float


def run(directory: Path, rounds: int, say: Callable[[str], None]) -> str:
    """Measure everything on the disk of this directory; the table in Markdown. Memory hardly varies: once."""
    program = load.build(directory)
    restarts = [restart(program, directory, RESTART_JOBS) for _ in range(rounds)]
    for number, one in enumerate(restarts):
        say(f"round {number + 1}  {RESTART_JOBS} jobs: serving after {one.serving_s:.2f} s, {one.waited_s:.2f} waiting")
    kept = [restart(program, directory, RESTART_JOBS, RESTART_ENDED) for _ in range(rounds)]
    say(f"{RESTART_JOBS} jobs, {RESTART_ENDED} results: serving after {max(kept).serving_s:.2f} s")
    large = restart(program, directory, JOBS).serving_s
    say(f"{JOBS} jobs: serving after {large:.2f} s")
    farm = ours(program, directory, JOBS)
    say(f"{JOBS} jobs, farm: {farm}")
    peer = stock(program, directory, JOBS)
    say(f"{JOBS} jobs, gearmand: {peer}")
    taken = payloads(program, directory)
    again = f"| seconds until a killed server serves again, {RESTART_JOBS:,} jobs queued, the worst of {rounds} "
    per_job = [of.per_job(JOBS) for of in (farm, peer)]
    bound = (PAYLOAD_MEMORY + BESIDE_PAYLOADS) / 1e6
    return "\n".join(
        [
            "| | farm | gearmand | ratio | wanted |",
            "|---|---|---|---|---|",
            f"{again}| **{max(restarts).serving_s:.2f}** | | | ≤ {SERVING_MAX_S:g} |",
            f"| the same, and {RESTART_ENDED:,} results | **{max(kept).serving_s:.2f}** | | | ≤ {SERVING_MAX_S:g} |",
            f"| the same, {JOBS:,} jobs | {large:.2f} | | | |",
            f"| bytes of memory for each of {JOBS:,} queued jobs | {per_job[0]:.0f} | {per_job[1]:.0f} "
            f"| **{per_job[0] / per_job[1]:.2f}** | ≤ {PER_JOB_MAX:g} |",
            f"| of it given back when all are done | **{farm.returned():.0%}** | {peer.returned():.0%} "
            f"| | ≥ {RETURNED_MIN:.0%} |",
            f"| MB of memory taken by {PAYLOADS * PAYLOAD_SIZE / 1e6:.0f} MB of payloads, "
            f"`--payload-memory {PAYLOAD_MEMORY / 1e6:.0f}M` | **{taken / 1e6:.0f}** | | | ≤ {bound:.0f} |",
        ]
    )


def restart(program: Path, directory: Path, jobs: int, ended: int = 0) -> Restart:
    """Fill a durable server, kill it, and start it again. ended: results that it has kept meanwhile."""
    with tempfile.TemporaryDirectory(dir=directory) as name:
        place = Path(name)
        with running(OURS, place, durable=True) as server:
            load.measure(program, server, load.submit(jobs))
        if ended:
            keep(place / "store" / "jobs.db", ended)
        with running(OURS, place, durable=True) as server:
            return Restart(server.serving_s, server.waited_s())


def keep(file: Path, ended: int) -> None:
    """As if so many small jobs had ended just now: doing them would take minutes."""
    with contextlib.closing(sqlite3.connect(file)) as database, database:
        database.execute(
            """INSERT INTO ended (id, function, unique_key, priority, created, outcome, started, ended, worker,
                exit_code, cut, size, crc, payload, log, result)
            WITH RECURSIVE number(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM number WHERE i < ?1)
            SELECT i, CAST('resize' AS BLOB), x'', 1, ?2, 'done', ?2, ?2, CAST('host-1234' AS BLOB), 0, 0, 120, 0,
                NULL, x'', zeroblob(20) FROM number""",
            (ended, time.time()),
        )


def ours(program: Path, directory: Path, jobs: int) -> Memory:
    """Of a durable server. What is kept of ended jobs costs nothing here, for it is in the store."""
    with fresh(OURS, directory, durable=True) as server:
        return _fill_and_drain(program, server, jobs)


def stock(program: Path, directory: Path, jobs: int) -> Memory:
    """Of gearmand."""
    with fresh(PEER, directory) as server:
        return _fill_and_drain(program, server, jobs)


def _fill_and_drain(program: Path, server: Server, jobs: int) -> Memory:
    empty = server.memory()
    load.measure(program, server, load.submit(jobs))
    full = server.memory()
    load.measure(program, server, load.drain(jobs))
    return Memory(empty, full, server.memory())


def payloads(program: Path, directory: Path) -> int:
    """Resident bytes that payloads take which do not fit into the memory that they may have: at most, when they are
    queued and after a restart."""
    with tempfile.TemporaryDirectory(dir=directory) as name:
        place, options = Path(name), ("--payload-memory", str(PAYLOAD_MEMORY))
        with running(OURS, place, *options, durable=True) as server:
            empty = server.memory()
            load.measure(program, server, load.submit(PAYLOADS, payload=PAYLOAD_SIZE))
            full = server.memory()
        with running(OURS, place, *options, durable=True) as server:
            return max(full, server.memory()) - empty
