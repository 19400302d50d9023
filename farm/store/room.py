"""Room on the disk of a store: how much must stay free, and the ballast, which is put by for when there is none."""

from __future__ import annotations

import contextlib
import logging
import os

from farm.store.place import BALLAST

log = logging.getLogger("farm.store")

# Given up when the disk is full, so that jobs can still end: twice the log, which may then have to grow from nothing.
BALLAST_SIZE = 8 * 1024 * 1024
DISK_RESERVE = 64 * 1024 * 1024


class Room:
    """Of a directory's disk. reserve: bytes that must be free on it, or no new job is taken."""

    def __init__(self, directory: str, reserve: int) -> None:
        self.reserve = reserve
        self.has_ballast = False
        self.left = 0  # bytes above the reserve, at the last look
        self._directory = directory
        self._ballast = os.path.join(directory, BALLAST)
        self._is_low = False

    def low(self) -> str:
        """Why no new job should be taken; empty: there is room. It is taken to be there again when half as much more
        than the reserve is free."""
        try:
            disk = os.statvfs(self._directory)
        except OSError as error:
            return f"cannot look at the disk: {error.strerror}"
        free = disk.f_bavail * disk.f_frsize
        if not self.has_ballast and free > self.reserve + BALLAST_SIZE:
            self.fill_ballast()
        self.left = max(0, free - self.reserve)
        self._is_low = free < (self.reserve * 3 // 2 if self._is_low else self.reserve) or not self.has_ballast
        return f"{free >> 20} MiB free where jobs are kept" if self._is_low else ""

    def fill_ballast(self) -> None:
        """Put it by, where there is room for it."""
        try:
            fd = os.open(self._ballast, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(fd, 0, BALLAST_SIZE)
            finally:
                os.close(fd)
            self.has_ballast = True
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(self._ballast)

    def drop_ballast(self) -> None:
        """Raises OSError."""
        log.error("the disk of %s is full: giving up the ballast; no new background jobs", self._directory)
        self.has_ballast = False
        os.unlink(self._ballast)

    def is_ballast_there(self) -> bool:
        """Whether a server, this one or one before, has put it by."""
        return os.path.exists(self._ballast)
