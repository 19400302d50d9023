"""The rules a second time, written from the protocol and not from the broker: for each packet, what must be sent.

Each rule changes the book and returns the packets that the server must send, NOOPs for sleepers excepted (the ledger
judges those). Where the server has a choice (which handle, which function's turn) the rule looks at what it did choose.
"""

from __future__ import annotations

from collections.abc import Callable

from farm.protocol import packets
from tests.sim import course, terms
from tests.sim.asks import ask
from tests.sim.book import Book
from tests.sim.kept import exit_code
from tests.sim.model import SUBMITS, Item, Out, Party, Wrong, acceptable, error
from tests.sim.submits import submit, submit_with_terms

Rule = Callable[[Book, Party, int, bytes, list[Out]], list[Out]]


# -- clients


def _schedule(book: Book, party: Party, number: int, body: bytes, outs: list[Out]) -> list[Out]:
    """Here nobody sends a time that there is: entries are made by `cron add`."""
    return error(party, b"SHUTDOWN" if book.stopping else b"INVALID_REQUEST")


def _get_status(book: Book, party: Party, number: int, body: bytes, outs: list[Out]) -> list[Out]:
    item = book.jobs.get(body)
    known, running = (b"0", b"0") if item is None else (b"1", b"0" if item.holder is None else b"1")
    progress = (b"0", b"0") if item is None else item.progress
    return [(party.id, packets.STATUS_RES, b"\0".join((body, known, running, *progress)))]


def _get_status_unique(book: Book, party: Party, number: int, body: bytes, outs: list[Out]) -> list[Out]:
    numbers = (b"0", b"0", b"0", b"0", b"0")
    for function in book.functions:  # in the order in which they were mentioned
        item = None if body == b"-" else book.joinable.get((function, body, b""))
        if item is not None:
            numbers = (b"1", b"0" if item.holder is None else b"1", *item.progress, b"%d" % len(item.watchers))
            break
    book.saw("status by key of nothing" if numbers[0] == b"0" else "status by key")
    return [(party.id, packets.STATUS_RES_UNIQUE, b"\0".join((body, *numbers)))]


def _cancel(book: Book, party: Party, number: int, body: bytes, outs: list[Out]) -> list[Out]:
    if not party.extension:
        return error(party, b"INVALID_COMMAND")
    item = party.watches.get(body)
    outcome, expected = (b"unknown", []) if item is None else book.unwatch(item, party)
    book.saw("cancel: " + outcome.decode())
    return [*expected, (party.id, packets.FARM_CANCEL_RES, body + b"\0" + outcome)]


def _text(book: Book, party: Party, number: int, body: bytes, outs: list[Out]) -> list[Out]:
    if body in _LISTINGS:
        told = [body for id, number, body in outs if id == party.id and number == packets.TEXT]
        lines = _LISTINGS[body](book)
        order = told[:-1] if sorted(told[:-1]) == sorted(lines) else lines  # no order of the lines is promised
        return [(party.id, packets.TEXT, line) for line in (*order, b".")]
    words = body.split(b" ")
    if words[0] in _CHANGES and not party.may_change:
        book.saw("command from elsewhere refused")
        return [(party.id, packets.TEXT, b"ERR PERMISSION_DENIED This+command+is+taken+from+this+machine+only")]
    changed, line = _CHANGES[words[0]](book, words[1:]) if words[0] in _CHANGES else ([], b"")
    line = line or b"ERR UNKNOWN_COMMAND Unknown+server+command" + body.replace(b"\t", b"\\t")
    return [*changed, (party.id, packets.TEXT, line)]


def _status(book: Book) -> list[bytes]:
    lines = []
    for function in book.functions:
        jobs = [item for item in book.jobs.values() if item.function == function]
        running = sum(item.holder is not None for item in jobs)
        workers = sum(function in other.abilities for other in book.parties.values())
        lines.append(b"%s\t%d\t%d\t%d" % (function.replace(b"\t", b"\\t"), len(jobs), running, workers))
        if jobs:
            book.saw("status with jobs")
    return lines


def _priority_status(book: Book) -> list[bytes]:
    lines = []
    for function in book.functions:
        queued = [len(book.queues.get((function, priority), [])) for priority in (0, 1, 2)]
        workers = sum(function in other.abilities for other in book.parties.values())
        numbers = b"\t".join(b"%d" % number for number in (*queued, workers))
        lines.append(function.replace(b"\t", b"\\t") + b"\t" + numbers)
    return lines


