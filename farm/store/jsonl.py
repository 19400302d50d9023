"""A store as lines of JSON, to be read by people and programs and taken in by another store: schema farm.store/1.

One object for each job. A field that is bytes (function, unique, reducer, payload, worker, result, log) is text where
it is UTF-8, and otherwise base64 under its name with `_base64` behind it. Fields that are empty may be left out.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

from farm.broker.effects import Finish, Save
from farm.broker.job import ENDED, NORMAL, PRIORITY_NAMES, SEQUENCE_BITS, handle_of
from farm.errors import EXIT_DATA, PacketRefused
from farm.protocol.limits import FUNCTION_NAME_MAX, STORED_PAYLOAD_MAX, UNIQUE_MAX
from farm.protocol.names import refuse_bad_function
from farm.store.contract import SHARD_START_MAX, StoreError
from farm.store.schema import OPENS_MAX

SCHEMA = "farm.store/1"
# There must be room above it, in 23 bits, for this store's own opens after it has taken the jobs in.
IMPORTED_SHARD_MAX = 2 * SHARD_START_MAX - OPENS_MAX
_TIME_MAX = (
    1e20  # seconds; not the year 5000, for who submitted milliseconds by mistake has such a job, and may move it
)

# Of an end; they are left out where they say nothing.
_LATER = {name: Finish._field_defaults[name] for name in ("number", "failures", "losses", "cpu_s", "peak", "keep_s")}
_TERMS_MAX = 1 << 16  # bytes


def to_line(save: Save, end: Finish | None = None) -> bytes:
    """One job as a line."""
    fields: dict[str, object] = {"schema": SCHEMA, "handle": handle_of(save.id).decode()}
    fields |= _text("function", save.function)
    fields |= _text("unique", save.unique)
    fields["priority"] = PRIORITY_NAMES[save.priority]
    fields["created"] = save.created
    if save.due:
        fields["due"] = save.due
    if save.reducer:
        fields |= _text("reducer", save.reducer)
    if save.terms:
        fields |= _text("terms", save.terms)
    if end is None:
        fields |= _text("payload", save.payload)
    else:
        fields |= {"outcome": end.outcome, "started": end.started, "ended": end.ended}
        fields |= _text("worker", end.worker)
        fields |= {"exit_code": end.exit_code, "cut": end.cut}
        if end.reason:
            fields |= _text("reason", end.reason)
        fields |= {name: getattr(end, name) for name, usual in _LATER.items() if getattr(end, name) != usual}
        fields |= _text("result", end.result)
        fields |= _text("log", end.log)
        if end.outcome != "done":
            fields |= _text("payload", save.payload)
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def from_lines(lines: Iterable[bytes]) -> Iterator[tuple[Save, Finish | None]]:
    """The jobs of such lines; one without a handle has the id 0. Raises StoreError, with the line's number."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield _job(json.loads(line))
        except (ValueError, TypeError, RecursionError) as error:  # wrong JSON among them
            _refuse(number, str(error))
        except PacketRefused as refused:
            _refuse(number, refused.text.decode())


def _refuse(number: int, words: str) -> NoReturn:
    raise StoreError(f"line {number}: {words}; nothing was imported", f"the schema is {SCHEMA}", EXIT_DATA) from None


def _text(name: str, value: bytes) -> dict[str, object]:
    try:
        return {name: value.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(value).decode()}


def _job(fields: object) -> tuple[Save, Finish | None]:
    if not isinstance(fields, dict):
        raise ValueError("not an object")
    if fields.get("schema") != SCHEMA:
        raise ValueError(f"its schema is {fields.get('schema')!r}, not {SCHEMA!r}")
    function = _bytes(fields, "function", FUNCTION_NAME_MAX)
    refuse_bad_function(function)
    priority = fields.get("priority", PRIORITY_NAMES[NORMAL])
    if priority not in PRIORITY_NAMES:
        raise ValueError(f"priority is {priority!r}: one of {', '.join(PRIORITY_NAMES)}")
    save = Save(
        _id(fields.get("handle")),
        function,
        _bytes(fields, "unique", UNIQUE_MAX),
        PRIORITY_NAMES.index(priority),
        _bytes(fields, "payload", STORED_PAYLOAD_MAX),
        _bytes(fields, "reducer", FUNCTION_NAME_MAX),
        _time(fields, "due"),
        _time(fields, "created"),
        _bytes(fields, "terms", _TERMS_MAX),
    )
    return save, _end(save.id, fields) if "outcome" in fields else None


def _end(id: int, fields: dict[str, object]) -> Finish:
    outcome, code, cut = fields["outcome"], fields.get("exit_code", -1), fields.get("cut", False)
    if outcome not in ENDED:
        raise ValueError(f"outcome is {outcome!r}: one of {', '.join(sorted(ENDED))}")
    if type(code) is not int or not -1 <= code < 1 << 31 or not isinstance(cut, bool):
        raise ValueError("exit_code is no such number, or cut neither true nor false")
    return Finish(
        id,
        str(outcome),
        _time(fields, "started"),
        _time(fields, "ended"),
        _bytes(fields, "worker", STORED_PAYLOAD_MAX),
        code,
        _bytes(fields, "result", STORED_PAYLOAD_MAX),
        _bytes(fields, "log", STORED_PAYLOAD_MAX),
        cut,
        _bytes(fields, "reason", STORED_PAYLOAD_MAX),
        *(_number(fields, name, usual) for name, usual in _LATER.items()),
    )


def _id(handle: object) -> int:
    if handle is None:
        return 0
    if not isinstance(handle, str):
        raise ValueError("handle is not text")
    letter, _, rest = handle.partition(":")
    shard_text, _, sequence_text = rest.partition(":")
    try:
        shard, sequence = int(shard_text, 16), int(sequence_text)
    except ValueError:
        shard = sequence = 0
    id = shard << SEQUENCE_BITS | sequence
    inside = 0 < shard <= IMPORTED_SHARD_MAX and 0 < sequence < 1 << SEQUENCE_BITS
    if letter != "H" or not inside or handle_of(id).decode() != handle:
        raise ValueError(f"{handle!r} is no handle of farm's; leave it out for a new one")
    return id


def _bytes(fields: dict[str, object], name: str, most: int) -> bytes:
    text, coded = fields.get(name, ""), fields.get(f"{name}_base64")
    if not isinstance(text, str) or not isinstance(coded, str | None):
        raise ValueError(f"{name} is not text")
    try:
        value = text.encode() if coded is None else base64.b64decode(coded, validate=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        raise ValueError(f"{name} is neither UTF-8 nor base64: {error}") from None
    if len(value) > most:
        raise ValueError(f"{name} has {len(value)} bytes: at most {most}")
    return value


def _number(fields: dict[str, object], name: str, usual: Any) -> Any:
    """Of the kind that it usually is, not below -1."""
    value = fields.get(name, usual)
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1 <= value < _TIME_MAX:
        raise ValueError(f"{name} is not a number that it may be")
    if isinstance(usual, float):
        return float(value)
    if not isinstance(value, int) or value >= 1 << 62:
        raise ValueError(f"{name} is not a whole number")
    return value


def _time(fields: dict[str, object], name: str) -> float:
    value = fields.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _TIME_MAX:
        raise ValueError(f"{name} is not a time in seconds")
    return float(value)
