"""A cron entry as the oracle knows it, and as the journal is to hold it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.sim.calendar import next_after

if TYPE_CHECKING:
    from tests.sim.book import Book

Json = dict[str, Any]
Row = tuple[Any, ...]
RUNS = 10  # of which it is told what became of them


class Entry:
    """after: up to then every time is decided about. seen: when it last was. runs: newest first, each when, the handle
    or "", and whether a note says more. live: its jobs, of which some may have ended."""

    def __init__(self, said: Json, payload: str) -> None:
        self.line, self.zone = said["line"], said.get("zone", "UTC")
        self.function, self.unique = said["function"].encode(), said.get("unique", "").encode()
        self.terms: dict[str, str] = said.get("terms", {})
        self.overlap, self.catch_up = said.get("overlap", "skip"), said.get("catch_up", "none")
        self.payload = payload.encode()
        self.paused = False
        self.created = self.seen = self.after = 0.0
        self.runs: list[tuple[float, str, bool]] = []
        self.live: list[bytes] = []

    @property
    def said(self) -> Row:
        """What somebody has asked for."""
        asked = (self.line, self.zone, self.function, self.unique, sorted(self.terms.items()))
        return (*asked, self.overlap, self.catch_up, self.payload)

    @property
    def newest(self) -> float:
        """The latest time of the clock that it knows of."""
        return max(self.created, self.seen)

    def row(self, book: Book) -> Row:
        """What the journal is to hold."""
        return (*self.said, self.paused, self.created, self.seen, self.next(book), tuple(self.runs), tuple(self.live))

    def next(self, book: Book) -> float | None:
        """Its first time that is not decided about."""
        return None if self.paused else next_after(book.night, self.line, self.zone, self.after)

    def remember(self, at: float, handle: bytes, noted: bool) -> None:
        """What became of a time."""
        self.runs = [(at, handle.decode(), noted), *self.runs][:RUNS]


def restored(row: Row, after: float) -> Entry:
    """An entry as the journal has it."""
    line, zone, function, unique, said, overlap, catch_up, payload, *state = row
    entry = Entry({"line": line, "zone": zone, "function": function.decode()}, payload.decode())
    entry.unique, entry.terms, entry.overlap, entry.catch_up = unique, dict(said), overlap, catch_up
    entry.paused, entry.created, entry.seen, _, runs, live = state
    entry.runs, entry.live, entry.after = list(runs), list(live), after
    return entry


def stored(words: bytes, payload: bytes) -> Row:
    """What the journal holds of an entry, as `Entry.row` has it."""
    it = json.loads(words)
    said = (it["line"], it["zone"], it["function"].encode(), it["unique"].encode(), sorted(it["terms"].items()))
    runs = tuple((at, handle, bool(note)) for at, handle, note in it["last"])
    live = tuple(handle.encode() for handle in it["live"])
    state = (it["paused"], it["created"], it["seen"], it["next"], runs, live)
    return (*said, it["overlap"], it["catch_up"], payload, *state)
