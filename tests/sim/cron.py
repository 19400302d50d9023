"""The rules a second time (see `rules`), of cron: what farm/docs/cron.md says of entries, of overlaps, of missed times.

An entry is asked after nothing but its times later than `after`; when they come is `calendar`'s.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from farm.protocol import packets
from tests.sim import terms
from tests.sim.calendar import CERTAIN, SHOWN, between
from tests.sim.entry import Entry
from tests.sim.model import Item, Out, Party, Wrong, key_of
from tests.sim.submits import take

if TYPE_CHECKING:
    from tests.sim.book import Book

Json = dict[str, Any]

LATE_S = 0.04  # how late the server may look at its clocks
IN_TIME_S = 60.0  # a time so long ago is not missed
MOST = 100  # times that are caught up with, and jobs of an entry that live
DAY_S = 86_400.0  # by more than this a clock is not set back, but was wrong
ITSELF = -3  # in place of a connection: who submits an entry's jobs


def told(entry: Json) -> Json:
    """What is compared of an entry in an answer: of its runs whether there is a note, not what it says."""
    runs = [[run["at"], run["id"], run["note"] is not None] for run in entry["last"]]
    return {**entry, "last": runs}


def _shown(book: Book, name: str) -> Json:
    entry = book.crons[name]
    return {
        "name": name,
        "line": entry.line,
        "zone": entry.zone,
        "function": entry.function.decode().replace("\t", "\\t"),
        "unique": entry.unique.decode() or None,
        "terms": entry.terms,
        "overlap": entry.overlap,
        "catch_up": entry.catch_up,
        "paused": entry.paused,
        "fault": None,
        "created_at": entry.created,
        "next_at": entry.next(book),
        "payload_bytes": len(entry.payload),
        "last": [[at, handle or None, noted] for at, handle, noted in entry.runs],
    }


# -- what is asked

Answer = Json | bytes  # or the code of an ERROR


def answer(book: Book, verb: str, fields: Json, payload: bytes, outs: list[Out]) -> Answer:
    """The question or command of this name. outs: what the server does answer, for the handle that it has chosen."""
    if verb == "cron":
        book.saw("cron: listed")
        return {"entries": [_shown(book, name) for name in sorted(book.crons)]}
    if verb == "cron add":
        return _add(book, fields, payload)
    name = fields["name"]
    if name not in book.crons:
        book.saw("cron: no such entry")
        return b"CRON_NOT_FOUND"
    return _CHANGES[verb](book, name, outs)


def _add(book: Book, fields: Json, payload: bytes) -> Answer:
    several = fields.get("entries", [fields])
    entries = {each["name"]: Entry(each, each.get("payload", payload.decode())) for each in several}
    if any((entry.overlap, entry.catch_up) == ("replace", "all") for entry in entries.values()):
        return b"INVALID_REQUEST"
    if any(entry.line not in (*CERTAIN, *SHOWN) for entry in entries.values()):
        book.saw("cron: what is no line refused")
        return b"INVALID_REQUEST"
    new = {name: entry for name, entry in entries.items() if not _is_there(book, name, entry)}
    for name, entry in new.items():
        if name in book.crons and not fields.get("replace"):
            book.saw("cron: name taken")
            return b"CRON_EXISTS"
        book.functions[entry.function] = None
    if new and book.no_room:
        return b"QUEUE_ERROR"
    for name, entry in new.items():
        entry.created = entry.after = book.wall
        earlier = book.crons.get(name)
        if earlier is None:
            entry.live = [item.handle for item in book.jobs.values() if item.terms.get(b"cron") == name.encode()]
            if entry.live:
                book.saw("cron: added anew, jobs of the earlier one live")
        else:
            book.saw("cron: replaced")
            entry.created, entry.seen, entry.paused = earlier.created, earlier.seen, earlier.paused
            entry.runs, entry.live = earlier.runs, earlier.live
            entry.after = max(book.wall, entry.seen)
        book.crons[name] = entry
        _keep(book, name)
    book.saw("cron: added" if new else "cron: added again")
    if "entries" in fields:
        return {"entries": [_shown(book, name) for name in entries]}
    return {"entry": _shown(book, fields["name"])}


def _is_there(book: Book, name: str, entry: Entry) -> bool:
    return name in book.crons and book.crons[name].said == entry.said


def _remove(book: Book, name: str, outs: list[Out]) -> Answer:
    found = {"entry": _shown(book, name)}
    del book.crons[name]
    book.kept.cron(name.encode(), None)
    book.saw("cron: removed")
    return found


def _pause(paused: bool) -> Callable[[Book, str, list[Out]], Answer]:
    def pause(book: Book, name: str, outs: list[Out]) -> Answer:
        entry = book.crons[name]
        if entry.paused != paused:
            book.saw("cron: paused" if paused else "cron: resumed")
            entry.paused = paused
            entry.after = max(book.wall, entry.seen)  # times meanwhile are not missed
            _keep(book, name)
        return {"entry": _shown(book, name)}

    return pause


def _run(book: Book, name: str, outs: list[Out]) -> Answer:
    entry = book.crons[name]
    entry.live = [handle for handle in entry.live if _goes_on(book, handle)]
    if len(entry.live) >= MOST:
        return b"QUEUE_ERROR"
    answers = [json.loads(body.partition(b"\0")[2]) for _, number, body in outs if number == packets.FARM_ANSWER]
    chosen = [found["id"].encode() for found in answers if "id" in found]
    item, _ = _submit(book, name, [], [handle for handle in chosen if handle not in book.handles])
    if item is None:
        return b"SHUTDOWN" if book.stopping else b"QUEUE_ERROR"
    book.saw("cron: run by hand")
    entry.remember(book.wall, item.handle, True)
    _keep(book, name)
    return {"entry": _shown(book, name), "id": item.handle.decode()}


_CHANGES: dict[str, Callable[[Book, str, list[Out]], Answer]] = {
    "cron remove": _remove,
    "cron pause": _pause(True),
    "cron resume": _pause(False),
    "cron run": _run,
}


def _keep(book: Book, name: str) -> None:
    """The journal has it as it is now, with whatever else is decided in this turn."""
    entry = book.crons[name]
    book.kept.cron(name.encode(), (entry.row(book), entry.after))


# -- what is due


def ticked(book: Book, changed: list[tuple[str, list[bytes]]], on_time: bool) -> list[Out]:
    """The clock was looked at. changed: the entries that the server has something to keep of, in its order, each with
    the jobs that it has submitted before that. on_time: whether nothing excuses that it looks too late. Returns what
    must be sent."""
    if book.stopping:
        if changed:
            raise Wrong(f"cron entries {changed} are decided about while the server stops")
        return []
    sent: list[Out] = []
    for name, handles in changed:
        entry = book.crons.get(name)
        if entry is not None and entry.newest > book.wall + DAY_S:
            _start_afresh(book, name, entry)
        elif entry is None or not _due(book, entry):
            raise Wrong(f"cron entry {name} is decided about, and none of its times has come; jobs {handles}")
        else:
            sent += _fire(book, name, handles, on_time)
            continue
        if handles:
            raise Wrong(f"cron entry {name} submits {handles} because the clock was wrong")
    for name, entry in book.crons.items():
        if _due(book, entry) or entry.newest > book.wall + DAY_S:
            raise Wrong(f"cron entry {name} is not decided about, of which {_due(book, entry)} has come")
    return sent


def _due(book: Book, entry: Entry) -> list[float]:
    return [] if entry.paused else between(book.night, entry.line, entry.zone, entry.after, book.wall)


def _start_afresh(book: Book, name: str, entry: Entry) -> None:
    book.saw("cron: clock set back by more than a day")
    entry.created, entry.seen = min(entry.created, book.wall), min(entry.seen, book.wall)
    entry.after = book.wall
    entry.remember(book.wall, b"", True)
    _keep(book, name)


def _fire(book: Book, name: str, handles: list[bytes], on_time: bool) -> list[Out]:
    entry = book.crons[name]
    times = _due(book, entry)
    if on_time and book.wall - times[0] > LATE_S:
        raise Wrong(f"cron entry {name} was due {book.wall - times[0]:.3f} s ago")
    _saw_night(book, entry, times)
    new = list(handles)
    wanted = [time for time in times[-1:] if entry.catch_up == "last" or book.wall - time <= IN_TIME_S]
    if entry.catch_up == "all":
        wanted = times[-MOST:]
    left = times[: len(times) - len(wanted)]
    live = [handle for handle in entry.live if _goes_on(book, handle)]
    entry.live = list(live)
    if left:
        book.saw("cron: left out, it was missed")
        entry.remember(left[-1], b"", True)
    sent: list[Out] = []
    if wanted and entry.overlap == "skip" and live:
        book.saw("cron: left out, a job lives")
        entry.remember(wanted[-1], b"", True)
        wanted = []
    elif wanted and entry.overlap == "replace":
        wanted = wanted[-1:]
        sent += _replace(book, name, live)
    _submit_all(book, name, wanted, live, new)
    if new:
        raise Wrong(f"cron entry {name} submits {handles} for {times} at {book.wall}; {new} are too many")
    entry.seen = entry.after = book.wall
    _keep(book, name)
    return sent


def _replace(book: Book, name: str, live: list[bytes]) -> list[Out]:
    sent: list[Out] = []
    for handle in live:
        item = book.live(handle)
        if item is not None:  # else it waited for the one before
            book.saw("cron: earlier job replaced")
            sent += book.cancel(item, b"replaced by the next run of cron entry " + name.encode())
    return sent


def _submit_all(book: Book, name: str, wanted: list[float], live: list[bytes], new: list[bytes]) -> None:
    """A job for each of these times, one behind the other."""
    entry = book.crons[name]
    room = len(wanted) if entry.overlap == "replace" else max(0, MOST - len(live))
    if len(wanted) > 1:
        book.saw("cron: several caught up with")
    for time in wanted[:room]:
        late = book.wall - time > IN_TIME_S
        stopped = [handle for handle in entry.live if handle in book.stops]
        last = _last(book, entry) if entry.overlap != "replace" else []
        item, joined = _submit(book, name, list(dict.fromkeys([*stopped, *last])), new)
        entry.remember(time, item.handle if item else b"", joined or late or item is None)
        if late:
            book.saw("cron: caught up with")
        book.saw(f"cron: joined for {entry.overlap}" if joined else f"cron: submitted for {entry.overlap}")
    if wanted[room:]:
        entry.remember(wanted[-1], b"", True)


def _last(book: Book, entry: Entry) -> list[bytes]:
    """Its live jobs that none of its others waits for."""
    items = [item for handle in entry.live if (item := book.live(handle)) is not None]
    last = [item.handle for item in items if not any(item.handle in other.after for other in items)]
    if len(last) > 1:
        book.saw("cron: behind several jobs")
    return last


def _goes_on(book: Book, handle: bytes) -> bool:
    """Whether the job has not ended, or has, and its command is still being stopped."""
    return book.live(handle) is not None or handle in book.stops


def _submit(book: Book, name: str, before: list[bytes], new: list[bytes]) -> tuple[Item | None, bool]:
    """The job, None: there is none; and whether it was there already. before: the jobs that it waits for. new: handles
    that the server has chosen, of which that of this job is taken away."""
    entry = book.crons[name]
    words = {**entry.terms, "background": "1"}
    if before:
        words["after"] = ",".join("any:" + handle.decode() for handle in before)
    wish = terms.wish(" ".join(f"{name}={value}" for name, value in words.items()).encode(), book.wall)
    assert wish is not None
    wish = wish._replace(terms={**wish.terms, b"cron": name.encode()})
    key = key_of(entry.function, entry.unique, entry.payload)
    joined = key is not None and key in book.joinable
    held = not joined and bool(book.held_by(entry.function, entry.unique))
    chosen = [(ITSELF, packets.JOB_CREATED, new[0])] if new else []
    (_, number, said), *_ = take(book, Party(ITSELF), wish, entry.function, entry.unique, entry.payload, chosen)
    if number == packets.ERROR or held:
        book.saw("cron: its job refused")
        return None, False
    if not joined:
        del new[0]
    if said not in entry.live:
        entry.live.append(said)
    return book.handles[said], joined


def _saw_night(book: Book, entry: Entry, times: list[float]) -> None:
    """It has a time in the hour after the change of its own clock; one of certain times that come twice, before it."""
    night, certain = book.night, entry.line in CERTAIN
    first = night.change - 3600 * (certain and not night.skips)
    if entry.zone == night.zone and any(0 <= time - first < 3600 for time in times):
        kind = "certain times" if certain else "other times"
        book.saw(f"cron: {kind}, an hour {'skipped' if night.skips else 'twice'}")
