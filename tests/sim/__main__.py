"""The simulator's command line: one seed to look at, many to look for, or the mutants."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from multiprocessing import Pool, cpu_count

from tests.sim.model import SOMETIMES
from tests.sim.mutants import MUTANTS, SEEDS, Catch, hunt
from tests.sim.world import STEPS, Result, World, tell

FAILURES_SHOWN = 3


def main() -> int:
    """Returns the exit status: 1 when anything is wrong."""
    options = _parse()
    if options.seeds > 1:
        status = _show_many(range(options.seed, options.seed + options.seeds), options.steps, options.verbose)
    elif options.mutants:
        status = 0
    else:
        status = _show_one(options.seed, options.steps, options.verbose)
    return (_show_mutants(options.steps) if options.mutants else 0) or status


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bin/sim",
        description="Tell the fate of simulated clients, workers, crashes and restarts around farm's real rules.",
        epilog="The same seed tells the same story, packet by packet, on every machine.",
    )
    parser.add_argument("seed", nargs="?", type=int, default=0, help="the (first) seed (default: 0)")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="as many seeds in a row, on every core")
    parser.add_argument("--steps", type=int, default=STEPS, metavar="N", help=f"events of chaos (default: {STEPS})")
    parser.add_argument("--mutants", action="store_true", help="break each rule on purpose: each must be noticed")
    parser.add_argument("-v", "--verbose", action="store_true", help="the whole story, or what was met how often")
    return parser.parse_args()


def _show_one(seed: int, steps: int, verbose: bool) -> int:
    result = World(seed, steps, log=print if verbose else None).run()
    if result.caught_by:
        _show_failure(result, verbose)
        return 1
    print(f"seed {seed}: good, {result.events} events, trace {result.hash}")
    return 0


def _show_many(seeds: range, steps: int, verbose: bool) -> int:
    started = time.monotonic()
    failures, events, met = [], 0, Counter[str]()
    for result in _tell_all(seeds, steps):
        events += result.events
        met.update(list(result.seen))
        if result.caught_by:
            failures.append(result)
            if len(failures) <= FAILURES_SHOWN:
                _show_failure(result, False)
    took = time.monotonic() - started
    if verbose:
        for name in SOMETIMES:
            print(f"{met[name]:7} seeds met: {name}")
    rate = len(seeds) / took
    print(
        f"{len(seeds)} seeds from {seeds[0]}, {events} events, {len(failures)} failed; {took:.1f} s, {rate:.0f} seeds/s"
    )
    if failures:
        print("failed: " + " ".join(str(result.seed) for result in sorted(failures)[:50]))
    return 1 if failures else 0


def _tell_all(seeds: range, steps: int) -> Iterator[Result]:
    with Pool(min(cpu_count(), len(seeds))) as pool:
        yield from pool.imap_unordered(partial(tell, steps=steps), seeds, chunksize=16)


def _show_failure(result: Result, told: bool) -> None:
    if not told:
        print(f"-- seed {result.seed}: the last {len(result.tail)} events", *result.tail, sep="\n")
    print(f"seed {result.seed}: WRONG after {result.events} events, trace {result.hash}")
    print(f"noticed by the {result.caught_by}: {result.message}")
    print(f"again: bin/sim -v {result.seed}")


def _show_mutants(steps: int) -> int:
    """One line for each: after how many seeds it was caught, and by whom, with broker.check() and without."""
    print(f"{'broken on purpose':48} {'with check()':>16} {'without':>16}")
    with Pool() as pool:
        with_check = pool.imap(partial(_hunt, check=True, steps=steps), range(len(MUTANTS)))
        without = pool.imap(partial(_hunt, check=False, steps=steps), range(len(MUTANTS)))
        survivors = 0
        for mutant, first, second in zip(MUTANTS, with_check, without, strict=True):
            print(f"{mutant.name:48} {_caught(first)} {_caught(second)}", flush=True)
            survivors += not (first.seeds and second.seeds)
    print(f"{len(MUTANTS)} mutants, {survivors} survive {SEEDS} seeds")
    return 1 if survivors else 0


def _hunt(index: int, check: bool, steps: int) -> Catch:
    return hunt(MUTANTS[index], check, steps=steps)


def _caught(catch: Catch) -> str:
    return f"{catch.seeds:5} by {catch.by:8}" if catch.seeds else f"{'survives':>16}"


if __name__ == "__main__":
    sys.exit(main())
