"""Commands for workers to run, and what they leave behind for a test to look at."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

from tests.interop.ends import is_running
from tests.support import wait_until

# Reads its payload to the end and writes it back. `cat` would do with farm's worker; the stock one writes all of a
# payload before it reads anything, and a megabyte through `cat` hangs there for ever.
ECHO = (sys.executable, "-S", "-c", "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read())")

SHELL = ("sh",)  # runs its payload

# Writes the pieces that its payload lists, each only when the one before has been read: so the reader sees just these
# pieces, without any pause. Then it exits with the code that the payload says.
SAYS = (
    sys.executable,
    "-S",
    "-c",
    """
import fcntl, json, os, sys, termios
pieces, code = json.load(sys.stdin)
for fd, text in pieces:
    os.write(fd, bytes.fromhex(text))
    while any(fcntl.ioctl(fd, termios.FIONREAD, bytes(4))):
        os.sched_yield()
os._exit(code)
""",
)


def saying(pieces: Iterable[tuple[int, bytes]], code: int) -> bytes:
    """A payload for SAYS: descriptors with what is written to each, in this order."""
    return json.dumps([[(fd, text.hex()) for fd, text in pieces], code]).encode()


class Trace:
    """A shell job that notes each of its attempts, and what to put into its script.

    `pids()` are the processes of all attempts, in order of their start; `end` kills those that are left.
    """

    def __init__(self, directory: Path, name: str = "trace") -> None:
        self._file = directory / f"{name}.pids"
        self._file.touch()
        self.note = f"echo $$ >>{self._file}\n"
        self.attempt = f"$(($(wc -l <{self._file})))"  # its number, after `note`

    def hang(self, number: int, before: str = "") -> bytes:
        """A script whose first `number` attempts hang once they have written `before`; the next one ends well. `$n` in
        `before` is the attempt's number."""
        return (
            f'{self.note}n={self.attempt}\nprintf "{before}"\n[ $n -gt {number} ] || exec sleep 600\nprintf end\n'
        ).encode()

    def pids(self) -> list[int]:
        """Of all attempts so far."""
        return [int(line) for line in self._file.read_text().split()]

    def wait_attempts(self, count: int) -> list[int]:
        """Wait until so many have started; returns their processes."""
        wait_until(lambda: len(self.pids()) >= count, what=f"{count} attempts")
        return self.pids()

    def wait_gone(self, timeout_s: float) -> None:
        """Wait until none of them runs any more."""
        wait_until(lambda: not any(map(is_running, self.pids())), timeout_s, "the command has ended")

    def end(self) -> None:
        """Kill what is left, for stock workers do not."""
        for pid in self.pids():
            if is_running(pid):
                os.kill(pid, signal.SIGKILL)
