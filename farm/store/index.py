"""The index of SQLite's write-ahead log (`jobs.db-shm`): how much of the log is not in the database's file yet, and
whether all three files are still those that were opened.

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
        found = [(path, os.stat(path)) for path in (database, f"{database}-wal", f"{database}-shm")]
        self._files = [(path, there.st_ino, there.st_dev) for path, there in found]

    def size(self) -> int:
        """How many bytes of pages in the log are still to be copied. Raises OSError."""
        page_size, frames = _header.unpack(os.pread(self._fd, _header.size, _HEADER_AT))
        (copied,) = _count.unpack(os.pread(self._fd, _count.size, _COPIED_AT))
        return int(max(0, frames - copied) * (page_size if page_size != 1 else 1 << 16))

    def gone(self) -> str:
        """Which of the files has lost its name, or given it to another one; empty: none. Nobody will find what is
        written to such a file: SQLite goes on with its descriptors, and says nothing. Raises OSError."""
        for path, inode, device in self._files:
            try:
                there = os.stat(path)
            except FileNotFoundError:
                return path
            if there.st_ino != inode or there.st_dev != device:
                return path
        return ""

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._fd)
