"""A job as people and programs are shown it: the JSON of `farm/protocol/JOBS.md`, from the rules' record of a live job
or from what is kept of an ended one.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from farm.broker import keeping, tries
from farm.broker.course import terms_of
from farm.broker.effects import Attempt, Past
from farm.broker.job import DELAYED, DONE, FAILED, PRIORITY_NAMES, RUNNING, WAITING, handle_of
from farm.broker.terms import Terms, encode_after, parse_stored
from farm.protocol.names import shown, words_of

if TYPE_CHECKING:
    from farm.broker.broker import Broker
    from farm.broker.job import Job

Json = dict[str, Any]
DEAD = "dead"  # what people are shown for FAILED
STATES = ("waiting", "delayed", "queued", "running", "abandoned", DONE, DEAD, "cancelled", "expired")


def shown_state(state: str) -> str:
    """A state's or an outcome's name for people."""
    return DEAD if state == FAILED else state


def dumps(value: object) -> bytes:
    """JSON without blanks that nobody reads."""
    return json.dumps(value, separators=(",", ":")).encode()


def end(outcome: str, reason: bytes, exit_code: int) -> bytes:
    """The data of FARM_ENDED."""
    code = 0 if outcome == DONE else exit_code
    return dumps(
        {
            "state": shown_state(outcome),
            "reason": words_of(reason),
            "exit_code": code if code >= 0 else None,
            "exit": tries.exit_of(outcome, reason, exit_code),
        }
    )


def of_job(broker: Broker, job: Job, now: float) -> Json:
    """A job that has not ended."""
    wall, course, report = broker.wall_offset, job.course, job.report
    ran = job.started_at > 0
    return {
        **_names(job.handle, job.function.name, job.unique, job.priority),
        "background": job.background,
        "state": job.state,
        "reason": _reason(broker, job),
        "created_at": job.queued_at + wall,
        "due_at": job.due if job.state in (DELAYED, WAITING) and job.due else None,
        "started_at": job.started_at + wall if ran else None,
        "ended_at": None,
        "run_s": now - job.started_at if job.worker is not None else None,
        "worker": shown(job.worker_name) if ran else None,
        "exit_code": _count_or_none(course.exit_code) if course else None,
        "cpu_s": _or_none(course.cpu_s) if course else None,
        "peak_bytes": _count_or_none(course.peak) if course else None,
        "attempts": job.attempts,
        "failures": course.failures if course else 0,
        "losses": job.losses,
        "retries": _retries(job),
        **_terms(terms_of(job), job.queued_at + wall),
        "payload_bytes": job.payload_size,
        "result_bytes": report.result_size if report else 0,
        "log_bytes": report.log_size if report else 0,
        "cut": report.cut if report else False,
        "progress": [int(job.numerator), int(job.denominator)] if job.denominator != b"0" else None,
    }


def of_past(past: Past) -> Json:
    """A job that has ended."""
    ran, terms = past.number > 0, parse_stored(past.terms)
    return {
        **_names(handle_of(past.id), past.function, past.unique, past.priority),
        "background": True,
        "state": shown_state(past.outcome),
        "reason": words_of(past.reason) or None,
        "created_at": past.created,
        "due_at": None,
        "started_at": past.started or None,
        "ended_at": past.ended,
        "run_s": past.ended - past.started if ran and past.started else None,
        "worker": shown(past.worker) if past.started else None,
        "exit_code": _count_or_none(past.exit_code),
        "cpu_s": _or_none(past.cpu_s),
        "peak_bytes": _count_or_none(past.peak),
        # One that was run again and ended while it waited: its end has forgotten the attempts before.
        "attempts": max(past.number, past.failures + past.losses, past.tried),
        "failures": past.failures,
        "losses": past.losses,
        "retries": terms.retries,
        **_terms(terms, past.created),
        "payload_bytes": _count_or_none(past.payload_size),
        "result_bytes": past.result_size,
        "log_bytes": past.log_size,
        "cut": past.cut,
        "progress": None,
    }


def _names(handle: bytes, function: bytes, unique: bytes, priority: int) -> Json:
    return {
        "id": shown(handle),
        "function": shown(function),
        "unique": unique.decode("utf-8", "surrogateescape") or None,  # the key itself: it is compared with
        "priority": PRIORITY_NAMES[priority],
    }


def _terms(terms: Terms, created: float) -> Json:
    expires = terms.expires_at
    if expires is None and terms.expires_s is not None:
        expires = created + terms.expires_s
    return {
        "timeout_s": terms.timeout_s,
        "expires_at": expires,
        "after": shown(encode_after(terms.after)) or None,
        "keep_s": terms.keep_s,
    }


def _retries(job: Job) -> int | None:
    """None: it is for the worker to say that will take it."""
    said = terms_of(job).retries
    if said is not None or job.worker is not None:
        return said or 0
    return job.course.retries if job.course else None


def _reason(broker: Broker, job: Job) -> str | None:
    if job.state == WAITING:
        return "for " + ", ".join(shown(c + b":" + handle) for c, handle in tries.waits_for(job))
    if job.course and job.course.reason:
        return words_of(job.course.reason)
    if job.state == DELAYED and job.id in broker.stops.by_id:
        return "until its command has been stopped"
    if job.state == DELAYED and job.course and job.course.failures:  # since before a restart
        retries = _retries(job)
        return f"retry {job.course.failures}" + ("" if retries is None else f" of {retries}")
    if job.state == DELAYED:
        return "until its time"
    return "its function is paused" if job.function.paused and job.state != RUNNING else None


def attempts_of_job(broker: Broker, job: Job, kept: list[Attempt], now: float) -> list[Json]:
    """The attempts of a job that has not ended: those that were kept, and the one that runs."""
    listed = [_attempt(attempt) for attempt in kept]
    if job.worker is not None:
        course = job.course
        log = b"".join(job.report.log) if job.report else b""
        listed.append(
            {
                "number": job.attempts,
                "started_at": job.started_at + broker.wall_offset,
                "ended_at": None,
                "run_s": now - job.started_at,
                "outcome": "running",
                "reason": None,
                "worker": shown(job.worker_name),
                "exit_code": _count_or_none(course.exit_code) if course else None,
                "cpu_s": _or_none(course.cpu_s) if course else None,
                "peak_bytes": _count_or_none(course.peak) if course else None,
                "log": _text(log),
            }
        )
    return listed


def attempts_of_past(past: Past, kept: list[Attempt], log: bytes) -> list[Json]:
    """The attempts of an ended job: those that were kept, and the last one. log: what that wrote to stderr."""
    listed = [_attempt(attempt) for attempt in kept]
    if past.number:
        listed.append(_attempt(keeping.last_attempt(past, log)))
    return listed


def _attempt(attempt: Attempt) -> Json:
    return {
        "number": attempt.number,
        "started_at": attempt.started or None,
        "ended_at": attempt.ended or None,
        "run_s": attempt.ended - attempt.started if attempt.started and attempt.ended else None,
        "outcome": attempt.outcome,
        "reason": words_of(attempt.reason) or None,
        "worker": shown(attempt.worker),
        "exit_code": _count_or_none(attempt.exit_code),
        "cpu_s": _or_none(attempt.cpu_s),
        "peak_bytes": _count_or_none(attempt.peak),
        "log": _text(attempt.log),
    }


LOG_SHOWN_MAX = 16 * 1024  # bytes of an attempt's stderr in a listing; `output` has all that is kept


def _text(log: bytes) -> str:
    return log[-LOG_SHOWN_MAX:].decode(errors="replace")


def _or_none(value: float) -> float | None:
    return value if value >= 0 else None


def _count_or_none(value: int) -> int | None:  # compiled, a whole number that passes through a float is none any more
    return value if value >= 0 else None
