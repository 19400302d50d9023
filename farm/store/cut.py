"""Whether a write-ahead log that nobody uses lacks what was in it: it was cut off, is damaged at its end, or is gone.

SQLite takes such a log as far as it is sound, and nothing in the log itself says how long it was: a log without its
last transactions is one in which they were not committed yet. But its index (`jobs.db-shm`), which a kill leaves
behind, does: it counts a frame only once that was synced. Where the index is gone, or of another use of the log, nobody
can tell.
"""

from __future__ import annotations

import contextlib
import os
import struct
from itertools import takewhile

from farm.store.wal import FRAME_HEADER, HEADER, PAGE_SIZES, frames_of, header_of

UNFINISHED = (
    "the write-ahead log ends in the middle of a transaction: where a kill or a power cut left it so, nothing of it "
    "was acknowledged; where it was cut off or damaged otherwise, what came after is gone"
)
_INDEX = 48  # bytes of its header, which is there twice
_header = struct.Struct("=14xHI12x8s")  # page size, frames, the salts as they are in the log
_copied = struct.Struct("=I")  # frames that are in the database's file already
_SALTS = slice(16, 24)  # in the log's header
_LAST = "when it was last written; jobs that were acknowledged may be missing or be as they were before"


def missing_of_log(path: str) -> str:
    """Which frames of a database's log its index knows of that are not there as they were written, in words; empty:
    none, or nobody can tell. To be asked before SQLite opens it, which makes the index anew. Raises OSError."""
    words = _missing(path)
    # A server that ends removes both, the index first: then one has, while this was read.
    return words if words and os.path.exists(f"{path}-shm") else ""


def _missing(path: str) -> str:
    with contextlib.ExitStack() as files:
        try:
            index = files.enter_context(open(f"{path}-shm", "rb")).read(2 * _INDEX + _copied.size)
        except FileNotFoundError:
            return ""
        if len(index) < 2 * _INDEX + _copied.size or index[:_INDEX] != index[_INDEX : 2 * _INDEX]:
            return ""
        page_size, known, salts = _header.unpack_from(index)
        (copied,) = _copied.unpack_from(index, 2 * _INDEX)
        if known <= copied or page_size not in PAGE_SIZES:
            return ""
        try:
            log = files.enter_context(open(f"{path}-wal", "rb"))
        except FileNotFoundError:
            return f"the write-ahead log is missing: it had {known} frames {_LAST}"
        whole = HEADER + known * (FRAME_HEADER + page_size)
        size, head = os.fstat(log.fileno()).st_size, log.read(HEADER)
        there = 0
        if len(head) == HEADER and any(head):
            header = header_of(head)
            if header is None or head[_SALTS] != salts or header.page_size != page_size:
                return ""  # of another use, or what is wrong is said as damage
            frames = frames_of(log, min(size, whole), page_size, header.sums, header.big, header.salts)
            there = sum(1 for _ in takewhile(lambda frame: frame.sound and frame.salts == header.salts, frames))
        if there == known:
            return ""
        what = "is cut off: it has" if size < whole else "is damaged: it has the first"
        return f"the write-ahead log {what} {there} frames, and had {known} {_LAST}"
