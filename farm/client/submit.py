"""Submitting one job: the background way prints a handle, the foreground way is a pipe with an exact exit code.

Who speaks to whom is not known beforehand: the server may be stock or farm's, and so may the worker. What then travels
how is in `farm/protocol/WIRE.md`.
"""

from __future__ import annotations

import time

from farm.client.answers import answers, exists, handle_text, refusal, split_answer, stock_server, unexpected
from farm.client.connection import ANSWER_TIMEOUT_S, NOTICE_S, Connection
from farm.client.output import STDERR, Output, write_all
from farm.client.request import Request
from farm.errors import (
    EXIT_JOB_FAILED,
    EXIT_OK,
    FarmError,
    TryAgain,
    Unavailable,
)
from farm.protocol import extension, packets
from farm.protocol.decoder import Packet
from farm.protocol.limits import NUMBER_MAX
from farm.protocol.names import quoted, shown, words_of
from farm.protocol.packets import KINDS, TEXT, WORKER, request
from farm.protocol.silence import ASK, DEAD, SILENCE_MAX_S, Silence

TYPE_CHECKING = False
if TYPE_CHECKING:  # `typing` itself would cost a third of the start-up time
    from collections.abc import Callable
    from typing import NoReturn

_LOST = "its worker was lost"  # what a second beginning means, behind a server that says nothing of it

AT_ONCE_MAX = 64 * 1024  # bytes: less than any socket's buffer
CANCEL_TIMEOUT_S = 2.0  # for the server's word on a cancelled job, while a person waits for the prompt


def submit_background(connection: Connection, wanted: Request, notify: Callable[[str, str], None]) -> str:
    """Submit; returns the handle once the server has taken the job over. Raises FarmError when it has not, or has not
    said so (Unavailable), and Exists when there was one with the same key already.

    A line of text goes before the packet: what is no Gearman server may wait for the end of a line before it says so.
    """
    if wanted.terms:
        connection.send(b"version\n", request(packets.OPTION_REQ, extension.OPTION))
        _await_extension(connection, wanted, notify)
        sent = connection.send(*wanted.pieces(background=True))
    else:
        sent = connection.send(b"version\n", *wanted.pieces(background=True))
    said = b""
    while True:
        try:
            came = answers(connection, notify)
        except Unavailable as lost:
            raise (unconfirmed(lost, wanted) if sent else lost) from None
        for number, body in came:
            if number == packets.JOB_CREATED:
                return handle_text(body, connection)
            if number == packets.FARM_EXISTS and wanted.terms:
                raise exists(split_answer(number, body, connection), connection)
            if number != TEXT or said or not body.startswith(b"OK "):
                unexpected(number, body, connection)
            said = body


def unconfirmed(lost: Unavailable, wanted: Request) -> Unavailable:
    """The same, of a server that was given the whole job and never said that it has it."""
    hint = "submit it again only if it may run twice; had it a key (--unique), the second would join the first"
    if wanted.has_key:
        hint = "submit it again to the same server (-s): while the job of this key lives there, it does not run twice"
    return Unavailable(f"{lost.message}, and never said that it has the job, which may run or not", hint)


def _await_extension(connection: Connection, wanted: Request, notify: Callable[[str, str], None]) -> None:
    """The server's word that it knows terms: before that nothing is sent that could be half understood."""
    said = b""
    while True:
        for number, body in answers(connection, notify):
            if number == packets.OPTION_RES:
                return
            if number == packets.ERROR and body.startswith(b"UNKNOWN_OPTION\0"):
                raise stock_server(connection, wanted.needs)
            if number != TEXT or said or not body.startswith(b"OK "):
                unexpected(number, body, connection)
            said = body


def require_worker(connection: Connection, function: bytes) -> None:
    """Raises Unavailable when no worker offers the function."""
    connection.version()
    rows = connection.status_lines()
    if not _workers_of(rows, function):
        raise Unavailable(f"no worker offers {quoted(function)}", no_worker_hint(rows, function))


def _workers_of(rows: list[bytes], function: bytes) -> int:
    for row in rows:
        fields = row.split(b"\t")
        if fields[0] == function and fields[-1].isdigit() and len(fields[-1]) <= NUMBER_MAX:
            return int(fields[-1])
    return 0


