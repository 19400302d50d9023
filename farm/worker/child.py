"""One run of the command: its own session, stdin fed and stdout and stderr read at the same time, always reaped.

The run has ended when the command has exited and both its outputs are at their end. A process that the command left
behind may keep them open: it is listened to for as long as it writes, and for `--linger` of silence, then what is left
of the process group is killed, and the job's stderr says so (decision 10). The group is killed before the command is
reaped, so its id cannot have gone to somebody else. A group that was told to end has its whole grace, also when its
first process is gone: the shell of `a && b` ends at once, and what it runs may have something to clean up.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from typing import NamedTuple

from farm.errors import EXIT_SIGNAL_BASE
from farm.loop import READ, WRITE, Loop, Timer
from farm.worker.guard import Guard

READ_SIZE = 64 * 1024  # a pipe's capacity on Linux
LINGER_S = 10.0  # of silence from what the command left behind, after it has exited itself
LINGER_TERMINATED_S = 1.0  # from what was told to end, for nobody may be kept waiting by who does not hear it
KILL_GRACE_S = 5.0  # between SIGTERM and SIGKILL
GONE_CHECK_S = 0.1  # how often it is looked whether a group that was told to end has; the system does not tell

_PR_SET_PDEATHSIG = 1

OnOutput = Callable[[bool, bytes], None]  # (whether it is stderr, bytes)


class Usage(NamedTuple):
    """What a command and the processes that it waited for used. cpu_s: user and system seconds. peak_bytes: the most
    resident memory that any one of them had; the system counts the worker's own copy before it became the command too,
    so it is never less than a Python's 11 MiB or so. Both -1: not known, for the command ended by a signal beside
    others of its group, which nobody waited for."""

    cpu_s: float
    peak_bytes: int


OnEnd = Callable[[int, Usage], None]  # exit code, 128 + N for signal N

_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024  # getrusage(2): bytes there, KiB on Linux and the BSDs


def _die_with_worker() -> Callable[[], None] | None:
    """What a child does before it becomes the command: ask to be killed when the worker is. Without it the command of a
    worker that was killed runs on, its stdin cut short, while the job is given to another worker."""
    try:
        prctl = ctypes.CDLL(None).prctl
    except (OSError, AttributeError):  # not Linux
        return None
    worker = os.getpid()

    def ask() -> None:
        signal.signal(signal.SIGQUIT, signal.SIG_DFL)  # ignored in the background of a script
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != worker:  # it was killed just before
            os._exit(EXIT_SIGNAL_BASE + signal.SIGKILL)

    return ask


def _bytes_in(pipe: int) -> int:
    """How much waits to be read."""
    size = bytearray(4)
    with contextlib.suppress(OSError):
        fcntl.ioctl(pipe, termios.FIONREAD, size)
    return int.from_bytes(size, sys.byteorder)


def _session_lives(session: int) -> bool:
    """Whether a process of this session runs. Where the system does not say (it is not Linux), one may."""
    return _runs(lambda pid, group, its_session: its_session == session)


def _group_lives(group: int, besides: int = 0) -> bool:
    """The same of a process group, not counting this one process."""
    return _runs(lambda pid, its_group, session: its_group == group and pid != besides)


def _runs(wanted: Callable[[int, int, int], bool]) -> bool:
    """wanted: of a process, its group and its session."""
    try:
        pids = [name for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return True
    for pid in pids:
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                state, _, group, session = file.read().rpartition(b")")[2].split()[:4]
        except (OSError, ValueError):  # it has ended meanwhile, or this is another system's /proc
            continue
        if wanted(int(pid), int(group), int(session)) and state not in (b"Z", b"X"):
            return True
    return not pids


class Child:
    """A running command. `on_output` is called with what it writes, `on_end` once, at the very end."""

    def __init__(
        self,
        argv: list[str],
        env: dict[str, str],
        payload: bytes,
        loop: Loop,
        on_output: OnOutput,
        on_end: OnEnd,
        guard: Guard | None = None,
        linger_s: float = LINGER_S,
    ) -> None:
        """Start it. Raises OSError when the command cannot be run."""
        self.torn = False  # what was still writing was cut off: the output may lack its end
        self._loop = loop
        self._guard = guard
        self._on_output = on_output
        self._on_end = on_end
        self._exited = False
        self._ended = False
        self._paused = False
        self._linger: Timer | None = None
        self._linger_s = linger_s
        self._linger_until = 0.0  # at the latest, unless something of the command's own session lives then
        self._heard_at = 0.0  # when what is left behind wrote something, or might have begun to
        self._unread: dict[int, int] = {}  # bytes that lay in each pipe when the command exited: its own words
        self._left_wrote = False  # what is left behind has written something
        self._kill: Timer | None = None
        self._killed = False
        self._gone: Timer | None = None  # looks whether all of its group are
        self._company = False  # others of its group ran when it was told to end
        self._process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
            env=env,
            preexec_fn=_die_with_worker(),
        )
        process = self._process
        assert process.stdin and process.stdout and process.stderr
        self.pid = process.pid
        if guard:
            guard.began(self.pid)
        self._stdin: int = process.stdin.fileno()
        self._outputs = {process.stdout.fileno(): False, process.stderr.fileno(): True}
        for fd in (self._stdin, *self._outputs):
            os.set_blocking(fd, False)
        self._rest = memoryview(payload)
        for fd in self._outputs:
            loop.watch(fd, READ, lambda events, fd=fd: self._read(fd))  # type: ignore[misc]
        self._feed(0)

    # -- what the pipes do

    def _feed(self, events: int) -> None:
        """Give it as much of the payload as it takes. A command may close its stdin early: the rest is not wanted."""
        try:
            while self._rest:
                self._rest = self._rest[os.write(self._stdin, self._rest[: READ_SIZE * 16]) :]
        except BlockingIOError:
            self._loop.watch(self._stdin, WRITE, self._feed)
            return
        except OSError:
            pass
        self._close_stdin()

    def _close_stdin(self) -> None:
        if self._stdin >= 0:
            self._loop.watch(self._stdin, 0, self._feed)
            self._stdin = -1
            self._rest = memoryview(b"")
            assert self._process.stdin
            self._process.stdin.close()

    def _read(self, fd: int) -> None:
        try:
            chunk = os.read(fd, READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        if chunk:
            if self._exited:
                self._heard(fd, len(chunk))
            self._on_output(self._outputs[fd], chunk)
            return
        self._loop.watch(fd, 0, lambda events: None)
        del self._outputs[fd]
        self._end_if_over()

    def pause(self, paused: bool) -> None:
        """Stop reading what it writes while it cannot be passed on; the command then waits, as in any pipe."""
        if paused != self._paused and not (paused and self._kill):
            self._paused = paused
            for fd in self._outputs:
                self._loop.watch(fd, 0 if paused else READ, lambda events, fd=fd: self._read(fd))  # type: ignore[misc]
            if self._exited and not paused:
                self._start_linger()  # it could not be read meanwhile

    # -- the end

    def check_exit(self) -> None:
        """A child of this process has exited (SIGCHLD): was it this one?"""
        if not self._exited and os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            self._exited = True
            self._unread = {fd: _bytes_in(fd) for fd in self._outputs}
            self._close_stdin()
            self._start_linger()
            self._end_if_over()

    def _heard(self, fd: int, size: int) -> None:
        self._heard_at = time.monotonic()
        self._unread[fd] -= size
        self._left_wrote = self._left_wrote or self._unread[fd] < 0

    def _start_linger(self) -> None:
        """Wait from now on."""
        self._heard_at = time.monotonic()
        self._linger_until = self._heard_at + (LINGER_TERMINATED_S if self._kill else self._linger_s)
        self._set_linger()

    def _set_linger(self) -> None:
        """One timer, not one for each piece that is written: those would fill the loop's heap."""
        if self._linger:
            self._linger.cancel()
        self._linger = self._loop.call_at(min(self._heard_at + self._linger_s, self._linger_until), self._lingered)

    def _lingered(self) -> None:
        if self._paused or self._ended:
            return
        now = time.monotonic()
        if self._kill:
            self._end_when_gone()
        elif now >= self._heard_at + self._linger_s:
            self._cut_off("ended what the command left running: it has been silent")
        elif now >= self._linger_until and not _session_lives(self.pid):
            self._cut_off("left what the command started in a session of its own: it has gone on writing")
        else:
            if now >= self._linger_until:
                self._linger_until = now + self._linger_s
            self._set_linger()

    def _cut_off(self, words: str) -> None:
        """Something keeps the outputs open, and is waited for no longer. Never without a word."""
        self.torn = self._left_wrote
        lacks = "; the output may lack its end" if self.torn else ""
        words = f"farm: {words} for {self._linger_s:.15g}s, the output still open (--linger){lacks}\n"
        self._on_output(True, words.encode())
        self._end()

    def _end_if_over(self) -> None:
        if self._exited and not self._outputs:
            self._end_when_gone()

    def _end_when_gone(self) -> None:
        """Where it was told to end, the others of its group have the same time for it."""
        if self._gone:
            self._gone.cancel()
        if self._kill and not self._killed and not self._ended and _group_lives(self.pid):
            self._gone = self._loop.call_in(GONE_CHECK_S, self._end_when_gone)
        else:
            self._end()

    def terminate(self) -> None:
        """SIGTERM to the whole group, SIGKILL after a while. The end is reported as always."""
        if self._kill or self._ended:
            return
        self.pause(False)  # what it still writes must not keep it from ending
        self._company = _group_lives(self.pid, besides=self.pid)
        self._signal(signal.SIGTERM)
        self._kill = self._loop.call_in(KILL_GRACE_S, self._kill_group)
        if self._exited:  # what it left behind may have left its group too, and be beyond any signal
            self._start_linger()

    def _kill_group(self) -> None:
        self._killed = True
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if not self._ended:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    def _end(self) -> None:
        """The command has exited: close everything, kill what it left behind, reap it, report."""
        if self._ended:
            return
        self._close_stdin()
        for fd in self._outputs:
            self._loop.watch(fd, 0, lambda events: None)
        self._signal(signal.SIGKILL)
        self._ended = True
        if self._guard:
            self._guard.ended(self.pid)
        for timer in (self._linger, self._kill, self._gone):
            if timer:
                timer.cancel()
        process = self._process
        assert process.stdout and process.stderr
        process.stdout.close()
        process.stderr.close()
        _, status, used = os.wait4(self.pid, 0)
        code = process.returncode = os.waitstatus_to_exitcode(status)  # said to Popen, which would wait for it again
        usage = Usage(used.ru_utime + used.ru_stime, used.ru_maxrss * _MAXRSS_UNIT)
        if self._company and code < 0:
            usage = Usage(-1.0, -1)
        self._on_end(code if code >= 0 else EXIT_SIGNAL_BASE - code, usage)
