"""`farm cron`: entries that submit jobs again and again, at the servers that keep them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

from farm.cli.asking import incomplete, say_who_failed, servers_of
from farm.cli.cron_options import SCHEMA
from farm.cli.job_options import SETTINGS
from farm.cli.options import Values
from farm.cli.printing import as_json, print_json, print_lines, print_rows, servers_as_json, to_terminal
from farm.cli.zone import local_zone
from farm.client.ask import JobServer
from farm.client.job_servers import JobServers
from farm.client.payload import read_payload
from farm.client.records import CRON_FIELDS, CRON_RUN_FIELDS, Record, record, records
from farm.errors import EXIT_OK, CronNotFound, NotGearman, UsageError
from farm.protocol.names import function_name_fault, shown
from farm.tui.values import iso, local, text

COLUMNS = ("NAME", "LINE", "ZONE", "FUNCTION", "NEXT", "LAST", "JOB", "NOTE")
MAY_HAVE_IT = "an entry of this name may be there too, and run twice: farm cron list, when it answers"
UNTOUCHED = "an entry of this name may be there too, and is as it was: farm cron list, when it answers"
UNSHOWN = "an entry of this name may be there too: farm cron list, when it answers"

_WIRE = {option.name: option.name.replace("_", "-") for option in SETTINGS} | {"keep_results": "keep"}

Row = tuple[JobServer, Record]


def run_add(values: Values) -> int:
    """Make one."""
    from farm.broker.schedule import Schedule

    name = str(values["name"] or values["function"])
    line = Schedule(str(values["line"]), zone_of(values)).line  # or it says what is wrong, with a hint
    asked = {"name": name, "line": line, "unique": _wire(str(values["unique"] or "")), **running(values)}
    payload = b"" if _no_payload(values) else read_payload(_file(values))
    with servers_of(values) as servers:
        server = place(servers, [name], bool(values["replace"]))
        answer = server.ask("cron add", asked, payload)
        _told(server, answer, values)
        return incomplete(servers, MAY_HAVE_IT)


def run_list(values: Values) -> int:
    """List them."""
    with servers_of(values) as servers:
        rows = list(entries(servers))
        if values["json"]:
            print_json(SCHEMA, {"entries": [_as_json(row) for row in rows], "servers": servers_as_json(servers)})
        else:
            _print_rows(servers, rows)
            say_who_failed(servers)
    return EXIT_OK


def run_show(values: Values) -> int:
    """Show one, with its newest runs."""
    with servers_of(values) as servers:
        server, entry = _find(servers, str(values["name"]))
        if values["json"]:
            print_json(SCHEMA, {"entries": [_as_json((server, entry))]})
        else:
            print_lines(_story(entry))
        return incomplete(servers, UNSHOWN)


def run_remove(values: Values) -> int:
    """There is none of this name any more."""
    return _change("cron remove", values)


def run_pause(values: Values) -> int:
    """It submits nothing."""
    return _change("cron pause", values)


def run_resume(values: Values) -> int:
    """It does again."""
    return _change("cron resume", values)


def run_run(values: Values) -> int:
    """A job of it, now."""
    with servers_of(values) as servers:
        server, entry = _find(servers, str(values["name"]))
        answer = server.ask("cron run", {"name": entry["name"]})
        id = answer.get("id")
        if not isinstance(id, str) or shown(id.encode(errors="replace")) != id or not id:
            raise NotGearman(f"the server at {server.address} sent a strange handle")
        if values["json"]:
            print_json(SCHEMA, {"id": id, "entries": [_as_json((server, _entry(server, answer)))]})
        else:
            print_lines([id])
        return incomplete(servers, UNTOUCHED)


def run_next(values: Values) -> int:
    """The times to come."""
    number = int(str(values["number"]))
    if values["line"] is not None:
        if values["name"] is not None:
            raise UsageError("a name and --line exclude each other", "farm cron next report")
        return _print_times(_times("", str(values["line"]), zone_of(values), _now(), number), values)
    if values["zone"] is not None:
        raise UsageError("--zone is for --line", "an entry's times are in its own zone")
    with servers_of(values) as servers:
        if values["name"] is not None:
            rows = [_find(servers, str(values["name"]))]
        else:
            rows = list(entries(servers))
        times = [time for _, entry in rows for time in _times_of(entry, number)]
        if not values["json"]:
            say_who_failed(servers)
    return _print_times(sorted(times)[:number], values)


# -- what is asked for


def zone_of(values: Values) -> str:
    """That of --zone, or this machine's."""
    return str(values["zone"]) if values["zone"] is not None else local_zone(os.environ)


