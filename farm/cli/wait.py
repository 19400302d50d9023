"""`farm wait`: until jobs have ended; exits as they did."""

from __future__ import annotations

import time

from farm.cli.asking import Meant, meant, servers_of, words
from farm.cli.main import Leave, say
from farm.cli.options import Values
from farm.cli.printing import print_json_line
from farm.client.job_servers import JobServers
from farm.client.outcome import End
from farm.client.waiting import UNKNOWN, Waiter
from farm.errors import EXIT_OK, EXIT_TIMEOUT, FarmError, Unavailable
from farm.protocol.extension import ORIGIN_FARM, ORIGIN_JOB
from farm.tui.values import span, text

SCHEMA = "farm.wait/1"


def run_wait(values: Values) -> int:
    """Wait, and leave with the jobs' exit code."""
    timeout_s = values["timeout"]
    deadline = time.monotonic() + timeout_s if isinstance(timeout_s, float) else None
    with servers_of(values, deadline) as servers:
        jobs = _meant(servers, values)
        if not jobs:
            return EXIT_OK
        waiter = Waiter(servers, jobs, say)
        if values["verbose"]:
            say(f"waiting for {waiter.left} jobs" if waiter.left > 1 else "waiting for the job")
        ends: list[End] = []
        while waiter.left and not (ends and values["any"]):
            came = waiter.ends(deadline)
            if not came:
                raise _too_long(waiter, timeout_s)
            for end in came:
                _tell(end, values)
            ends += came
    first = values["any"] or values["exit"] == "first"
    decisive = ends[0] if first else max(ends, key=lambda end: end.exit)
    raise Leave(decisive.exit, ORIGIN_FARM if decisive.state == UNKNOWN else ORIGIN_JOB)


def _meant(servers: JobServers, values: Values) -> Meant:
    """The time counts for this too."""
    try:
        return meant(servers, words(values["ids"]))
    except Unavailable as failure:
        if servers.deadline is None or time.monotonic() < servers.deadline:
            raise
        timeout_s = values["timeout"]
        assert isinstance(timeout_s, float)
        raise FarmError(f"{failure.message} within {span(timeout_s)} (--timeout)", failure.hint, EXIT_TIMEOUT) from None


def _too_long(waiter: Waiter, timeout_s: object) -> FarmError:
    assert isinstance(timeout_s, float)
    what = f"{waiter.left} jobs have" if waiter.left > 1 else "the job has"
    return FarmError(f"{what} not ended within {span(timeout_s)}", "farm explain ID says why", EXIT_TIMEOUT)


def _tell(end: End, values: Values) -> None:
    if end.state == UNKNOWN:
        say(f"error: no job {end.id!r}: {end.reason}")
    elif values["verbose"]:
        say(f"{end.id} is {text(end.state)}" + (f": {text(end.reason)}" if end.reason else ""))
    if values["json"]:
        print_json_line(SCHEMA, end._asdict())
