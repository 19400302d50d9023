"""A cron entry: what is submitted, when, and what becomes of times that were missed and of runs that overlap.

Pure: whether a job still lives is asked of the caller, and `due` only says what is to be done. The rules that do it are
in crons.py.

A time is decided about once. `next` is the first one that is not, and only ever later than all that are; so neither a
restart nor a clock that is set back runs one twice. The price is that an entry waits where the clock was set back until
it has come to `next` again; by more than CLOCK_WRONG_S, it was the earlier time that was wrong, and the entry starts
afresh.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from farm.broker.schedule import Schedule
from farm.errors import UsageError
from farm.protocol.names import shown

SKIP, QUEUE, REPLACE = "skip", "queue", "replace"  # what a run does while an earlier one has not ended
NONE, LAST, ALL = "none", "last", "all"  # which of the times that were missed are made up for
OVERLAPS, CATCH_UPS = (SKIP, QUEUE, REPLACE), (NONE, LAST, ALL)

LATE_MAX_S = 60.0  # a time so long ago still counts as now: a minute is the finest that a line can say
CATCH_UP_MAX = 100  # of the times that were missed; a minute's entry that was away for a week missed ten thousand
LIVE_MAX = 100  # jobs of one entry that have not ended: with a worker that hangs, `queue` would never stop
RUNS_KEPT = 10  # of the newest, for people
CLOCK_WRONG_S = 86_400.0  # no clock is set back by a day on purpose


class Run(NamedTuple):
    """What became of a time. at: wall-clock seconds. handle: of its job; empty: it was skipped."""

    at: float
    handle: bytes
    note: str


class Submit(NamedTuple):
    """Submit a job for this time. behind: not before the entry's newest live job has ended."""

    at: float
    behind: bool = False
    note: str = ""


class Skip(NamedTuple):
    """Submit none for this time, the newest of those that the note is about."""

    at: float
    note: str


class Drop(NamedTuple):
    """End this job."""

    handle: bytes


Action = Submit | Skip | Drop


class Entry:
    """One cron entry. Times in wall-clock seconds.

    line, zone: as in Schedule. unique: the jobs' key. terms: their terms, by name. next: the first time that is not
    decided about; None: it is paused, or there is none. seen: when it was last decided about one. last: newest first.
    live: handles of its jobs, oldest first, of which some may have ended. fault: why it cannot be evaluated, where an
    earlier version of farm or of the zones could; such an entry is kept, and never due.
    """

    __slots__ = (
        "catch_up",
        "created",
        "fault",
        "function",
        "last",
        "line",
        "live",
        "name",
        "next",
        "overlap",
        "paused",
        "payload",
        "schedule",
        "seen",
        "terms",
        "unique",
        "zone",
    )

    def __init__(
        self, name: str, line: str, zone: str, function: bytes, unique: bytes = b"", payload: bytes = b""
    ) -> None:
        self.name = name
        self.line = line
        self.zone = zone
        self.function = function
        self.unique = unique
        self.payload = payload
        self.terms: dict[str, str] = {}
        self.overlap = SKIP
        self.catch_up = NONE
        self.paused = False
        self.created = 0.0
        self.seen = 0.0
        self.next: float | None = None
        self.last: list[Run] = []
        self.live: list[bytes] = []
        self.fault = ""
        self.schedule: Schedule | None = None
        try:
            self.schedule = Schedule(line, zone)
        except UsageError as error:
            self.fault = error.message

    @property
    def words(self) -> bytes:
        """The terms of its jobs, as in FARM_SUBMIT."""
        said = {**self.terms, "background": "1"}
        return " ".join(f"{name}={value}" for name, value in said.items()).encode()

    @property
    def newest(self) -> float:
        """The latest time of the clock that it knows of."""
        return max(self.created, self.seen)

    def plan(self, wall: float) -> None:
        """Set `next`: all times up to now, and up to when the clock was later than now, are decided about."""
        after = max(wall, self.seen)
        self.next = None if self.paused or self.schedule is None else self.schedule.next_after(after)

    def start_afresh(self, wall: float) -> None:
        """The clock was wrong: what it knows of times later than now is nothing."""
        self.created, self.seen = min(self.created, wall), min(self.seen, wall)
        self.plan(wall)
        self.remember(Run(wall, b"", "the clock was set back by more than a day: starts afresh"))

    def remember(self, run: Run) -> None:
        """What became of a time."""
        self.last.insert(0, run)
        del self.last[RUNS_KEPT:]

    def take_over(self, earlier: Entry, wall: float) -> None:
        """It replaces an entry of its name, which has decided about times already and has jobs that live."""
        self.created, self.seen, self.paused = earlier.created, earlier.seen, earlier.paused
        self.last, self.live = earlier.last, earlier.live
        self.plan(wall)

    def same_as(self, other: Entry) -> bool:
        """Whether it says the same, whatever has become of either."""
        return all(getattr(self, name) == getattr(other, name) for name in _SAID)


