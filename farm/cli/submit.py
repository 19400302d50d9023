"""`farm submit`: one job, as a pipe or in the background."""

from __future__ import annotations

import os
import sys
import time

from farm.cli.main import Leave, say
from farm.cli.options import Values
from farm.client.connection import Connection, chance, connect
from farm.client.payload import read_payload
from farm.client.remembered import Remembered, path_of
from farm.client.servers import ServerList
from farm.client.submit import Foreground, Request, require_worker, submit_background
from farm.errors import EXIT_CANNOT_CREATE, EXIT_OK, EXIT_SIGNAL_BASE, FarmError, Unavailable, UsageError
from farm.protocol.address import parse_addresses
from farm.protocol.limits import UNIQUE_MAX
from farm.protocol.names import function_name_fault

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing it costs a millisecond
    from collections.abc import Callable

SIGPIPE = 13
RETRY_LOST_MAX = 5  # a job that takes server after server with it must not go on for ever
RECONNECT_MAX_S = 30.0  # as long as a server may take to start again
RECONNECT_PAUSE_S = 0.2


class Interrupted(KeyboardInterrupt):
    """A signal asked this process to end. Not an Exception, so that nothing on the way takes it for an error."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def run(values: Values) -> int:
    """Submit, and leave with the job's exit code."""
    function, unique = _function(values), _unique(values)
    servers = Servers(values)
    payload = _payload(values)
    wanted = Request(function, payload, unique, str(values["priority"]))
    connection = servers.connect()
    if values["no_wait"]:
        require_worker(connection, function)
    if values["background"]:
        _print_handle(_background(connection, wanted, values, servers))
        return EXIT_OK
    return _foreground(connection, wanted, values, servers)


class Servers:
    """The servers that were named, and what earlier calls of farm found out about them."""

    def __init__(self, values: Values) -> None:
        self._list = ServerList(parse_addresses(_texts(values["server"])), str(values["order"]))
        self._remembered = Remembered(self._list, path_of(os.environ))
        self._insecure = bool(values["insecure"])
        self._remembered.recall()

    def connect(self) -> Connection:
        """A connection to the next one that answers. Raises Unavailable or NotPermitted."""
        try:
            return connect(self._list, self._insecure)
        finally:
            self._remembered.keep()

    def lost(self, connection: Connection) -> None:
        """The server at its other end went away, or hangs: the others come first for a while."""
        self._list.failed(connection.address, time.monotonic(), chance)
        self._remembered.keep()


def _background(connection: Connection, wanted: Request, values: Values, servers: Servers) -> str:
    try:
        return submit_background(connection, wanted, _keep_quiet if values["quiet"] else _notify)
    except Unavailable:
        servers.lost(connection)
        raise


def _notify(message: str, hint: str) -> None:
    say(message, hint)


def _keep_quiet(message: str, hint: str) -> None:
    pass


def _print_handle(handle: str) -> None:
    """The job is in the queue now: whoever cannot be told on stdout is told of it all the same."""
    try:
        sys.stdout.write(handle + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        words = (error.strerror or str(error)).lower()
        raise FarmError(f"cannot write the handle of job {handle}: {words}", status=EXIT_CANNOT_CREATE) from error


def _texts(value: object) -> list[str]:
    return [str(text) for text in value] if isinstance(value, list) else []


def _function(values: Values) -> bytes:
    name = str(values["function"])
    if fault := function_name_fault(name):
        raise UsageError(f"the function name {name[:60]!r} {fault}", "use letters, digits and punctuation, no blanks")
    return os.fsencode(name)


def _unique(values: Values) -> bytes:
    unique = os.fsencode(str(values["unique"] or ""))
    if len(unique) > UNIQUE_MAX:
        raise UsageError(f"the unique key is {len(unique)} bytes long (at most {UNIQUE_MAX})")
    return unique


def _payload(values: Values) -> bytes:
    path = values["file"]
    if values["no_input"]:
        if path is not None:
            raise UsageError("--file and --no-input exclude each other")
        return b""
    if path in (None, "-") and not values["quiet"] and os.isatty(0):
        say(
            "reading the payload from the terminal: Ctrl-D ends it", "-n submits an empty payload, -f FILE reads a file"
        )
    return read_payload(None if path is None else str(path))


def _foreground(connection: Connection, wanted: Request, values: Values, servers: Servers) -> int:
    import signal

    handled: list[int] = []

    def interrupt(number: int, frame: object) -> None:
        for each in handled:
            signal.signal(each, signal.SIG_DFL)  # a second one ends this process at once; the server notices that too
        raise Interrupted(number)

    notify = _keep_quiet if values["quiet"] else _notify
    job = Foreground(connection, wanted, notify, verbose=bool(values["verbose"]))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup and background shells mean it
            handled.append(number)
            signal.signal(number, interrupt)
    try:
        status = _run(job, servers, RETRY_LOST_MAX if values["retry_lost"] else 0, notify)
    except Interrupted as interrupted:
        _, words = _give_up(job, early=True)
        if words:
            notify(words, "")
        raise Leave(EXIT_SIGNAL_BASE + interrupted.number, signal=interrupted.number) from None
    except (BrokenPipeError, FarmError) as error:
        ends, words = _give_up(job)
        if not ends:  # where it ends nothing is said, as in any pipe whose reader leaves
            notify(words, "")
        if isinstance(error, FarmError):
            raise
        raise Leave(EXIT_SIGNAL_BASE + SIGPIPE, signal=SIGPIPE) from None
    raise Leave(status, job.origin)


def _run(job: Foreground, servers: Servers, retries: int, notify: Callable[[str, str], None]) -> int:
    """Run it, and where a server that goes away does not matter (`--retry-lost`), run it again through the next."""
    while True:
        try:
            return job.run()
        except Unavailable as lost:
            servers.lost(job.connection)
            if not retries:
                raise
            retries -= 1
            notify(f"{lost.message}; submitting it again", "")
            job.move_to(_reconnect(servers))


def _reconnect(servers: Servers) -> Connection:
    """A server that went away to start again needs a moment."""
    deadline = time.monotonic() + RECONNECT_MAX_S
    while True:
        try:
            return servers.connect()
        except Unavailable:
            if time.monotonic() > deadline:
                raise
            time.sleep(RECONNECT_PAUSE_S)


def _give_up(job: Foreground, early: bool = False) -> tuple[bool, str]:
    """Cancel; a second signal does not wait for the server's word."""
    try:
        return job.cancel(early)
    except Interrupted:
        return True, ""