def running(values: Values) -> dict[str, Any]:
    """How an entry runs, as a request has it. Raises UsageError."""
    name = str(values["function"])
    if fault := function_name_fault(name):
        raise UsageError(f"the function name {name[:60]!r} {fault}")
    if (values["overlap"], values["catch_up"]) == ("replace", "all"):
        raise UsageError(
            "--overlap replace and --catch-up all exclude each other", "--catch-up last, or --overlap queue"
        )
    terms = {"priority": str(values["priority"])} if values["priority"] != "normal" else {}
    for option in SETTINGS:
        value = values[option.name]
        if value is not None:
            terms[_WIRE[option.name]] = f"{value:.15g}" if isinstance(value, float) else str(value)
    return {
        "function": _wire(name),
        "zone": zone_of(values),
        "overlap": values["overlap"],
        "catch_up": values["catch_up"],
        "terms": terms,
        "replace": bool(values["replace"]),
    }


def place(servers: JobServers, names: list[str], replace: bool) -> JobServer:
    """The server that is to have entries of these names: the first that answers, and no other one may have them, for
    then their jobs would run twice. Whether one that does not answer has them nobody knows: that is for the caller to
    say (MAY_HAVE_IT). Raises FarmError."""
    if not servers.several:
        return servers.opened(str(servers.addresses[0]))
    listed = servers.talk_to_each(_list)
    first = listed[0][0]
    having = {entry["name"]: server for server, entries in listed for entry in entries if entry["name"] in names}
    homes = {server.address: server for server in having.values()}
    if not homes or homes.keys() == {first.address}:
        return first
    name, server = next(iter(having.items()))
    if replace and len(homes) == 1 and having.keys() == set(names):
        return server
    raise UsageError(
        f"the server at {server.address} has a cron entry {text(name)} already", f"farm cron remove {name}"
    )


def _wire(name: str) -> str:
    return os.fsencode(name).decode("utf-8", "surrogateescape")


def _no_payload(values: Values) -> bool:
    if values["no_input"] and values["file"] is not None:
        raise UsageError("--no-input and --file exclude each other")
    return bool(values["no_input"]) or (_file(values) in (None, "-") and sys.stdin.isatty())


def _file(values: Values) -> str | None:
    return None if values["file"] is None else str(values["file"])


# -- what servers say


def entries(servers: JobServers) -> Iterator[Row]:
    """Those of all servers that answer. Raises the first failure when none does."""
    for server, found in servers.talk_to_each(_list):
        yield from ((server, entry) for entry in found)


def _list(server: JobServer) -> list[Record]:
    return [_checked(server, each) for each in records(server.ask("cron").get("entries"), CRON_FIELDS, server.address)]


def _entry(server: JobServer, answer: dict[str, Any]) -> Record:
    return _checked(server, record(answer.get("entry"), CRON_FIELDS, server.address))


def _checked(server: JobServer, entry: Record) -> Record:
    for name in ("name", "line", "zone", "function"):
        if entry[name] is None:
            raise NotGearman(f"the server at {server.address} sent a cron entry without {name}")
    entry["last"] = records(entry["last"] or [], CRON_RUN_FIELDS, server.address)
    return entry


def _find(servers: JobServers, name: str) -> Row:
    """The entry of this name, and its server. Whether a server that does not answer has one too is for the caller to
    say (`incomplete`). Raises CronNotFound, UsageError where several servers have one, and the failure of a server that
    could not be asked when no other one has it."""
    found = [row for row in entries(servers) if row[1]["name"] == name]
    if len(found) > 1:
        where = ", ".join(server.address for server, _ in found)
        raise UsageError(f"several servers have a cron entry {name!r}: {where}", "say which with --server")
    if found:
        return found[0]
    for failure in servers.failures.values():
        raise failure
    raise CronNotFound(f"no cron entry {name!r}")


