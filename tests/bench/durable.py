"""Background jobs that are on disk before they are acknowledged: farm's default store beside gearmand's libsqlite3
queue, in turns, on a real disk. `python -P -m tests.bench.durable`.

Two loads for each number of clients: each client with one job under way, whose acknowledgement is timed; and each with
many under way, as a program that pipelines has. Then what keeping results costs: processor time of the server for jobs
submitted and done, with `--keep-results 7d` (the default) and with 0.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import selectors
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

from farm.protocol import packets as p
from tests.cli.rig import FARM, free_port
from tests.support import CHECKOUT, PATIENCE_S, Wire, req, wait_until

CLIENTS = (1, 16, 64)
WINDOW = 100  # jobs under way of a client that pipelines
PAYLOAD = b"x" * 100
LOAD_S = 3.0  # of each load; nothing is sent after it
WORKERS = 8
ROUNDS = 3
TARGET = 50  # times gearmand's rate

OURS, PEER = "farm", "gearmand"
_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"  # where gearmand is on Debian
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_CREATED, _ASSIGNED = (b"\0RES" + struct.pack(">I", number) for number in (p.JOB_CREATED, p.JOB_ASSIGN))


class Sample(NamedTuple):
    """One load. rate: acknowledged jobs each second. p50, p99: milliseconds, where a client had one job under way."""

    jobs: float
    rate: float
    p50: float = 0.0
    p99: float = 0.0


class Server:
    """A running server."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self.port = port

    def cpu_s(self) -> float:
        """The processor time that it has used, of all its threads."""
        words = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) * _TICK_S


@contextlib.contextmanager
def fresh(name: str, directory: Path, *options: str) -> Iterator[Server]:
    """A server with an empty store of its own below this directory; both are gone afterwards."""
    port, place = free_port(), Path(tempfile.mkdtemp(dir=directory))
    argv = [FARM, "server", "--listen", f"127.0.0.1:{port}", "--store", str(place / "store"), *options]
    if name == PEER:
        queue = ["-q", "libsqlite3", "--libsqlite3-db", str(place / "queue.db")]
        where = ["-p", str(port), "-L", "127.0.0.1", "-l", str(place / "log")]
        argv = [str(shutil.which(PEER, path=_PATH)), *where, *queue]
    env = {name: value for name, value in os.environ.items() if not name.startswith(("FARM_", "GEARMAN"))}
    with (place / "err").open("wb") as err:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=err, stderr=err, env=env)
    try:
        wait_until(lambda: _answers(port) or process.poll() is not None, what=f"{name} answers")
        assert process.poll() is None, (place / "err").read_text()
        yield Server(process, port)
    finally:
        process.kill()
        process.wait(PATIENCE_S)
        shutil.rmtree(place)


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), Wire(("127.0.0.1", port)) as wire:
        wire.raw(b"version\n")
        return wire.line().startswith(b"OK")
    return False


class Client:
    """A connection that submits background jobs, each with a key of its own: gearmand's queue has a row for each."""

    keys = 0

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.began = 0.0
        self.under_way = 0
        self._tail = b""

    def submit(self, count: int) -> None:
        """So many at once."""
        first, Client.keys = Client.keys, Client.keys + count
        packets = [req(p.SUBMIT_JOB_BG, b"bench", b"%d" % key, PAYLOAD) for key in range(first, first + count)]
        self.began = time.perf_counter()
        self.sock.sendall(b"".join(packets))
        self.under_way += count

    def acknowledged(self) -> int:
        """How many jobs what has come acknowledges. Nothing else may come."""
        chunk = self.sock.recv(1 << 18)
        assert chunk, "the server has closed"
        text = self._tail + chunk
        count = text.count(_CREATED)
        assert text.count(b"\0RES") <= count + 1, text[:200]  # the last header may be cut
        self._tail = text[-len(_CREATED) + 1 :]
        self.under_way -= count
        return count


