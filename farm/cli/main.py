"""The entry point: parse, run one command, and leave with its exit status. Errors are printed in one place.

`farm submit` comes through here without typer, click, rich or asyncio: those are imported only where the light parser
declines (help, completion, a wrong command line) or a command needs them.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # the enums of `signal` cost a millisecond
import os
import sys

from farm.errors import EXIT_CANNOT_CREATE, EXIT_INTERNAL, EXIT_OK, EXIT_SIGNAL_BASE, FarmError

TYPE_CHECKING = False
if TYPE_CHECKING:  # `typing` itself would cost a third of the start-up time
    from farm.cli.options import Values

SIGPIPE = 13


class Leave(Exception):
    """A command's end: its exit status, whose it is, and the signal to die of, if any."""

    def __init__(self, status: int, origin: str = "farm", signal: int = 0) -> None:
        super().__init__(status)
        self.status = status
        self.origin = origin
        self.signal = signal


def main() -> None:
    """Run the command line of this process; does not return."""
    _occupy_standard_descriptors()
    origin_fd = _origin_fd()
    try:
        if signal.getsignal(signal.SIGINT) == signal.SIG_DFL:  # from here on it is a KeyboardInterrupt (see entry.py)
            signal.signal(signal.SIGINT, signal.default_int_handler)
        leave = Leave(run(sys.argv[1:]))
    except Leave as left:
        leave = left
    except FarmError as error:
        say_error(error)
        leave = Leave(error.status)
    except KeyboardInterrupt as interrupt:
        number = getattr(interrupt, "number", signal.SIGINT)
        leave = Leave(EXIT_SIGNAL_BASE + number, signal=number)
    except BrokenPipeError:  # the reader of a listing or of the help has left
        leave = Leave(EXIT_OK)
    except Exception as error:  # the top: a bug, said in one line
        if os.environ.get("FARM_DEBUG"):
            raise
        bug = FarmError(f"internal error: {type(error).__name__}: {error}", "a bug in farm; FARM_DEBUG=1 shows where")
        say_error(bug)
        leave = Leave(EXIT_INTERNAL)
    _leave(leave, origin_fd)


def _occupy_standard_descriptors() -> None:
    """Where one of 0, 1 and 2 is closed, the next socket would take its number, and a job's output would be written
    into it. What is put there instead fails to be read or written, as a closed one does."""
    for fd, mode, name in ((0, os.O_WRONLY, "stdin"), (1, os.O_RDONLY, "stdout"), (2, os.O_RDONLY, "stderr")):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, mode)  # the lowest free number is this one
            setattr(sys, name, open(fd, "w" if fd else "r", closefd=False))  # noqa: SIM115


def run(argv: list[str]) -> int:
    """Run one command line in this process; returns its exit status. Raises FarmError and Leave."""
    from farm.cli import light
    from farm.cli.options import complete

    if "_FARM_COMPLETE" not in os.environ:
        try:
            command, given = light.parse(argv)
        except light.Declined:
            pass
        else:
            return run_command(command.name, complete(command, given, dict(os.environ)))
    from farm.cli import app

    return app.run(argv)


def run_command(name: str, values: Values) -> int:
    """Run a command with complete values."""
    if name == "submit":
        from farm.cli.submit import run
    elif name == "work":
        from farm.cli.work import run
    elif name == "server":
        from farm.cli.server import run
    elif name == "gearmand":
        from farm.cli.gearmand import run
    elif name.startswith("store "):
        from farm.cli.store import RUN

        run = RUN[name]
    else:
        from farm.cli.status import run
    return run(values)


def say_error(error: FarmError) -> None:
    """One line what, one line what to do next."""
    say(f"error: {error.message}", error.hint)


def say(message: str, hint: str = "") -> None:
    """A line for people on stderr, and a hint where there is one."""
    text = f"farm: {message}\n" + (f"hint: {hint}\n" if hint else "")
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except (OSError, AttributeError, ValueError):
        pass  # stderr is closed: there is nobody to tell


def cannot_write(error: OSError) -> FarmError:
    """What to say when stdout does not take a listing."""
    words = (error.strerror or str(error)).lower()
    return FarmError(f"cannot write standard output: {words}", status=EXIT_CANNOT_CREATE)


def _leave(leave: Leave, origin_fd: int) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)  # from here on a signal simply ends it
    status, origin = leave.status, leave.origin
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        status = status or EXIT_SIGNAL_BASE + SIGPIPE
    except OSError as error:
        if not status:
            say_error(cannot_write(error))
            status, origin = EXIT_CANNOT_CREATE, "farm"
    _tell_origin(origin_fd, origin)
    if leave.signal:
        # Die of the signal itself, so that a shell that runs a loop or a script sees the truth.
        signal.signal(leave.signal, signal.SIG_DFL)
        os.kill(os.getpid(), leave.signal)
    os._exit(status)  # nothing is left to tidy up, and the interpreter's own end would take milliseconds


def _origin_fd() -> int:
    """FARM_EXIT_ORIGIN_FD: a descriptor that gets one word, `job` or `farm`: whose the exit status is. -1 for none.

    Looked at before anything is opened, for a number that is free now will be a socket's later.
    """
    text = os.environ.get("FARM_EXIT_ORIGIN_FD", "")
    if not text:
        return -1
    try:
        fd = int(text)
        os.fstat(fd)
    except (ValueError, OverflowError, OSError) as error:
        say(f"cannot write to FARM_EXIT_ORIGIN_FD={text}: {getattr(error, 'strerror', None) or 'not a descriptor'}")
        return -1
    return fd


def _tell_origin(fd: int, origin: str) -> None:
    if fd >= 0:
        try:
            os.write(fd, origin.encode() + b"\n")
        except OSError as error:
            say(f"cannot write to FARM_EXIT_ORIGIN_FD={fd}: {error.strerror}")
