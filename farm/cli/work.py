"""`farm work`: a command becomes a worker."""

from __future__ import annotations

import os

from farm.cli.options import Values
from farm.errors import UsageError
from farm.loop import Loop
from farm.protocol.address import parse_addresses
from farm.protocol.names import function_name_fault
from farm.worker.worker import SLOTS_MAX, Worker, WorkerConfig


def run(values: Values) -> int:
    """Work until told to stop."""
    name = str(values["function"])
    if fault := function_name_fault(name):
        raise UsageError(f"the function name {name[:60]!r} {fault}", "use letters, digits and punctuation, no blanks")
    slots = values["jobs"]
    assert isinstance(slots, int)
    if slots > SLOTS_MAX:
        raise UsageError(f"--jobs {slots} is too many (at most {SLOTS_MAX})", "start several workers")
    server, linger_s = values["server"], values["linger"]
    assert isinstance(linger_s, float)
    config = WorkerConfig(
        function=os.fsencode(name),
        argv=_argv(values),
        servers=parse_addresses([str(text) for text in server] if isinstance(server, list) else []),
        slots=slots,
        insecure=bool(values["insecure"]),
        collect=bool(values["collect"]),
        linger_s=linger_s,
        verbose=bool(values["verbose"]),
        quiet=bool(values["quiet"]),
        name=str(values["name"] or ""),
    )
    return Worker(config, Loop()).run()


def _argv(values: Values) -> list[str]:
    command, line = values["command"], values["cmd"]
    argv = [str(word) for word in command] if isinstance(command, list | tuple) else []
    if line and argv:
        raise UsageError("both --cmd and a command were given", "use one of them")
    if line:
        return ["sh", "-c", str(line)]
    if not argv or not argv[0]:
        raise UsageError("no command was given", "farm work FUNCTION -- COMMAND ..., or --cmd 'SHELL LINE'")
    return argv
