"""`farm explain`: why a job is not running, and what could be done about it."""

from __future__ import annotations

from collections.abc import Iterator

from farm.cli.asking import servers_of
from farm.cli.options import Values
from farm.cli.printing import as_json, print_json, print_lines
from farm.client.records import REASON_FIELDS, Record, job_record, records
from farm.errors import EXIT_OK
from farm.tui.values import text

SCHEMA = "farm.explain/1"


def run_explain(values: Values) -> int:
    """Explain it."""
    with servers_of(values) as servers:
        server, id = servers.find(str(values["id"]))
        answer = server.ask("explain", {"id": id})
        job = job_record(answer.get("job"), server.address)
        reasons = records(answer.get("reasons"), REASON_FIELDS, server.address)
    if values["json"]:
        print_json(SCHEMA, {"job": {"server": server.address, **as_json(job)}, "reasons": reasons})
    else:
        print_lines(_told(job, reasons))
    return EXIT_OK


def _told(job: Record, reasons: list[Record]) -> Iterator[str]:
    yield f"{job['id']}  {text(job['function'])}  {text(job['state'])}"
    for reason in reasons:
        yield f"  {text(reason['text'] or reason['code'] or '')}"
        if reason["hint"]:
            yield f"    hint: {text(reason['hint'])}"
