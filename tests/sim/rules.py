"""The rules a second time, written from the protocol and not from the broker: for each packet, what must be sent.

Each rule changes the book and returns the packets that the server must send, NOOPs for sleepers excepted (the ledger
judges those). Where the server has a choice (which handle, which function's turn) the rule looks at what it did choose.
"""

from __future__ import annotations

from collections.abc import Callable

from farm.protocol import packets
from tests.sim.book import Book
from tests.sim.model import CLOSE, SUBMITS, Item, Out, Party, Wrong, acceptable, key_of

Rule = Callable[[Book, Party, int, bytes, list[Out]], list[Out]]


def error(party: Party, code: bytes, close: bool = False) -> list[Out]:
    """ERROR, of which the ledger compares the code alone, and the end of the connection where nothing can follow."""
    party.refused |= close
    return [(party.id, packets.ERROR, code)] + ([(party.id, CLOSE, b"")] if close else [])


# -- clients


def _submit(book: Book, party: Party, number: int, body: bytes, outs: list[Out]) -> list[Out]:
    function, unique, payload = body.split(b"\0", 2)
    priority, background = SUBMITS[number]
    if book.stopping:
        book.saw("submission refused while stopping")
        return error(party, b"SHUTDOWN")
    if len(unique) > 64:
        return error(party, b"ARGUMENT_TOO_LARGE")
    if not acceptable(function):
        book.saw("bad name refused")
        return error(party, b"INVALID_FUNCTION_NAME", close=True)
    key = key_of(function, unique, payload)
    item = book.joinable.get(key) if key else None
    if item is not None:
        return _join(book, party, item, background)
    created = [body for id, number, body in outs if id == party.id and number == packets.JOB_CREATED]
    if len(created) != 1:
        raise Wrong(f"a submission was answered with {len(created)} JOB_CREATED")
    if created[0] in book.jobs:
        raise Wrong(f"{created[0]!r} was coalesced with although function or key differ")
    item = Item(created[0], function, unique, priority, background, payload)
    book.add(item)
    if not background:
        book.watch(item, party)
    return [(party.id, packets.JOB_CREATED, item.handle)]


def _join(book: Book, party: Party, item: Item, background: bool) -> list[Out]:
    expected = [(party.id, packets.JOB_CREATED, item.handle)]
    if item.unique == b"-":
        book.saw("coalesced by payload")
    if background:
        book.saw("background joins background" if item.background else "background joins foreground")
        item.background = True
        book.dirty = True
        return expected
    book.saw("foreground joins background" if item.background else "foreground joins foreground")
    book.watch(item, party)
    if item.streamed and party.extension:
        book.saw("client told that it joined late")
        expected.append((party.id, packets.FARM_JOB_JOINED, item.handle))
    return expected


def _get_status(book: Book, party: Party, number: int, body: bytes, outs: list[Out]) -> list[Out]:
    item = book.jobs.get(body)
    known, running = (b"0", b"0") if item is None else (b"1", b"0" if item.holder is None else b"1")
    progress = (b"0", b"0") if item is None else item.progress
    return [(party.id, packets.STATUS_RES, b"\0".join((body, known, running, *progress)))]


def _cancel(book: Book, party: Party, number: int, body: bytes, outs: list[Out]) -> list[Out]:
    if not party.extension:
        return error(party, b"INVALID_COMMAND")
    item = party.watches.get(body)
    outcome, expected = (b"unknown", []) if item is None else book.unwatch(item, party)
    book.saw("cancel: " + outcome.decode())
    return [*expected, (party.id, packets.FARM_CANCEL_RES, body + b"\0" + outcome)]


def _text(book: Book, party: Party, number: int, body: bytes, outs: list[Out]) -> list[Out]:
    if body != b"status":
        line = b"ERR UNKNOWN_COMMAND Unknown+server+command" + body
        return [(party.id, packets.TEXT, line)]
    lines = []
    for function in book.functions:
        jobs = [item for item in book.jobs.values() if item.function == function]
        running = sum(item.holder is not None for item in jobs)
        workers = sum(function in other.abilities for other in book.parties.values())
        lines.append(b"%s\t%d\t%d\t%d" % (function.replace(b"\t", b"\\t"), len(jobs), running, workers))
        if jobs:
            book.saw("status with jobs")
    told = [body for id, number, body in outs if id == party.id and number == packets.TEXT]
    order = told[:-1] if sorted(told[:-1]) == sorted(lines) else lines  # no order of the functions is promised
    return [(party.id, packets.TEXT, line) for line in (*order, b".")]


# -- anybody


def _option(book: Book, party: Party, number: int, body: bytes, outs: list[Out]) -> list[Out]:
    if body == b"exceptions":
        party.exceptions = True
    elif body == b"farm-1":
        party.extension = True
    else:
        return error(party, b"UNKNOWN_OPTION")
    return [(party.id, packets.OPTION_RES, body)]


def _echo(book: Book, party: Party, number: int, body: bytes, outs: list[Out]) -> list[Out]:
    return [(party.id, packets.ECHO_RES, body)]


def _nothing(book: Book, party: Party, number: int, body: bytes, outs: list[Out]) -> list[Out]:
    return []


# -- workers