def _show_jobs(book: Book) -> list[bytes]:
    return [
        b"%s\t%d\t%d\t%d" % (item.handle, item.losses, item.abandoned, item.background) for item in book.jobs.values()
    ]


def _show_unique_jobs(book: Book) -> list[bytes]:
    return [item.unique for item in book.jobs.values()]


def _cancel_by_admin(book: Book, words: list[bytes]) -> tuple[list[Out], bytes]:
    item = book.jobs.get(words[1])
    if item is None or item.abandoned:
        book.saw("administrator cancelled nothing")
        return [], b"ERR UNKNOWN_JOB"
    book.saw(f"administrator cancelled a {item.state} job")
    return book.cancel(item, b""), b"OK"


def _create(book: Book, words: list[bytes]) -> tuple[list[Out], bytes]:
    book.saw("function created")
    if b"\t" in words[1]:
        book.saw("function with a TAB created")
    book.functions[words[1]] = None
    return [], b"OK"


def _drop(book: Book, words: list[bytes]) -> tuple[list[Out], bytes]:
    function = words[1]
    if function not in book.functions:
        return [], b"ERR function not found"
    jobs = any(item.function == function for item in book.jobs.values())
    if jobs or any(function in party.abilities for party in book.parties.values()):
        book.saw("function not dropped")
        return [], b"ERR there are still connected workers or executing clients"
    book.saw("function dropped")
    del book.functions[function]
    book.limits.pop(function, None)
    for name, unique in [key for key in book.keys if key[0] == function]:
        _, handle = book.keys.pop((name, unique))
        book.kept.key(function, unique, handle, 0.0)
        book.saw("function dropped with its keys")
    if book.settings.pop(function, None) or function in book.paused:
        book.paused.pop(function, None)
        book.kept.set(function, {}, False)
        book.saw("function dropped with what holds for it")
    return [], b"OK"


def _maxqueue(book: Book, words: list[bytes]) -> tuple[list[Out], bytes]:
    function, *numbers = words
    if any(not number.lstrip(b"-").isdigit() for number in numbers):
        book.saw("limit that is no number")
        return [], b"ERR INVALID_ARGUMENTS An+incomplete+set+of+arguments+was+sent+to+this+command+maxqueue"
    limits = [max(0, int(number)) for number in numbers] or [0]
    if function in book.functions:
        book.limits[function] = tuple(limits if len(limits) == 3 else limits * 3)
    return [], b"OK"


_LISTINGS: dict[bytes, Callable[[Book], list[bytes]]] = {
    b"status": _status,
    b"prioritystatus": _priority_status,
    b"show jobs": _show_jobs,
    b"show unique jobs": _show_unique_jobs,
}
_CHANGES: dict[bytes, Callable[[Book, list[bytes]], tuple[list[Out], bytes]]] = {
    b"cancel": _cancel_by_admin,
    b"create": _create,
    b"drop": _drop,
    b"maxqueue": _maxqueue,
}


# -- anybody


def _option(book: Book, party: Party, number: int, body: bytes, outs: list[Out]) -> list[Out]:
    if body == b"exceptions":
        party.exceptions = True
    elif body == b"farm-1":
        party.extension = True
    elif body == b"farm-sync":
        party.sync = True
    else:
        if len(body) > 63:
            book.saw("long option refused")
        return error(party, b"UNKNOWN_OPTION")
    return [(party.id, packets.OPTION_RES, body)]


def _echo(book: Book, party: Party, number: int, body: bytes, outs: list[Out]) -> list[Out]:
    answer = (party.id, packets.ECHO_RES, body)
    return [book.promise(*answer) if party.sync else answer]


def _set_client_id(book: Book, party: Party, number: int, body: bytes, outs: list[Out]) -> list[Out]:
    party.client_id = body
    return []


# -- workers


def _can_do(book: Book, party: Party, number: int, body: bytes, outs: list[Out]) -> list[Out]:
    function, _, timeout = body.partition(b"\0")
    if not acceptable(function):
        book.saw("bad name refused")
        return error(party, b"INVALID_FUNCTION_NAME", close=True)
    book.functions[function] = None
    if book.rules.by_registration and party.abilities.pop(function, None) is not None:
        book.saw("registered anew")
    party.abilities[function] = max(int(timeout), 1000) / 1000 if timeout else 0.0
    return []


