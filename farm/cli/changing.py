"""What `farm cancel`, `farm retry` and `farm purge` share: which jobs, a question to a person before many of them are
changed, and one line about each."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

from farm.cli.asking import Meant, by_server, incomplete, meant, named, servers_of, words
from farm.cli.jobs import list_jobs, select
from farm.cli.main import say, say_error
from farm.cli.options import Values
from farm.cli.printing import print_json, print_rows
from farm.client.ask import JobServer
from farm.client.job_servers import JobServers
from farm.client.records import RESULT_FIELDS, records
from farm.errors import EXIT_NO_INPUT, EXIT_OK, EXIT_TRY_AGAIN, FarmError, JobNotFound, Unavailable, UsageError

UNKNOWN = "unknown"
UNANSWERED = "unanswered"  # its server is not there; or the job may be at one that is not
REFUSED = "refused"  # its server will not do it

Row = dict[str, Any]


class Change(NamedTuple):
    """verb: of the wire. worked: the outcomes that are what was wanted. others: in words, what is wrong with the other
    ones. states: of the jobs that --where means, when --state does not say."""

    verb: str
    worked: tuple[str, ...]
    others: dict[str, str]
    states: tuple[str, ...] = ()

    @property
    def schema(self) -> str:
        """Of --json."""
        return f"farm.{self.verb}/1"


def change_named(values: Values, change: Change, **more: Any) -> int:
    """Change the jobs of the arguments. more: what else the request says."""
    with servers_of(values) as servers:
        ids = named(words(values["ids"]))
        jobs, missing = meant(servers, ids) if ids else ([], {})
        rows = [_missing(text, error, servers) for text, error in missing.items()]
        failures = [error for error in missing.values() if not isinstance(error, JobNotFound)]
        changed, failed = _change(jobs, change, more)
        return _tell(rows + changed, failures + failed, change, values)


def _missing(text: str, error: FarmError, servers: JobServers) -> Row:
    """The row of an ID that no job was found for, which is said. A server's failure does not say itself whose job it is
    about, and each that failed may have it."""
    if error in servers.failures.values():
        who = "; ".join(failure.message for failure in servers.failures.values())
        say(f"error: nothing was done about {text!r}: {who}", error.hint)
    else:
        say_error(error)
    return _result(None, text, UNKNOWN if isinstance(error, JobNotFound) else UNANSWERED)


def change_meant(values: Values, change: Change) -> int:
    """Change the jobs of the arguments, or those of --where and --state."""
    selecting = values["where"] is not None or bool(values["state"])
    if not selecting:
        if values["dry_run"]:
            raise UsageError("--dry-run is for --where and --state", "farm show ID shows a job")
        return change_named(values, change)
    if words(values["ids"]):
        raise UsageError("IDs and --where or --state exclude each other", "write 'id = ...' into --where")
    with servers_of(values) as servers:
        rows = list(select(servers, values, change.states))
        if values["dry_run"]:
            list_jobs(servers, iter(rows), values)
            return EXIT_OK
        jobs = [(server, job["id"]) for server, job in rows]
        if len(jobs) > 1 and not values["yes"] and not _agreed(change.verb, len(jobs)):
            say("nothing was changed")
            return EXIT_OK
        rows_changed, failed = _change(jobs, change, {})
        status = _tell(rows_changed, failed, change, values)
        return incomplete(servers) or status  # one that did not answer may have more jobs that are meant


def _change(jobs: Meant, change: Change, more: dict[str, Any]) -> tuple[list[Row], list[FarmError]]:
    """What became of each, and the failures of servers, which have been said. One that fails keeps nobody from changing
    those of the others; its failure is raised when there are none."""
    rows: list[Row] = []
    failures: dict[JobServer, FarmError] = {}
    for server, ids in by_server(jobs):
        if server not in failures:
            try:
                answer = server.ask(change.verb, {"ids": ids, **more})
                results = records(answer.get("results"), RESULT_FIELDS, server.address)
                rows += [_result(server.address, row["id"] or "", row["outcome"] or "") for row in results]
                continue
            except FarmError as error:
                failures[server] = error
        outcome = UNANSWERED if isinstance(failures[server], Unavailable) else REFUSED
        rows += [_result(server.address, id, outcome) for id in ids]
    if failures and all(row["outcome"] in (UNANSWERED, REFUSED) for row in rows):
        raise next(iter(failures.values()))
    for failure in failures.values():
        say_error(failure)
    return rows, list(failures.values())


def _result(server: str | None, id: str, outcome: str) -> Row:
    return {"id": id, "server": server, "outcome": outcome}


def _tell(rows: list[Row], failures: list[FarmError], change: Change, values: Values) -> int:
    """One row for each job; what did not work is said too. failures: of servers, said already."""
    if values["json"]:
        print_json(change.schema, {"results": rows})
    else:
        print_rows([row["id"], row["outcome"]] for row in rows)
    status = EXIT_OK
    for row in rows:
        if row["outcome"] == UNKNOWN:
            status = EXIT_NO_INPUT
            if row["server"]:
                say(f"error: no job {row['id']!r} any more")
        elif row["outcome"] not in (*change.worked, UNANSWERED, REFUSED):
            status = status or EXIT_TRY_AGAIN
            say(f"error: job {row['id']} {change.others.get(row['outcome'], row['outcome'])}")
    return failures[0].status if failures else status


def _agreed(verb: str, count: int) -> bool:
    """Ask, where there is somebody to be asked."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return True
    sys.stderr.write(f"farm: {verb} {count} jobs? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
