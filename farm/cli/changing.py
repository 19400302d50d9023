"""What `farm cancel`, `farm retry` and `farm purge` share: which jobs, a question to a person before many of them are
changed, and one line about each."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

from farm.cli.asking import Meant, by_server, meant_or_unknown, servers_of, words
from farm.cli.jobs import list_jobs, select
from farm.cli.main import say, say_error
from farm.cli.options import Values
from farm.cli.printing import print_json, print_rows
from farm.client.job_servers import JobServers
from farm.client.records import RESULT_FIELDS, records
from farm.errors import EXIT_NO_INPUT, EXIT_OK, EXIT_TRY_AGAIN, UsageError

UNKNOWN = "unknown"


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
        jobs, unknown = meant_or_unknown(servers, words(values["ids"]))
        for error in unknown.values():
            say_error(error)
        results = [_result(None, text, UNKNOWN) for text in unknown]
        return _tell(results + _change(jobs, change, more), change, values)


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
        status = _tell(_change(jobs, change, {}), change, values)
        return _incomplete(servers) or status


def _change(jobs: Meant, change: Change, more: dict[str, Any]) -> list[dict[str, Any]]:
    results: list[dict[str, Any]] = []
    for server, ids in by_server(jobs):
        answer = server.ask(change.verb, {"ids": ids, **more})
        for row in records(answer.get("results"), RESULT_FIELDS, server.address):
            results.append(_result(server.address, row["id"] or "", row["outcome"] or ""))
    return results


def _result(server: str | None, id: str, outcome: str) -> dict[str, Any]:
    return {"id": id, "server": server, "outcome": outcome}


def _tell(results: list[dict[str, Any]], change: Change, values: Values) -> int:
    """One row for each job; what did not work is said too."""
    if values["json"]:
        print_json(change.schema, {"results": results})
    else:
        print_rows([row["id"], row["outcome"]] for row in results)
    status = EXIT_OK
    for row in results:
        if row["outcome"] == UNKNOWN:
            status = EXIT_NO_INPUT
            if row["server"]:
                say(f"error: no job {row['id']!r} any more")
        elif row["outcome"] not in change.worked:
            status = status or EXIT_TRY_AGAIN
            say(f"error: job {row['id']} {change.others.get(row['outcome'], row['outcome'])}")
    return status


def _incomplete(servers: JobServers) -> int:
    """A server that did not answer may have more jobs that are meant: that is no success."""
    for failure in servers.failures.values():
        say_error(failure)
    return next((failure.status for failure in servers.failures.values()), EXIT_OK)


def _agreed(verb: str, count: int) -> bool:
    """Ask, where there is somebody to be asked."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return True
    sys.stderr.write(f"farm: {verb} {count} jobs? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
