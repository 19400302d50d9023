"""`farm submit`: one job, as a pipe or in the background."""

from __future__ import annotations

import os
import sys
import time

from farm.cli.main import say
from farm.cli.options import Values
from farm.cli.servers import Servers
from farm.cli.submit_options import terms_given
from farm.client.answers import EXISTS_HINT, Exists
from farm.client.payload import read_payload
from farm.client.request import Request
from farm.client.submit import submit_background
from farm.errors import EXIT_CANNOT_CREATE, EXIT_OK, FarmError, TryAgain, Unavailable, UsageError
from farm.protocol.limits import UNIQUE_MAX
from farm.protocol.names import function_name_fault

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing it costs a millisecond
    from collections.abc import Callable

    from farm.cli.terms import Terms
    from farm.client.connection import Connection

AUTO = b"auto"  # the key is made of what is submitted
AUTO_DIGEST = 24  # bytes: no two jobs of anybody get the same by chance, and its hex fits into a unique key


def run(values: Values) -> int:
    """Submit, and leave with the job's exit code."""
    if values["json"] and not values["background"]:
        raise UsageError(
            "--json is for --background: else stdout is what the job writes, byte for byte",
            "farm submit -b --json FUNCTION, then farm wait ID and farm result --json ID",
        )
    function, unique, terms = _function(values), _unique(values), _terms(values)
    servers = Servers(values)
    if terms and terms.after and len(servers) > 1:
        servers = _servers_of_dependencies(terms, values)
    payload = _payload(values)
    wanted = Request(function, payload, unique, str(values["priority"]))
    if unique == AUTO:
        wanted.unique = auto_key(function, payload)
    if terms:
        wanted.terms, wanted.needs, wanted.epoch = terms.words, terms.needs, terms.epoch(time.time())
    try:
        if values["background"]:
            _background(wanted, values, servers)
            return EXIT_OK
        from farm.cli.foreground import run as wait

        return wait(wanted, values, servers, _keep_quiet if values["quiet"] else say)
    except Exists as found:
        return _settle(found, wanted, values)


def _background(wanted: Request, values: Values, servers: Servers) -> None:
    """Submit, and print the handle."""
    connection = servers.connect_for(wanted.function, bool(values["no_wait"]))
    notify = _keep_quiet if values["quiet"] else say
    _print_handle(*_submitted(connection, wanted, values, servers, notify))


def _submitted(
    connection: Connection, wanted: Request, values: Values, servers: Servers, notify: Callable[[str, str], None]
) -> tuple[str, str]:
    """The handle, and the line that says it. With `--retry-lost` the job goes to the next server when one goes, or is
    silent, before it has said that it has the job."""
    while True:
        try:
            return _submit(connection, wanted, values, notify)
        except Unavailable as lost:
            why = lost
        finally:
            connection.close()
        connection = servers.connect_again(connection, why, notify)


def _submit(
    connection: Connection, wanted: Request, values: Values, notify: Callable[[str, str], None]
) -> tuple[str, str]:
    """By this connection."""
    if not values["json"]:
        handle = submit_background(connection, wanted, notify)
        return handle, handle
    from farm.cli.submit_json import json_line, submit_and_tell

    handle, known = submit_and_tell(connection, wanted, notify)
    return handle, json_line(wanted, handle, connection.address, known)


def _keep_quiet(message: str, hint: str) -> None:
    pass


def _settle(found: Exists, wanted: Request, values: Values) -> int:
    """There was a job with the same key already: what `--if-exists` says about it. One that is still to come to its end
    was joined by the server, so `attach` gets here only when it has ended: its result is as good as if this had waited
    for it."""
    what = f"job {found.handle} with this unique key exists already ({found.state})"
    attach, background = values["if_exists"] == "attach", bool(values["background"])
    if attach and not background:
        from farm.cli.attach import give_kept

        give_kept(found, what, values)
    if not attach and values["if_exists"] != "skip":
        raise TryAgain(what, EXISTS_HINT)
    if values["json"]:
        from farm.cli.submit_json import Known, json_line

        _print_handle(found.handle, json_line(wanted, found.handle, found.address, Known(True, found.state)))
        return EXIT_OK  # the line says it all
    if background:
        _print_handle(found.handle, found.handle)
    if not values["quiet"]:
        say(f"{what}: nothing was submitted")
    return EXIT_OK


def _print_handle(handle: str, line: str) -> None:
    """line: what says it. The job is in the queue now: whoever cannot be told on stdout is told of it all the same."""
    try:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        words = (error.strerror or str(error)).lower()
        raise FarmError(f"cannot write the handle of job {handle}: {words}", status=EXIT_CANNOT_CREATE) from error


def _function(values: Values) -> bytes:
    name = str(values["function"])
    if fault := function_name_fault(name):
        raise UsageError(f"the function name {name[:60]!r} {fault}", "use letters, digits and punctuation, no blanks")
    return os.fsencode(name)


def auto_key(function: bytes, payload: bytes) -> bytes:
    """The same for the same function and payload."""
    from _blake2 import blake2b  # `hashlib` brings OpenSSL along: 2 ms

    hash = blake2b(function + b"\0", digest_size=AUTO_DIGEST)
    hash.update(payload)
    return b"auto:" + hash.hexdigest().encode()


def _terms(values: Values) -> Terms | None:
    """None: there are none, as in most calls. Raises UsageError."""
    if values["wait_timeout"] is not None and values["background"]:
        raise UsageError("--wait-timeout and --background exclude each other", "nobody waits for a background job")
    if not terms_given(values):
        return None
    from farm.cli.terms import Terms

    return Terms(values, time.time())


def _servers_of_dependencies(terms: Terms, values: Values) -> Servers:
    """Those that the job may be submitted to: the one that has the jobs that it is to wait for."""
    from farm.cli.dependencies import home_of

    address, after = home_of(terms.after, values)
    terms.wait_for(after)
    return Servers({**values, "server": [address]})


def _unique(values: Values) -> bytes:
    unique = os.fsencode(str(values["unique"] or ""))
    if len(unique) > UNIQUE_MAX:
        raise UsageError(
            f"the unique key is {len(unique)} bytes long (at most {UNIQUE_MAX})",
            "-u auto makes a short one of the function and the payload",
        )
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