def no_worker_hint(rows: list[bytes], function: bytes) -> str:
    """What a person may have meant, or how to start a worker."""
    import difflib  # only here: it is slow to import

    name = shown(function)
    offered = [shown(row.split(b"\t")[0]) for row in rows if not row.endswith(b"\t0")]
    close = difflib.get_close_matches(name, offered, n=1)
    start = f"start one: farm work {name} -- COMMAND"
    return f"did you mean '{close[0]}'? Or {start}" if close else start


class Foreground:
    """A foreground job: passes its output on as it comes and returns its exit code.

    `notify(message, hint)` is called for what a person should know meanwhile. `verbose` adds progress.
    """

    def __init__(
        self, connection: Connection, wanted: Request, notify: Callable[[str, str], None], verbose: bool = False
    ) -> None:
        self.origin = extension.ORIGIN_FARM  # whose the exit code is
        self.handle = b""
        self.connection = connection
        self._wanted = wanted
        self._notify = notify
        self._verbose = verbose
        self._out = Output()
        self._extension = False
        self.lost = False  # the server has gone while the job was out
        self._sent = False
        self._running = False  # something has come from a worker
        self._begun = False  # a farm worker behind a stock server marks each attempt's beginning
        self._last = b""  # a warning that is the exit code if the failure comes next, and stderr if anything else does
        self._exit: int | None = None

    def run(self) -> int:
        """Submit, and wait for the end. Raises FarmError, BrokenPipeError when the reader of the output has left, and
        whatever a signal handler raises; in each case `cancel` says what becomes of the job. Raises Exists when nothing
        was submitted, for there was a job with the same key already."""
        try:
            return self._run()
        finally:
            self._let()

    def _let(self) -> None:
        """An interruption may come again at any moment. Until the handle is known it may not (Connection.holder): it
        would lose the answer to the submission, and without the handle nothing can be cancelled."""
        if self.connection.holder:
            self.connection.holder.let()

    def _run(self) -> int:
        options = request(packets.OPTION_REQ, extension.OPTION), request(packets.OPTION_REQ, b"exceptions")
        # First the server's word that it is farm's: `_option`. Only that understands terms, and can say that a job has
        # ended whose key still counts: Gearman's own packet does not ask for that.
        if self._wanted.terms or self._wanted.has_key:
            self.connection.send(*options)
        else:
            self._submit(*options)
        looked = False
        while self._exit is None:
            if not self.handle:
                came = self._answers()
            else:
                came = self._receive(None if looked or self._running else NOTICE_S)
            if not came:
                looked = True
                self._look_for_worker()
            for number, body in came:
                if self.handle:
                    self._let()
                self._handle(number, body)
        return self._exit

    def _submit(self, *before: bytes) -> None:
        pieces = self._wanted.pieces(background=False, farm=self._extension and self._wanted.has_key)
        # A part of it submits nothing. What the system takes at once counts from before that on: a signal may come
        # before this process knows that it was taken.
        self._sent = sum(map(len, pieces)) <= AT_ONCE_MAX
        self._sent = self.connection.send(*before, *pieces)

    def move_to(self, connection: Connection) -> None:
        """The server has gone: `run` submits the job again, through this connection. Raises TryAgain when output has
        come that cannot be taken back."""
        self._out.restart("its server was lost")
        connection.holder = self.connection.holder
        self.connection = connection
        self.handle = self._last = b""
        self.lost = self._extension = self._running = self._begun = self._sent = False

    def _answers(self) -> list[Packet]:
        """Before the server has said that it has the job."""
        try:
            return answers(self.connection, self._notify)
        except Unavailable as lost:
            self._lose(lost)

    def _receive(self, timeout_s: float | None) -> list[Packet]:
        watch = self._out.fd if self._out.to_pipe else -1
        try:
            if timeout_s is not None or not self._extension:
                return self.connection.receive(timeout_s, watch)
            return self._receive_or_ask(watch)
        except Unavailable as lost:
            self._lose(lost)

    def _receive_or_ask(self, watch: int) -> list[Packet]:
        """Wait for as long as the job takes, but not for a server that is dead though its connection lives."""
        silence = Silence(time.monotonic())
        while True:
            came = self.connection.receive(max(0.0, silence.due - time.monotonic()), watch)
            if came:
                return came
            found = silence.look(time.monotonic(), self.connection.received)
            if found == DEAD:
                words = f"the server at {self.connection.address} has given no sign of life for {SILENCE_MAX_S:g} s"
                raise Unavailable(words)
            if found == ASK:
                self.connection.send(request(packets.ECHO_REQ, b""))

    def _lose(self, lost: Unavailable) -> NoReturn:
        if not self.handle:
            raise (unconfirmed(lost, self._wanted) if self._sent else lost) from None
        self.lost = True
        message = f"{lost.message}, and no end of job {self.handle.decode()} had come; it may have run or not"
        raise Unavailable(message, "submit it again if it may run twice") from lost

    def _handle(self, number: int, body: bytes) -> None:
        handler = _HANDLERS.get(number)
        if handler is None:
            unexpected(number, body, self.connection)
        elif self._exit is None:
            self._running = self._running or KINDS[number].sender == WORKER
            handler(self, split_answer(number, body, self.connection))

    def _look_for_worker(self) -> None:
        try:
            rows = self.connection.status_lines(SILENCE_MAX_S if self._extension else ANSWER_TIMEOUT_S)
        except Unavailable as lost:
            self._lose(lost)
        if not _workers_of(rows, self._wanted.function):
            name = quoted(self._wanted.function)
            message = f"waiting: no worker offers {name} (job {self.handle.decode()})"
            self._notify(message, no_worker_hint(rows, self._wanted.function))

    # -- one method for each packet

    def _option(self, args: list[bytes]) -> None:
        if args[0] == extension.OPTION:
            self._extension = True
            if not self._sent:
                self._submit()

    def _created(self, args: list[bytes]) -> None:
        self.handle = handle_text(args[0], self.connection).encode()

    def _joined(self, args: list[bytes]) -> None:
        raise TryAgain(
            f"job {self.handle.decode()} with this unique key runs already, and part of its output has gone by",
            "submit again when it has ended",
        )

    def _exists(self, args: list[bytes]) -> None:
        self._sent = False
        raise exists(args, self.connection)

    def _restarted(self, args: list[bytes]) -> None:
        self._restart(words_of(args[1]))

    def _restart(self, why: str) -> None:
        self._out.restart(why)
        self._last = b""
        self._notify(f"the job runs again: {why}", "")

    def _data(self, args: list[bytes]) -> None:
        self._no_exit_code()
        self._out.write(args[1])

    def _warning(self, args: list[bytes]) -> None:
        warning = args[1]
        if warning == extension.BEGIN:
            if self._begun and self._out.written:
                self._restart(_LOST)
            self._begun = True
            self._last = b""
            return
        self._no_exit_code()
        if extension.parse_exit_trailer(warning):
            self._last = warning
        else:
            _write_stderr(warning)

    def _no_exit_code(self) -> None:
        """What looked like farm's word on the exit code was a worker of another make's warning."""
        if self._last:
            _write_stderr(self._last)
            self._last = b""

    def _lives(self, args: list[bytes]) -> None:
        """The server's answer to the question whether it does."""

    def _status(self, args: list[bytes]) -> None:
        if self._verbose:
            self._notify(f"progress {shown(args[1])}/{shown(args[2])}", "")

    def _complete(self, args: list[bytes]) -> None:
        self._no_exit_code()
        self._end(EXIT_OK, extension.ORIGIN_JOB)  # first: if its output cannot be written, nothing is left to cancel
        if args[1]:
            if self._begun and self._out.written:  # a farm worker's result is whole: what came before was another try
                self._restart(_LOST)
            self._out.write(args[1])

    def _fail(self, args: list[bytes]) -> None:
        code, origin = extension.parse_exit_trailer(self._last) or (EXIT_OK, extension.ORIGIN_JOB)
        if code:
            self._end(code, origin)
        else:  # a failed job with exit code 0 there is none
            self._no_exit_code()
            self._notify("the job failed; its worker gave no exit code", "")
            self._end(EXIT_JOB_FAILED, extension.ORIGIN_JOB)

    def _exception(self, args: list[bytes]) -> None:
        self._no_exit_code()
        text = words_of(args[1].strip())
        self._notify(f"the job raised an exception: {text}", "")
        self._end(EXIT_JOB_FAILED, extension.ORIGIN_JOB)

    def _error(self, args: list[bytes]) -> None:
        if args[0] == b"UNKNOWN_OPTION":  # a stock server's answer to the extension
            if self._wanted.terms and not self._sent:
                raise stock_server(self.connection, self._wanted.needs)
            if not self._sent:
                self._submit()
        else:
            raise refusal(args, self.connection.address)

    def _end(self, code: int, origin: str) -> None:
        self._exit = code
        self.origin = origin

    # -- giving up

    def cancel(self, early: bool = False) -> tuple[bool, str]:
        """Give the job up. Returns whether it ends, and in words what becomes of it ("": there is nothing to say).

        early: the server may not have had the time to answer the submission.
        """
        if not self._sent or self.lost or self._exit is not None or not (self.handle or early):
            return True, ""
        if not self.handle and not self._find_handle():
            return False, "the server did not say what becomes of the job"
        name = f"job {self.handle.decode()}"
        if not self._extension:
            return False, f"this server cannot cancel: {name} runs on if it has started"
        outcome = b""
        try:
            self.connection.send(request(packets.FARM_CANCEL, self.handle))
            outcome = self._cancel_outcome()
        except (FarmError, OSError):
            pass  # the server has gone
        ends = outcome in (extension.CANCEL_DROPPED, extension.CANCEL_TOLD, extension.CANCEL_UNKNOWN)
        return ends, _CANCELLED.get(outcome, "the server did not say what becomes of {}").format(name)

    def _find_handle(self) -> bool:
        """A signal may come before the answer to the submission: without the handle nothing can be cancelled."""
        deadline = time.monotonic() + CANCEL_TIMEOUT_S
        try:
            while not self.handle and (left := deadline - time.monotonic()) > 0:
                for number, body in self.connection.receive(left):
                    if number in (packets.OPTION_RES, packets.JOB_CREATED):
                        self._handle(number, body)
        except (FarmError, OSError):
            pass  # the server has gone
        return bool(self.handle)

    def _cancel_outcome(self) -> bytes:
        deadline = time.monotonic() + CANCEL_TIMEOUT_S
        while (left := deadline - time.monotonic()) > 0:
            for number, body in self.connection.receive(left):
                if number == packets.FARM_CANCEL_RES:
                    return split_answer(number, body, self.connection)[1]
        return b""


