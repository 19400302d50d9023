"""The ledger: what submitters and workers say they saw, and whether the server kept its promise. Pure.

A line is a few words; times are seconds, mono of the monotonic and wall of the wall clock:
    S name due [retries backoff]     a job of this name is about to be submitted; due: wall, 0: at once
    A name handle                    JOB_CREATED was read for a background submission: from now on it must run
    G name handle                    the same for a foreground submission: nothing is promised
    X handle name wall mono pid how  a worker was given the job, by the server of this process id, and will report how
                                     it went: done or failed
    F handle reported mono pid       its end is durable: it must never be given out again
    B handle reported mono pid       a failure of a job that may be tried again is durable
    J handle failures asked mono     the server told how many failures it has counted, and that is durable
    K handle                         the job is about to be cancelled
    C handle outcome mono pid        it is, says the server: it must never be given out again

A name is WHO.NUMBER.KEY; submissions of one KEY may be one job, and then the name is that of the first. A key that
begins with u counts for the whole run: all that was acknowledged under it is one job.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import ClassVar, NamedTuple

CLOCK_TOLERANCE_S = 0.1  # between the clocks that two processes read
MINUTE_S, LATE_S = 60.0, 5.0  # between a cron entry's times; and so late is none
REMEMBERED = 10  # runs of an entry
JITTER = 0.25  # what a back-off may be shorter by

Terms = tuple[int, float]  # retries, and seconds before each


class Run(NamedTuple):
    """A job was given to a worker."""

    name: bytes
    wall: float
    mono: float
    pid: int
    good: bool


class Ending(NamedTuple):
    """Something about a job is durable."""

    reported: float
    mono: float
    pid: int


class State(NamedTuple):
    """What the server says of a job when all is over."""

    state: str
    failures: int


class Entry:
    """A cron entry. added, asked: wall, the latter when the server told its newest runs: (when, handle), newest first;
    0: it did not."""

    def __init__(self, added: float) -> None:
        self.added = added
        self.asked = 0.0
        self.runs: list[tuple[float, bytes]] = []


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
    early: list[str]  # run before its time, or before its back-off was over
    duplicated: list[str]  # more often than kills, jobs in flight and failures explain
    forgotten: list[str]  # a failed attempt was
    cut: list[str]  # it ended before it was done or its attempts were used up
    back: list[str]  # run although it had been cancelled
    clock: list[str]  # a minute of a cron entry without a job or with two, or a job without a minute

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
        self._terms: dict[bytes, Terms] = {}  # name -> of a job that is tried again
        self._created: dict[bytes, set[bytes]] = defaultdict(set)  # handle -> names
        self._promised: dict[bytes, bytes] = {}  # handle -> name, of background jobs
        self._runs: dict[bytes, list[Run]] = defaultdict(list)  # handle -> ...
        self._ends: dict[bytes, list[Ending]] = defaultdict(list)
        self._failures: dict[bytes, list[Ending]] = defaultdict(list)
        self._told: dict[bytes, list[tuple[int, float, float]]] = defaultdict(list)  # (failures, asked, mono)
        self._asked_to_go: set[bytes] = set()
        self._cancelled: dict[bytes, tuple[bytes, float, int]] = {}  # (outcome, mono, pid)
        self._states: dict[bytes, State] = {}
        self._entries: dict[bytes, Entry] = {}
        self._lives: dict[int, list[float]] = defaultdict(list)  # pid -> when such a server began
        self._tails: dict[str, bytes] = {}

    def began(self, pid: int, mono: float) -> None:
        """A life of the server."""
        self._lives[pid].append(mono)

    def ended(self, handle: str, state: str, failures: int) -> None:
        """What the server says when all is over of a job that was to be tried again."""
        self._states[handle.encode()] = State(state, failures)

    def entry(self, name: str, wall: float) -> None:
        """A cron entry of every minute was added; each of its jobs has this name."""
        self._due[name.encode()] = 0.0
        self._entries[name.encode()] = Entry(wall)

    def came(self, name: str, wall: float, runs: list[tuple[float, str | None]]) -> None:
        """What the server says when all is over of the newest times of an entry."""
        entry = self._entries[name.encode()]
        entry.asked, entry.runs = wall, [(at, (id or "").encode()) for at, id in runs]

    def feed(self, who: str, data: bytes) -> None:
        """What `who` wrote next. A line that was cut off by its death never counts: its act did not follow."""
        *lines, tail = (self._tails.get(who, b"") + data).split(b"\n")
        self._tails[who] = tail
        for line in lines:
            kind, subject, *words = line.split(b" ")
            self._LINES[kind](self, subject, *words)

    def _submitted(self, name: bytes, due: bytes, retries: bytes = b"", backoff: bytes = b"") -> None:
        self._due[name] = float(due)
        if retries:
            self._terms[name] = int(retries), float(backoff)

    def _acknowledged(self, name: bytes, handle: bytes) -> None:
        self._created[handle].add(name)
        self.acked += 1
        self._promised.setdefault(handle, name)

    def _called(self, name: bytes, handle: bytes) -> None:
        self._created[handle].add(name)

    def _ran(self, handle: bytes, name: bytes, wall: bytes, mono: bytes, pid: bytes, how: bytes) -> None:
        self._runs[handle].append(Run(name, float(wall), float(mono), int(pid), how == b"done"))

    def _finished(self, handle: bytes, reported: bytes, mono: bytes, pid: bytes) -> None:
        self._ends[handle].append(Ending(float(reported), float(mono), int(pid)))

    def _failed(self, handle: bytes, reported: bytes, mono: bytes, pid: bytes) -> None:
        self._failures[handle].append(Ending(float(reported), float(mono), int(pid)))

    def _heard(self, handle: bytes, failures: bytes, asked: bytes, mono: bytes) -> None:
        self._told[handle].append((int(failures), float(asked), float(mono)))

    def _is_to_go(self, handle: bytes) -> None:
        self._asked_to_go.add(handle)

    def _is_gone(self, handle: bytes, outcome: bytes, mono: bytes, pid: bytes) -> None:
        self._cancelled[handle] = outcome, float(mono), int(pid)

    _LINES: ClassVar[dict[bytes, Callable[..., None]]] = {
        b"S": _submitted,
        b"A": _acknowledged,
        b"G": _called,
        b"X": _ran,
        b"F": _finished,
        b"B": _failed,
        b"J": _heard,
        b"K": _is_to_go,
        b"C": _is_gone,
    }

    def judge(self, in_flight_max: int) -> Verdict:
        """Once every promised job has had its time. in_flight_max: jobs that one kill can make run again."""
        executed = sum(map(len, self._runs.values()))
        again = sum(min(len(self._failures.get(handle, ())), len(runs) - 1) for handle, runs in self._runs.items())
        duplicates, most = executed - len(self._runs) - again, self.kills * in_flight_max
        return Verdict(
            self.kills,
            self.acked,
            executed,
            duplicates,
            len(self._ends),
            self._lost(),
            self._unexpected(),
            self._again(),
            self._repeated(),
            self._early() + self._too_soon(),
            [f"{duplicates} where {most} can be explained"] if duplicates > most else [],
            self._forgotten(),
            self._cut(),
            self._back(),
            self._clock(),
        )

    def _tried(self) -> Iterator[tuple[bytes, Terms, State]]:
        """The acknowledged jobs that are tried again, and what the server says of them."""
        for handle, name in self._promised.items():
            if name in self._terms:
                yield handle, self._terms[name], self._states.get(handle, State("unknown", 0))

    def _lost(self) -> list[str]:
        promised = [(handle, name) for handle, name in self._promised.items() if handle not in self._asked_to_go]
        lost = [f"{handle.decode()} {name.decode()}" for handle, name in promised if handle not in self._runs]
        ended = ("done", "dead", "cancelled")
        return lost + [f"{handle.decode()} {is_.state}" for handle, _, is_ in self._tried() if is_.state not in ended]

    def _unexpected(self) -> list[str]:
        return sorted({run.name.decode() for runs in self._runs.values() for run in runs if run.name not in self._due})

    def _life(self, pid: int, mono: float) -> float:
        """When the life began in which this process id was the server's: ids may repeat."""
        began = self._lives[pid]
        return began[bisect_right(began, mono) - 1]

    def _runs_after(self, handle: bytes, mono: float, pid: int) -> Iterator[Run]:
        """Those that a server gave out after this moment of a life: a worker may read late what the life before gave
        it."""
        moment = self._life(pid, mono), mono
        return (run for run in self._runs.get(handle, ()) if (self._life(run.pid, run.mono), run.mono) > moment)

    def _again(self) -> list[str]:
        found = []
        for handle, ends in self._ends.items():
            end = min(ends)
            found += [f"{handle.decode()} {run.name.decode()}" for run in self._runs_after(handle, end.mono, end.pid)]
        return found

    def _repeated(self) -> list[str]:
        found = []
        handles: Counter[bytes] = Counter()
        for handle in self._created.keys() | self._runs.keys():
            run = {run.name for run in self._runs.get(handle, [])}
            names = self._created.get(handle, set()) | run
            keys = {name.rpartition(b".")[2] for name in names}
            if len(keys) > 1 or (keys == {b""} and len(names) > 1) or len(run) > 1:
                found.append(f"{handle.decode()} {b' '.join(sorted(names)).decode()}")
            handles.update(run)
        held = Counter(name.rpartition(b".")[2] for name in self._promised.values())
        found += [f"key {key.decode()} of {times} jobs" for key, times in held.items() if key[:1] == b"u" and times > 1]
        return found + [
            f"{name.decode()} under {times} handles"
            for name, times in handles.items()
            if times > 1 and name not in self._entries
        ]

    def _early(self) -> list[str]:
        runs = [run for runs in self._runs.values() for run in runs]
        return [run.name.decode() for run in runs if run.wall < self._due.get(run.name, 0.0) - CLOCK_TOLERANCE_S]

    def _too_soon(self) -> list[str]:
        """Run again although a failure was durable and its back-off not over."""
        found = []
        for handle, _, _ in self._tried():
            _, backoff_s = self._terms[self._promised[handle]]
            for failure in self._failures.get(handle, ()):
                due = failure.reported + (1 - JITTER) * backoff_s - CLOCK_TOLERANCE_S
                runs = self._runs_after(handle, failure.reported, failure.pid)
                found += [f"{handle.decode()} {due - run.mono:.2f} s too soon" for run in runs if run.mono < due]
        return found

    def _forgotten(self) -> list[str]:
        """More failures are durable than it has attempts, or fewer were told of later than earlier."""
        found = []
        for handle, (retries, _), _ in self._tried():
            if (times := len(self._failures.get(handle, ()))) > retries + 1:
                found.append(f"{handle.decode()} failed {times} times of {retries + 1}")
            told = sorted(self._told.get(handle, ()), key=lambda row: row[1])
            for (before, _, heard), (after, asked, _) in pairwise(told):
                if after < before and asked > heard:
                    found.append(f"{handle.decode()} had failed {before} times, then {after}")
        return found

    def _cut(self) -> list[str]:
        """Done without a worker that said so, or dead without as many failures as it may have."""
        found = []
        for handle, (retries, _), (state, failures) in self._tried():
            runs = self._runs.get(handle, [])
            failed = sum(not run.good for run in runs)
            if (state == "done" and failed == len(runs)) or (
                state == "dead" and (failures != retries + 1 or failed < failures)
            ):
                found.append(f"{handle.decode()} {state}: {failures} failures, {failed} of {len(runs)} runs")
            if state == "cancelled" and handle not in self._asked_to_go:
                found.append(f"{handle.decode()} cancelled by nobody")
        return found

    def _back(self) -> list[str]:
        """A job that ran when it was cancelled may come to its worker late, but not in another life."""
        found = []
        for handle, (outcome, mono, pid) in self._cancelled.items():
            if handle in self._states and self._states[handle].state != "cancelled":
                found.append(f"{handle.decode()} is {self._states[handle].state}")
            for run in self._runs_after(handle, mono, pid):
                if outcome == b"cancelled" or self._life(run.pid, run.mono) > self._life(pid, mono):
                    found.append(f"{handle.decode()} {run.name.decode()}")
        return found

    def _clock(self) -> list[str]:
        """Where the server remembers fewer runs than there were, only of the newest."""
        found = []
        for name, entry in self._entries.items():
            shown = name.decode()
            if not entry.asked:
                found.append(f"{shown} is unknown")
            times = [at for at, _ in entry.runs]
            late_s = entry.asked - max([entry.added, *times]) - MINUTE_S
            if late_s > LATE_S or any(later - earlier != MINUTE_S for later, earlier in pairwise(times)):
                found.append(f"{shown} came at {times}")
            ids = {id for _, id in entry.runs}
            found += [f"{shown} {id.decode() or 'no job'} never ran" for id in ids if id not in self._runs]
            ran = {handle for handle, given in self._runs.items() if given[0].name == name}
            if len(entry.runs) < REMEMBERED and ran - ids:
                found.append(f"{shown} has {len(ran - ids)} jobs without a time")
        return found
