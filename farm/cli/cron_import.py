"""`farm cron import`: the lines of a crontab as entries, all or none."""

from __future__ import annotations

from typing import Any

from farm.cli.asking import incomplete, servers_of
from farm.cli.cron import MAY_HAVE_IT, place, running
from farm.cli.cron_options import SCHEMA
from farm.cli.crontab import CRONTAB_MAX, Line, name_of, read
from farm.cli.main import say
from farm.cli.options import Values
from farm.cli.printing import print_json, print_rows
from farm.client.payload import read_payload
from farm.errors import EXIT_DATA, EXIT_OK, FarmError
from farm.protocol.names import shown


def run_import(values: Values) -> int:
    """Make the entries."""
    source = "standard input" if values["crontab"] == "-" else str(values["crontab"])
    asked = running(values)
    text = read_payload(str(values["crontab"]))
    if len(text) > CRONTAB_MAX:
        raise FarmError(f"{source} is longer than {CRONTAB_MAX} bytes: no crontab is", status=EXIT_DATA)
    crontab = read(text.decode("utf-8", "surrogateescape"), source, asked["zone"], bool(values["system"]))
    if not crontab.lines:
        raise FarmError(f"{source} has no line that is a job; nothing was imported", status=EXIT_DATA)
    taken: set[str] = set()
    names = [name_of(line.command, taken, str(values["prefix"] or "")) for line in crontab.lines]
    address, status = None, EXIT_OK
    old: list[str] = []
    if not values["dry_run"]:
        with servers_of(values) as servers:
            server = place(servers, names, bool(values["replace"]))
            rows = [_asked(asked, name, line) for name, line in zip(names, crontab.lines, strict=True)]
            server.ask("cron add", {"entries": rows, "replace": asked["replace"]})
            address = server.address
            old = _of_before(server.ask("cron")["entries"], names, rows)
            status = incomplete(servers, MAY_HAVE_IT)
    _print(address, names, crontab.lines, values)
    if not values["quiet"]:
        for warning in crontab.warnings:
            say(f"warning: {source}: {warning}")
        for name in old:
            say(f"warning: the entry {name} is not of this crontab and runs the same line", f"farm cron remove {name}")
        say(f"a worker has to run them: farm work {values['function']} -- sh")
    return status


def _of_before(entries: list[dict[str, Any]], names: list[str], rows: list[dict[str, Any]]) -> list[str]:
    """Entries that an earlier import of a crontab with more lines has left: with theirs gone, names go to others."""
    same = {(row["line"], row["zone"], row["function"], len(str(row["payload"]).encode())) for row in rows}
    return [
        shown(str(entry["name"]).encode())
        for entry in entries
        if entry["name"] not in names
        and (entry["line"], entry["zone"], entry["function"], entry["payload_bytes"]) in same
    ]


def _asked(asked: dict[str, Any], name: str, line: Line) -> dict[str, Any]:
    return {**asked, "name": name, "line": line.when, "zone": line.zone, "payload": line.payload}


def _print(server: str | None, names: list[str], lines: list[Line], values: Values) -> None:
    """What was added, or would be."""
    if values["json"]:
        rows = [
            {"server": server, "name": name, "line": line.when, "zone": line.zone, "payload": line.payload}
            for name, line in zip(names, lines, strict=True)
        ]
        print_json(SCHEMA, {"entries": rows})
    else:
        print_rows([name, line.when, line.zone, line.command] for name, line in zip(names, lines, strict=True))
