"""`farm show`: everything that is known of a job."""

from __future__ import annotations

import sys
import time
from typing import Any

from farm.cli.asking import servers_of
from farm.cli.options import Values
from farm.cli.printing import as_json, print_json, writing
from farm.client.ask import JobServer
from farm.client.records import ATTEMPT_FIELDS, Record, job_record, records
from farm.errors import EXIT_OK

SCHEMA = "farm.job/1"


def run_show(values: Values) -> int:
    """Show it."""
    with servers_of(values) as servers:
        server, id = servers.find(str(values["id"]))
        job, attempts = ask(server, id)
        if values["json"]:
            _print_json(server, job, attempts)
        else:
            _print_view(job, attempts, server.address if servers.several else "")
    return EXIT_OK


def ask(server: JobServer, id: str) -> tuple[Record, list[Record]]:
    """A job and its attempts, in their order."""
    answer = server.ask("job", {"id": id}).get("job")
    job = job_record(answer, server.address)
    assert isinstance(answer, dict)
    attempts = records(answer.get("attempts_list") or [], ATTEMPT_FIELDS, server.address)
    return job, sorted(attempts, key=lambda attempt: attempt["number"] or 0)


def _print_json(server: JobServer, job: Record, attempts: list[Record]) -> None:
    fields: dict[str, Any] = {"server": server.address, **as_json(job)}
    fields["attempts_list"] = [as_json(attempt) for attempt in attempts]
    print_json(SCHEMA, {"job": fields})


def _print_view(job: Record, attempts: list[Record], server: str) -> None:
    from rich.console import Console

    from farm.tui.job import job_view

    view = job_view(job, attempts, time.time(), server)
    with writing():
        if sys.stdout.isatty():
            Console(highlight=False).print(view)
        else:
            print(view.plain)
