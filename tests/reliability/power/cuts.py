"""Cuts the power of a recorded server at many moments, opens what is left with farm's own store, and compares.

`python -P -m tests.reliability.power.cuts RECORDS SCRATCH --cuts 5000 --seed 1` prints the figures as one line of JSON.
SCRATCH is a directory, best on a tmpfs. --share 0/2: only every other cut, for another process does the rest.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from farm.errors import FarmError
from farm.store.sqlite import SqliteStore
from tests.reliability.power.book import Book
from tests.reliability.power.disk import Disk, read_log
from tests.support import CHECKOUT

SHARES = 2  # processes
EARLY = 400  # the records in which the store is made: few, and each is cut on average as often as this part is large
EARLY_SHARE = 0.05
TIMEOUT_S = 600
# Images of megabytes come and go; giving their memory back to the system each time costs half as much time again.
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "100000000", "MALLOC_TRIM_THRESHOLD_": "200000000"}
RESULTS_LOOKED_AT = 10  # the last of those durably ended: less than is kept


class Cutter:
    """Opens images, one after the other in the same directory, and counts what is wrong.

    lost: jobs that were acknowledged, not ended, and are not there as they were submitted. phantom: jobs that nobody
    submitted, or that were durably ended. result: ends that were durable and are not there. corrupt: images of which
    SQLite says so. refused: images that the store does not open.
    """

    def __init__(self, scratch: Path) -> None:
        self.count: Counter[str] = Counter()
        self.words: list[str] = []  # of what was refused
        self._directory = scratch
        self._unfinished = _Unfinished()

    def cut(self, image: dict[bytes, bytearray], book: Book) -> None:
        """One power cut."""
        self.count["cuts"] += 1
        for path in self._directory.iterdir():  # all of it: a ballast of the cut before would belie an early one
            path.unlink()
        for name, content in image.items():
            (self._directory / os.fsdecode(name)).write_bytes(content)
        store = SqliteStore(str(self._directory), reserve=0)
        try:
            store.open()
            database = store._opened()
            if [row[0] for row in database.execute("PRAGMA integrity_check")] != ["ok"]:
                self.count["corrupt"] += 1
            self._compare(store, book)
        except (FarmError, sqlite3.Error) as error:
            self.count["corrupt" if "malformed" in str(error) or "not a database" in str(error) else "refused"] += 1
            self.words.append(str(error))
        finally:
            store.close()
        self.count["unfinished"] = self._unfinished.count

    def _compare(self, store: SqliteStore, book: Book) -> None:
        due = book.due()
        for save in store.load():
            content = (save.function, save.unique, save.priority, save.payload, save.due)
            known = book.acknowledged.get(save.id)
            if save.id in book.ended or content not in book.submitted or (known is not None and known != content):
                self.count["phantom"] += 1
            else:
                due.discard(save.id)
        self.count["lost"] += len(due)
        self.count["cuts that lost"] += bool(due)
        (damaged,) = store._opened().execute("SELECT count(*) FROM damaged").fetchone()
        self.count["corrupt"] += damaged
        for id in itertools.islice(reversed(book.ended), RESULTS_LOOKED_AT):
            end = store.ended(id)
            self.count["result"] += end is None or end.result != book.ended[id]


class _Unfinished(logging.Handler):
    """Counts how often the store said that the last transaction was torn."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        logger = logging.getLogger("farm.store")
        logger.handlers[:] = [self]
        logger.propagate = False
        logger.setLevel(logging.INFO)

    def emit(self, record: logging.LogRecord) -> None:
        self.count += "unfinished" in record.getMessage()


def moments(records: Path, cuts: int, seed: int) -> list[int]:
    """After how many records the power is cut, in order."""
    at = [number for number, op in enumerate(read_log(records), 1) if op.kind not in "A<C"]
    chance = random.Random(seed)
    early = [chance.choice(at[:EARLY]) for _ in range(int(cuts * EARLY_SHARE))]
    return sorted([*early, *(chance.choice(at) for _ in range(cuts - len(early)))])


def cut_all(records: Path, scratch: Path, cuts: int, seed: int, share: int, shares: int) -> Counter[str]:
    """Every cut of this share; returns the figures."""
    wanted = Counter(moments(records, cuts, seed)[share::shares])
    disk, book, cutter = Disk(), Book(), Cutter(scratch)
    checkpoints = 0
    for number, op in enumerate(read_log(records), 1):
        (book if op.kind in "A<>" else disk).do(op)
        checkpoints += op.kind == "S" and disk.name_of(op.fd) == b"jobs.db"
        for cut in range(wanted[number]):
            cutter.count["inside a sync"] += disk.syncing
            cutter.cut(disk.image(random.Random(f"{seed} {number} {share} {cut}")), book)
    cutter.count["acknowledged"] = len(book.acknowledged)
    cutter.count["durably ended"] = len(book.ended)
    cutter.count["checkpoints"] = checkpoints
    for words in cutter.words[:3]:
        print(words, file=sys.stderr)
    return cutter.count


def figures(records: Path, cuts: int, seed: int) -> Counter[str]:
    """All cuts, by several processes at once, on a tmpfs where there is one."""
    shm = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    total: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(dir=shm, prefix="farm-power-") as scratch:
        running = []
        for share in range(SHARES):
            where = Path(scratch) / str(share)
            where.mkdir()
            options = ["--cuts", str(cuts), "--seed", str(seed), "--share", f"{share}/{SHARES}"]
            command = [sys.executable, "-P", "-m", "tests.reliability.power.cuts", str(records), str(where), *options]
            env = {**os.environ, **KEEP_MEMORY, "PYTHONPATH": str(CHECKOUT)}
            running.append(subprocess.Popen(command, cwd=CHECKOUT, env=env, stdout=subprocess.PIPE))
        try:
            for process in running:
                out, _ = process.communicate(timeout=TIMEOUT_S)
                assert process.returncode == 0, f"{process.args} ended with {process.returncode}"
                for name, value in json.loads(out).items():
                    of_all = name in ("acknowledged", "durably ended", "checkpoints")
                    total[name] = value if of_all else total[name] + value
        finally:
            for process in running:
                process.kill()
                process.communicate()
    return total


def line(found: Counter[str]) -> str:
    """The figures as people read them."""
    names = ("acknowledged", "durably ended", "checkpoints", "cuts", "inside a sync")
    wrong = ("lost", "phantom", "result", "corrupt", "refused")
    return "power: " + ", ".join(f"{found[name]} {name}" for name in (*names, *wrong))


def main() -> None:
    """Cut and print."""
    parser = argparse.ArgumentParser(prog="tests.reliability.power.cuts", description=__doc__)
    parser.add_argument("records", type=Path)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--cuts", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--share", default="0/1")
    given = parser.parse_args()
    share, shares = map(int, given.share.split("/"))
    print(json.dumps(cut_all(given.records, given.scratch, given.cuts, given.seed, share, shares)))


if __name__ == "__main__":
    main()