def submit(port: int, clients: int, window: int, load_s: float = LOAD_S, settle: bool = True) -> Sample:
    """Submissions for so long, and, to settle, until all are acknowledged: of gearmand's that would take minutes."""
    with contextlib.ExitStack() as stack, selectors.DefaultSelector() as selector:
        for _ in range(clients):
            client = Client(port)
            stack.callback(client.sock.close)
            selector.register(client.sock, selectors.EVENT_READ, client)
            client.submit(window)
        begin = time.perf_counter()
        done, under_way, latencies = 0, clients * window, []
        while under_way and (settle or time.perf_counter() - begin < load_s):
            ready = selector.select(PATIENCE_S)
            assert ready, "the server does not answer"
            now = time.perf_counter()
            for key, _ in ready:
                client = key.data
                count = client.acknowledged()
                if window == 1 and count:
                    latencies.append(time.perf_counter() - client.began)
                done, under_way = done + count, under_way - count
                if now - begin < load_s and count:
                    client.submit(count)
                    under_way += count
        rate = done / (time.perf_counter() - begin)
    latencies.sort()
    if not latencies:
        return Sample(done, rate)
    return Sample(done, rate, latencies[len(latencies) // 2] * 1e3, latencies[int(len(latencies) * 0.99)] * 1e3)


def drain(port: int, jobs: int, workers: int = WORKERS) -> None:
    """Take what is queued, and complete it. Returns once the server has heard of all of it."""
    with contextlib.ExitStack() as stack, selectors.DefaultSelector() as selector:
        for _ in range(workers):
            wire = stack.enter_context(Wire(("127.0.0.1", port)))
            selector.register(wire.sock, selectors.EVENT_READ, wire)
            wire.raw(req(p.CAN_DO, b"bench") + req(p.GRAB_JOB))
        done = 0
        while done < jobs:
            ready = selector.select(PATIENCE_S)
            assert ready, f"{done} of {jobs} jobs came"
            for key, _ in ready:
                number, body = key.data.packet()
                if number == p.JOB_ASSIGN:
                    done += 1
                    key.data.raw(req(p.WORK_COMPLETE, body.partition(b"\0")[0], b"a result") + req(p.GRAB_JOB))
        for key in list(selector.get_map().values()):
            key.data.raw(req(p.ECHO_REQ, b"done"))
            while key.data.packet()[0] != p.ECHO_RES:
                pass


def on_memory(directory: Path) -> bool:
    """Whether a file there would never see a disk."""
    kind = subprocess.run(["stat", "-f", "-c", "%T", directory], capture_output=True, text=True, check=True).stdout
    return kind.strip() in ("tmpfs", "ramfs")


def compare(
    directory: Path, rounds: int, load_s: float, all_clients: tuple[int, ...] = CLIENTS
) -> dict[tuple[str, int, int], Sample]:
    """Medians, by (server, clients, window)."""
    samples: dict[tuple[str, int, int], list[Sample]] = {}
    for _ in range(rounds):
        for clients in all_clients:
            for window in (1, WINDOW):
                for name in (OURS, PEER):
                    with fresh(name, directory) as server:
                        submit(server.port, 1, 1, 0.1)
                        sample = submit(server.port, clients, window, load_s, settle=False)
                    samples.setdefault((name, clients, window), []).append(sample)
    return {key: Sample(*(median(column) for column in zip(*found, strict=True))) for key, found in samples.items()}


def cost_of_keeping(directory: Path, rounds: int, load_s: float) -> dict[str, float]:
    """Microseconds of the server's processor time for a job that is submitted and done, by --keep-results."""
    costs: dict[str, list[float]] = {}
    for _ in range(rounds):
        for keep in ("7d", "0"):
            with fresh(OURS, directory, "--keep-results", keep) as server:
                before = server.cpu_s()
                sample = submit(server.port, 4, WINDOW, load_s)
                drain(server.port, int(sample.jobs))
                costs.setdefault(keep, []).append((server.cpu_s() - before) / sample.jobs * 1e6)
    return {keep: median(column) for keep, column in costs.items()}


def report(found: dict[tuple[str, int, int], Sample]) -> list[str]:
    """The table, in Markdown."""
    lines = [
        f"| clients | farm jobs/s, 1 under way | gearmand | farm jobs/s, {WINDOW} under way | gearmand | times |",
        "|---|---|---|---|---|---|",
    ]
    for clients in CLIENTS:
        ours, theirs = found[OURS, clients, 1], found[PEER, clients, 1]
        many, few = found[OURS, clients, WINDOW], found[PEER, clients, WINDOW]
        one = [f"{sample.rate:,.0f} (p50 {sample.p50:.1f} p99 {sample.p99:.1f} ms)" for sample in (ours, theirs)]
        times = many.rate / few.rate
        lines.append(f"| {clients} | {one[0]} | {one[1]} | {many.rate:,.0f} | {few.rate:,.0f} | {times:.0f} |")
    return lines


def main() -> int:
    """Measure and print. Exit status 1 when farm is not so many times as fast."""
    parser = argparse.ArgumentParser(prog="python -P -m tests.bench.durable", description=__doc__)
    parser.add_argument("--directory", type=Path, default=CHECKOUT / ".cache", help="on the disk to be measured")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="the median of so many (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=LOAD_S, help="of each load (default: %(default)s)")
    options = parser.parse_args()
    if not shutil.which(PEER, path=_PATH):
        parser.error("it needs gearmand")
    options.directory.mkdir(exist_ok=True)
    if on_memory(options.directory):
        parser.error(f"{options.directory} is in memory: name a directory on a disk")
    found = compare(options.directory, options.rounds, options.seconds)
    print("\n".join(report(found)))
    costs = cost_of_keeping(options.directory, options.rounds, options.seconds / 3)
    print(f"\nsubmitted and done, server's CPU: {costs['7d']:.1f} us/job; {costs['0']:.1f} with --keep-results 0")
    times = found[OURS, CLIENTS[-1], WINDOW].rate / found[PEER, CLIENTS[-1], WINDOW].rate
    return 0 if times >= TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
