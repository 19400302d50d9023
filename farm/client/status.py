"""What a server says about itself: its functions, from the admin commands that every Gearman server knows, and a farm
server's limits."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from farm.client.connection import Connection, open_connection, silent
from farm.client.side_by_side import Talk, side_by_side
from farm.errors import FarmError, NotGearman
from farm.protocol.address import Address
from farm.protocol.limits import NUMBER_MAX
from farm.protocol.names import quoted, shown

FARM_VERSION = b"+farm"  # how a farm server's version ends; a stock one would not know `limits`


@dataclass
class FunctionStatus:
    """One function: how many jobs wait, how many run, and how many workers offer it."""

    name: str
    queued: int
    running: int
    workers: int


@dataclass
class ServerStatus:
    """One server at one moment. limits: name -> value, of a farm server. `failure` is set, and the rest empty, when it
    could not be asked."""

    address: str
    version: str = ""
    functions: list[FunctionStatus] = field(default_factory=list)
    limits: dict[str, int | float] | None = None
    failure: FarmError | None = None


def fetch_all(
    addresses: Sequence[Address], insecure: bool, notify: Callable[[str, str], None] | None = None
) -> list[ServerStatus]:
    """Ask them, side by side. Never raises FarmError: a server that does not answer is part of the picture. notify: as
    for Connection."""
    came = side_by_side(
        [partial(_fetch, address, insecure, notify) for address in addresses], lambda status: not status.failure
    )
    return [
        status or ServerStatus(str(address), failure=silent(address))
        for address, status in zip(addresses, came, strict=True)
    ]


def _fetch(
    address: Address, insecure: bool, notify: Callable[[str, str], None] | None, talk: Talk[ServerStatus]
) -> ServerStatus:
    try:
        connection = open_connection(address, insecure)
        connection.notify = notify
        talk.on(connection)
        try:
            return _ask(connection)
        finally:
            connection.close()
    except FarmError as failure:
        return ServerStatus(str(address), failure=failure)


def _ask(connection: Connection) -> ServerStatus:
    version = connection.version()
    functions = [_function(row, connection) for row in connection.status_lines()]
    functions.sort(key=lambda row: row.name)
    limits = None
    if version.endswith(FARM_VERSION):
        limits = dict(_limit(row, connection) for row in connection.ask(b"limits"))
    return ServerStatus(str(connection.address), shown(version), functions, limits)


def _limit(row: bytes, connection: Connection) -> tuple[str, int | float]:
    name, _, text = row.partition(b"\t")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise NotGearman(f"the server at {connection.address} sent a strange limit: {quoted(row[:80])}")
    return shown(name), int(value) if value.is_integer() and b"." not in text else value


def _function(row: bytes, connection: Connection) -> FunctionStatus:
    fields = row.rsplit(b"\t", 3)
    if len(fields) != 4 or not all(field.isdigit() and len(field) <= NUMBER_MAX for field in fields[1:]):
        raise NotGearman(f"the server at {connection.address} sent a strange status line: {quoted(row[:80])}")
    total, running, workers = map(int, fields[1:])
    return FunctionStatus(shown(fields[0]), total - running, running, workers)
