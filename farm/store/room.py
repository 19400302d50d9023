"""Room on the disk of a store: how much must stay free, and the ballast, which is put by for when there is none."""

from __future__ import annotations

import contextlib
import logging
import os

from farm.broker.broker import WRITTEN_TIMES
from farm.store.place import BALLAST, FILE

log = logging.getLogger("farm.store")

LOG_SIZE_MAX = 4 * 1024 * 1024  # then the log is copied into the file; a longer one would need more room on a full disk
# The ballast is given up when the disk is full, so that jobs can still end: twice the log, which may then have to grow
# from nothing.
BALLAST_TO_LOG = 2
DISK_RESERVE = 64 * 1024 * 1024  # unless somebody says
# On a small disk neither the ballast nor the reserve is more than this part of it: so three quarters are for jobs.
SMALL_SHARE = 8
ENDED_SHARES = 2  # of those parts may be for what is kept of ended jobs, or soon there would be no room for others
END_SIZE = 1024  # of the row of an ended job without what it wrote, with its indexes, and of the pages that it changes
# Eighths of the ballast's size that only the log may take, for a transaction makes it longer than it should be: while
# the ballast is given up; and while jobs are taken though the disk is nearly full, for there is room in the file. The
# first is more, so that the ballast can be put by again when all jobs have ended and nobody else has taken the room.
LOG_EIGHTHS_TO_END, LOG_EIGHTHS_TO_TAKE = 3, 1
RECOVERY_MARGIN = 8 * 1024 * 1024  # above the reserve before it is said to be there again, or it would come and go


class Room:
    """Of a directory's disk, once that is there. reserve: bytes that must be free on it, or no new job is taken; None:
    nobody has said, and it is as large as the disk allows. log_size: bytes of the log at which it is copied. left: of
    new payloads, each of them written twice, that there is room for. ended_max: of what is kept of ended jobs."""

    def __init__(self, directory: str, reserve: int | None) -> None:
        self.reserve = DISK_RESERVE if reserve is None else reserve
        self.log_size = LOG_SIZE_MAX
        self.ballast_size = BALLAST_TO_LOG * LOG_SIZE_MAX
        self.ended_max = 1 << 62
        self.has_ballast = False
        self.left = 0  # at the last look
        self._directory = directory
        self._ballast = os.path.join(directory, BALLAST)
        self._file = os.path.join(directory, FILE)
        self._is_low = False
        self._is_said = reserve is not None

    def measure(self) -> None:
        """Look how large the disk is. Raises OSError."""
        disk = os.statvfs(self._directory)
        share = disk.f_blocks * disk.f_frsize // SMALL_SHARE
        if share:  # else nobody knows
            self.ballast_size = min(self.ballast_size, share)
            self.log_size = self.ballast_size // BALLAST_TO_LOG
            self.reserve = self.reserve if self._is_said else min(self.reserve, share)
            self.ended_max = ENDED_SHARES * share

    def low(self, inside: int = 0) -> str:
        """Why no new job should be taken; empty: there is room. inside: bytes in the database's file that are free: it
        never becomes smaller, so where it has filled the disk itself there is room in nothing else.

        After there was none, RECOVERY_MARGIN more must be free than the reserve, or half the reserve more where that is
        less; and there must be room for the ballast."""
        try:
            free = self._free()
            if not self.has_ballast and free + inside > self.reserve + self.ballast_size:
                self.fill_ballast()
                free = self._free()
            spare = free - self._log_to_come()
        except OSError as error:
            return f"cannot look at the disk: {error.strerror}"
        # What is written goes into the log first, and of that nothing is inside.
        self.left = max(0, min(free + inside - self.reserve, WRITTEN_TIMES * spare))
        wanted = self.reserve + (min(RECOVERY_MARGIN, self.reserve // 2) if self._is_low else 0)
        for_log = self._eighths(LOG_EIGHTHS_TO_TAKE)
        is_tight = free < wanted and spare < for_log
        self._is_low = free + inside < wanted or is_tight or not self.has_ballast
        if not self._is_low:
            return ""
        if is_tight and free + inside >= wanted:
            free, inside, wanted = spare, 0, for_log
        wanted += 0 if self.has_ballast else self.ballast_size
        return f"{_size(max(0, free + inside))} free where jobs are kept, {_size(wanted, up=True)} wanted"

    def holds_ends(self, count: int, file_size: int) -> bool:
        """Whether so many ends of jobs may still be kept. While the ballast is given up, the log must be able to grow
        to its size all the same, and then to be copied; or it could never begin anew, and soon no job could end at all.
        file_size: of the database's file once the log is copied. Raises OSError."""
        if self.has_ballast:
            return True
        to_come = self._log_to_come() + max(0, file_size - os.stat(self._file).st_size)
        return self._free() >= to_come + count * END_SIZE + self._eighths(LOG_EIGHTHS_TO_END)

    def _free(self) -> int:
        disk = os.statvfs(self._directory)
        return disk.f_bavail * disk.f_frsize

    def _log_to_come(self) -> int:
        """Bytes by which the log still grows before it is copied."""
        try:
            return max(0, self.log_size - os.stat(f"{self._file}-wal").st_size)
        except FileNotFoundError:
            return self.log_size

    def _eighths(self, count: int) -> int:
        """Bytes."""
        return count * self.ballast_size // 8

    def fill_ballast(self) -> None:
        """Put it by, where there is room for it."""
        try:
            fd = os.open(self._ballast, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.ftruncate(fd, min(self.ballast_size, os.fstat(fd).st_size))  # the disk may have become smaller
                os.posix_fallocate(fd, 0, self.ballast_size)
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


def _size(size: int, *, up: bool = False) -> str:
    """In words. up: rather more than it is than less."""
    bits, unit = (20, "MiB") if size >= 1 << 20 else (10, "KiB")
    return f"{-(-size >> bits) if up else size >> bits} {unit}"
