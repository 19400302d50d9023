"""What the blocking and the asyncio client share: checked arguments, what they return, and how a job looks.

It must not know sockets or time.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from farm.client.pending import Pending
from farm.client.request import NORMAL, PRIORITIES, Request
from farm.client.servers import ORDERS, ServerList
from farm.errors import FarmError, NotGearman, Unavailable, UsageError
from farm.protocol.address import Address, parse_addresses
from farm.protocol.limits import SMALL_PACKET_MAX, UNIQUE_MAX
from farm.protocol.names import function_name_fault

TIMEOUT_S = 30.0  # for what a server answers at once
IN_FLIGHT = 32  # jobs of one map at a time: enough to keep a few machines busy, little enough to hold in memory
HELD_MAX = 1024 * 1024  # bytes of output that nobody waits for

Payload = bytes | bytearray | memoryview
Names = str | Sequence[str] | None
OnProgress = Callable[[int, int], None]
OnStderr = Callable[[bytes], None]


class Handle(str):
    """What a server calls a job. server: its address, for handles mean nothing at another server; "" if not known."""

    __slots__ = ("server",)
    server: str

    def __new__(cls, handle: str, server: str = "") -> Handle:
        self = super().__new__(cls, handle)
        self.server = server
        return self


@dataclass(frozen=True, slots=True)
class Status:
    """What a server knows of a job. Servers forget a job when it has ended, so `known` is false then too.

    numerator, denominator: progress, 0 when its worker says nothing. watchers: how many clients wait for it; None when
    it was asked for by its handle.
    """

    known: bool
    running: bool
    numerator: int
    denominator: int
    watchers: int | None = None


UNKNOWN = Status(False, False, 0, 0)


class JobView:
    """A job that was submitted, as both clients show it."""

    def __init__(self, pending: Pending) -> None:
        self._pending = pending
        self._given_up = False

    def __repr__(self) -> str:
        return f"<Job {self.function!r} {self.handle} {'done' if self.done else 'out'}>"

    @property
    def function(self) -> str:
        """The function's name."""
        return self._pending.request.function.decode("utf-8", "surrogateescape")

    @property
    def handle(self) -> Handle:
        """What its server calls it. It changes when the job is submitted again."""
        return Handle(self._pending.handle.decode("utf-8", "surrogateescape"), self._pending.server)

    @property
    def server(self) -> str:
        """The address of the server that has it."""
        return self._pending.server

    @property
    def done(self) -> bool:
        """Whether it has ended, well or not, as far as is known without waiting."""
        return self._pending.done

    @property
    def error(self) -> FarmError | None:
        """Why there is no result."""
        return self._pending.error

    @property
    def exit_code(self) -> int | None:
        """0 when it completed; the command's exit code when it failed at a farm worker; else None."""
        return self._pending.exit_code

    @property
    def stderr(self) -> bytes:
        """Its stderr and warnings so far; of a long one the last MiB."""
        return bytes(self._pending.stderr)

    @property
    def progress(self) -> tuple[int, int] | None:
        """The last (numerator, denominator) that its worker sent."""
        return self._pending.progress


def make_servers(servers: Names, order: str) -> ServerList:
    """The failover list. servers: as for `--server`; None: FARM_SERVER, or this machine. Raises UsageError."""
    if order not in ORDERS:
        raise UsageError(f"the order of servers is one of {', '.join(ORDERS)}, not {order!r}")
    return ServerList(server_addresses(servers), order)


def server_addresses(servers: Names) -> list[Address]:
    """Raises UsageError."""
    if servers is None:
        servers = os.environ.get("FARM_SERVER") or []
    return parse_addresses([servers] if isinstance(servers, str) else list(servers))


def make_request(function: str, payload: Payload, unique: str, priority: str) -> Request:
    """Raises UsageError, and TypeError for a payload that is not bytes."""
    if not isinstance(payload, bytes | bytearray | memoryview):
        raise TypeError(f"a payload is bytes, not {type(payload).__name__}")
    if fault := function_name_fault(function):
        raise UsageError(f"the function name {function[:60]!r} {fault}")
    if priority not in PRIORITIES:
        raise UsageError(f"a priority is one of {', '.join(PRIORITIES)}, not {priority!r}")
    return Request(_encode(function), bytes(payload), encode_unique(unique), priority)


def make_background(function: str, payload: Payload, unique: str, priority: str, at: float | None) -> Request:
    """As `make_request`. A job without a unique key gets one by chance: gearmand keeps only one of all jobs without,
    and a job that is submitted again at the same server must not run twice."""
    if at is not None and priority != NORMAL:
        raise UsageError("a job for later has normal priority: the protocol has no other")
    return make_request(function, payload, unique or os.urandom(16).hex(), priority)


def encode_unique(unique: str) -> bytes:
    """Raises UsageError."""
    key = _encode(unique)
    if len(key) > UNIQUE_MAX or b"\0" in key:
        raise UsageError(f"a unique key has at most {UNIQUE_MAX} bytes and no NUL; this one has {len(key)}")
    return key


def encode_handle(handle: str) -> bytes:
    """Raises UsageError."""
    name = _encode(handle)
    if not name or len(name) > UNIQUE_MAX or b"\0" in name:  # gearmand closes the connection for a longer one
        raise UsageError(f"not a handle: {handle[:60]!r}")
    return name


def _encode(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def encode_echo(data: bytes) -> bytes:
    """Raises UsageError."""
    if len(data) > SMALL_PACKET_MAX:
        raise UsageError(f"an echo has at most {SMALL_PACKET_MAX} bytes, not {len(data)}")
    return data


def epoch(at: float | None) -> int | None:
    """Whole seconds, so that the job never runs too early."""
    return None if at is None else max(0, math.ceil(at))


def status_of(args: list[bytes]) -> Status:
    """From the arguments of STATUS_RES or STATUS_RES_UNIQUE. Raises NotGearman."""
    if not all(arg.isdigit() and len(arg) <= 20 for arg in args[1:]):
        raise NotGearman("the server sent a status that is not in numbers")
    known, running, *numbers = map(int, args[1:])
    return Status(bool(known), bool(running), *numbers)


def no_server(failures: list[FarmError]) -> FarmError:
    """One error for those of all servers."""
    hint = "start one with `farm server`, or name another"
    if len(failures) == 1:
        failures[0].hint = failures[0].hint or hint
        return failures[0]
    return Unavailable("no server answers: " + "; ".join(dict.fromkeys(failure.message for failure in failures)), hint)
