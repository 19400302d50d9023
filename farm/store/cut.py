"""Whether a write-ahead log that nobody uses has been cut off.

SQLite takes such a log as far as it goes, and nothing in the log itself says how long it was: a log without its last
transactions is one in which they were not committed yet. But its index (`jobs.db-shm`), which a kill leaves behind,
does: it counts a frame only once that was synced. Where the index is gone, or of another use of the log, nobody can
tell.
"""

from __future__ import annotations

import contextlib
import os
import struct

from farm.store.wal import FRAME_HEADER, HEADER, PAGE_SIZES, frames_of, header_of

UNFINISHED = (
    "the write-ahead log ends in the middle of a transaction, as a kill or a power cut leaves it: nothing of it was "
    "acknowledged; but if the log was cut off otherwise, what came after is gone"
)
_INDEX = 48  # bytes of its header, which is there twice
_header = struct.Struct("=14xHI12x8s")  # page size, frames, the salts as they are in the log
_copied = struct.Struct("=I")  # frames that are in the database's file already
_SALTS = slice(16, 24)  # in the log's header


def missing_of_log(path: str) -> str:
    """Which frames of a database's log its index knows of that are not there, in words; empty: none, or nobody can
    tell. To be asked before SQLite opens it, which makes the index anew. Raises OSError."""
    with contextlib.ExitStack() as files:
        try:
            index = files.enter_context(open(f"{path}-shm", "rb")).read(2 * _INDEX + _copied.size)
            log = files.enter_context(open(f"{path}-wal", "rb"))
        except FileNotFoundError:
            return ""
        if len(index) < 2 * _INDEX + _copied.size or index[:_INDEX] != index[_INDEX : 2 * _INDEX]:
            return ""
        page_size, known, salts = _header.unpack_from(index)
        (copied,) = _copied.unpack_from(index, 2 * _INDEX)
        if known <= copied or page_size not in PAGE_SIZES:
            return ""
        size, head = os.fstat(log.fileno()).st_size, log.read(HEADER)
        there = 0
        if len(head) == HEADER:
            header = header_of(head)
            if header is None or head[_SALTS] != salts or header.page_size != page_size:
                return ""
            if size >= HEADER + known * (FRAME_HEADER + page_size):
                return ""  # what of these is bad the log says itself
            for frame in frames_of(log, size, page_size, header.sums, header.big, header.salts):
                if not frame.sound or frame.salts != header.salts:
                    break
                there += 1
    return (
        f"the write-ahead log is cut off: it has {there} frames, and had {known} when it was last written; jobs that "
        "were acknowledged may be missing or be as they were before"
    )
