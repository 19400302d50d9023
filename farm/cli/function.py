"""`farm function`: functions with their jobs, workers and settings, and what holds for a function's jobs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from farm.cli.asking import incomplete, say_who_failed, servers_of, split_words
from farm.cli.job_options import SETTINGS
from farm.cli.options import Values
from farm.cli.printing import print_json, print_rows, servers_as_json, to_terminal, writing
from farm.client import where
from farm.client.ask import Answer, JobServer
from farm.client.job_servers import JobServers
from farm.client.records import FUNCTION_FIELDS, Record, records
from farm.errors import EXIT_OK, FunctionNotFound, UsageError
from farm.protocol.names import function_name_fault
from farm.tui.values import span, text

LIST_SCHEMA, SCHEMA = "farm.functions/1", "farm.function/1"
COLUMNS = ("FUNCTION", "QUEUED", "RUNNING", "DELAYED", "WAITING", "WORKERS", "PAUSED", "SETTINGS")

_WIRE = {option.name: option.name.replace("_", "-") for option in SETTINGS} | {"keep_results": "keep"}

Row = tuple[JobServer, Record]


def run_list(values: Values) -> int:
    """List them."""
    with servers_of(values) as servers:
        rows = sorted(_ask_all(servers, "functions", {}), key=lambda row: row[1]["function"] or "")
        if values["json"]:
            functions = [{"server": server.address, **function} for server, function in rows]
            print_json(LIST_SCHEMA, {"functions": functions, "servers": servers_as_json(servers)})
        else:
            _print(servers, rows)
            say_who_failed(servers)
    return EXIT_OK


def run_show(values: Values) -> int:
    """Show one, at each server."""
    with servers_of(values) as servers:
        rows = list(_ask_all(servers, "function", {"function": _name(values)}))
        _show(servers, rows, values)
        if not values["json"]:
            say_who_failed(servers)
    return EXIT_OK


def run_set(values: Values) -> int:
    """Set what holds for its jobs, at each server."""
    settings: dict[str, str | None] = dict.fromkeys(_unset(values))
    for option in SETTINGS:
        value = values[option.name]
        if value is not None:
            settings[_WIRE[option.name]] = f"{value:.15g}" if isinstance(value, float) else str(value)
    if not settings:
        raise UsageError("no setting was given", "farm function set resize --retries 5; farm function show resize")
    return change_everywhere(values, "function", {"set": settings})


def change_everywhere(values: Values, verb: str, asked: dict[str, Any]) -> int:
    """Change a function at all servers. One that does not answer is a failure, once the others have been told."""
    with servers_of(values) as servers:
        rows = list(_ask_all(servers, verb, {"function": _name(values), **asked}))
        _show(servers, rows, values)
        return incomplete(servers, "it may do it late, or not at all: say it again when it answers")


def _ask_all(servers: JobServers, verb: str, asked: dict[str, Any]) -> Iterator[Row]:
    def ask(server: JobServer) -> Answer | FunctionNotFound:
        try:
            return server.ask(verb, asked)
        except FunctionNotFound as unknown:  # another one may have heard of it
            return unknown

    answers = servers.talk_to_each(ask)
    unknown = [answer for _, answer in answers if isinstance(answer, FunctionNotFound)]
    if len(unknown) == len(answers):
        raise unknown[0]
    for server, answer in answers:
        if isinstance(answer, dict):
            found = answer.get("functions") if verb == "functions" else [answer.get("function")]
            yield from ((server, function) for function in records(found, FUNCTION_FIELDS, server.address))


def _name(values: Values) -> str:
    name = str(values["function"])
    if fault := function_name_fault(name):
        raise UsageError(f"the function name {name[:60]!r} {fault}", "farm function list")
    return os.fsencode(name).decode("utf-8", "surrogateescape")


def _unset(values: Values) -> list[str]:
    names = [word.removeprefix("--").replace("-", "_") for word in split_words(values["unset"])]
    for name in names:
        if name not in _WIRE:
            known = ", ".join(option.flags[0].removeprefix("--") for option in SETTINGS)
            raise UsageError(f"--unset cannot be {name!r}", f"one of: {known}")
        if values[name] is not None:
            raise UsageError(f"--unset {name} and --{name.replace('_', '-')} exclude each other")
    return [_WIRE[name] for name in names]


def _show(servers: JobServers, rows: list[Row], values: Values) -> None:
    if values["json"]:
        functions = [{"server": server.address, **function} for server, function in rows]
        print_json(SCHEMA, {"functions": functions, "servers": servers_as_json(servers)})
    else:
        _print(servers, rows)


def _print(servers: JobServers, rows: list[Row]) -> None:
    server = ("SERVER",) if servers.several else ()
    cells = [(*_cells(function), *([server.address] if servers.several else [])) for server, function in rows]
    if not to_terminal():
        print_rows([(*COLUMNS, *server), *cells])
        return
    from rich.console import Console

    from farm.tui.functions import functions_table

    with writing():
        Console(highlight=False).print(functions_table((*COLUMNS, *server), cells))


def _cells(function: Record) -> tuple[str, ...]:
    counts = [f"{function[name] or 0:g}" for name in ("queued", "running", "delayed", "waiting", "workers")]
    settings = " ".join(_setting(name, value) for name, value in (function["settings"] or {}).items())
    return (text(function["function"] or ""), *counts, "yes" if function["paused"] else "no", settings)


def _setting(name: str, value: object) -> str:
    """Durations as a person writes them; they come as texts, in seconds."""
    seconds = None if name in ("retries", "retry-on") else where.seconds(str(value))
    return f"{text(name)}={text(value) if seconds is None else span(seconds)}"
