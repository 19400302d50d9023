"""The table of packets: number, name, who sends it, arguments, and whether payload data follows.

A body is its arguments separated by one NUL each. With data, every argument ends in NUL and the rest is data; without,
the last argument runs to the end of the packet. Source: the PROTOCOL document of gearmand and its command table
(libgearman/command.cc at 1.1.20). Numbers from 1000 on are farm's extension (see extension.py) and are sent only to a
peer that asked for it.
"""

from __future__ import annotations

import struct

from farm.errors import PacketRefused
from farm.protocol.limits import JOIN_MAX

TYPE_CHECKING = False  # typing is not on the start-up path of `farm submit`
if TYPE_CHECKING:
    from typing import Final  # what is final costs the compiled server no look-up

REQUEST: Final = b"\0REQ"
RESPONSE: Final = b"\0RES"

TEXT: Final = 0  # not a packet: the decoder's number for one admin line
MISDIRECTED: Final = -1  # not a packet: the decoder's number for a well-formed packet with the other side's magic

CAN_DO: Final = 1
CANT_DO: Final = 2
RESET_ABILITIES: Final = 3
PRE_SLEEP: Final = 4
NOOP: Final = 6
SUBMIT_JOB: Final = 7
JOB_CREATED: Final = 8
GRAB_JOB: Final = 9
NO_JOB: Final = 10
JOB_ASSIGN: Final = 11
WORK_STATUS: Final = 12
WORK_COMPLETE: Final = 13
WORK_FAIL: Final = 14
GET_STATUS: Final = 15
ECHO_REQ: Final = 16
ECHO_RES: Final = 17
SUBMIT_JOB_BG: Final = 18
ERROR: Final = 19
STATUS_RES: Final = 20
SUBMIT_JOB_HIGH: Final = 21
SET_CLIENT_ID: Final = 22
CAN_DO_TIMEOUT: Final = 23
ALL_YOURS: Final = 24
WORK_EXCEPTION: Final = 25
OPTION_REQ: Final = 26
OPTION_RES: Final = 27
WORK_DATA: Final = 28
WORK_WARNING: Final = 29
GRAB_JOB_UNIQ: Final = 30
JOB_ASSIGN_UNIQ: Final = 31
SUBMIT_JOB_HIGH_BG: Final = 32
SUBMIT_JOB_LOW: Final = 33
SUBMIT_JOB_LOW_BG: Final = 34
SUBMIT_JOB_SCHED: Final = 35
SUBMIT_JOB_EPOCH: Final = 36
SUBMIT_REDUCE_JOB: Final = 37
SUBMIT_REDUCE_JOB_BACKGROUND: Final = 38
GRAB_JOB_ALL: Final = 39
JOB_ASSIGN_ALL: Final = 40
GET_STATUS_UNIQUE: Final = 41
STATUS_RES_UNIQUE: Final = 42
FARM_CANCEL: Final = 1001
FARM_CANCEL_RES: Final = 1002
FARM_JOB_CANCEL: Final = 1003
FARM_JOB_JOINED: Final = 1004
FARM_JOB_RESTARTED: Final = 1005
FARM_HEARTBEAT: Final = 1006
FARM_ALIVE: Final = 1007
FARM_SUBMIT: Final = 1008
FARM_EXISTS: Final = 1009
FARM_ASK: Final = 1010
FARM_ANSWER: Final = 1011
FARM_OUTPUT: Final = 1012
FARM_ENDED: Final = 1013
FARM_TERMS: Final = 1014
FARM_USAGE: Final = 1015

CLIENT, WORKER, ANY, SERVER = "client", "worker", "any", "server"


class Kind:
    """One row of the table. `args` are names, for documents and errors; only their count matters on the wire.
    parts: how many a body has, the data included."""

    __slots__ = ("args", "data", "name", "number", "parts", "sender")

    def __init__(self, number: int, name: str, sender: str, args: str = "", data: bool = False) -> None:
        self.number = number
        self.name = name
        self.sender = sender
        self.args = tuple(args.split())
        self.data = data
        self.parts = len(self.args) + data


