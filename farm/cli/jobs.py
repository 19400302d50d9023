"""`farm jobs`: what there is, for people, for pipes or as JSON; and the selection that `retry` and `purge` share."""

from __future__ import annotations

import heapq
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from itertools import chain, islice
from typing import Any

from farm.cli.asking import say_who_failed, servers_of, states_of
from farm.cli.main import say
from farm.cli.options import Values
from farm.cli.past import past
from farm.cli.printing import as_json, print_rows, servers_as_json, to_terminal, writing
from farm.client import where
from farm.client.ask import Answer, JobServer
from farm.client.connection import ANSWER_TIMEOUT_S
from farm.client.job_servers import JobServers
from farm.client.records import Record, job_records
from farm.client.side_by_side import SILENT_S
from farm.errors import EXIT_OK, Unavailable, UsageError

SCHEMA = "farm.jobs/1"
PAGE = 1000  # jobs in an answer: what the server gives at most
COLUMNS = ("ID", "STATE", "FUNCTION", "CREATED", "RUN_S", "EXIT", "ATTEMPTS", "REASON")

Row = tuple[JobServer, Record]


def run_jobs(values: Values) -> int:
    """List them."""
    with servers_of(values) as servers:
        list_jobs(servers, select(servers, values), values)
    return EXIT_OK


def select(servers: JobServers, values: Values, states: tuple[str, ...] = ()) -> Iterator[Row]:
    """The jobs that the options mean, in their order. states: where --state does not say. Raises UsageError at once."""
    now = time.time()
    test = where.parse(str(values["where"])) if values["where"] is not None else None
    order = _order(str(values["sort"]), now) if values.get("sort") is not None else None
    limit = values["limit"] if not values.get("all", True) else None
    wanted = isinstance(limit, int) and not test and not order
    asked: Answer = {"limit": min(limit, PAGE) if wanted and isinstance(limit, int) else PAGE}
    if state_names := states_of(values, states):
        asked["states"] = state_names
    if values.get("function") is not None:
        asked["function"] = values["function"]
    if values.get("since") is not None:
        asked["since"] = past(str(values["since"]), datetime.now().astimezone())
    found = _newest_first(servers, asked)
    if test:
        found = (row for row in found if test(row[1], now))
    if order:
        return order(found, limit if isinstance(limit, int) else None)
    return islice(found, limit if isinstance(limit, int) else None)


def list_jobs(servers: JobServers, rows: Iterator[Row], values: Values) -> None:
    """Print them as the options say. Raises the first server's failure, with nothing printed, when none answers."""
    rows = _begun(rows)
    if values["json"]:
        _print_json(servers, rows)
        return
    if to_terminal():
        _print_table(servers, list(rows))
    else:
        server = ("SERVER",) if servers.several else ()
        print_rows(_with_header((*COLUMNS, *server), (_row(servers, *row) for row in rows)))
    say_who_failed(servers)


def _newest_first(servers: JobServers, asked: Answer) -> Iterator[Row]:
    each = [_pages(servers, server, asked, first) for server, first in servers.ask_each("jobs", asked)]
    yield from heapq.merge(*each, key=lambda row: _rank(row[1]))
    if len(servers.failures) == len(servers.addresses):  # it went away half-way
        raise servers.failure


def _rank(job: Record) -> tuple[bool, float]:
    """Servers list those that have not ended first, the newest first, then the others, the newest end first."""
    ended = job["ended_at"]
    return ended is not None, -(job["created_at"] if ended is None else ended)


def _pages(servers: JobServers, server: JobServer, asked: Answer, answer: Answer) -> Iterator[Row]:
    """answer: the first page."""
    patience_s = SILENT_S if servers.several else ANSWER_TIMEOUT_S
    before: object = None
    while True:
        for job in job_records(answer.get("jobs"), server.address):
            yield server, job
        more = answer.get("more")
        if more is None or more == before:
            return
        before = more
        try:
            answer = server.ask("jobs", {**asked, "before": before}, patience_s=patience_s)
        except Unavailable as failure:
            servers.failed(server, failure)
            return


def _order(text: str, now: float) -> Callable[[Iterable[Row], int | None], Iterator[Row]]:
    """Jobs of which the field is not known come last."""
    name = text.removeprefix("-")
    field = where.FIELDS.get(name)
    if field is None:
        raise UsageError(f"--sort cannot be {text!r}", f"one of, or - and one of: {', '.join(where.FIELDS)}")
    get, down = field.value, text.startswith("-")

    def key(row: Row) -> tuple[bool, Any]:
        value = get(row[1], now)
        return (value is None) != down, 0 if value is None else value

    def order(rows: Iterable[Row], limit: int | None) -> Iterator[Row]:
        if limit is None:
            return iter(sorted(rows, key=key, reverse=down))
        return iter((heapq.nlargest if down else heapq.nsmallest)(limit, rows, key=key))

    return order


def _begun(rows: Iterator[Row]) -> Iterator[Row]:
    """The same, of which the first is there: whoever can be asked has been asked."""
    first = list(islice(rows, 1))
    return chain(first, rows)


def _with_header(header: tuple[str, ...], rows: Iterator[tuple[object, ...]]) -> Iterator[tuple[object, ...]]:
    yield header
    yield from rows


def _row(servers: JobServers, server: JobServer, job: Record) -> tuple[object, ...]:
    created = as_json({"created_at": job["created_at"]})["created_at"]
    cells = (job["id"], job["state"], job["function"], created, job["run_s"], job["exit_code"], job["attempts"])
    return (*cells, job["reason"], *([server.address] if servers.several else []))


def _print_json(servers: JobServers, rows: Iterator[Row]) -> None:
    """Written as the jobs come: there may be millions."""
    between = "\n    "
    with writing():
        sys.stdout.write(f'{{\n  "schema": "{SCHEMA}",\n  "jobs": [')
        for server, job in rows:
            sys.stdout.write(between + json.dumps({"server": server.address, **as_json(job)}))
            between = ",\n    "
        sys.stdout.write('],\n  "servers": ' + json.dumps(servers_as_json(servers)) + "\n}\n")


def _print_table(servers: JobServers, rows: list[Row]) -> None:
    from rich.console import Console

    from farm.tui.jobs import jobs_table

    if not rows:
        say("no such jobs")
        return
    with writing():
        server = [server.address for server, _ in rows] if servers.several else None
        Console(highlight=False).print(jobs_table([job for _, job in rows], time.time(), server))