def _change(verb: str, values: Values) -> int:
    with servers_of(values) as servers:
        server, entry = _find(servers, str(values["name"]))
        _told(server, server.ask(verb, {"name": entry["name"]}), values)
        return incomplete(servers, UNTOUCHED)


def _told(server: JobServer, answer: dict[str, Any], values: Values) -> None:
    """Print what has become of an entry."""
    entry = _entry(server, answer)
    if values["json"]:
        print_json(SCHEMA, {"entries": [_as_json((server, entry))]})


# -- how they are shown


def _as_json(row: Row) -> dict[str, Any]:
    server, entry = row
    runs = [{**run, "at": iso(run["at"] or 0.0)} for run in entry["last"]]
    return {"server": server.address, **as_json(entry), "last": runs}


def _print_rows(servers: JobServers, rows: list[Row]) -> None:
    columns = (*COLUMNS, *(("SERVER",) if servers.several else ()))
    moment = _here if to_terminal() else _iso
    cells = [(*_cells(entry, moment), *((server.address,) if servers.several else ())) for server, entry in rows]
    if not to_terminal():
        print_rows([columns, *cells])
        return
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    padded = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in (columns, *cells)]
    print_lines("  ".join(row).rstrip() for row in padded)


def _cells(entry: Record, moment: Any) -> tuple[str, ...]:
    last = entry["last"][0] if entry["last"] else {}
    return (
        text(entry["name"]),
        text(entry["line"]),
        text(entry["zone"]),
        text(entry["function"]),
        "paused" if entry["paused"] else moment(entry["next_at"]) or "never",
        moment(last.get("at")),
        text(last.get("id") or ""),
        text(entry["fault"] or last.get("note") or ""),
    )


def _iso(moment: float | None) -> str:
    return "" if moment is None else iso(moment)


def _here(moment: float | None) -> str:
    return "" if moment is None else local(moment).partition(".")[0]


def _story(entry: Record) -> Iterator[str]:
    terms = " ".join(f"{text(name)}={text(value)}" for name, value in (entry["terms"] or {}).items())
    facts = {
        "name": text(entry["name"]),
        "line": f"{text(entry['line'])}  ({text(entry['zone'])})",
        "function": text(entry["function"]),
        "unique": text(entry["unique"] or ""),
        "terms": terms,
        "overlap": text(entry["overlap"] or ""),
        "catch up": text(entry["catch_up"] or ""),
        "payload": f"{entry['payload_bytes'] or 0:.0f} bytes",
        "created": _here(entry["created_at"]),
        "next": "paused" if entry["paused"] else _here(entry["next_at"]) or "never",
        "fault": text(entry["fault"] or ""),
    }
    yield from (f"{name:<10}{value}" for name, value in facts.items() if value)
    for run in entry["last"]:
        yield f"{_here(run['at'])}  {text(run['id'] or 'skipped')}  {text(run['note'] or '')}".rstrip()


# -- times to come

Time = tuple[float, str, str]  # when, in which zone, of which entry


def _now() -> float:
    import time

    return time.time()


def _times_of(entry: Record, number: int) -> list[Time]:
    """From its next one on, as its server has it."""
    if entry["next_at"] is None:
        return []
    try:
        return _times(entry["name"], entry["line"], entry["zone"], entry["next_at"] - 1, number)
    except UsageError:  # this machine lacks its zone
        return [(entry["next_at"], "UTC", entry["name"])]


def _times(name: str, line: str, zone: str, after: float, number: int) -> list[Time]:
    from farm.broker.schedule import Schedule

    schedule, times = Schedule(line, zone), list[Time]()
    moment = schedule.next_after(after)
    while moment is not None and len(times) < number:
        times.append((moment, zone, name))
        moment = schedule.next_after(moment)
    return times


def _print_times(times: list[Time], values: Values) -> int:
    from farm.broker.schedule import shown_in

    if values["json"]:
        rows = [
            {"at": iso(moment), "local": shown_in(moment, zone), "zone": zone, "name": name or None}
            for moment, zone, name in times
        ]
        print_json(SCHEMA, {"times": rows})
    else:
        print_rows([shown_in(moment, zone), *([name] if name else [])] for moment, zone, name in times)
    return EXIT_OK
