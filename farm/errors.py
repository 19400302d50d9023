"""Every error that farm raises on purpose, with the message, the hint and the exit status a person gets.

The command line catches `FarmError` in one place (`farm.cli.main`) and prints `farm: error: MESSAGE` and `hint: HINT`.
The exit statuses follow sysexits(3) and the convention of timeout(1), env(1) and docker-run(1) for 124 to 127.
This module is on the start-up path of `farm submit`: it imports nothing.
"""

from __future__ import annotations

EXIT_OK = 0
EXIT_JOB_FAILED = 1  # a job failed and its worker gave no exit code (a stock Gearman worker)
EXIT_USAGE = 64
EXIT_DATA = 65
EXIT_NO_INPUT = 66
EXIT_UNAVAILABLE = 69
EXIT_INTERNAL = 70
EXIT_CANNOT_CREATE = 73
EXIT_TRY_AGAIN = 75
EXIT_PROTOCOL = 76
EXIT_NO_PERMISSION = 77
EXIT_TIMEOUT = 124
EXIT_WORKER_FAILED = 125
EXIT_NOT_EXECUTABLE = 126
EXIT_NOT_FOUND = 127
EXIT_SIGNAL_BASE = 128  # plus the signal's number

EXIT_MEANINGS = {
    EXIT_OK: "all went well",
    EXIT_JOB_FAILED: "the job failed at a stock Gearman worker, which gives no exit code",
    EXIT_USAGE: "wrong usage: unknown option, bad function name, missing argument",
    EXIT_DATA: "a store is damaged, or it, an import or a crontab is not what this version can read; or only a part"
    " of a result was kept",
    EXIT_NO_INPUT: "an input file cannot be read, or there is no such job, function or cron entry",
    EXIT_UNAVAILABLE: "no server answers, or one of those does not that are to change something, the server went away,"
    " the address is taken, no worker (--no-wait), or a stock"
    " server was asked what only farm's own knows",
    EXIT_INTERNAL: "a bug in farm; FARM_DEBUG=1 shows where",
    EXIT_CANNOT_CREATE: "an output or log file or the store cannot be written",
    EXIT_TRY_AGAIN: "try again: queue or disk is full, the job was restarted after part of its output had gone out, or"
    " a job is in a state in which this cannot be done (a result before the end, a cancelling after it)",
    EXIT_PROTOCOL: "the other side does not speak Gearman, or broke its rules",
    EXIT_NO_PERMISSION: "an address other than loopback without --insecure, another user's store, or jobs were to be"
    " changed from another machine without --remote-admin",
    EXIT_TIMEOUT: "a run, the wait for one, or the wait for its end took longer than it may",
    EXIT_WORKER_FAILED: "farm could not run the job, it lost its worker too often, or its output is not whole (too"
    " large for the server, --linger)",
    EXIT_NOT_EXECUTABLE: "the worker's command is not executable",
    EXIT_NOT_FOUND: "the worker's command was not found",
    EXIT_SIGNAL_BASE: "plus N: ended by signal N (130: Ctrl-C, or a job that was cancelled, 141: the reader of the"
    " output left, 143: SIGTERM)",
}

STORE_HINT = "`farm store check` on the server's machine says what is damaged"
NO_SERVER_HINT = "start one with `farm server`, or name another with --server or FARM_SERVER"


def one_line(text: str) -> str:
    """Text with what would end the line or steer a terminal escaped: it may hold a file's name or another's words."""
    return text if text.isprintable() else "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


class FarmError(Exception):
    """What a person has to know, in one line. `hint` says what to do next; `status` is the process's exit status."""

    status = EXIT_INTERNAL

    def __init__(self, message: str, hint: str = "", status: int | None = None) -> None:
        self.message = one_line(message)
        super().__init__(self.message)
        self.hint = hint
        if status is not None:
            self.status = status


class UsageError(FarmError):
    """The command line or the configuration is wrong."""

    status = EXIT_USAGE


class InputError(FarmError):
    """An input file cannot be read."""

    status = EXIT_NO_INPUT


class Unavailable(FarmError):
    """No server can be reached, or the one there was has gone."""

    status = EXIT_UNAVAILABLE


class TryAgain(FarmError):
    """The work could not be done now; the same command may succeed later."""

    status = EXIT_TRY_AGAIN


class NotGearman(FarmError):
    """The other side does not speak Gearman, or broke its rules."""

    status = EXIT_PROTOCOL


class NotPermitted(FarmError):
    """An address other than loopback was asked for without saying that this is meant."""

    status = EXIT_NO_PERMISSION


class JobNotFound(FarmError):
    """No server that was asked knows the job."""

    status = EXIT_NO_INPUT


class CronNotFound(FarmError):
    """No server that was asked has a cron entry of this name."""

    status = EXIT_NO_INPUT

    def __init__(self, message: str) -> None:
        super().__init__(message, "`farm cron list` lists those that there are")


class FunctionNotFound(FarmError):
    """No server that was asked has heard of the function."""

    status = EXIT_NO_INPUT


class Timeout(FarmError):
    """A call of the library took longer than it may. The job, if there is one, is still out."""

    status = EXIT_TRY_AGAIN


class JobCancelled(FarmError):
    """The job was given up by this program."""

    status = EXIT_TRY_AGAIN


class JobFailed(FarmError):
    """A job failed.

    exit_code: its command's, 128 + N for signal N; None when a stock worker gave none. stderr: what it said meanwhile.
    data: its output, as far as it was not taken before.
    """

    status = EXIT_JOB_FAILED

    def __init__(
        self, message: str, *, handle: str, exit_code: int | None = None, stderr: bytes = b"", data: bytes = b""
    ) -> None:
        super().__init__(message, status=exit_code)
        self.handle = handle
        self.exit_code = exit_code
        self.stderr = stderr
        self.data = data


class JobException(JobFailed):
    """A job's worker reported an exception. text: what it said, as it came."""

    def __init__(self, message: str, *, handle: str, text: bytes, stderr: bytes = b"", data: bytes = b"") -> None:
        super().__init__(message, handle=handle, stderr=stderr, data=data)
        self.text = text


class JobLost(Unavailable):
    """The server went away while a job was out; it may have run or not.

    server: its address. handle: "" when the server never said that it has the job. running: a worker had been heard
    of. received: bytes of output that had come.
    """

    def __init__(
        self, message: str, hint: str = "", *, server: str, handle: str = "", running: bool = False, received: int = 0
    ) -> None:
        super().__init__(message, hint)
        self.server = server
        self.handle = handle
        self.running = running
        self.received = received


class PacketRefused(Exception):
    """A peer's packet breaks the rules: answered with an ERROR packet, then the connection is closed or stays.

    code: one word for programs (libgearman's return-code names where one fits); text: one line for people.
    """

    def __init__(self, code: bytes, text: bytes, close: bool = True) -> None:
        super().__init__(f"{code.decode(errors='replace')}: {text.decode(errors='replace')}")
        self.code = code
        self.text = text
        self.close = close


class PacketTooLarge(PacketRefused):
    """A packet is longer than it may be. number: its type; begin: of its body, as much as had come, but no more than a
    job's handle needs."""

    def __init__(self, text: bytes, number: int, begin: bytes) -> None:
        super().__init__(b"ARGUMENT_TOO_LARGE", text)
        self.number = number
        self.begin = begin