def _cannot_do(book: Book, party: Party, number: int, body: bytes, outs: list[Out]) -> list[Out]:
    party.abilities.pop(body, None)
    return []


def _reset(book: Book, party: Party, number: int, body: bytes, outs: list[Out]) -> list[Out]:
    party.abilities.clear()
    return []


def _worker_terms(book: Book, party: Party, number: int, body: bytes, outs: list[Out]) -> list[Out]:
    function, _, words = body.partition(b"\0")
    said = terms.read(words)
    if not party.extension:
        return error(party, b"INVALID_COMMAND")
    if said is None:
        return error(party, b"INVALID_REQUEST")
    book.functions[function] = None
    party.terms[function] = said
    return []


def _usage(book: Book, party: Party, number: int, body: bytes, outs: list[Out]) -> list[Out]:
    if not party.extension:
        return error(party, b"INVALID_COMMAND")
    handle, cpu, peak = body.split(b"\0")
    stop = book.stops.get(handle)
    if stop is not None and stop.worker == party.id:
        if stop.kept:
            book.kept.used(handle, stop.number, float(cpu), int(peak))
            book.saw("usage told after the end")
        return []
    item = party.holds.get(handle)
    if item is not None:
        item.cpu, item.peak = float(cpu), int(peak)
        book.saw("usage told")
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
    assigned = [body for id, number, body in outs if id == party.id and number in _ASSIGNS]
    if len(assigned) != 1:
        raise Wrong(f"a job waits, and GRAB was answered with {len(assigned)} assignments")
    item = _given(book, party, assigned[0].partition(b"\0")[0], best)
    book.queue(item).pop(0)
    item.holder = party.id
    item.started, item.worker = book.now, party.client_id
    item.unheard()
    item.deadline = 0.0
    if item.background and item.handle not in book.kept.durable:
        book.saw("job given before it is durable")
    party.holds[item.handle] = item
    if item.handle in party.expired:
        book.saw("given again to the worker that was too slow")
    item.limit = float(book.terms_for(item).get(b"timeout", b"0"))
    timeout_s = min((limit for limit in (item.limit, party.abilities[item.function]) if limit), default=0.0)
    item.expires = book.now + timeout_s if timeout_s else 0.0
    if item.function in book.settings and item.limit and b"timeout" not in item.terms:
        book.saw("run limited by its function's settings")
    answer = packets.JOB_ASSIGN
    head: tuple[bytes, ...] = (item.handle, item.function)
    if number != packets.GRAB_JOB:
        answer, head = packets.JOB_ASSIGN_UNIQ, (*head, item.unique)
    if item.reducer and number == packets.GRAB_JOB_ALL:
        answer, head = packets.JOB_ASSIGN_ALL, (*head, item.reducer)
    if item.reducer:
        kept = answer != packets.JOB_ASSIGN_ALL
        book.saw("reducer kept from a worker that cannot take it" if kept else "reducer given to a worker")
    return [(party.id, answer, b"\0".join((*head, item.payload)))]


def _takes_its_turn(book: Book, party: Party, item: Item, best: int) -> None:
    """The functions of a worker take turns: the one that it was given a job of is the last one from now on."""
    wanted = [name for name in party.abilities if book.has_work(name, best)]
    if item.priority == best and item.function != wanted[0]:
        raise Wrong(f"{item.handle!r} was given though it is the turn of {wanted[0]!r}")
    if len(wanted) > 1:
        book.saw("functions take turns")
    party.abilities[item.function] = party.abilities.pop(item.function)


_ASSIGNS = (packets.JOB_ASSIGN, packets.JOB_ASSIGN_UNIQ, packets.JOB_ASSIGN_ALL)