_CANCELLED = {
    extension.CANCEL_DROPPED: "cancelled: {} was not running",
    extension.CANCEL_TOLD: "cancelled: {} is being ended at its worker",
    extension.CANCEL_UNHEARD: "{} runs on: its worker is a stock one, which cannot be told; its result is dropped",
    extension.CANCEL_SHARED: "{} runs on: others wait for it, or it is a background job",
    extension.CANCEL_UNKNOWN: "{} has ended already",
}

_HANDLERS: dict[int, Callable[[Foreground, list[bytes]], None]] = {
    packets.OPTION_RES: Foreground._option,
    packets.JOB_CREATED: Foreground._created,
    packets.FARM_JOB_JOINED: Foreground._joined,
    packets.FARM_EXISTS: Foreground._exists,
    packets.FARM_JOB_RESTARTED: Foreground._restarted,
    packets.WORK_DATA: Foreground._data,
    packets.WORK_WARNING: Foreground._warning,
    packets.WORK_STATUS: Foreground._status,
    packets.WORK_COMPLETE: Foreground._complete,
    packets.WORK_FAIL: Foreground._fail,
    packets.WORK_EXCEPTION: Foreground._exception,
    packets.ERROR: Foreground._error,
    packets.ECHO_RES: Foreground._lives,
}


def _write_stderr(data: bytes) -> None:
    try:
        write_all(STDERR, data)
    except OSError:
        pass  # nobody reads it: the job's result still counts
