"""`bin/bench`: the loads against gearmand, the curve, and the start-up time of the command line."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.bench import compare, curve, results, startup
from tests.bench.servers import missing
from tests.cli.rig import Rig

PARTS = ("startup", "loads", "curve")


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="bin/bench",
        description="startup: a cold `farm submit -b` beside `python -I -c pass`. loads: farm's server and gearmand in "
        "turn. curve: what a job costs when a million are queued or a thousand workers sleep. All in turns, so that "
        "whatever else the machine does meets all alike.",
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--load", action="append", default=[], metavar="NAME", help="only this load; may be repeated")
    parser.add_argument("--rounds", type=int, default=compare.ROUNDS, help="of the loads (default: %(default)s)")
    parser.add_argument("--pairs", type=int, default=startup.PAIRS, help="of start-up times (default: %(default)s)")
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
    command = " ".join(["bin/bench", *sys.argv[1:]])
    for part in (part for part in PARTS if part in parts):
        title, text = _PARTS[part](options)
        print(text)
        if options.write:
            results.write(title, command, text)
    return 0


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


_PARTS = {"startup": _startup, "loads": _loads, "curve": _curve}


if __name__ == "__main__":
    sys.exit(main())
