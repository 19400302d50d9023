"""The verbs of FARM_ASK about cron entries, and SUBMIT_JOB_SCHED: requests checked, rules called, entries shown."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

from farm.broker import crons
from farm.broker.cron import ALL, CATCH_UPS, NONE, OVERLAPS, REPLACE, SKIP, Entry
from farm.broker.functions import SETTABLE
from farm.broker.terms import parse_submission
from farm.errors import PacketRefused
from farm.protocol import packets
from farm.protocol.limits import NUMBER_MAX, UNIQUE_MAX
from farm.protocol.names import refuse_bad_function, shown
from farm.protocol.packets import response

if TYPE_CHECKING:
    from farm.broker.asks import Request
    from farm.broker.broker import Broker
    from farm.broker.peer import Peer

Json = dict[str, Any]

NAME_MAX = 128  # characters; names that SUBMIT_JOB_SCHED makes are as long as their function and key are
TERMS = ("priority", *SETTABLE)  # what an entry may say of its jobs


def list_entries(broker: Broker, peer: Peer, request: Request, now: float) -> Json:
    """All of them, by name."""
    return {"entries": [_shown(entry) for _, entry in sorted(broker.crons.entries.items())]}


def add(broker: Broker, peer: Peer, request: Request, now: float) -> Json:
    """One entry, with the payload behind the request; or the list `entries`, each with its payload: all or none."""
    if request.has("entries"):
        new = [_entry(each, each.name("payload", "")) for each in request.objects("entries", crons.ENTRIES_MAX)]
        crons.add(broker, new, now, request.truth("replace"))
        return {"entries": [_shown(broker.crons.entries[entry.name]) for entry in new]}
    entry = _entry(request, request.payload)
    crons.add(broker, [entry], now, request.truth("replace"))
    return {"entry": _shown(broker.crons.entries[entry.name])}


def remove(broker: Broker, peer: Peer, request: Request, now: float) -> Json:
    """One is no more."""
    entry = _named(broker, request)
    crons.remove(broker, entry)
    return {"entry": _shown(entry)}


def pause(broker: Broker, peer: Peer, request: Request, now: float) -> Json:
    """It submits nothing."""
    entry = _named(broker, request)
    crons.pause(broker, entry, True, now)
    return {"entry": _shown(entry)}


def resume(broker: Broker, peer: Peer, request: Request, now: float) -> Json:
    """It does again."""
    entry = _named(broker, request)
    crons.pause(broker, entry, False, now)
    return {"entry": _shown(entry)}


def run(broker: Broker, peer: Peer, request: Request, now: float) -> Json:
    """Submit its job now."""
    entry = _named(broker, request)
    handle = crons.run(broker, entry, now)
    return {"entry": _shown(entry), "id": shown(handle)}


def _named(broker: Broker, request: Request) -> Entry:
    name = request.word("name")
    entry = broker.crons.entries.get(name)
    if entry is None:
        words = b"There is no cron entry " + shown(name.encode(errors="replace")).encode()[:200]
        raise PacketRefused(b"CRON_NOT_FOUND", words, close=False)
    return entry


def _entry(request: Request, payload: bytes) -> Entry:
    """What a request asks for. Raises PacketRefused."""
    name = request.word("name")
    if not 0 < len(name) <= NAME_MAX or not name.isprintable() or " " in name:
        raise _refused(f"The name of an entry is a word of at most {NAME_MAX} characters")
    function, unique = request.name("function"), request.name("unique", "")
    _refuse_bad_names(function, unique)
    entry = Entry(name, request.word("line"), request.word("zone", "UTC"), function, unique, payload)
    if entry.fault:
        raise _refused(entry.fault)
    entry.terms = _terms(request.object("terms") or {})
    entry.overlap = _choice(request, "overlap", OVERLAPS, SKIP)
    entry.catch_up = _choice(request, "catch_up", CATCH_UPS, NONE)
    if (entry.overlap, entry.catch_up) == (REPLACE, ALL):
        raise _refused("With overlap replace only the last of the times that were missed can be caught up with")
    _refuse_bad_terms(entry)
    return entry


def _refuse_bad_names(function: bytes, unique: bytes) -> None:
    try:
        refuse_bad_function(function)
    except PacketRefused as refused:
        raise PacketRefused(refused.code, refused.text, close=False) from refused
    if len(unique) > UNIQUE_MAX:
        raise PacketRefused(b"ARGUMENT_TOO_LARGE", b"Unique value too large", close=False)


def _terms(said: Json) -> dict[str, str]:
    for name, value in said.items():
        if name not in TERMS:
            raise _refused(f"A cron entry has no term {name[:40]}")
        if not isinstance(value, str) or " " in value:
            raise _refused(f"Bad value of {name}")
    return said


def _refuse_bad_terms(entry: Entry) -> None:
    parse_submission(entry.words, 0.0)


def _choice(request: Request, name: str, choices: tuple[str, ...], default: str) -> str:
    word = request.word(name, default)
    if word not in choices:
        raise _refused(f"{name} is none of {', '.join(choices)}")
    return word


def _refused(words: str) -> PacketRefused:
    return PacketRefused(b"INVALID_REQUEST", words.encode(errors="replace"), close=False)


def _shown(entry: Entry) -> Json:
    return {
        "name": entry.name,
        "line": entry.line,
        "zone": entry.zone,
        "function": shown(entry.function),
        "unique": shown(entry.unique) or None,
        "terms": entry.terms,
        "overlap": entry.overlap,
        "catch_up": entry.catch_up,
        "paused": entry.paused,
        "fault": entry.fault or None,
        "created_at": entry.created,
        "next_at": entry.next,
        "payload_bytes": len(entry.payload),
        "last": [{"at": run.at, "id": shown(run.handle) or None, "note": run.note or None} for run in entry.last],
    }


# -- the wire's own


_FIELDS = {"minute": 0, "hour": 0, "day": 0, "month": 0, "weekday": 1}  # what is added to get cron's: 0 is a Monday


def schedule(broker: Broker, peer: Peer, args: list[bytes], now: float) -> None:
    """SUBMIT_JOB_SCHED: an entry in UTC, named after function and key, instead of any earlier one of that name."""
    function, unique, *fields, payload = args
    if broker.stopping:
        raise PacketRefused(b"SHUTDOWN", b"Server is shutting down", close=False)
    _refuse_bad_names(function, unique)
    words = [_field(name, text) for name, text in zip(_FIELDS, fields, strict=True)]
    key = b"%08x" % zlib.crc32(payload) if unique == b"-" else unique
    name = f"sched:{shown(function)}:{shown(key)}"
    entry = Entry(name, " ".join(words), "UTC", function, unique, payload)
    if entry.fault:
        raise _refused(entry.fault)
    peer.must_be_allowed()
    crons.add(broker, [entry], now, replace=True)
    broker.effects.promise(peer.id, response(packets.JOB_CREATED, name.encode()))


def _field(name: str, text: bytes) -> str:
    """A number; empty, `*` and -1: any."""
    if text in (b"", b"*", b"-1"):
        return "*"
    if not text.isdigit() or len(text) > NUMBER_MAX:
        raise _refused(f"Bad {name}: {shown(text[:40])}")
    return str(int(text) + _FIELDS[name])
