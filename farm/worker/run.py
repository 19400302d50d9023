"""One job at this worker: from the assignment to the report, in packets that every server and client understands.

A short result that comes quickly travels whole in WORK_COMPLETE, as classic clients expect; any other output travels as
it is produced, in WORK_DATA. See `farm/protocol/WIRE.md` for what travels how and why.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from farm.errors import EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND, EXIT_WORKER_FAILED
from farm.loop import Loop, Timer
from farm.protocol import extension, packets
from farm.protocol.packets import REQUEST, request, with_data
from farm.worker.child import LINGER_S, Child
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

    mark_begin: the server is a stock one, so that a client cannot be told of a second attempt in another way.
    collect: the whole output in WORK_COMPLETE.
    """

    def __init__(
        self,
        job: Assignment,
        argv: list[str],
        loop: Loop,
        send: Callable[[tuple[bytes, ...]], None],
        on_end: Callable[[int], None],
        *,
        mark_begin: bool,
        collect: bool,
        guard: Guard | None = None,
        linger_s: float = LINGER_S,
    ) -> None:
        self.job = job
        self.cancelled = False
        self._loop = loop
        self._send = send
        self._on_end = on_end
        self._mark_begin = mark_begin
        self._collect = collect
        self._held = bytearray()
        self._hold: Timer | None = None
        self._streaming = False
        self._silent = False
        self.child: Child | None = None
        try:
            self.child = Child(
                argv, self._environment(), job.payload, loop, self._output, self._exited, guard, linger_s
            )
        except OSError as error:
            failure = error  # reported from the loop, as an end always is
            loop.call_in(0, lambda: self._cannot_run(argv[0], failure))

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
        if self.child:
            self.child.terminate()

    def abort(self) -> None:
        """The server has gone, or this worker must: end the command and report nothing; the job is given out again."""
        self._silent = True
        if self.child:
            self.child.terminate()

    def _exited(self, code: int) -> None:
        assert self.child
        if self.child.torn and code == 0:  # the command itself is content, but its output is not known to be whole
            self._report(EXIT_WORKER_FAILED, extension.ORIGIN_FARM)
        else:
            self._report(code, extension.ORIGIN_JOB)

    def _cannot_run(self, command: str, error: OSError) -> None:
        code, words = EXIT_WORKER_FAILED, (error.strerror or str(error)).lower()
        if isinstance(error, FileNotFoundError):
            code, words = EXIT_NOT_FOUND, "command not found"
        elif isinstance(error, PermissionError) or error.errno == errno.ENOEXEC:
            code = EXIT_NOT_EXECUTABLE
        self._output(True, f"farm: error: {command}: {words}\n".encode())
        self._report(code, extension.ORIGIN_FARM)

    def _report(self, code: int, origin: str) -> None:
        if self._hold:
            self._hold.cancel()
        if not self._silent:
            if code == 0:
                self._complete()
            else:
                self._fail(code, origin)
        self._on_end(code)

    def _complete(self) -> None:
        if not self._held:
            self._begin()
        self._packet(packets.WORK_COMPLETE, bytes(self._held))

    def _fail(self, code: int, origin: str) -> None:
        """WORK_FAIL has no room for output or exit code: both go before it."""
        self._stream()
        self._packet(packets.WORK_WARNING, extension.exit_trailer(code, origin))
        self._send((request(packets.WORK_FAIL, self.job.handle),))
