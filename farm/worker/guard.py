"""What happens to the commands of a worker that is killed: a small process beside it kills their process groups.

The system can be asked to kill a child with its parent, but not what that child has started; and a process that is
killed can do nothing itself. So the guard waits at the end of a pipe that only the worker holds. When the worker is
gone, for whatever reason, the pipe ends. (`child.py` asks the system as well: nothing can come before that.)
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys

READ_SIZE = 4096
OPEN_MAX = 4096  # descriptors that a worker can have so early; its limit may be a thousand million


class Guard:
    """Started once, while this process has no threads. `began` and `ended` tell it of process groups."""

    def __init__(self) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        read, self._write = os.pipe()  # not inherited by a command
        if os.fork() == 0:
            try:
                _guard(read)
            finally:
                os._exit(0)
        os.close(read)

    def began(self, group: int) -> None:
        """A command runs, in a process group of its own."""
        self._tell(b"+%d\n" % group)

    def ended(self, group: int) -> None:
        """Said before the command is reaped, so that the number cannot be somebody else's yet."""
        self._tell(b"-%d\n" % group)

    def _tell(self, line: bytes) -> None:
        with contextlib.suppress(OSError):  # somebody has killed the guard: the work goes on
            os.write(self._write, line)


def _guard(read: int) -> None:
    os.setsid()  # Ctrl-C is for the worker
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.dup2(read, 0)
    os.closerange(1, OPEN_MAX)  # whoever reads the worker's output must see its end
    groups: set[int] = set()
    rest = b""
    while chunk := os.read(0, READ_SIZE):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            (groups.add if line[:1] == b"+" else groups.discard)(int(line[1:]))
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
