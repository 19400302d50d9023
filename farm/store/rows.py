"""Rows and their checksums: what tells that a row is what was written.

A row of `job` is a Save, one of `ended` a Finish; the tables that came later are described by `TABLES`, and all of them
are checked, put aside and copied in the same way.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from farm.broker.effects import Finish, Save
from farm.broker.job import handle_of

_numbers = struct.Struct(">qqdd")
_real = struct.Struct(">d")


class Table(NamedTuple):
    """One of the tables whose rows are a change's fields and their checksum (`crc`).

    kinds: of each column: i integer (or a truth), r real, b bytes, t text. later: what the last columns have that came
    with a later version, where they say nothing: then they are not in the checksum, which older rows have.
    """

    name: str
    columns: str
    kinds: str
    later: tuple[object, ...] = ()

    def row(self, fields: Sequence[object]) -> tuple[object, ...]:
        """The fields and their checksum, to be written."""
        return (*fields, self._checksum(fields))

    def _checksum(self, fields: Sequence[object]) -> int:
        size = len(fields)
        if self.later and tuple(fields[-len(self.later) :]) == self.later:
            size -= len(self.later)
        return checksum_of(self.kinds[:size], fields[:size])

    def is_sound(self, fields: Sequence[object], crc: object) -> bool:
        """Whether a row that was read is what was written."""
        try:
            return self._checksum(fields) == crc
        except (TypeError, ValueError, AttributeError, OverflowError, struct.error):
            return False

    def whose(self, fields: Sequence[object]) -> tuple[str, bytes]:
        """The handle of its job, and the function, or name, that it is of; empty where it has none."""
        named = dict(zip(self.columns.split(", "), fields, strict=False))
        id, name = named.get("id"), named.get("function", named.get("name", b""))
        return handle_of(id).decode() if isinstance(id, int) else "", name if isinstance(name, bytes) else b"?"


PROGRESS = Table(
    "progress", "id, attempts, failures, losses, due, running, after, started, worker", "iiiiribrb", (0.0, b"")
)
ATTEMPT = Table(
    "attempt", "id, number, started, ended, outcome, reason, worker, exit_code, cpu_s, peak, log", "iirrtbbirib"
)
SETTING = Table("setting", "function, words", "bb")
UNIQUE_UNTIL = Table("unique_until", "function, unique_key, id, until", "bbir")
# Two tables, for an entry's words change with each run, and its payload, which may be large, does not.
CRON = Table("cron", "name, words", "bb")
CRON_PAYLOAD = Table("cron_payload", "name, payload", "bb")
TABLES = (PROGRESS, ATTEMPT, SETTING, UNIQUE_UNTIL, CRON, CRON_PAYLOAD)


def checksum_of(kinds: str, fields: Sequence[object]) -> int:
    """CRC-32 of fields of these kinds. Raises TypeError and others where a field is of another kind."""
    return zlib.crc32(b"".join([_packed(kind, field) for kind, field in zip(kinds, fields, strict=True)]))


def _packed(kind: str, field: object) -> bytes:
    """So that no two rows of a table have the same bytes."""
    if kind == "i" and isinstance(field, int):
        return b"%d " % field
    if kind == "r" and isinstance(field, float | int):
        return _real.pack(field)
    if kind == "t" and isinstance(field, str):
        field = field.encode()
    if kind in "bt" and isinstance(field, bytes):
        return b"%d %b" % (len(field), field)
    raise TypeError(f"{kind} is not {type(field).__name__}")


# -- of the two oldest tables; a column that is as it was before there was one adds nothing


def checksum(save: Save) -> int:
    """CRC-32 of every column of a row of `job`."""
    id, function, unique, priority, payload, reducer, due, created, terms = save
    head = _numbers.pack(id, priority, due, created)
    crc = zlib.crc32(payload, zlib.crc32(head + names_in(function, unique, reducer)))
    return zlib.crc32(b"%d %b" % (len(terms), terms), crc) if terms else crc


def names_in(function: bytes, unique: bytes, reducer: bytes) -> bytes:
    """The names of a job as they are in the checksum: each with its length, so that no two have the same bytes."""
    return b"%d %d %d %b%b%b" % (len(function), len(unique), len(reducer), function, unique, reducer)


def sound_only(rows: Iterable[tuple[Any, ...]], damaged: list[int]) -> Iterator[Save]:
    """Of rows of `job` that were read (a Save's fields, and its checksum) those that are what was written. damaged:
    gets the ids of the others. As `checksum` for each, in half the time where most have the same names: a start may
    have to wait for a million of them."""
    pack, crc32, make, kind = _numbers.pack, zlib.crc32, tuple.__new__, Save
    plain: dict[bytes, bytes] = {}  # of functions: the names of a job without a key
    for row in rows:
        id, function, unique, priority, payload, reducer, due, created, terms, crc = row
        try:
            names = plain.get(function) if unique == reducer == b"" else names_in(function, unique, reducer)
            if names is None:
                names = plain[function] = names_in(function, unique, reducer)
            if crc == crc32(payload, crc32(pack(id, priority, due, created) + names)) and not terms:
                yield make(kind, row[:-1])
                continue
        except (TypeError, struct.error):  # a field is not of the kind it was
            pass
        save = Save._make(row[:-1])
        if is_sound(save, crc):
            yield save
        else:
            damaged.append(id)


_LATER = Finish._fields.index("reason")  # this field and those behind it came with version 3 of the tables
_later = struct.Struct(">qqqdqd")
_LATER_DEFAULTS = tuple(Finish._field_defaults[name] for name in Finish._fields[_LATER:])


def checksum_of_end(end: Finish) -> int:
    """CRC-32 of what a row of `ended` has from the worker."""
    head = _numbers.pack(end.id, end.exit_code, end.started, end.ended)
    crc = zlib.crc32(end.log, zlib.crc32(end.result, zlib.crc32(head + end.outcome.encode() + end.worker)))
    if end[_LATER:] == _LATER_DEFAULTS:
        return crc
    return zlib.crc32(_later.pack(*end[_LATER + 1 :]) + end.reason, crc)


def is_sound(row: Save | Finish, crc: object) -> bool:
    """Whether a row that was read is what was written."""
    try:
        return (checksum(row) if isinstance(row, Save) else checksum_of_end(row)) == crc
    except (TypeError, ValueError, AttributeError, OverflowError, struct.error):  # a field is not of the kind it was
        return False


def is_sound_end(end: Finish, crc: object, save: Save, job_crc: object) -> bool:
    """The same of a row of `ended`. save: the job as far as it is kept; only with its payload can it be compared.
    job_crc: what its row in `job` had; None: the row was written before that was kept."""
    return is_sound(end, crc) and (job_crc is None or is_sound(save, job_crc))
