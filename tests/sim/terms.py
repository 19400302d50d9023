"""Terms a second time, from the table in farm/protocol/JOBS.md: words to a dict, and what follows from it."""

from __future__ import annotations

from typing import NamedTuple

from farm.broker import terms as rules
from farm.broker.retry import Failure, delay_s
from tests.sim.model import HIGH, LOW, NORMAL, Terms, Wrong

ABOUT_SUBMITTING = (b"background", b"priority", b"at", b"in", b"unique-for", b"if-exists")
OF_A_JOB = (
    *(b"retries", b"retry-on", b"backoff", b"backoff-max", b"timeout", b"queue-timeout", b"expires", b"keep"),
    *(b"after", b"expires-at"),
)
OF_A_WORKER = (b"retries", b"retry-on", b"backoff", b"backoff-max")
SECONDS = (b"at", b"in", b"unique-for", *OF_A_JOB[2:8])
PRIORITIES = {b"high": HIGH, b"normal": NORMAL, b"low": LOW}
TIMEOUT_PAUSE_S = 6.0


class Wish(NamedTuple):
    """What a submission asks for. due: by the wall clock. expires_at: the same, None: never. after: (condition, handle)
    of each job to wait for."""

    background: bool = False
    priority: int = NORMAL
    reducer: bytes = b""
    due: float = 0.0
    unique_for: float = 0.0
    if_exists: bytes = b"attach"
    terms: Terms = {}  # noqa: RUF012 - it is never changed
    expires_at: float | None = None
    after: tuple[tuple[bytes, bytes], ...] = ()


def read(words: bytes) -> Terms | None:
    """The terms; None: they must be refused."""
    terms: Terms = {}
    for word in words.split():
        name, equals, value = word.partition(b"=")
        if not equals or name in terms or name not in (*ABOUT_SUBMITTING, *OF_A_JOB):
            return None
        terms[name] = value
    numbers = all(_is_number(terms.get(name, b"0")) for name in SECONDS)
    good = numbers and terms.get(b"retries", b"0").isdigit() and terms.get(b"priority", b"low") in PRIORITIES
    return terms if good else None


def wish(words: bytes, wall: float) -> Wish | None:
    """What FARM_SUBMIT asks for; None: it must be refused."""
    terms = read(words)
    if terms is None:
        return None
    due = float(terms.get(b"at", b"0"))
    if b"in" in terms:
        due = max(due, wall + float(terms[b"in"]))
    own = {name: value for name, value in terms.items() if name not in (*ABOUT_SUBMITTING, b"expires")}
    return Wish(
        terms.get(b"background") == b"1",
        PRIORITIES[terms.get(b"priority", b"normal")],
        b"",
        due,
        float(terms.get(b"unique-for", b"0")),
        terms.get(b"if-exists", b"attach"),
        own,
        wall + float(terms[b"expires"]) if b"expires" in terms else None,
        read_after(terms.get(b"after", b"")),
    )


def read_after(text: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """(condition, handle) of each job to wait for."""
    pairs = [word.partition(b":") for word in text.split(b",") if word]
    return tuple((condition, handle) for condition, _, handle in pairs)


def write_after(after: dict[bytes, bytes]) -> bytes:
    """The other way, of handle -> condition."""
    return b",".join(condition + b":" + handle for handle, condition in after.items())


def words(terms: Terms, expires_at: float | None = None) -> frozenset[bytes]:
    """What the journal keeps of them, in no order."""
    said = [name + b"=" + value for name, value in terms.items()]
    return frozenset(said if expires_at is None else [*said, b"expires-at=%.15g" % expires_at])


# -- how an attempt failed, and what comes of it


def failure(code: int, timed_out: bool) -> tuple[str, bytes]:
    """What kind of failure an exit code means, and how people are told."""
    if timed_out:
        return "timeout", b"timeout"
    if code < 0:
        return "other", b"failed"
    return ("signal", b"signal %d" % (code - 128)) if code > 128 else ("exit", b"exit %d" % code)


def pause_s(terms: Terms, kind: str, code: int, failures: int, id: int) -> float | None:
    """How long until the next attempt, after so many failures; None: there is none. Chance within the bounds is taken
    from the rules."""
    if failures > int(terms.get(b"retries", b"0")) or not _is_worth(terms.get(b"retry-on", b"any"), kind, code):
        return None
    base, most = float(terms.get(b"backoff", b"1")), float(terms.get(b"backoff-max", b"3600"))
    limit = min(base * 2 ** (failures - 1), max(base, most))
    told = rules.Terms(retries=1_000_000, backoff_s=base, backoff_max_s=most)
    pause = delay_s(told, Failure(kind, code), failures, id)
    least = TIMEOUT_PAUSE_S if kind == "timeout" else 0.0
    if pause is None or not max(least, limit * 0.75) <= pause <= max(least, limit):
        raise Wrong(f"a pause of {pause} s after failure {failures}, for which {limit} s are right")
    return pause


def _is_worth(conditions: bytes, kind: str, code: int) -> bool:
    for word in conditions.split(b","):
        if word == b"any" or word.decode() == kind:
            return True
        low, _, high = word.partition(b"-")
        if low.isdigit() and int(low) <= code <= int(high or low):
            return True
    return False


def exit_of(outcome: str, reason: bytes, code: int) -> int:
    """The exit code that `farm wait` gives."""
    if outcome == "done":
        return 0
    if outcome == "cancelled":
        return 130
    if outcome == "expired" or reason == b"timeout":
        return 124
    return 125 if reason == b"poison" else code if code > 0 else 1


def _is_number(text: bytes) -> bool:
    return text.replace(b".", b"", 1).isdigit()
