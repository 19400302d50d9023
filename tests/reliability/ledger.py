"""The ledger: what submitters and workers say they saw, and whether the server kept its promise. Pure.

A line is a few words:
    S name due                  a job of this name is about to be submitted; due: wall-clock seconds, 0: at once
    A name handle               JOB_CREATED was read for a background submission: from now on it must run
    G name handle               the same for a foreground submission: nothing is promised
    X handle name wall mono pid a worker was given the job, by the server of this process id
    F handle mono pid           its end is durable: it must never be given out again

A name is WHO.NUMBER.KEY; submissions of one KEY may be one job, and then the name is that of the first.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from typing import NamedTuple

CLOCK_TOLERANCE_S = 0.1  # between the clocks that two processes read


class Verdict(NamedTuple):
    """What became of the promise. Everything from `lost` on must be empty."""

    kills: int
    acked: int  # submissions
    executed: int
    duplicates: int
    finished: int  # known to be durable
    lost: list[str]  # acknowledged, and never run
    unexpected: list[str]  # run, and never submitted so
    again: list[str]  # run after its end was durable
    repeated: list[str]  # one handle, two jobs; or one job, two handles
    early: list[str]  # run before its time
    duplicated: list[str]  # more often than kills and jobs in flight explain

    @property
    def faults(self) -> dict[str, list[str]]:
        """Those that are not empty."""
        return {name: rows for name in self._fields[5:] if (rows := getattr(self, name))}

    def line(self) -> str:
        """The figures."""
        words = f"{self.kills} kills, {self.acked} acknowledged, {self.executed} executed, {self.duplicates} duplicates"
        faults = {name: ", ".join(row[:60] for row in rows[:3]) for name, rows in self.faults.items()}
        shown = "".join(f"; {name}: {rows}" for name, rows in faults.items())
        return f"{words}, {len(self.lost)} lost{shown}"


class Ledger:
    """Lines in, in any order between two ends; a verdict out."""

    def __init__(self) -> None:
        self.kills = 0
        self.acked = 0
        self._due: dict[bytes, float] = {}  # name -> when
        self._created: dict[bytes, set[bytes]] = defaultdict(set)  # handle -> names
        self._promised: dict[bytes, bytes] = {}  # handle -> name, of background jobs
        self._runs: dict[bytes, list[tuple[bytes, float, float, int]]] = defaultdict(list)  # (name, wall, mono, pid)
        self._ends: dict[bytes, list[tuple[float, int]]] = defaultdict(list)  # (mono, pid)
        self._lives: dict[int, list[float]] = defaultdict(list)  # pid -> when such a server began
        self._order: list[float] = []
        self._tails: dict[str, bytes] = {}

    def began(self, pid: int, mono: float) -> None:
        """A life of the server."""
        self._lives[pid].append(mono)
        self._order.append(mono)

    def feed(self, who: str, data: bytes) -> None:
        """What `who` wrote next. A line that was cut off by its death never counts: its act did not follow."""
        *lines, tail = (self._tails.get(who, b"") + data).split(b"\n")
        self._tails[who] = tail
        for line in lines:
            kind, *words = line.split(b" ")
            if kind == b"S":
                self._due[words[0]] = float(words[1])
            elif kind == b"X":
                handle, name, wall, mono, pid = words
                self._runs[handle].append((name, float(wall), float(mono), int(pid)))
            elif kind == b"F":
                self._ends[words[0]].append((float(words[1]), int(words[2])))
            else:
                name, handle = words
                self._created[handle].add(name)
                if kind == b"A":
                    self.acked += 1
                    self._promised.setdefault(handle, name)

    def judge(self, in_flight_max: int) -> Verdict:
        """Once every promised job has had its time. in_flight_max: jobs that one kill can make run again."""
        executed = sum(map(len, self._runs.values()))
        duplicates, most = executed - len(self._runs), self.kills * in_flight_max
        return Verdict(
            self.kills,
            self.acked,
            executed,
            duplicates,
            len(self._ends),
            [
                f"{handle.decode()} {name.decode()}"
                for handle, name in self._promised.items()
                if handle not in self._runs
            ],
            self._unexpected(),
            self._again(),
            self._repeated(),
            self._early(),
            [f"{duplicates} where {most} can be explained"] if duplicates > most else [],
        )

    def _lost(self) -> list[str]:
        promised = self._promised.items()
        return [f"{handle.decode()} {name.decode()}" for handle, name in promised if handle not in self._runs]

    def _unexpected(self) -> list[str]:
        return sorted({run[0].decode() for runs in self._runs.values() for run in runs if run[0] not in self._due})

    def _life(self, pid: int, mono: float) -> float:
        """When the life began in which this process id was the server's: ids may repeat."""
        began = self._lives[pid]
        return began[bisect_right(began, mono) - 1]

    def _again(self) -> list[str]:
        found = []
        for handle, ends in self._ends.items():
            mono, pid = min(ends)
            end = self._life(pid, mono), mono
            late = [run for run in self._runs.get(handle, []) if (self._life(run[3], run[2]), run[2]) > end]
            found += [f"{handle.decode()} {run[0].decode()}" for run in late]
        return found

    def _repeated(self) -> list[str]:
        found = []
        handles: Counter[bytes] = Counter()
        for handle in self._created.keys() | self._runs.keys():
            run = {run[0] for run in self._runs.get(handle, [])}
            names = self._created.get(handle, set()) | run
            keys = {name.rpartition(b".")[2] for name in names}
            if len(keys) > 1 or (keys == {b""} and len(names) > 1) or len(run) > 1:
                found.append(f"{handle.decode()} {b' '.join(sorted(names)).decode()}")
            handles.update(run)
        return found + [f"{name.decode()} under {times} handles" for name, times in handles.items() if times > 1]

    def _early(self) -> list[str]:
        runs = [run for runs in self._runs.values() for run in runs]
        return [run[0].decode() for run in runs if run[1] < self._due.get(run[0], 0.0) - CLOCK_TOLERANCE_S]