def _given(book: Book, party: Party, handle: bytes, best: int) -> Item:
    """The job that the server chose to give, if it was free to choose it."""
    item = book.jobs.get(handle)
    if item is None:
        ended = "whose end was stored" if handle in book.kept.finished else "that ended or never was"
        raise Wrong(f"{handle!r} was given, a job {ended}")
    if item.holder is not None:
        raise Wrong(f"{handle!r} was given to {party.id} while {item.holder} runs it")
    if item.function not in party.abilities:
        raise Wrong(f"{handle!r} was given to a worker that cannot do {item.function!r}")
    if handle in book.stops:
        raise Wrong(f"{handle!r} was given while {book.stops[handle].worker} is still ending its attempt before")
    if item.over or item.after:
        raise Wrong(f"{handle!r} was given, which waits for {list(item.after)} or has ended")
    if item.function in book.paused:
        raise Wrong(f"{handle!r} was given though {item.function!r} is paused")
    if item.delayed:
        raise Wrong(f"{handle!r} was given {item.due - book.wall:.3f} s before its time")
    if book.rules.by_registration:
        wanted = [name for name in party.abilities if any(book.has_work(name, priority) for priority in (0, 1, 2))]
        if item.function != wanted[-1]:
            raise Wrong(f"{handle!r} was given before one of {wanted[-1]!r}, which was registered later")
        best = min(priority for priority in (0, 1, 2) if book.queues.get((item.function, priority)))
    else:
        _takes_its_turn(book, party, item, best)
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
        if handle in party.expired:
            book.saw("late end absorbed" if number in _ENDS else "late report absorbed")
            if number in _ENDS:
                party.expired[handle] -= 1
                party.expired = {late: owed for late, owed in party.expired.items() if owed}
            if number == packets.WORK_EXCEPTION:
                party.ended = handle
            return [] if handle in party.expired else book.stopped(handle, party.id)
        book.saw("stranger refused" if handle in book.jobs else "report on no job refused")
        return error(party, b"JOB_NOT_FOUND")
    if item.background and number not in (packets.WORK_STATUS, packets.WORK_FAIL) and rest:
        item.said.append((number, rest))
    if number in (packets.WORK_FAIL, packets.WORK_EXCEPTION):
        return _failed(book, party, item, number, body)
    expected = [(watcher, number, body) for watcher in item.watchers]
    if number == packets.WORK_STATUS:
        numerator, denominator = rest.split(b"\0")
        item.progress = (numerator, denominator)
    elif number == packets.WORK_COMPLETE:
        return expected + _ended(book, party, item, "done")
    else:
        item.streamed |= bool(rest)
        if number == packets.WORK_WARNING and (code := exit_code(rest)) >= 0:
            item.code, item.timed_out, item.trailer = code, rest == b"farm: exit 124 farm\n", rest
    return expected


def _failed(book: Book, party: Party, item: Item, number: int, body: bytes) -> list[Out]:
    if number == packets.WORK_EXCEPTION:
        party.ended = item.handle
    if not item.abandoned:
        kind, _ = terms.failure(item.code, item.timed_out)
        again = course.try_again(book, item, kind, item.code)
        if again is not None:
            return again
    if number == packets.WORK_EXCEPTION:
        expected = [_exception(book, book.parties[watcher], body, item.handle) for watcher in item.watchers]
    else:
        expected = [(watcher, number, body) for watcher in item.watchers]
    return expected + _ended(book, party, item, "failed")


def _ended(book: Book, party: Party, item: Item, outcome: str) -> list[Out]:
    if item.background:
        book.counted[item.handle] = None
        if book.rules.result_max:
            book.saw("result cut" if sum(len(said) for _, said in item.said) > book.rules.result_max else "result kept")
    return book.end(item, party, outcome)


_ENDS = (packets.WORK_COMPLETE, packets.WORK_FAIL, packets.WORK_EXCEPTION)


def _exception(book: Book, watcher: Party, body: bytes, handle: bytes) -> Out:
    if watcher.exceptions or book.rules.exceptions:
        book.saw("exception passed on")
        return watcher.id, packets.WORK_EXCEPTION, body
    book.saw("exception turned into a failure")
    return watcher.id, packets.WORK_FAIL, handle


RULES: dict[int, Rule] = {
    **dict.fromkeys(SUBMITS, submit),
    packets.FARM_SUBMIT: submit_with_terms,
    packets.FARM_ASK: ask,
    packets.FARM_TERMS: _worker_terms,
    packets.FARM_USAGE: _usage,
    packets.SUBMIT_JOB_SCHED: _schedule,
    packets.GET_STATUS: _get_status,
    packets.GET_STATUS_UNIQUE: _get_status_unique,
    packets.FARM_CANCEL: _cancel,
    packets.TEXT: _text,
    packets.OPTION_REQ: _option,
    packets.ECHO_REQ: _echo,
    packets.SET_CLIENT_ID: _set_client_id,
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
