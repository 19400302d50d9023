"""One job at this worker: from the assignment to the report, in packets that every server and client understands.

A short result that comes quickly travels whole in WORK_COMPLETE, as classic clients expect; any other output travels as
it is produced, in WORK_DATA. See `farm/protocol/WIRE.md` for what travels how and why.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from farm.errors import EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND, EXIT_TIMEOUT, EXIT_WORKER_FAILED
from farm.loop import Loop, Timer
from farm.protocol import extension, packets
from farm.protocol.packets import REQUEST, request, with_data
from farm.worker.child import LINGER_S, Child, Usage
from farm.worker.guard import Guard

HOLD_S = 0.05  # a first piece of output waits so long for the command's end, unnoticeable to a person
HOLD_MAX = 64 * 1024  # and no more of it than a pipe holds
PIECE_MAX = 64 * 1024  # of a WORK_DATA: far below what any server refuses
COLLECT_MAX = 256 * 1024 * 1024  # with `--collect`: held in memory until the command has ended


class Assignment:
    """A job as the server gave it."""

    __slots__ = ("function", "handle", "payload", "unique")

    def __init__(self, handle: bytes, function: bytes, unique: bytes, payload: bytes) -> None:
        self.handle = handle
        self.function = function
        self.unique = unique
        self.payload = payload


class Run:
    """The command at work on one job. `send` takes a packet in pieces; `on_end` gets the exit code, when all is sent.

    farm_server: the server is farm's. It is told what the command used; behind a stock one the beginning of an
    attempt is marked instead, for a client cannot be told of a second one in another way.
    collect: the whole output in WORK_COMPLETE. timeout_s: a longer run is ended, and has failed; 0: none is.
    """

    def __init__(
        self,
        job: Assignment,
        argv: list[str],
        loop: Loop,
        send: Callable[[tuple[bytes, ...]], None],
        on_end: Callable[[int], None],
        *,
        farm_server: bool,
        collect: bool,
        timeout_s: float = 0.0,
        guard: Guard | None = None,
        linger_s: float = LINGER_S,
    ) -> None:
        self.job = job
        self.cancelled = False
        self._loop = loop
        self._send = send
        self._on_end = on_end
        self._farm_server = farm_server
        self._mark_begin = not farm_server
        self._collect = collect
        self._held = bytearray()
        self._hold: Timer | None = None
        self._streaming = False
        self._silent = False
        self._timeout_s = timeout_s
        self._timeout: Timer | None = None
        self._timed_out = False
        self.child: Child | None = None
        try:
            self.child = Child(
                argv, self._environment(), job.payload, loop, self._output, self._exited, guard, linger_s
            )
        except OSError as error:
            failure = error  # reported from the loop, as an end always is
            loop.call_in(0, lambda: self._cannot_run(argv[0], failure))
        else:
            if timeout_s:
                self._timeout = loop.call_in(timeout_s, self._time_out)

    def _environment(self) -> dict[str, str]:
        return os.environ | {
            "FARM_JOB": os.fsdecode(self.job.handle),
            "FARM_FUNCTION": os.fsdecode(self.job.function),
            "FARM_UNIQUE": os.fsdecode(self.job.unique),
        }

    # -- output

    def _output(self, is_stderr: bool, chunk: bytes) -> None:
        if self._silent:
            return
        if is_stderr:
            self._begin()
            for piece in extension.safe_pieces(chunk):
                self._packet(packets.WORK_WARNING, piece)
        elif self._streaming:
            self._packet(packets.WORK_DATA, chunk)
        else:
            self._held += chunk
            if len(self._held) > (COLLECT_MAX if self._collect else HOLD_MAX):
                self._stream()
            elif not self._hold and not self._collect:
                self._hold = self._loop.call_in(HOLD_S, self._stream)

    def _stream(self) -> None:
        """Send what was held; from now on everything goes out as it comes."""
        if self._hold:
            self._hold.cancel()
        if not self._streaming and not self._silent:
            self._streaming = True
            self._begin()
            for start in range(0, len(self._held), PIECE_MAX):
                self._packet(packets.WORK_DATA, bytes(self._held[start : start + PIECE_MAX]))
            self._held.clear()

    def _begin(self) -> None:
        if self._mark_begin:
            self._mark_begin = False
            self._packet(packets.WORK_WARNING, extension.BEGIN)

    def _packet(self, number: int, data: bytes) -> None:
        self._send(with_data(REQUEST, number, (self.job.handle,), data))

    # -- the end

    def cancel(self) -> None:
        """Nobody wants the result any more: end the command; its end is still reported."""
        self.cancelled = True
        self._forget_timeout()
        if self.child:
            self.child.terminate()

    def abort(self) -> None:
        """The server has gone, or this worker must: end the command and report nothing; the job is given out again."""
        self._silent = True
        self._forget_timeout()
        if self.child:
            self.child.terminate()

    def _time_out(self) -> None:
        """The run takes too long. However the command ends now, also if it ends well, that is a failure."""
        assert self.child
        self._timed_out = True
        self._output(True, f"farm: the command took longer than {self._timeout_s:.15g}s (--timeout)\n".encode())
        self.child.terminate()

    def _forget_timeout(self) -> None:
        if self._timeout:
            self._timeout.cancel()

    def _exited(self, code: int, usage: Usage) -> None:
        assert self.child
        if self._timed_out:
            self._report(EXIT_TIMEOUT, extension.ORIGIN_FARM, usage)
        elif self.child.torn and code == 0:  # the command itself is content, but its output is not known to be whole
            self._report(EXIT_WORKER_FAILED, extension.ORIGIN_FARM, usage)
        else:
            self._report(code, extension.ORIGIN_JOB, usage)

    def _cannot_run(self, command: str, error: OSError) -> None:
        code, words = EXIT_WORKER_FAILED, (error.strerror or str(error)).lower()
        if isinstance(error, FileNotFoundError):
            code, words = EXIT_NOT_FOUND, "command not found"
        elif isinstance(error, PermissionError) or error.errno == errno.ENOEXEC:
            code = EXIT_NOT_EXECUTABLE
        self._output(True, f"farm: error: {command}: {words}\n".encode())
        self._report(code, extension.ORIGIN_FARM)

    def _report(self, code: int, origin: str, usage: Usage | None = None) -> None:
        """usage: None when nothing ran."""
        self._forget_timeout()
        if self._hold:
            self._hold.cancel()
        if not self._silent:
            if code == 0:
                self._complete(usage)
            else:
                self._fail(code, origin, usage)
        self._on_end(code)

    def _complete(self, usage: Usage | None) -> None:
        if not self._held:
            self._begin()
        self._tell_usage(usage)
        self._packet(packets.WORK_COMPLETE, bytes(self._held))

    def _fail(self, code: int, origin: str, usage: Usage | None) -> None:
        """WORK_FAIL has no room for output or exit code: both go before it."""
        self._stream()
        self._tell_usage(usage)
        self._packet(packets.WORK_WARNING, extension.exit_trailer(code, origin))
        self._send((request(packets.WORK_FAIL, self.job.handle),))

    def _tell_usage(self, usage: Usage | None) -> None:
        if usage and usage.cpu_s >= 0 and self._farm_server:
            cpu, peak = b"%.6f" % usage.cpu_s, b"%d" % usage.peak_bytes
            self._send((request(packets.FARM_USAGE, self.job.handle, cpu, peak),))
