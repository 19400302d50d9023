"""Where a job's output goes: descriptors written to byte for byte, and taken back if the job has to start again."""

from __future__ import annotations

import os
import select
import stat

from farm.errors import EXIT_CANNOT_CREATE, FarmError, TryAgain

STDOUT = 1
STDERR = 2


class Output:
    """The standard output of one attempt of a job. `written` counts its bytes."""

    def __init__(self, fd: int = STDOUT) -> None:
        self.fd = fd
        self.written = 0
        self._start = -1  # where in a file it began
        self.to_pipe = _is_pipe(fd)

    def write(self, data: bytes) -> None:
        """All of it, however slowly it is taken. Raises BrokenPipeError when its reader has left, FarmError when it
        cannot be written."""
        if not self.written:
            self._start = _position(self.fd)
        try:
            write_all(self.fd, data)
        except BrokenPipeError:
            raise
        except OSError as error:
            words = (error.strerror or str(error)).lower()
            raise FarmError(f"cannot write the job's output: {words}", status=EXIT_CANNOT_CREATE) from error
        self.written += len(data)

    def restart(self, why: str) -> None:
        """The job runs again: take back what the attempt before has written, which only a file allows. why: in words.
        Raises TryAgain when it cannot be taken back."""
        if not self.written:
            return
        if _is_null(self.fd):
            self.written = 0
            return
        if self._start < 0 or not _is_rewindable(self.fd):
            raise TryAgain(
                f"the job runs again after {self.written} bytes of output, which it would repeat: {why}",
                "submit it again; with the output in a file, farm starts the file again by itself",
            )
        os.ftruncate(self.fd, self._start)
        os.lseek(self.fd, self._start, os.SEEK_SET)
        self.written = 0


def write_all(fd: int, data: bytes) -> None:
    """Write to a descriptor that may be in non-blocking mode (a terminal shared with another program)."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(fd, rest) :]
        except BlockingIOError:
            select.select([], [fd], [])


def _position(fd: int) -> int:
    try:
        return os.lseek(fd, 0, os.SEEK_CUR)
    except OSError:
        return -1  # no file


def _is_pipe(fd: int) -> bool:
    try:
        mode = os.fstat(fd).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def _is_null(fd: int) -> bool:
    return os.fstat(fd).st_rdev == os.stat(os.devnull).st_rdev


def _is_rewindable(fd: int) -> bool:
    import fcntl

    return stat.S_ISREG(os.fstat(fd).st_mode) and not fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_APPEND
