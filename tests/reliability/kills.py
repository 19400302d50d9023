"""R1: a server that is killed again and again under load loses no acknowledged job.

`python -m tests.reliability.kills --kills 100` prints one line of figures.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from pathlib import Path
from random import Random

from tests.reliability.crowd import Crowd
from tests.reliability.daemon import DISK, Daemon
from tests.reliability.ledger import Ledger, Verdict
from tests.reliability.mutants import MUTANTS

KILLS = 100
ACKED_MIN = 20_000
LIFE_MIN_S, LIFE_MAX_S = 0.05, 0.4  # from listening to the kill
AT_THE_MINUTE_S = 1.0
FREEZE_MAX_S = 2.0
DRAIN_MAX_S = 60.0  # to run what is left when nothing is killed any more
GRACE_S = "3"  # of SIGTERM: foreground jobs under load end within it or are given up

MUTANT_KILLS = 6
MUTANT_ROUNDS = 5  # by then a mutant must have been noticed


def run(directory: Path, kills: int = KILLS, acked_min: int = ACKED_MIN, seed: int = 1, mutant: str = "") -> Verdict:
    """Kill a server so often, and more often where less than `acked_min` submissions were acknowledged until then; let
    it run what is left, and judge."""
    chance = Random(seed)
    ledger = Ledger()
    daemon = Daemon(directory, "--stop-grace", GRACE_S, mutant=mutant)
    crowd = Crowd(daemon.port, ledger)
    try:
        _begin(daemon, ledger)
        crowd.add_entries()
        daemon.kill()
        ledger.kills += 1
        while ledger.kills < kills or ledger.acked < acked_min:
            assert ledger.kills < 5 * kills, f"only {ledger.acked} acknowledged"
            _live(daemon, ledger, chance)
            if chance.random() < 0.05:
                crowd.kill_one(chance)
                ledger.kills += 1
            crowd.note()
            assert not crowd.failed(), crowd.failed()
        _begin(daemon, ledger)
        crowd.end("submitter")
        crowd.drain(DRAIN_MAX_S)  # a mutant may never come so far
        crowd.end_all()
        daemon.stop()
    finally:
        crowd.abandon()
        daemon.end()
    return ledger.judge(crowd.in_flight_max)


def _begin(daemon: Daemon, ledger: Ledger) -> None:
    began = time.monotonic()
    daemon.start()
    ledger.began(daemon.process.pid, began)


def _live(daemon: Daemon, ledger: Ledger, chance: Random) -> None:
    """One life: mostly kill -9, one in ten is told to stop, one in ten is frozen before it goes on or is killed."""
    _begin(daemon, ledger)
    time.sleep(chance.uniform(LIFE_MIN_S, LIFE_MAX_S))
    ahead = -time.time() % 60
    if ahead < AT_THE_MINUTE_S:  # cron entries have their times, and it takes some turns to look after all of them
        time.sleep(ahead + chance.uniform(0, 0.02))
        ledger.kills += 1
        daemon.kill()
        return
    ledger.kills += 1
    kind = chance.random()
    if kind < 0.1:
        daemon.stop()
        return
    if kind < 0.2:
        daemon.send(signal.SIGSTOP)
        time.sleep(chance.uniform(0.0, FREEZE_MAX_S))
        if chance.random() < 0.5:
            daemon.send(signal.SIGCONT)
            time.sleep(LIFE_MIN_S)
    daemon.kill()


def disk(path: Path) -> str:
    """The kind of file system that a directory is on."""
    best = max(
        (line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()),
        key=lambda mount: len(mount[0]) if path.is_relative_to(mount[0]) else -1,
    )
    return best[1]


def hunt(name: str, seed: int) -> str:
    """Returns how a mutant was noticed; empty: not at all."""
    for number in range(MUTANT_ROUNDS):
        with tempfile.TemporaryDirectory(dir=DISK) as directory:
            verdict = run(Path(directory), MUTANT_KILLS, 1, seed + number, name)
        if MUTANTS[name][1] in verdict.faults:
            return verdict.line()
    return ""


def check_mutants(seed: int) -> bool:
    """Whether each broken rule is noticed, and a slow disk is not taken for one."""
    good = True
    for name, (_, word) in MUTANTS.items():
        line = hunt(name, seed) if word else _bear(name, seed)
        good = good and bool(line)
        print(f"{name}: {line or 'NOT NOTICED'}" if word else f"{name}, no fault: {line or 'FAILED'}", flush=True)
    return good


def _bear(name: str, seed: int) -> str:
    with tempfile.TemporaryDirectory(dir=DISK) as directory:
        verdict = run(Path(directory), MUTANT_KILLS, 1, seed, name)
    return "" if verdict.faults else verdict.line()


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.reliability.kills", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--kills", type=int, default=KILLS, help="how often (default: %(default)s)")
    parser.add_argument("--acked", type=int, default=ACKED_MIN, help="submissions at least (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of when it is killed (default: the time)")
    parser.add_argument("--mutant", default="", choices=MUTANTS, help="break this rule of the server first")
    parser.add_argument("--mutants", action="store_true", help="also see that every mutant is noticed")
    given = parser.parse_args()
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(dir=DISK) as directory:
        verdict = run(Path(directory), given.kills, given.acked, given.seed, given.mutant)
        where = disk(Path(directory))
    took = time.monotonic() - begin
    print(f"R1 on {where}, seed {given.seed}: {verdict.line()}; {took:.0f} s", flush=True)
    return 0 if not verdict.faults and (not given.mutants or check_mutants(given.seed)) else 1


if __name__ == "__main__":
    sys.exit(main())
