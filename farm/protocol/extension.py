"""farm's extension of the wire: cancel from server to worker, and exact exit codes through any server.

It is asked for with OPTION_REQ `farm-1`; a stock server answers ERROR UNKNOWN_OPTION, and the classic way is used. The
FARM_ packets (packets.py) go only to a peer that asked. Exit codes need no extension packet: they travel in Gearman's
own WORK_WARNING so that they pass a stock gearmand too. `WIRE.md` beside this file says what travels how.
"""

from __future__ import annotations

OPTION = b"farm-1"
OPTION_HEARTBEAT = b"farm-heartbeat"  # a worker asks for heartbeats, and promises its own, once it has the first option

# How often an end shows that it lives, and after how many of these times without a byte the other one gives it up.
HEARTBEAT_S = 4.0  # a lost worker is noticed within 16 s; a machine that is merely busy is not silent for 12
HEARTBEATS_MISSED = 3

# A connection that asked for this gets the answer to an ECHO_REQ only when everything that it sent before is durable: a
# careful worker so learns that its WORK_COMPLETE will not be forgotten.
SYNC_OPTION = b"farm-sync"

# Outcomes of FARM_CANCEL, the second argument of FARM_CANCEL_RES.
CANCEL_DROPPED = b"dropped"  # it was queued, and is gone
CANCEL_TOLD = b"told"  # it was running, and its worker was told to end it
CANCEL_UNHEARD = b"unheard"  # it is running at a stock worker, which cannot be told; its result is dropped
CANCEL_SHARED = b"shared"  # others wait for it too, or it is a background job: it goes on
CANCEL_UNKNOWN = b"unknown"  # this connection waits for no such job

# An empty WORK_WARNING comes before the first output of every attempt that streams: whoever sees a second one knows
# that what came before belongs to an attempt that was lost. Stock clients print nothing for it.
BEGIN = b""

# The last WORK_WARNING before WORK_FAIL carries the exit code. It is a whole packet of its own that starts with this
# mark, and the worker never sends a piece of the command's stderr that starts with it (see `safe_pieces`), so the
# command cannot forge one. It is readable because stock clients print it on stderr.
EXIT_MARK = b"farm: exit "
ORIGIN_JOB = "job"
ORIGIN_FARM = "farm"


def exit_trailer(code: int, origin: str = ORIGIN_JOB) -> bytes:
    """The payload of the last WORK_WARNING of a failed job. origin: whose code it is, the command's or farm's."""
    return EXIT_MARK + (b"%d\n" % code if origin == ORIGIN_JOB else b"%d %s\n" % (code, origin.encode()))


def parse_exit_trailer(warning: bytes) -> tuple[int, str] | None:
    """(code, origin) when the payload of a WORK_WARNING is an exit trailer, else None."""
    if not (warning.startswith(EXIT_MARK) and warning.endswith(b"\n")):
        return None
    code, _, origin = warning[len(EXIT_MARK) : -1].partition(b" ")
    if not (code.isdigit() and len(code) <= 3 and int(code) <= 255) or origin not in (b"", b"farm"):
        return None
    return int(code), (origin.decode() or ORIGIN_JOB)


def safe_pieces(stderr: bytes) -> tuple[bytes, ...]:
    """The command's stderr as payloads of which none can be taken for an exit trailer or for BEGIN."""
    if stderr.startswith(EXIT_MARK):
        return stderr[:1], stderr[1:]
    return (stderr,) if stderr else ()