_TABLE = (
    Kind(CAN_DO, "CAN_DO", WORKER, "function"),
    Kind(CANT_DO, "CANT_DO", WORKER, "function"),
    Kind(RESET_ABILITIES, "RESET_ABILITIES", WORKER),
    Kind(PRE_SLEEP, "PRE_SLEEP", WORKER),
    Kind(5, "UNUSED", SERVER),
    Kind(NOOP, "NOOP", SERVER),
    Kind(SUBMIT_JOB, "SUBMIT_JOB", CLIENT, "function unique", data=True),
    Kind(JOB_CREATED, "JOB_CREATED", SERVER, "handle"),
    Kind(GRAB_JOB, "GRAB_JOB", WORKER),
    Kind(NO_JOB, "NO_JOB", SERVER),
    Kind(JOB_ASSIGN, "JOB_ASSIGN", SERVER, "handle function", data=True),
    Kind(WORK_STATUS, "WORK_STATUS", WORKER, "handle numerator denominator"),
    Kind(WORK_COMPLETE, "WORK_COMPLETE", WORKER, "handle", data=True),
    Kind(WORK_FAIL, "WORK_FAIL", WORKER, "handle"),
    Kind(GET_STATUS, "GET_STATUS", CLIENT, "handle"),
    Kind(ECHO_REQ, "ECHO_REQ", ANY, data=True),
    Kind(ECHO_RES, "ECHO_RES", SERVER, data=True),
    Kind(SUBMIT_JOB_BG, "SUBMIT_JOB_BG", CLIENT, "function unique", data=True),
    Kind(ERROR, "ERROR", SERVER, "code text"),
    Kind(STATUS_RES, "STATUS_RES", SERVER, "handle known running numerator denominator"),
    Kind(SUBMIT_JOB_HIGH, "SUBMIT_JOB_HIGH", CLIENT, "function unique", data=True),
    Kind(SET_CLIENT_ID, "SET_CLIENT_ID", ANY, "id"),
    Kind(CAN_DO_TIMEOUT, "CAN_DO_TIMEOUT", WORKER, "function timeout"),
    Kind(ALL_YOURS, "ALL_YOURS", WORKER),
    Kind(WORK_EXCEPTION, "WORK_EXCEPTION", WORKER, "handle", data=True),
    Kind(OPTION_REQ, "OPTION_REQ", ANY, "option"),
    Kind(OPTION_RES, "OPTION_RES", SERVER, "option"),
    Kind(WORK_DATA, "WORK_DATA", WORKER, "handle", data=True),
    Kind(WORK_WARNING, "WORK_WARNING", WORKER, "handle", data=True),
    Kind(GRAB_JOB_UNIQ, "GRAB_JOB_UNIQ", WORKER),
    Kind(JOB_ASSIGN_UNIQ, "JOB_ASSIGN_UNIQ", SERVER, "handle function unique", data=True),
    Kind(SUBMIT_JOB_HIGH_BG, "SUBMIT_JOB_HIGH_BG", CLIENT, "function unique", data=True),
    Kind(SUBMIT_JOB_LOW, "SUBMIT_JOB_LOW", CLIENT, "function unique", data=True),
    Kind(SUBMIT_JOB_LOW_BG, "SUBMIT_JOB_LOW_BG", CLIENT, "function unique", data=True),
    Kind(SUBMIT_JOB_SCHED, "SUBMIT_JOB_SCHED", CLIENT, "function unique minute hour day month weekday", data=True),
    Kind(SUBMIT_JOB_EPOCH, "SUBMIT_JOB_EPOCH", CLIENT, "function unique epoch", data=True),
    # The PROTOCOL document shows three arguments; libgearman sends, and gearmand needs, an empty fourth.
    Kind(SUBMIT_REDUCE_JOB, "SUBMIT_REDUCE_JOB", CLIENT, "function unique reducer empty", data=True),
    Kind(
        SUBMIT_REDUCE_JOB_BACKGROUND, "SUBMIT_REDUCE_JOB_BACKGROUND", CLIENT, "function unique reducer empty", data=True
    ),
    Kind(GRAB_JOB_ALL, "GRAB_JOB_ALL", WORKER),
    Kind(JOB_ASSIGN_ALL, "JOB_ASSIGN_ALL", SERVER, "handle function unique reducer", data=True),
    Kind(GET_STATUS_UNIQUE, "GET_STATUS_UNIQUE", CLIENT, "unique"),
    Kind(STATUS_RES_UNIQUE, "STATUS_RES_UNIQUE", SERVER, "unique known running numerator denominator watchers"),
    Kind(FARM_CANCEL, "FARM_CANCEL", CLIENT, "handle"),
    Kind(FARM_CANCEL_RES, "FARM_CANCEL_RES", SERVER, "handle outcome"),
    Kind(FARM_JOB_CANCEL, "FARM_JOB_CANCEL", SERVER, "handle"),
    Kind(FARM_JOB_JOINED, "FARM_JOB_JOINED", SERVER, "handle"),
    Kind(FARM_JOB_RESTARTED, "FARM_JOB_RESTARTED", SERVER, "handle why"),
    Kind(FARM_HEARTBEAT, "FARM_HEARTBEAT", SERVER, "milliseconds"),
    Kind(FARM_ALIVE, "FARM_ALIVE", WORKER),
    Kind(FARM_SUBMIT, "FARM_SUBMIT", CLIENT, "function unique terms", data=True),
    Kind(FARM_EXISTS, "FARM_EXISTS", SERVER, "handle state"),
    Kind(FARM_ASK, "FARM_ASK", CLIENT, "verb request", data=True),
    Kind(FARM_ANSWER, "FARM_ANSWER", SERVER, "verb", data=True),
    Kind(FARM_OUTPUT, "FARM_OUTPUT", SERVER, "handle stream", data=True),
    Kind(FARM_ENDED, "FARM_ENDED", SERVER, "handle", data=True),
    Kind(FARM_TERMS, "FARM_TERMS", WORKER, "function terms"),
    Kind(FARM_USAGE, "FARM_USAGE", WORKER, "handle cpu peak"),
)
KINDS: Final[dict[int, Kind]] = {kind.number: kind for kind in _TABLE}

