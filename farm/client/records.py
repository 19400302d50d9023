"""What servers say about jobs and functions, checked once: every field is there afterwards, and is of its kind.

The fields are those of `farm/protocol/JOBS.md`; unknown ones are left out, missing ones are None.
"""

from __future__ import annotations

from typing import Any

from farm.errors import NotGearman
from farm.protocol.names import shown

Record = dict[str, Any]

_TEXT, _FLAG, _NUMBER, _LIST = (str,), (bool,), (int, float), (list,)

LIVE_STATES = ("waiting", "delayed", "queued", "running", "abandoned")
ENDED_STATES = ("done", "dead", "cancelled", "expired")
STATES = LIVE_STATES + ENDED_STATES

JOB_FIELDS: dict[str, tuple[type, ...]] = {
    "id": _TEXT,
    "function": _TEXT,
    "unique": _TEXT,
    "priority": _TEXT,
    "background": _FLAG,
    "state": _TEXT,
    "reason": _TEXT,
    "created_at": _NUMBER,
    "due_at": _NUMBER,
    "started_at": _NUMBER,
    "ended_at": _NUMBER,
    "run_s": _NUMBER,
    "worker": _TEXT,
    "exit_code": _NUMBER,
    "cpu_s": _NUMBER,
    "peak_bytes": _NUMBER,
    "attempts": _NUMBER,
    "failures": _NUMBER,
    "losses": _NUMBER,
    "retries": _NUMBER,
    "timeout_s": _NUMBER,
    "expires_at": _NUMBER,
    "after": (str, list),
    "keep_s": _NUMBER,
    "payload_bytes": _NUMBER,
    "result_bytes": _NUMBER,
    "log_bytes": _NUMBER,
    "cut": _FLAG,
    "progress": _LIST,
    "ahead": _NUMBER,
    "stopping": _TEXT,
}
ATTEMPT_FIELDS: dict[str, tuple[type, ...]] = {
    "number": _NUMBER,
    "started_at": _NUMBER,
    "ended_at": _NUMBER,
    "run_s": _NUMBER,
    "outcome": _TEXT,
    "reason": _TEXT,
    "worker": _TEXT,
    "exit_code": _NUMBER,
    "cpu_s": _NUMBER,
    "peak_bytes": _NUMBER,
    "log": _TEXT,
}
FUNCTION_FIELDS: dict[str, tuple[type, ...]] = {
    "function": _TEXT,
    "queued": _NUMBER,
    "running": _NUMBER,
    "delayed": _NUMBER,
    "waiting": _NUMBER,
    "workers": _NUMBER,
    "paused": _FLAG,
    "settings": (dict,),
}
CRON_FIELDS: dict[str, tuple[type, ...]] = {
    "name": _TEXT,
    "line": _TEXT,
    "zone": _TEXT,
    "function": _TEXT,
    "unique": _TEXT,
    "terms": (dict,),
    "overlap": _TEXT,
    "catch_up": _TEXT,
    "paused": _FLAG,
    "fault": _TEXT,
    "created_at": _NUMBER,
    "next_at": _NUMBER,
    "payload_bytes": _NUMBER,
    "last": _LIST,
}
CRON_RUN_FIELDS: dict[str, tuple[type, ...]] = {"at": _NUMBER, "id": _TEXT, "note": _TEXT}
END_FIELDS: dict[str, tuple[type, ...]] = {
    "state": _TEXT,
    "reason": _TEXT,
    "exit_code": _NUMBER,
    "exit": _NUMBER,
}
REASON_FIELDS: dict[str, tuple[type, ...]] = {"code": _TEXT, "text": _TEXT, "hint": _TEXT}
RESULT_FIELDS: dict[str, tuple[type, ...]] = {"id": _TEXT, "outcome": _TEXT}


def record(value: object, fields: dict[str, tuple[type, ...]], server: str) -> Record:
    """One object of an answer. server: its address, for the error. Raises NotGearman for what is none."""
    if not isinstance(value, dict):
        raise _strange("no object", server)
    found: Record = {}
    for name, kinds in fields.items():
        field = value.get(name)
        if field is not None and (not isinstance(field, kinds) or (isinstance(field, bool) and bool not in kinds)):
            raise _strange(f"a strange {name}", server)
        found[name] = field
    return found


def records(value: object, fields: dict[str, tuple[type, ...]], server: str) -> list[Record]:
    """A list of them."""
    if not isinstance(value, list):
        raise _strange("no list", server)
    return [record(each, fields, server) for each in value]


def job_record(value: object, server: str) -> Record:
    """A job. What has to be there is there, and the handle is one word."""
    job = record(value, JOB_FIELDS, server)
    for name in ("id", "function", "state", "created_at", "attempts"):
        if job[name] is None:
            raise _strange(f"a job without {name}", server)
    if not job["id"] or shown(job["id"].encode(errors="replace")) != job["id"]:
        raise _strange("a strange handle", server)
    return job


def job_records(value: object, server: str) -> list[Record]:
    """A list of jobs."""
    if not isinstance(value, list):
        raise _strange("no list of jobs", server)
    return [job_record(each, server) for each in value]


def _strange(what: str, server: str) -> NotGearman:
    return NotGearman(f"the server at {server} sent {what}", "do farm's versions here and there differ much?")
