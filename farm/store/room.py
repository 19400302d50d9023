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
RESULT_TIMES = 3  # as large as it counts is what is kept of a tiny job, with its indexes
ENDED_SHARES = 2  # of those parts may be for what is kept of ended jobs, or soon there would be no room for others
OTHERS_PART = 4  # of that, for jobs that are not done, does not give way to new ones
END_SIZE = 1024  # of the row of an ended job without what it wrote, with its indexes, and of the pages that it changes
# Eighths of the ballast's size that only the log may take, for a transaction makes it longer than it should be: while
# the ballast is given up; and while jobs are taken though the disk is nearly full, for there is room in the file. The
# first is more, so that the ballast can be put by again when all jobs have ended and nobody else has taken the room.
LOG_EIGHTHS_TO_END, LOG_EIGHTHS_TO_TAKE = 3, 1
RECOVERY_MARGIN = 8 * 1024 * 1024  # above the reserve before it is said to be there again, or it would come and go


class Room:
    """Of a directory's disk, once that is there. reserve: bytes that must be free on it, or no new job is taken; None:
    nobody has said, and it is as large as the disk allows. log_size: bytes of the log at which it is copied. left: of
    new payloads, each of them written twice, that there is room for. ended_max: of what is kept of ended jobs.
    shortage: bytes that what is kept of them should give up, for there soon is no room for new jobs, or there is none.
    is_cramped: there is room inside the files, and what needs it (the log, the ballast) can use only the disk's.
    is_watched: there is so little that a transaction must look before what jobs wrote is kept."""

    def __init__(self, directory: str, reserve: int | None) -> None:
        self.reserve = DISK_RESERVE if reserve is None else reserve
        self.log_size = LOG_SIZE_MAX
        self.ballast_size = BALLAST_TO_LOG * LOG_SIZE_MAX
        self.ended_max = 1 << 62
        self.has_ballast = False
        self.left = self.shortage = 0  # at the last look, as the next one
        self.is_cramped = self.is_watched = False
        self._directory = directory
        self._ballast = os.path.join(directory, BALLAST)
        self._file = os.path.join(directory, FILE)
        self._is_low = self._is_small = False
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
        # One transaction may fill it, however much is free.
        self.is_watched = self._is_small = self.ballast_size < BALLAST_TO_LOG * LOG_SIZE_MAX

    def low(self, inside: int = 0, used: int = 0, kept: int = 0, *, gives: bool = False) -> str:
        """Why no new job should be taken; empty: there is room. inside: bytes in the database's file that are free: it
        does not become smaller by itself, so where it has filled the disk there is room in nothing else. used: the
        others. kept: bytes of ended jobs, as they are counted. gives: some of those will be dropped for new ones; while
        they are half the reserve is enough.

        After there was none, RECOVERY_MARGIN more must be free than the reserve, or half the reserve more where that is
        less; and there must be room for the ballast."""
        try:
            if not self.has_ballast and self._free() + inside > self.reserve + self.ballast_size:
                self._fill_ballast_beside_log()
            free, log = self._free(), self._log_on_disk()
        except OSError as error:
            return f"cannot look at the disk: {error.strerror}"
        spare = free - max(0, self.log_size - log)
        # What is written goes into the log first, and of that nothing is inside.
        least = self.reserve // 2 if gives else self.reserve
        self.left = max(0, min(free + inside - least, WRITTEN_TIMES * spare))
        wanted = self.reserve + self._margin if self._is_low else least
        for_log = self._eighths(LOG_EIGHTHS_TO_TAKE)
        is_short, is_tight = free + inside < wanted, free < wanted and spare < for_log
        self._is_low = is_short or is_tight or not self.has_ballast
        for_ballast = 0 if self.has_ballast else self.ballast_size
        self.shortage = max(0, self.reserve + for_ballast + self._margin - free - inside)
        self.is_cramped = self._is_low and (is_tight or not self.has_ballast)
        self.is_watched = self._is_small or self._is_low or free + inside < self.reserve + 2 * self._margin
        if self.is_cramped and not self.holds_copy(used):
            too_much = used - free - log + for_log
            if too_much < RESULT_TIMES * kept:  # else they would go for nothing
                self.shortage = max(self.shortage, too_much)
        if not self._is_low:
            return ""
        where = "where jobs are kept"
        if is_tight and not is_short:
            free, inside, wanted, for_ballast = spare, 0, for_log, 0
            where = "beside what is kept, for the log of what comes"
        elif not is_short and free + inside >= wanted + for_ballast:
            free, inside, wanted = free, 0, for_log + max(0, self.log_size - log)
            where = "outside of the store's file"
        wanted += for_ballast
        return f"{_size(max(0, free + inside))} free {where}, {_size(wanted, up=True)} wanted"

    def is_short(self, inside: int, used: int) -> bool:
        """Whether there soon is no room. used: as in `low`. Raises OSError."""
        if self.lacking(0, inside, used) <= -self._margin:
            return False
        self.is_watched = True
        return True

    def lacking(self, coming: int, inside: int, used: int) -> int:
        """How many bytes of what comes have no room beside the reserve and what tells that there is room again.
        inside, used: as in `low`. Raises OSError."""
        growing = max(0, inside + used - os.stat(self._file).st_size)  # when the log is copied
        return coming + self.reserve + self._margin + growing - inside - self._free()

    @property
    def _margin(self) -> int:
        return min(RECOVERY_MARGIN, self.reserve // 2)

    def gives_back(self, inside: int, used: int) -> bool:
        """Whether writing the database's file anew, without what is free inside it, can be done, and would make room
        for what lacks it. Raises OSError."""
        room = self._free() + self._log_on_disk() + inside - self.log_size
        wanted = (0 if self.has_ballast else self.ballast_size) + self._eighths(LOG_EIGHTHS_TO_TAKE)
        return room >= wanted and self.holds_copy(used)

    def holds_copy(self, used: int) -> bool:
        """Whether so many bytes of the database's file fit into the log, once that has begun anew. Raises OSError."""
        return self._free() + self._log_on_disk() >= used + self._eighths(LOG_EIGHTHS_TO_TAKE)

    def holds_new_log(self) -> bool:
        """Whether ends might be kept, and results dropped, if the log were begun anew and gave its room back: what has
        made it longer than it should be is over. Raises OSError."""
        return self._free() + self._log_on_disk() >= self.log_size + self._eighths(LOG_EIGHTHS_TO_END)

    def holds_output(self, size: int, inside: int, used: int) -> bool:
        """Whether a transaction may keep so many bytes of ends, which go into the log and then into the file, without
        the ballast. inside, used: as in `low`. Raises OSError."""
        file = max(os.stat(self._file).st_size, inside + used)  # once the log is copied
        to_come = max(0, self.log_size - self._log_on_disk()) + file - os.stat(self._file).st_size
        return self._free() >= to_come + size + max(0, size - inside) + self._eighths(LOG_EIGHTHS_TO_TAKE)

    def holds_ends(self, count: int, file_size: int) -> bool:
        """Whether so many ends of jobs may still be kept. While the ballast is given up, the log must be able to grow
        to its size all the same, and then to be copied; or it could never begin anew, and soon no job could end at all.
        file_size: of the database's file once the log is copied. Raises OSError."""
        if self.has_ballast:
            return True
        to_come = max(0, self.log_size - self._log_on_disk()) + max(0, file_size - os.stat(self._file).st_size)
        return self._free() >= to_come + count * END_SIZE + self._eighths(LOG_EIGHTHS_TO_END)

    def _free(self) -> int:
        disk = os.statvfs(self._directory)
        return disk.f_bavail * disk.f_frsize

    def _log_on_disk(self) -> int:
        """Bytes of its file."""
        try:
            return os.stat(f"{self._file}-wal").st_size
        except FileNotFoundError:
            return 0

    def _eighths(self, count: int) -> int:
        """Bytes."""
        return count * self.ballast_size // 8

    def _fill_ballast_beside_log(self) -> None:
        """Only where the log can grow to its size all the same: else the ballast would be given up again for that."""
        to_come = max(0, self.log_size - self._log_on_disk())
        if self._free() >= self.ballast_size + to_come + self._eighths(LOG_EIGHTHS_TO_TAKE):
            self.fill_ballast()

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
    """In words: one decimal where it is a few MiB. up: rather more than it is than less."""
    if size < 1 << 20:
        return f"{-(-size >> 10) if up else size >> 10} KiB"
    tenths = -(-size * 10 >> 20) if up else size * 10 >> 20
    if tenths % 10 == 0 or tenths >= 100:
        return f"{-(-tenths // 10) if up else tenths // 10} MiB"
    return f"{tenths // 10}.{tenths % 10} MiB"
