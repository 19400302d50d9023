"""The book's rules of what most jobs never meet: another attempt, too long a wait, others to wait for, other lives."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from farm.protocol import packets
from tests.sim import terms
from tests.sim.model import Item, Out, id_of, shown_state
from tests.sim.terms import read_after

if TYPE_CHECKING:
    from tests.sim.book import Book
    from tests.sim.entry import Entry
    from tests.sim.kept import Row


# -- attempts


def try_again(book: Book, item: Item, kind: str, code: int) -> list[Out] | None:
    """The running attempt has failed. None: there is no other; else what must be sent."""
    assert item.holder is not None
    holds = book.terms_for(item)
    _, reason = terms.failure(code, kind == "timeout")
    item.reason = reason
    pause_s = terms.pause_s(holds, kind, code, item.failures + 1, id_of(item.handle))
    if pause_s is None:
        _saw_no_retry(book, item)
        item.failures += 1
        return None
    _saw_retry(book, item)
    if item.background:
        outcome = "timeout" if kind == "timeout" else "failed"
        book.kept.tried(item, outcome, reason, book.rules.result_max, book.now, book.wall_offset)
    del book.parties[item.holder].holds[item.handle]
    item.holder, item.expires = None, 0.0
    item.failures += 1
    item.granted = int(holds[b"retries"])
    item.reason = b"%s, retry %d of %d" % (reason, item.failures, item.granted)
    told = book.restart_output(item)
    item.due = book.now + book.wall_offset + pause_s
    item.delayed = True
    limit(book, item)
    if item.background:
        book.kept.course(item, book.wall_offset)
    return told


def _saw_no_retry(book: Book, item: Item) -> None:
    retries = int(book.terms_for(item).get(b"retries", b"0"))
    if item.failures < retries:
        book.saw("failure not worth a retry")
    elif retries:
        book.saw("no retries left")


def _saw_retry(book: Book, item: Item) -> None:
    book.saw("retried")
    if b"retries" not in item.terms:
        of_function = b"retries" in book.settings.get(item.function, {})
        book.saw("retried by its function's settings" if of_function else "retried by its worker's terms")
    if item.failures:
        book.saw("retried a second time")
    if not item.background:
        book.saw("foreground job retried")


def limit(book: Book, item: Item) -> None:
    """When a job that waits has waited too long."""
    holds, times = book.terms_for(item), list[float]()
    created = item.queued_at + book.wall_offset
    if not item.attempts:
        if item.expires_at is not None:
            times.append(item.expires_at)
        elif b"expires" in holds:
            times.append(created + float(holds[b"expires"]))
    if item.queued and b"queue-timeout" in holds:
        times.append(max(created, item.due, item.since) + float(holds[b"queue-timeout"]))
    item.deadline = min(times, default=0.0)
    item.limited_at = book.wall


# -- ends, and who waits for them


def conclude(book: Book, item: Item, outcome: str, reason: bytes) -> list[Out]:
    """Everybody who asked hears that it has ended, and those that waited for it go on or never will."""
    if item.over:
        return []
    item.over = True
    if item.handle in book.stops:
        book.stops[item.handle].outcome = outcome
    body = item.handle + b"\0" + end_told(outcome, reason, item.code)
    told = [book.promise(waiter, packets.FARM_ENDED, body) for waiter in item.waiters]
    if told:
        book.saw(f"waiter told of an end: {outcome}")
    item.waiters.clear()
    for other in book.jobs.values():
        if b"cron" in item.terms and item.handle in other.after and other.terms.get(b"cron") == item.terms[b"cron"]:
            if item.after:
                book.saw("cron: one that waited for its turn has ended")
            other.after.update(dict.fromkeys(item.after, b"any"))
    item.after.clear()
    return told + settle(book, item.handle, outcome)


def end_told(outcome: str, reason: bytes, code: int) -> bytes:
    """The data of FARM_ENDED."""
    code = 0 if outcome == "done" else code
    fields = {
        "state": shown_state(outcome),
        "reason": reason.decode(),
        "exit_code": None if code < 0 else code,
        "exit": terms.exit_of(outcome, reason, code),
    }
    return json.dumps(fields, sort_keys=True).encode()


def settle(book: Book, handle: bytes, outcome: str) -> list[Out]:
    """One end after the other, for each may bring about others."""
    book.settling.append((handle, outcome))
    told: list[Out] = []
    if len(book.settling) > 1:
        return told
    while book.settling:
        ended, how = book.settling[0]
        dependents = [item for item in book.jobs.values() if ended in item.after]
        for item in dependents:
            told += _settle(book, item, ended, how)
        if dependents and ended != handle:
            book.saw("chain of jobs carried on")
        book.settling.pop(0)
    return told


def _settle(book: Book, item: Item, ended: bytes, outcome: str) -> list[Out]:
    if ended not in item.after:
        return []
    condition = item.after[ended]
    if not is_met(condition, outcome):
        book.saw(f"condition not met: {condition.decode()}")
        return book.cancel(item, unmet(condition, ended, outcome))
    if ended in book.stops:
        book.saw("met, but its command is being stopped")
        return []
    book.saw(f"condition met: {condition.decode()}")
    del item.after[ended]
    if not item.after:
        item.since = book.wall
        book.line_up(item)
        book.saw("released, to wait for its time" if item.delayed else "released into its line")
    else:
        book.saw("waits for another one still")
    if item.background:
        book.kept.course(item, book.wall_offset)
    return []


def is_met(condition: bytes, outcome: str) -> bool:
    """Whether a job that was waited for has ended as it was to."""
    return {b"any": True, b"ok": outcome == "done", b"fail": outcome != "done"}[condition]


def unmet(condition: bytes, handle: bytes, outcome: str) -> bytes:
    """Why a job can never run."""
    return b"needs %s:%s, which is %s" % (condition, handle, shown_state(outcome).encode())


# -- other lives


def from_row(handle: bytes, row: Row, wall_offset: float) -> Item:
    """A job as the journal has it."""
    function, unique, priority, payload, reducer, due, created, words = row
    item = Item(handle, function, unique, priority, True, payload)
    item.reducer, item.due = reducer, due
    item.queued_at = created - wall_offset
    item.terms = dict(word.split(b"=", 1) for word in words)
    expires_at = item.terms.pop(b"expires-at", None)
    item.expires_at = None if expires_at is None else float(expires_at)
    item.after = {handle: condition for condition, handle in read_after(item.terms.get(b"after", b""))}
    return item


def resume(book: Book, item: Item, come: Row) -> None:
    """It had come so far before the restart."""
    attempts, item.failures, losses, item.due, running, after, *_ = come
    item.losses = losses + running
    item.before = max(0, attempts - item.failures - item.losses)
    item.doomed = running
    if running and book.rules.result_max:
        book.kept.killed(item.handle, come)
    item.since = book.wall
    if item.after and not after:
        book.saw("dependencies remembered after a restart")
    item.after = {handle: condition for condition, handle in read_after(after)}


def restart_settles(book: Book) -> None:
    """Those that wait for jobs which are no longer there have missed their end."""
    gone = dict.fromkeys(handle for item in book.jobs.values() for handle in item.after if handle not in book.jobs)
    for handle in gone:
        end = book.kept.ended.get(handle)
        settle(book, handle, end[0] if end else "lost")
        book.saw("missed end made up for after a restart")


def revive(book: Book, handle: bytes) -> None:
    """A job that did not end well is run again, with all its retries."""
    end = book.kept.ended[handle]
    item = from_row(handle, book.kept.saves[handle], book.wall_offset)
    item.terms.pop(b"after", None)
    item.after.clear()
    expires = book.settings.get(item.function, {}).get(b"expires")
    item.expires_at = None if expires is None else book.now + book.wall_offset + float(expires)
    number, failures, losses = end[9:12]
    item.before = max(number, failures + losses, *(row[0] for row in book.kept.attempts.get(handle, ())))
    item.due, item.since = 0.0, book.wall
    book.handles[handle] = book.jobs[handle] = item
    book.functions[item.function] = None
    if item.key is not None:
        book.joinable.setdefault(item.key, item)
    book.again[handle] = None
    book.kept.revive(item)
    book.wait_for_key(item)
    if number:
        book.kept.outlived(handle)
    book.kept.course(item, book.wall_offset)
    _run_again_for_its_entry(book, item)
    book.line_up(item)


def lives_again(book: Book, item: Item) -> Entry | None:
    """It is one of the live jobs of the entry of the name that its terms say. Returns the entry, if there is one."""
    entry = book.crons.get(item.terms.get(b"cron", b"").decode())
    if entry is not None and item.handle not in entry.live:
        entry.live.append(item.handle)
    return entry


def _run_again_for_its_entry(book: Book, item: Item) -> None:
    """Those of its entry that wait for their turn wait for it too."""
    entry = lives_again(book, item)
    if entry is None:
        if b"cron" in item.terms:
            book.saw("cron: a removed entry's job run again")
        return
    book.saw("cron: an entry's job run again")
    for other in [book.jobs[handle] for handle in entry.live if book.live(handle)]:
        if other.after and other is not item and other.terms.get(b"cron") == item.terms[b"cron"]:
            book.saw("cron: waits for a job that is run again")
            other.after[item.handle] = b"any"
            book.kept.course(other, book.wall_offset)
