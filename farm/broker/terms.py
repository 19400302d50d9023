"""A job's terms: how often and when it is tried again, and how long anything may take. Words on the wire and in the
store, a tuple here; the table is in `farm/protocol/JOBS.md`.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from farm.broker.job import HIGH, LOW, NORMAL
from farm.errors import PacketRefused, UsageError
from farm.protocol.retry_on import parse_retry_on

TERMS_MAX = 4096  # bytes: room for some seventy jobs to wait for, which is more than anybody names by hand
AFTER_MAX = 64  # jobs that one may wait for
RETRIES_MAX = 1_000_000
SECONDS_MAX = 1e11  # three thousand years: what is more is a slip, and would not fit into a calendar

OK, ANY, FAIL = b"ok", b"any", b"fail"
ATTACH, SKIP, REFUSE, REPLACE = b"attach", b"skip", b"fail", b"replace"

BACKOFF_S = 1.0
BACKOFF_MAX_S = 3600.0


class Terms(NamedTuple):
    """What holds for one job, function or worker. None: it does not say. Times in seconds; expires_at: wall-clock.

    after: pairs of a condition (OK, ANY, FAIL) and a handle. keep_s: how long the job is known after its end. cron: the
    name of the entry that has submitted it, which nobody can say but the server.
    """

    retries: int | None = None
    retry_on: bytes | None = None
    backoff_s: float | None = None
    backoff_max_s: float | None = None
    timeout_s: float | None = None
    queue_timeout_s: float | None = None
    expires_s: float | None = None
    expires_at: float | None = None
    keep_s: float | None = None
    cron: bytes | None = None
    after: tuple[tuple[bytes, bytes], ...] = ()


NOTHING: Final = Terms()


class Submission(NamedTuple):
    """What a FARM_SUBMIT says besides names and payload. due: wall-clock seconds before which it must not run, 0: at
    once."""

    background: bool = False
    priority: int = NORMAL
    due: float = 0.0
    unique_for_s: float = 0.0
    if_exists: bytes = ATTACH
    terms: Terms = NOTHING


def parse_submission(words: bytes, wall: float) -> Submission:
    """The terms of a FARM_SUBMIT that comes at `wall` (wall-clock seconds). Raises PacketRefused."""
    said = _split(words)
    priority = said.pop(b"priority", b"normal")
    if priority not in _PRIORITIES:
        raise _refused(b"priority", priority)
    if_exists = said.pop(b"if-exists", ATTACH)
    if if_exists not in (ATTACH, SKIP, REFUSE, REPLACE):
        raise _refused(b"if-exists", if_exists)
    background = said.pop(b"background", b"0")
    if background not in (b"0", b"1"):
        raise _refused(b"background", background)
    delay = said.pop(b"in", None)
    due = _seconds(b"at", said.pop(b"at", b"0"))
    if delay is not None:
        due = max(due, wall + _seconds(b"in", delay))
    unique_for_s = _seconds(b"unique-for", said.pop(b"unique-for", b"0"))
    terms = _terms(said)
    if terms.expires_s is not None:
        terms = terms._replace(expires_s=None, expires_at=min(wall + terms.expires_s, SECONDS_MAX))
    return Submission(background == b"1", _PRIORITIES[priority], due, unique_for_s, if_exists, terms)


_PRIORITIES = {b"high": HIGH, b"normal": NORMAL, b"low": LOW}


def parse(words: bytes) -> Terms:
    """The terms of a function or a worker. Raises PacketRefused."""
    return _terms(_split(words))


def parse_stored(words: bytes) -> Terms:
    """The terms of a stored job: as `encode` wrote them, also what only the server says, and however long. Raises
    PacketRefused, where they are of another version."""
    said = _split(words, len(words))
    cron, after = said.pop(b"cron", None), said.pop(b"after", None)
    terms = _terms(said)
    if cron is None and after is None:
        return terms
    return terms._replace(cron=cron, after=parse_after(after or b"", None))


def encode(terms: Terms) -> bytes:
    """Words that `parse` makes the same terms of."""
    if terms is NOTHING:
        return b""
    words = []
    for name, value in zip(_WORDS, terms, strict=False):
        if isinstance(value, bytes):
            words.append(name + b"=" + value)
        elif isinstance(value, (int, float)):
            words.append(name + b"=%.15g" % value)
    if terms.after:
        words.append(b"after=" + encode_after(terms.after))
    return b" ".join(words)


def encode_after(after: tuple[tuple[bytes, bytes], ...]) -> bytes:
    """The value of `after`."""
    return b",".join(condition + b":" + handle for condition, handle in after)


def parse_after(text: bytes, most: int | None = AFTER_MAX) -> tuple[tuple[bytes, bytes], ...]:
    """What `encode_after` wrote, or a client. most: of them; None: any number. Raises PacketRefused."""
    after = []
    for word in text.split(b",") if text else ():
        condition, _, handle = word.partition(b":")
        if condition not in (OK, ANY, FAIL) or not handle:
            raise _refused(b"after", word)
        after.append((condition, handle))
    if len({handle for _, handle in after}) != len(set(after)):
        raise _refused(b"after", text)
    if most is not None and len(after) > most:
        raise PacketRefused(b"INVALID_REQUEST", b"after names more than %d jobs" % most, close=False)
    return tuple(dict.fromkeys(after))


def over(*layers: Terms) -> Terms:
    """The first layer's terms, and where it does not say, the next one's."""
    said = [layer for layer in layers if layer is not NOTHING]
    if len(said) < 2:
        return said[0] if said else NOTHING
    first, *others = said
    for other in others:
        filled = (mine if mine not in (None, ()) else its for mine, its in zip(first, other, strict=True))
        first = Terms._make(filled)
    return first


def _terms(said: dict[bytes, bytes]) -> Terms:
    if not said:
        return NOTHING
    values: dict[str, object] = {}
    for name, text in said.items():
        if name == b"after":
            values["after"] = parse_after(text)
            continue
        field, kind = _FIELDS.get(name, ("", ""))
        if not field:
            raise PacketRefused(b"INVALID_REQUEST", b"Unknown term: " + name[:40], close=False)
        values[field] = _VALUES[kind](name, text)
    return Terms(**values)  # type: ignore[arg-type]


def _split(words: bytes, most: int = TERMS_MAX) -> dict[bytes, bytes]:
    if len(words) > most:
        raise PacketRefused(b"INVALID_REQUEST", b"Terms of more than %d bytes" % most, close=False)
    said: dict[bytes, bytes] = {}
    for word in words.split(b" "):
        if word:
            name, equals, text = word.partition(b"=")
            if not equals or name in said:
                raise PacketRefused(b"INVALID_REQUEST", b"Strange term: " + word[:40], close=False)
            said[name] = text
    return said


def _count(name: bytes, text: bytes) -> int:
    if not (text.isdigit() and len(text) < 10) or int(text) > RETRIES_MAX:
        raise _refused(name, text)
    return int(text)


def _seconds(name: bytes, text: bytes) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= SECONDS_MAX:
        raise _refused(name, text)
    return value


def _conditions(name: bytes, text: bytes) -> bytes:
    try:
        parse_retry_on(text.decode(errors="replace"))
    except UsageError as error:
        raise PacketRefused(b"INVALID_REQUEST", error.message.encode(), close=False) from error
    return text


def _refused(name: bytes, text: bytes) -> PacketRefused:
    return PacketRefused(b"INVALID_REQUEST", b"Bad value of " + name + b": " + text[:40], close=False)


_VALUES = {"count": _count, "seconds": _seconds, "conditions": _conditions}
_FIELDS = {  # what may be said, in the order of the tuple
    b"retries": ("retries", "count"),
    b"retry-on": ("retry_on", "conditions"),
    b"backoff": ("backoff_s", "seconds"),
    b"backoff-max": ("backoff_max_s", "seconds"),
    b"timeout": ("timeout_s", "seconds"),
    b"queue-timeout": ("queue_timeout_s", "seconds"),
    b"expires": ("expires_s", "seconds"),
    b"expires-at": ("expires_at", "seconds"),
    b"keep": ("keep_s", "seconds"),
}
_WORDS = (*_FIELDS, b"cron")
