"""The rules a second time (see `rules`), of FARM_ASK: questions about jobs and commands for them, a table of verbs."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from farm.protocol import packets
from tests.sim import course, cron
from tests.sim.book import Book
from tests.sim.kept import last_outcome
from tests.sim.model import Item, Out, Party, error, shown_state

Json = dict[str, Any]
OF_A_JOB = ("id", "function", "state", "attempts", "failures", "losses", "exit_code", "retries", "attempts_list")


def ask(book: Book, party: Party, number: int, body: bytes, outs: list[Out]) -> list[Out]:
    """FARM_ASK."""
    if not party.extension:
        return error(party, b"INVALID_COMMAND")
    verb, request, payload = body.split(b"\0", 2)
    fields = json.loads(request) if request.startswith(b"{") else None
    rule = VERBS.get(verb.decode())
    if rule is None and verb.decode() not in CRON:
        book.saw("strange question refused")
        return error(party, b"INVALID_REQUEST")
    changes = verb.decode() in (*COMMANDS, *CRON[1:]) or (verb == b"function" and fields and "set" in fields)
    if changes and not party.may_change:
        book.saw("command from elsewhere refused")
        return error(party, b"PERMISSION_DENIED")
    if fields is None:
        book.saw("strange question refused")
        return error(party, b"INVALID_REQUEST")
    if rule is None:
        found = cron.answer(book, verb.decode(), fields, payload, outs)
        if isinstance(found, bytes):
            return error(party, found)
        return [_done(book, party, verb, found) if changes else _answer(party, verb, found)]
    return rule(book, party, verb, fields)


def answered(body: bytes) -> bytes:
    """What is compared of a FARM_ANSWER: of a job, a few fields and of its attempts the numbers and outcomes."""
    verb, _, data = body.partition(b"\0")
    found = json.loads(data)
    if "job" in found:
        job = found["job"]
        attempts = [[attempt["number"], attempt["outcome"]] for attempt in job["attempts_list"]]
        found = {"job": {name: job[name] for name in OF_A_JOB} | {"attempts_list": attempts}}
    if verb.decode() in CRON:
        found = {name: _cron_told(value) for name, value in found.items()}
    return _body(verb, found)


def _cron_told(value: Any) -> Any:
    """An entry, several, or the handle of a job."""
    if isinstance(value, list):
        return [cron.told(entry) for entry in value]
    return cron.told(value) if isinstance(value, dict) else value


def _body(verb: bytes, found: Json) -> bytes:
    return verb + b"\0" + json.dumps(found, sort_keys=True).encode()


def _answer(party: Party, verb: bytes, found: Json) -> Out:
    return party.id, packets.FARM_ANSWER, _body(verb, found)


def _done(book: Book, party: Party, verb: bytes, found: Json) -> Out:
    """What it says has been done must be durable."""
    return book.promise(*_answer(party, verb, found))


def _shown(name: bytes) -> str:
    return name.decode().replace("\t", "\\t")


def _handles(fields: Json) -> list[bytes]:
    return [word.encode() for word in dict.fromkeys(fields["ids"])]


# -- questions


def _job(book: Book, party: Party, verb: bytes, fields: Json) -> list[Out]:
    handle = fields["id"].encode()
    item = book.live(handle)
    if item is not None:
        book.saw(f"asked about a job: {item.state}")
        return [_answer(party, verb, {"job": _of_item(book, item)})]
    end = book.past(handle)
    if end is None:
        book.saw("asked about a job: unknown")
        return error(party, b"JOB_NOT_FOUND")
    book.saw(f"asked about a job: {shown_state(end[0])}")
    return [_answer(party, verb, {"job": _of_past(book, handle)})]


def _of_item(book: Book, item: Item) -> Json:
    attempts = _attempts(book, item.handle) if item.background else []
    if item.holder is not None:
        attempts.append([item.attempts, "running"])
    return {
        "id": item.handle.decode(),
        "function": _shown(item.function),
        "state": item.state,
        "attempts": item.attempts,
        "failures": item.failures,
        "losses": item.losses,
        "exit_code": None if item.code < 0 else item.code,
        "retries": _retries(book, item),
        "attempts_list": attempts,
    }


def _retries(book: Book, item: Item) -> int | None:
    """None: it is for the worker to say that will take it."""
    said = book.terms_for(item).get(b"retries")
    if said is None:
        return item.granted if item.holder is None else 0
    return int(said)


def _of_past(book: Book, handle: bytes) -> Json:
    outcome, _, _, _, code, _, _, _, reason, number, failures, losses, *_ = book.kept.ended[handle]
    item = course.from_row(handle, book.kept.saves[handle], 0.0)
    attempts = _attempts(book, handle)
    if number:
        attempts.append([number, last_outcome(outcome, reason)])
    return {
        "id": handle.decode(),
        "function": _shown(item.function),
        "state": shown_state(outcome),
        "attempts": max(number, failures + losses, *(each[0] for each in attempts)),
        "failures": failures,
        "losses": losses,
        "exit_code": None if code < 0 else code,
        "retries": int(item.terms[b"retries"]) if b"retries" in item.terms else None,
        "attempts_list": attempts,
    }


def _attempts(book: Book, handle: bytes) -> list[list[Any]]:
    return [[row[0], row[3]] for row in book.kept.attempts.get(handle, ())]


def _wait(book: Book, party: Party, verb: bytes, fields: Json) -> list[Out]:
    handles = _handles(fields)
    ends = {handle: None if book.live(handle) else book.past(handle) for handle in handles}
    unknown = [handle.decode() for handle in handles if ends[handle] is None and book.live(handle) is None]
    told = [_answer(party, verb, {"unknown": unknown})]
    if unknown:
        book.saw("waited for a job that nobody knows")
    for handle, end in ends.items():
        item = book.live(handle)
        if item is not None and party.id not in item.waiters:
            item.waiters.append(party.id)
        elif end is not None:
            book.saw("waited for a job that has ended")
            body = course.end_told(end[0], end[8], end[4])
            told.append((party.id, packets.FARM_ENDED, handle + b"\0" + body))
    return told


def _function(book: Book, party: Party, verb: bytes, fields: Json) -> list[Out]:
    name = fields["function"].encode()
    if "set" not in fields:
        if name not in book.functions:
            book.saw("asked about a function that nobody knows")
            return error(party, b"UNKNOWN_FUNCTION")
        return [_answer(party, verb, {"function": _of_function(book, name)})]
    settings = dict(book.settings.get(name, {}))
    for setting, value in fields["set"].items():
        settings.pop(setting.encode(), None)
        if value is not None:
            settings[setting.encode()] = value.encode()
        book.saw("setting taken back" if value is None else "setting set")
    book.functions[name] = None
    book.settings[name] = settings
    book.kept.set(name, settings, name in book.paused)
    for item in book.jobs.values():
        if item.function == name and item.holder is None:
            course.limit(book, item)
    return [_done(book, party, verb, {"function": _of_function(book, name)})]


def _of_function(book: Book, name: bytes) -> Json:
    items = [item for item in book.jobs.values() if item.function == name]
    return {
        "function": _shown(name),
        "queued": sum(item.queued for item in items),
        "running": sum(item.holder is not None for item in items),
        "delayed": sum(item.holder is None and item.delayed for item in items),
        "waiting": sum(bool(item.after) for item in items),
        "workers": sum(name in party.abilities for party in book.parties.values()),
        "paused": name in book.paused,
        "settings": {name.decode(): value.decode() for name, value in book.settings.get(name, {}).items()},
    }


# -- commands


def _cancel(book: Book, party: Party, verb: bytes, fields: Json) -> list[Out]:
    handles = _handles(fields)
    told: list[Out] = []
    lived = [handle for handle in handles if book.live(handle) is not None]
    for handle in handles:
        if handle not in lived:
            book.past(handle)
    results = []
    for handle in handles:
        item = book.live(handle)
        if item is not None:
            holder = None if item.holder is None else book.parties[item.holder]
            outcome = "cancelled" if holder is None else "told" if holder.extension else "unheard"
            told += book.cancel(item, " ".join(fields.get("reason", "").split()).encode())
        elif handle in lived:
            outcome = "cancelled"
            book.saw("cancelled with a job that it waited for")
        else:
            outcome = "unknown" if book.past(handle) is None else "ended"
        book.saw(f"cancel by ask: {outcome}")
        results.append({"id": handle.decode(), "outcome": outcome})
    return [*told, _done(book, party, verb, {"results": results})]


def _retry(book: Book, handle: bytes) -> str:
    if book.live(handle) is not None:
        return "live"
    end = book.past(handle)
    if end is None:
        return "unknown"
    if end[0] == "done":
        return "done"
    if handle in book.jobs or handle in book.stops:  # its worker has not given it up yet
        return "live"
    item = book.handles[handle]
    if item.unique not in (b"", b"-") and (item.function, item.unique, b"") in book.joinable:
        return "exists"
    course.revive(book, handle)
    return "queued"


def _purge(book: Book, handle: bytes) -> str:
    if book.live(handle) is not None:
        return "live"
    if book.past(handle) is None:
        return "unknown"
    book.kept.purge(handle)
    return "purged"


def _each(change: Callable[[Book, bytes], str]) -> Callable[[Book, Party, bytes, Json], list[Out]]:
    def changes(book: Book, party: Party, verb: bytes, fields: Json) -> list[Out]:
        handles = _handles(fields)
        for handle in handles:
            if book.live(handle) is None:
                book.past(handle)
        results = []
        for handle in handles:
            results.append({"id": handle.decode(), "outcome": change(book, handle)})
            book.saw(f"{verb.decode()}: {results[-1]['outcome']}")
        return [_done(book, party, verb, {"results": results})]

    return changes


def _pause(paused: bool) -> Callable[[Book, Party, bytes, Json], list[Out]]:
    def pause(book: Book, party: Party, verb: bytes, fields: Json) -> list[Out]:
        name = fields["function"].encode()
        book.functions[name] = None
        waits = any(item.function == name for item in book.waiting())
        book.saw(f"{verb.decode().rstrip('e')}ed a function{' whose jobs wait' if waits else ''}")
        if paused:
            book.paused[name] = None
        else:
            book.paused.pop(name, None)
            book.lined_up += [item for item in book.waiting() if item.function == name]
        book.kept.set(name, book.settings.get(name, {}), paused)
        return [_done(book, party, verb, {"function": _of_function(book, name)})]

    return pause


QUESTIONS = {"job": _job, "wait": _wait, "function": _function}
COMMANDS = {
    "cancel": _cancel,
    "retry": _each(_retry),
    "purge": _each(_purge),
    "pause": _pause(True),
    "resume": _pause(False),
}
VERBS = QUESTIONS | COMMANDS
CRON = ("cron", "cron add", "cron remove", "cron pause", "cron resume", "cron run")