# The only packets that may be large: those that carry a job's payload, its output or its result.
BULKY = frozenset(kind.number for kind in _TABLE if kind.data) - {ECHO_REQ, ECHO_RES}

_pack_header: Final = struct.Struct(">4sII").pack


def header(magic: bytes, number: int, length: int) -> bytes:
    """The 12 bytes in front of a body of `length` bytes."""
    return _pack_header(magic, number, length)


def request(number: int, *parts: bytes) -> bytes:
    """A whole packet to a server; the last part is the data where the packet's kind has data."""
    body = b"\0".join(parts)
    return _pack_header(REQUEST, number, len(body)) + body


def response(number: int, *parts: bytes) -> bytes:
    """A whole packet from a server; the last part is the data where the packet's kind has data."""
    body = b"\0".join(parts)
    return _pack_header(RESPONSE, number, len(body)) + body


def with_data(magic: bytes, number: int, args: tuple[bytes, ...], data: bytes) -> tuple[bytes, ...]:
    """A packet that ends in data, as one piece, or as two when the data is too large to be worth a copy."""
    head = b"\0".join(args) + b"\0" if args else b""
    head = _pack_header(magic, number, len(head) + len(data)) + head
    return (head + data,) if len(data) <= JOIN_MAX else (head, data)


def split(kind: Kind, body: bytes) -> list[bytes]:
    """A body's arguments, then its data where the kind has data. Raises PacketRefused when an argument is missing."""
    wanted = kind.parts
    if not wanted:
        return []  # gearmand ignores a body that should not be there, so clients may send one
    parts = body.split(b"\0", wanted - 1)
    if len(parts) != wanted:
        missing = ", ".join(kind.args[len(parts) - kind.data :])
        raise PacketRefused(b"INVALID_PACKET", f"{kind.name} lacks arguments: {missing}".encode())
    return parts
