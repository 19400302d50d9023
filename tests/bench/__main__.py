"""`bin/bench`: every benchmark of farm, each with what is wanted of it. What it starts ends with it."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType

from farm import compiled
from tests.bench import compare, curve, durable, restart, results, startup
from tests.bench.servers import missing, on_memory
from tests.cli.rig import Rig
from tests.support import CHECKOUT

PARTS = ("startup", "loads", "curve", "durable", "restart")
ON_DISK = ("durable", "restart")


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="bin/bench",
        description="startup: a cold `farm submit -b` beside `python -I -c pass`. loads: farm's server and gearmand in "
        "turn, with their queues in memory. curve: what a job costs when a million are queued or a thousand workers "
        "sleep. durable: jobs that are on disk before they are acknowledged, beside gearmand's SQLite queue, and what "
        "keeping results costs. restart: how soon a killed server with a backlog serves again, and the memory of a "
        "million jobs beside gearmand's. All in turns, so that whatever else the machine does meets all alike. All of "
        "it takes half an hour. What is wanted and was not reached is said at the end, with exit status 1.",
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--load", action="append", default=[], metavar="NAME", help="only this load; may be repeated")
    parser.add_argument(
        "--rounds", type=int, default=compare.ROUNDS, help="of loads, durable and restart (default: %(default)s)"
    )
    parser.add_argument("--pairs", type=int, default=startup.PAIRS, help="of start-up times (default: %(default)s)")
    cache = CHECKOUT / ".cache"
    parser.add_argument(
        "--directory",
        type=Path,
        default=cache,
        metavar="PATH",
        help=f"on the disk that {' and '.join(ON_DISK)} use (default: .cache of the checkout)",
    )
    parser.add_argument("--write", action="store_true", help="put the results into tests/bench/RESULTS.md")
    options = parser.parse_args()
    if min(options.pairs, options.rounds) < 1:
        parser.error("--pairs and --rounds must be at least 1")
    known = [one.name for one in compare.LOADS]
    for word, words in [*((part, PARTS) for part in options.parts), *((name, known) for name in options.load)]:
        if word not in words:
            parser.error(f"no {word!r}: there are {', '.join(words)}")
    parts = options.parts or (["loads"] if options.load else PARTS)
    if lacking := missing():
        parser.exit(69, f"farm: error: not installed: {', '.join(lacking)}\nhint: apt install gearman-job-server gcc\n")
    if options.directory == cache:
        cache.mkdir(exist_ok=True)
    if any(part in ON_DISK for part in parts):
        if not options.directory.is_dir():
            parser.error(f"--directory: there is no directory {options.directory}")
        if on_memory(options.directory):
            parser.error(f"--directory: {options.directory} is in memory; name one on a disk")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _end)
    command = " ".join(["bin/bench", *sys.argv[1:]])
    if {"loads", "curve", "durable"} & set(parts):
        _say("compiling farm, where that is still to be done")
        compiled.build()
    missed = []
    for part in (part for part in PARTS if part in parts):
        title, text = _PARTS[part](options)
        print(text)
        missed += [f"{part}: {row}" for row in results.missed(text)]
        if options.write:
            results.write(title, command, text)
    for row in missed:
        _say(f"farm: missed: {row}")
    return 1 if missed else 0


def _end(number: int, frame: FrameType | None) -> None:
    """The first signal ends every server on the way out; no other may disturb that."""
    for other in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(other, signal.SIG_IGN)
    raise SystemExit(128 + number)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _startup(options: argparse.Namespace) -> tuple[str, str]:
    with tempfile.TemporaryDirectory() as directory:
        rig = Rig(Path(directory))
        try:
            rig.env["FARM_SERVER"] = rig.server().address
            medians = startup.measure(rig, options.pairs)
        finally:
            rig.end()
    base = medians[startup.BASELINE]
    lines = [f"Median of {options.pairs}, in turns, the whole process:", "", "| | ms | |", "|---|---|---|"]
    lines += [f"| `{name}` | {median * 1000:.2f} | {median / base:.2f} x |" for name, median in medians.items()]
    return "Cold start of the command line", "\n".join(lines)


def _loads(options: argparse.Namespace) -> tuple[str, str]:
    found = compare.run(options.rounds, _say, options.load)
    words = f"Medians of {options.rounds} rounds in turn, 100-byte payloads, both with their queue in memory; gearmand "
    words += (
        f"{results.gearmand_version()} as Debian starts it (4 threads). CPU: user and system time of the server's\n"
    )
    words += (
        "process, all threads, for each job. A ratio is the median of the rounds' ratios, farm's part of gearmand's."
    )
    return "Loads, beside gearmand", f"{words}\n\n{compare.table(found)}"


def _curve(options: argparse.Namespace) -> tuple[str, str]:
    return "The cost of a job, whatever else the server holds", curve.run(_say)


def _durable(options: argparse.Namespace) -> tuple[str, str]:
    with tempfile.TemporaryDirectory(dir=options.directory) as name:
        sync_ms = durable.sync_ms(Path(name))
        text = durable.run(Path(name), options.rounds, _say)
    words = (
        f"Medians of {options.rounds} rounds in turn, on a disk that makes a new file durable in {sync_ms:.1f} ms, "
        "100-byte payloads, a key for each job; gearmand "
        f"{results.gearmand_version()} with `-q libsqlite3`.\nA ratio is the median of the rounds' ratios "
        "(lowest to highest). With one job under way a client waits for one sync of the disk "
        "for each job, whatever the server."
    )
    return "Jobs on disk before they are acknowledged, beside gearmand", f"{words}\n\n{text}"


def _restart(options: argparse.Namespace) -> tuple[str, str]:
    with tempfile.TemporaryDirectory(dir=options.directory) as name:
        text = restart.run(Path(name), options.rounds, _say)
    words = (
        "100-byte payloads. farm's jobs are on a disk; gearmand's are in memory, which is its cheapest way, and are "
    )
    words += "lost when\nit is killed. Memory: resident."
    return "A backlog: restart and memory, beside gearmand", f"{words}\n\n{text}"


_PARTS = {"startup": _startup, "loads": _loads, "curve": _curve, "durable": _durable, "restart": _restart}


if __name__ == "__main__":
    sys.exit(main())
