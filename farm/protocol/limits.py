"""Limits of the wire, each with its reason. The server's configuration may lower or raise those it names."""

from __future__ import annotations

TYPE_CHECKING = False  # typing is not on the start-up path of `farm submit`
if TYPE_CHECKING:
    from typing import Final  # what is final costs the compiled server no look-up

HEADER_SIZE: Final = 12  # magic, type and length: four bytes each

FUNCTION_NAME_MAX = 512  # libgearman's GEARMAN_FUNCTION_MAX_SIZE: a longer name could not be served by its workers
UNIQUE_MAX = 64  # gearmand refuses more
HANDLE_MAX = 64  # farm's own have 25 bytes at most
CLIENT_ID_MAX = 127  # gearmand keeps that much; it is only shown
NUMBER_MAX = 20  # digits of a progress number, enough for 64 bits

SMALL_PACKET_MAX = 64 * 1024  # packets that carry no payload: names and numbers, so more is a mistake or an attack
PAYLOAD_PACKET_MAX = 1024 * 1024 * 1024  # a packet is whole in memory while it is taken in; `--max-job-size` changes it
STORED_PAYLOAD_MAX = 1_000_000_000 - 64 * 1024  # of a background job: SQLite's rows have at most a billion bytes
PAYLOAD_HEADER_MAX = 2**32 - 1  # what a header can say; the bound at ends that asked for what they receive
TEXT_LINE_MAX = 4096  # an admin command is a few words

ARGUMENTS_MAX = 1024  # names and keys in front of a payload, so that a payload may be as long as was allowed

JOIN_MAX: Final = 16 * 1024  # payloads up to this are copied behind their header: one small copy beats a second send
