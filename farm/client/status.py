"""What a server says about itself: its functions, from the admin commands that every Gearman server knows, and a farm
server's limits."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from farm.client.connection import Connection, open_connection
from farm.errors import FarmError, NotGearman
from farm.protocol.address import Address
from farm.protocol.limits import NUMBER_MAX
from farm.protocol.names import shown

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


def fetch(address: Address, insecure: bool) -> ServerStatus:
    """Ask one server. Never raises FarmError: a server that does not answer is part of the picture."""
    try:
        connection = open_connection(address, insecure)
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
        raise NotGearman(f"the server at {connection.address} sent a strange limit: {shown(row[:80])!r}")
    return shown(name), int(value) if value.is_integer() and b"." not in text else value


def _function(row: bytes, connection: Connection) -> FunctionStatus:
    fields = row.rsplit(b"\t", 3)
    if len(fields) != 4 or not all(field.isdigit() and len(field) <= NUMBER_MAX for field in fields[1:]):
        raise NotGearman(f"the server at {connection.address} sent a strange status line: {shown(row[:80])!r}")
    total, running, workers = map(int, fields[1:])
    return FunctionStatus(shown(fields[0]), total - running, running, workers)
