"""The index of SQLite's write-ahead log (`jobs.db-shm`): how much of the log is not in the database's file yet.

Only two numbers of it are read, whose place the file format fixes. SQLite says how large its log is only to C programs,
and copies it by itself only in a way that says nothing of errors.
"""

from __future__ import annotations

import os
import struct

_header = struct.Struct("=14xHI")  # the size of a page; how many frames the log has
_HEADER_AT, _COPIED_AT = 0, 96
_count = struct.Struct("=I")


class LogIndex:
    """Of one open database. To be closed after it: POSIX takes a process's locks on a file when it closes the file."""

    def __init__(self, database: str) -> None:
        """Raises OSError."""
        self._fd = os.open(database + "-shm", os.O_RDONLY | os.O_CLOEXEC)

    def pages(self) -> int:
        """How many pages of the log are still to be copied. Raises OSError."""
        return self._look()[0]

    def size(self) -> int:
        """How many bytes that are. Raises OSError."""
        pages, page_size = self._look()
        return pages * (page_size if page_size != 1 else 1 << 16)

    def is_there(self) -> bool:
        """Whether it still has a name. Without one nobody will find what is in the log. Raises OSError."""
        return os.fstat(self._fd).st_nlink > 0

    def _look(self) -> tuple[int, int]:
        page_size, frames = _header.unpack(os.pread(self._fd, _header.size, _HEADER_AT))
        (copied,) = _count.unpack(os.pread(self._fd, _count.size, _COPIED_AT))
        return max(0, frames - copied), page_size

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._fd)