def _can_do(book: Book, party: Party, number: int, body: bytes, outs: list[Out]) -> list[Out]:
    function = body.partition(b"\0")[0]
    if not acceptable(function):
        book.saw("bad name refused")
        return error(party, b"INVALID_FUNCTION_NAME", close=True)
    book.functions[function] = None
    party.abilities[function] = None
    return []


def _cannot_do(book: Book, party: Party, number: int, body: bytes, outs: list[Out]) -> list[Out]:
    party.abilities.pop(body, None)
    return []


def _reset(book: Book, party: Party, number: int, body: bytes, outs: list[Out]) -> list[Out]:
    party.abilities.clear()
    return []


def _pre_sleep(book: Book, party: Party, number: int, body: bytes, outs: list[Out]) -> list[Out]:
    party.notified = False
    party.asleep = book.stopping or book.best_priority(party) is None
    if party.asleep:
        return []
    book.saw("no sleep while jobs wait")
    return [(party.id, packets.NOOP, b"")]


def _grab(book: Book, party: Party, number: int, body: bytes, outs: list[Out]) -> list[Out]:
    if party.notified and (book.stopping or book.best_priority(party) is None):
        book.saw("woken in vain")
    party.asleep = party.notified = False
    best = None if book.stopping else book.best_priority(party)
    if best is None:
        return [(party.id, packets.NO_JOB, b"")]
    answer = packets.JOB_ASSIGN if number == packets.GRAB_JOB else packets.JOB_ASSIGN_UNIQ
    assigned = [body for id, number, body in outs if id == party.id and number == answer]
    if len(assigned) != 1:
        raise Wrong(f"a job waits, and GRAB was answered with {len(assigned)} assignments")
    item = _given(book, party, assigned[0].partition(b"\0")[0], best)
    book.queue(item).pop(0)
    item.holder = party.id
    party.holds[item.handle] = item
    head = (item.handle, item.function) if answer == packets.JOB_ASSIGN else (item.handle, item.function, item.unique)
    return [(party.id, answer, b"\0".join((*head, item.payload)))]


def _given(book: Book, party: Party, handle: bytes, best: int) -> Item:
    """The job that the server chose to give, if it was free to choose it."""
    item = book.jobs.get(handle)
    if item is None:
        ended = "whose end was stored" if handle in book.finished else "that ended or never was"
        raise Wrong(f"{handle!r} was given, a job {ended}")
    if item.holder is not None:
        raise Wrong(f"{handle!r} was given to {party.id} while {item.holder} runs it")
    if item.function not in party.abilities:
        raise Wrong(f"{handle!r} was given to a worker that cannot do {item.function!r}")
    if item.priority != best:
        raise Wrong(f"{handle!r} of priority {item.priority} was given while one of {best} waits")
    if book.queue(item)[0] is not item:
        raise Wrong(f"{handle!r} was given before {book.queue(item)[0].handle!r}, which is first in line")
    return item


def _work(book: Book, party: Party, number: int, body: bytes, outs: list[Out]) -> list[Out]:
    handle, _, rest = body.partition(b"\0")
    item = party.holds.get(handle)
    if item is None:
        if handle == party.ended and number in (packets.WORK_FAIL, packets.WORK_COMPLETE):
            party.ended = None
            book.saw("end after an exception absorbed")
            return []
        book.saw("stranger refused" if handle in book.jobs else "report on no job refused")
        return error(party, b"JOB_NOT_FOUND")
    if number == packets.WORK_EXCEPTION:
        expected = [_exception(book, book.parties[watcher], body, handle) for watcher in item.watchers]
        party.ended = handle
    else:
        expected = [(watcher, number, body) for watcher in item.watchers]
    if number == packets.WORK_STATUS:
        numerator, denominator = rest.split(b"\0")
        item.progress = (numerator, denominator)
    elif number in (packets.WORK_DATA, packets.WORK_WARNING):
        item.streamed |= bool(rest)
    else:
        book.end(item, party)
    return expected


def _exception(book: Book, watcher: Party, body: bytes, handle: bytes) -> Out:
    if watcher.exceptions:
        book.saw("exception passed on")
        return watcher.id, packets.WORK_EXCEPTION, body
    book.saw("exception turned into a failure")
    return watcher.id, packets.WORK_FAIL, handle


RULES: dict[int, Rule] = {
    **dict.fromkeys(SUBMITS, _submit),
    packets.GET_STATUS: _get_status,
    packets.FARM_CANCEL: _cancel,
    packets.TEXT: _text,
    packets.OPTION_REQ: _option,
    packets.ECHO_REQ: _echo,
    packets.SET_CLIENT_ID: _nothing,
    packets.CAN_DO: _can_do,
    packets.CAN_DO_TIMEOUT: _can_do,
    packets.CANT_DO: _cannot_do,
    packets.RESET_ABILITIES: _reset,
    packets.PRE_SLEEP: _pre_sleep,
    packets.GRAB_JOB: _grab,
    packets.GRAB_JOB_UNIQ: _grab,
    packets.GRAB_JOB_ALL: _grab,
    packets.WORK_DATA: _work,
    packets.WORK_WARNING: _work,
    packets.WORK_STATUS: _work,
    packets.WORK_COMPLETE: _work,
    packets.WORK_FAIL: _work,
    packets.WORK_EXCEPTION: _work,
}
