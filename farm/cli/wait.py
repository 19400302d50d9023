"""`farm wait`: until jobs have ended; exits as they did."""

from __future__ import annotations

import time

from farm.cli.asking import named, servers_of, words
from farm.cli.main import Leave, say
from farm.cli.options import Values
from farm.cli.printing import print_json_line
from farm.client.outcome import End
from farm.client.searching import Search
from farm.client.waiting import UNKNOWN, Waiter
from farm.errors import EXIT_OK, EXIT_TIMEOUT, FarmError
from farm.protocol.extension import ORIGIN_FARM, ORIGIN_JOB
from farm.tui.values import span, text

SCHEMA = "farm.wait/1"


def run_wait(values: Values) -> int:
    """Wait, and leave with the jobs' exit code."""
    timeout_s = values["timeout"]
    deadline = time.monotonic() + timeout_s if isinstance(timeout_s, float) else None
    ids = named(words(values["ids"]))
    if not ids:
        return EXIT_OK
    with servers_of(values, deadline) as servers:
        search, waiter = Search(servers, ids, say), Waiter(servers, say)
        waiter.add(search.look())
        if values["verbose"]:
            _say_how_many(waiter.left + len(search.left))
        ends: list[End] = []
        while (waiter.left or search.left) and not (ends and values["any"]):
            came = waiter.ends(deadline, search.next_look)
            for end in came:
                _tell(end, values)
            ends += came
            if not came and deadline is not None and time.monotonic() >= deadline:
                raise _too_long(waiter, search, timeout_s)
            if not came and not waiter.left:
                _sleep_until(search.next_look, deadline)
            waiter.add(search.look())
    first = values["any"] or values["exit"] == "first"
    decisive = ends[0] if first else max(ends, key=lambda end: end.exit)
    raise Leave(decisive.exit, ORIGIN_FARM if decisive.state == UNKNOWN else ORIGIN_JOB)


def _say_how_many(count: int) -> None:
    say(f"waiting for {count} jobs" if count > 1 else "waiting for the job")


def _sleep_until(moment: float, deadline: float | None) -> None:
    until = moment if deadline is None else min(moment, deadline)
    time.sleep(max(0.0, until - time.monotonic()))


def _too_long(waiter: Waiter, search: Search, timeout_s: object) -> FarmError:
    """The time counts for the search too."""
    assert isinstance(timeout_s, float)
    if search.failure and search.left and not waiter.left:
        words = f"{search.failure.message} within {span(timeout_s)} (--timeout)"
        return FarmError(words, search.failure.hint, EXIT_TIMEOUT)
    count = waiter.left + len(search.left)
    what = f"{count} jobs have" if count > 1 else "the job has"
    return FarmError(f"{what} not ended within {span(timeout_s)}", "farm explain ID says why", EXIT_TIMEOUT)


def _tell(end: End, values: Values) -> None:
    if end.state == UNKNOWN:
        say(f"error: no job {end.id!r}: {end.reason}")
    elif values["verbose"]:
        say(f"{end.id} is {text(end.state)}" + (f": {text(end.reason)}" if end.reason else ""))
    if values["json"]:
        print_json_line(SCHEMA, end.as_json())
