"""What a store tells of jobs that have ended. What they wrote and their payloads are not read for a list of them."""

from __future__ import annotations

import contextlib
import heapq
import logging
import sqlite3
from collections.abc import Iterator, Sequence

from farm.broker.effects import Attempt, Finish, Past
from farm.broker.job import DONE, handle_of
from farm.errors import EXIT_DATA
from farm.store.contract import StoreError
from farm.store.rows import ATTEMPT, is_sound

log = logging.getLogger("farm.store")

# Who lists what was created since a time is told of nobody who ended before it. Ends are in order but where the clock
# was set back, so it is not the first of them that ends the search.
ENDED_BEFORE_MAX = 100
_NEWEST = (1 << 63) - 1

# A text is read as bytes, for SQLite's driver would not say of a damaged one that it is the row that is damaged.
_PAST = """SELECT n, id, function, unique_key, priority, created, terms, CAST(outcome AS BLOB), started, ended, worker,
    exit_code, cut, reason, number, failures, losses, cpu_s, peak, length(result), length(log),
    ifnull(length(payload), -1), reducer, CASE ended.number WHEN 0
        THEN ifnull((SELECT max(attempt.number) FROM attempt WHERE attempt.id = ended.id), 0) ELSE 0 END FROM ended"""
_KINDS = [int, int, bytes, bytes, int, float, bytes, bytes, float, float, bytes, int, int, bytes, int, int, int, float]
_SIZES = len(_KINDS)  # where they begin: they are numbers whatever they are of
_ENDED = """SELECT id, CAST(outcome AS BLOB), started, ended, worker, exit_code, result, log, cut, reason, number,
    failures, losses, cpu_s, peak, keep_s, crc FROM ended WHERE id = ?"""
_ATTEMPTS = f"""SELECT {ATTEMPT.columns.replace("outcome", "CAST(outcome AS BLOB)")}, crc
    FROM attempt WHERE id = ? ORDER BY number"""
_IDS = "SELECT id FROM ended WHERE id BETWEEN ? AND ? ORDER BY id DESC LIMIT ?"


def ended(database: sqlite3.Connection, id: int, directory: str) -> Finish | None:
    """See Store. Raises StoreError where it is damaged."""
    end = sound_end(database, id)
    if end is None and database.execute("SELECT 1 FROM ended WHERE id = ?", (id,)).fetchone():
        raise StoreError(
            f"what is kept of job {handle_of(id).decode()} is damaged in {directory}",
            f"farm store check --repair {directory}",
            EXIT_DATA,
        )
    return end


def sound_end(database: sqlite3.Connection, id: int) -> Finish | None:
    """The same; None also where it is damaged."""
    row = database.execute(_ENDED, (id,)).fetchone()
    if row is None:
        return None
    end = Finish._make((row[0], _text(row[1]), *row[2:8], bool(row[8]), *row[9:16]))
    return end if is_sound(end, row[16]) else None


def past(
    database: sqlite3.Connection, limit: int, before: int, function: bytes, outcomes: Sequence[str], since: float
) -> list[Past]:
    """See Store."""
    found: list[Past] = []
    too_early = 0
    with contextlib.ExitStack() as stack:
        database.execute("BEGIN")  # the searches see the same ends
        stack.callback(database.rollback)
        rows = [
            stack.enter_context(contextlib.closing(database.execute(query, values)))
            for query, values in _searches(before or _NEWEST, function, outcomes)
        ]
        for one in heapq.merge(*map(_sound, rows), key=lambda one: -one.n):
            if len(found) >= limit or too_early > ENDED_BEFORE_MAX:
                break
            too_early = too_early + 1 if one.ended < since else 0
            if one.created >= since:
                found.append(one)
    return found


def about(database: sqlite3.Connection, id: int) -> Past | None:
    """See Store."""
    return next(_sound(database.execute(f"{_PAST} WHERE id = ?", (id,))), None)


def attempts(database: sqlite3.Connection, id: int) -> list[Attempt]:
    """See Store. Those that are damaged are left out, and said."""
    found = []
    for *fields, crc in database.execute(_ATTEMPTS, (id,)):
        fields[4] = _text(fields[4])
        if ATTEMPT.is_sound(fields, crc):
            found.append(Attempt._make(fields))
        else:
            log.error("an attempt of job %s is damaged in the store: it is left out", handle_of(id).decode())
    return found


def ended_ids(database: sqlite3.Connection, first: int, last: int, limit: int) -> list[int]:
    """See Store."""
    return [id for (id,) in database.execute(_IDS, (first, last, limit))]


def _searches(before: int, function: bytes, outcomes: Sequence[str]) -> Iterator[tuple[str, list[object]]]:
    """Each finds its rows newest first by an index that has them in this order. The few that are not done have one of
    their own, for each outcome, and of those a function's are soon found; one more index would cost every job."""
    where = ["n < ?"]
    values: list[object] = [before]
    if function:
        where.append("function = ?")
        values.append(function)
    if outcomes and DONE not in outcomes:
        where += ["outcome <> 'done'", "outcome = ?"]
        for outcome in dict.fromkeys(outcomes):
            yield _search("ended_outcome", where), [*values, outcome]
        return
    if outcomes:
        where.append(f"outcome IN ({', '.join('?' * len(outcomes))})")
    yield _search("ended_function" if function else "", where), [*values, *outcomes]


def _search(index: str, where: list[str]) -> str:
    by = f"INDEXED BY {index}" if index else "NOT INDEXED"
    return f"{_PAST} {by} WHERE {' AND '.join(where)} ORDER BY n DESC"


def _sound(rows: sqlite3.Cursor) -> Iterator[Past]:
    """Their checksum covers what is not read here, so of a damaged row only a field of a wrong kind is noticed; it is
    left out, and said."""
    for row in rows:
        if [*map(type, row[:_SIZES])] == _KINDS:
            yield Past._make((*row[:7], _text(row[7]), *row[8:12], bool(row[12]), *row[13:]))
        else:
            log.error("what is kept of the ended job of id %s is damaged in the store: it is left out", row[1])


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else ""
