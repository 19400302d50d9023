"""`farm status`: once or live, for people, for pipes or as JSON."""

from __future__ import annotations

import io
import sys
import time
from typing import TYPE_CHECKING

from farm.cli.main import cannot_write, say
from farm.cli.options import Values
from farm.client.status import ServerStatus, fetch_all
from farm.errors import EXIT_OK
from farm.protocol.address import Address, parse_addresses

if TYPE_CHECKING:
    from rich.console import RenderableType

EVERY_MAX_S = 86400.0  # what sleep can take; who asks for less than one picture a day does not mean it
SCHEMA = "farm.status/1"


def run(values: Values) -> int:
    """Show it. Raises the first server's failure when no server answers."""
    server = values["server"]
    addresses = parse_addresses([str(text) for text in server] if isinstance(server, list) else [])
    insecure, every_s = bool(values["insecure"]), values["every"]
    assert isinstance(every_s, float)
    try:
        if values["watch"] and sys.stdout.isatty() and not values["json"]:
            return _live(addresses, insecure, every_s)
        while True:
            _once(addresses, insecure, bool(values["json"]))
            if not values["watch"]:
                return EXIT_OK
            time.sleep(min(every_s, EVERY_MAX_S))
    except BrokenPipeError:
        raise
    except OSError as error:
        raise cannot_write(error) from error


def _once(addresses: list[Address], insecure: bool, as_json: bool) -> None:
    servers = fetch_all(addresses, insecure, say)
    if all(server.failure for server in servers) and servers[0].failure:
        raise servers[0].failure
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name that this locale cannot show must not end it
    if as_json:
        _print_json(servers)
    elif sys.stdout.isatty():
        _print_table(servers)
    else:
        _print_plain(servers)
    sys.stdout.flush()


def _print_json(servers: list[ServerStatus]) -> None:
    import json

    print(json.dumps({"schema": SCHEMA, "servers": [_as_json(server) for server in servers]}, indent=2))


def _as_json(server: ServerStatus) -> dict[str, object]:
    if server.failure:
        return {"server": server.address, "error": {"message": server.failure.message, "hint": server.failure.hint}}
    functions = [
        {"function": row.name, "queued": row.queued, "running": row.running, "workers": row.workers}
        for row in server.functions
    ]
    return {
        "server": server.address,
        "version": server.version,
        "functions": functions,
        "limits": server.limits,
    }


def _print_plain(servers: list[ServerStatus]) -> None:
    """Tab-separated, never cut and never coloured: for awk, grep and cut."""
    from farm.cli.main import say_error

    several = len(servers) > 1
    print("\t".join((["SERVER"] if several else []) + ["FUNCTION", "QUEUED", "RUNNING", "WORKERS"]))
    for server in servers:
        if server.failure:
            say_error(server.failure)
        for row in server.functions:
            cells = [row.name, str(row.queued), str(row.running), str(row.workers)]
            print("\t".join(([server.address] if several else []) + cells))


def _print_table(servers: list[ServerStatus]) -> None:
    from rich.console import Console

    from farm.tui.status import view

    Console(highlight=False).print(view(servers))


def _live(addresses: list[Address], insecure: bool, every_s: float) -> int:
    from rich.console import Console

    from farm.tui.live import show_live
    from farm.tui.status import view

    def draw(height: int) -> RenderableType:
        return view(fetch_all(addresses, insecure), height, "q quits")

    show_live(draw, every_s, Console(highlight=False))
    return EXIT_OK
