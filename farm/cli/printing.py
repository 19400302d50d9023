"""How the commands about jobs print: JSON with a schema, tab-separated rows for pipes, and values for people.

What a job's words are made of is escaped (farm/tui/values.py).
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from farm.cli.main import cannot_write
from farm.client.job_servers import JobServers
from farm.client.records import Record
from farm.tui.values import iso, text


@contextlib.contextmanager
def writing() -> Iterator[None]:
    """Around what writes to stdout: a name that this locale cannot show must not end it, and a full disk is said."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise cannot_write(error) from error


def print_json(schema: str, fields: dict[str, Any]) -> None:
    """One object on several lines."""
    with writing():
        print(json.dumps({"schema": schema, **fields}, indent=2))


def print_json_line(schema: str, fields: dict[str, Any]) -> None:
    """One object on a line of its own, at once."""
    with writing():
        print(json.dumps({"schema": schema, **fields}))


def print_rows(rows: Iterable[Iterable[object]]) -> None:
    """Tab-separated, never cut and never coloured."""
    with writing():
        for row in rows:
            print("\t".join(map(cell, row)))


def print_lines(lines: Iterable[str]) -> None:
    """Lines for people."""
    with writing():
        for line in lines:
            print(line)


def to_terminal() -> bool:
    """Whether a person reads stdout."""
    return sys.stdout.isatty()


def servers_as_json(servers: JobServers) -> list[dict[str, Any]]:
    """Whom was asked, and who did not answer."""
    return [
        {
            "server": str(address),
            "error": {"message": failure.message, "hint": failure.hint}
            if (failure := servers.failures.get(str(address)))
            else None,
        }
        for address in servers.addresses
    ]


def as_json(fields: Record) -> dict[str, Any]:
    """A record as it is printed: its times (`..._at`, `at`) in ISO 8601, UTC."""
    return {
        name: iso(value) if name.endswith("_at") and isinstance(value, int | float) else value
        for name, value in fields.items()
    }


def data_as_json(data: bytes) -> dict[str, str]:
    """What a job wrote, exactly: `encoding` says what `data` is, `utf-8` (the text itself) or, where the bytes are no
    UTF-8, `base64`."""
    try:
        return {"encoding": "utf-8", "data": data.decode()}
    except UnicodeDecodeError:
        return {"encoding": "base64", "data": base64.b64encode(data).decode()}


def cell(value: object) -> str:
    """A value in a row of columns. "" where there is none; a float without digits that mean nothing."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else text(value)