_SAID = ("name", "line", "zone", "function", "unique", "payload", "terms", "overlap", "catch_up")


# -- what is due


def due(entry: Entry, wall: float, is_live: Callable[[bytes], bool]) -> list[Action]:
    """What is to be done now, in order; `plan` comes after it. is_live: whether a job has not ended."""
    if entry.next is None or entry.schedule is None or wall < entry.next:
        return []
    times = entry.schedule.missed(entry.next - 1, wall, CATCH_UP_MAX + 1)
    wanted = _wanted(entry.catch_up, times, wall)
    actions: list[Action] = []
    if left := times[: len(times) - len(wanted)]:
        actions.append(Skip(left[-1], _missed(len(left), len(times) > CATCH_UP_MAX)))
    live = [handle for handle in entry.live if is_live(handle)]
    if wanted:
        actions += _OVERLAPPING[entry.overlap](wanted, live, wall)
    return actions


def _wanted(catch_up: str, times: list[float], wall: float) -> list[float]:
    if catch_up == ALL:
        return times[-CATCH_UP_MAX:]
    return [time for time in times[-1:] if catch_up == LAST or wall - time <= LATE_MAX_S]


def _missed(count: int, more: bool) -> str:
    if more:
        return f"more than {CATCH_UP_MAX} were missed"
    return f"{count} were missed" if count > 1 else "was missed"


def _skip(times: list[float], live: list[bytes], wall: float) -> list[Action]:
    """None while one from before lives. What is caught up with at once runs one after the other."""
    if live:
        return [Skip(times[-1], f"{shown(live[-1])} has not ended")]
    return _queue(times, live, wall)


def _queue(times: list[float], live: list[bytes], wall: float) -> list[Action]:
    """Each after the one before."""
    room = max(0, LIVE_MAX - len(live))
    actions: list[Action] = [
        Submit(time, bool(live) or number > 0, _late(time, wall)) for number, time in enumerate(times[:room])
    ]
    if times[room:]:
        actions.append(Skip(times[-1], f"{LIVE_MAX} of its jobs have not ended"))
    return actions


def _replace(times: list[float], live: list[bytes], wall: float) -> list[Action]:
    """The newest one instead of all before."""
    return [*(Drop(handle) for handle in live), Submit(times[-1], False, _late(times[-1], wall))]


_OVERLAPPING = {SKIP: _skip, QUEUE: _queue, REPLACE: _replace}


def _late(time: float, wall: float) -> str:
    return f"{int(wall - time)} s late" if wall - time > LATE_MAX_S else ""


# -- as the journal keeps it


def to_words(entry: Entry) -> bytes:
    """All of it but name and payload, as JSON."""
    fields = {
        "line": entry.line,
        "zone": entry.zone,
        "function": _text(entry.function),
        "unique": _text(entry.unique),
        "terms": entry.terms,
        "overlap": entry.overlap,
        "catch_up": entry.catch_up,
        "paused": entry.paused,
        "created": entry.created,
        "seen": entry.seen,
        "next": entry.next,
        "last": [[run.at, _text(run.handle), run.note] for run in entry.last],
        "live": [_text(handle) for handle in entry.live],
    }
    return json.dumps(fields, separators=(",", ":")).encode()


def from_words(name: bytes, words: bytes, payload: bytes) -> Entry:
    """What `to_words` wrote."""
    fields: dict[str, Any] = json.loads(words)
    function, unique = _bytes(fields["function"]), _bytes(fields["unique"])
    entry = Entry(_text(name), fields["line"], fields["zone"], function, unique, payload)
    entry.terms = fields["terms"]
    entry.overlap, entry.catch_up, entry.paused = fields["overlap"], fields["catch_up"], fields["paused"]
    entry.created, entry.seen, entry.next = fields["created"], fields["seen"], fields["next"]
    entry.last = [Run(at, _bytes(handle), note) for at, handle, note in fields["last"]]
    entry.live = [_bytes(handle) for handle in fields["live"]]
    if entry.schedule is None:
        entry.next = None
    return entry


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
