"""Looks up the addresses of servers in a small process: the system's call blocks, for half a minute where a name server
is down, and a worker that shows no sign of life for so long is taken for dead.

A process, not a thread: a worker starts commands by forking, which a process with threads should not do.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING

from farm.errors import FarmError, NotPermitted, Unavailable
from farm.loop import READ
from farm.net import Target, is_numeric, resolve

if TYPE_CHECKING:
    from farm.loop import Loop, Timer
    from farm.protocol.address import Address

LOOKUP_TIMEOUT_S = 30.0  # two name servers that are asked twice, 5 s each, and room for a search list
READ_SIZE = 64 * 1024
OPEN_MAX = 4096  # descriptors to close; as in guard.py

Found = list[Target] | FarmError
Then = Callable[[Found], None]


class Lookups:
    """One lookup of an address at a time, however many slots wait for it."""

    def __init__(self, loop: Loop, insecure: bool) -> None:
        self._loop = loop
        self._insecure = insecure
        self._waiting: dict[Address, list[Then]] = {}

    def find(self, address: Address, then: Then) -> None:
        """Call `then` with where the address leads, or with Unavailable or NotPermitted; at once where nobody has to be
        asked."""
        if address.path or is_numeric(address.host):
            then(self._resolve(address))
        elif address in self._waiting:
            self._waiting[address].append(then)
        else:
            self._waiting[address] = [then]
            self._ask(address)

    def _resolve(self, address: Address) -> Found:
        try:
            return resolve(address, self._insecure)
        except (Unavailable, NotPermitted) as error:
            return error

    def _ask(self, address: Address) -> None:
        try:
            read, write = os.pipe()
        except OSError as error:  # no descriptor left: again after a while
            self._tell(address, Unavailable(str(error.strerror).lower()))
            return
        try:
            pid = os.fork()
        except OSError as error:
            os.close(read)
            os.close(write)
            self._tell(address, Unavailable(str(error.strerror).lower()))
            return
        if pid == 0:
            try:
                _answer(write, self._resolve, address)
            finally:
                os._exit(0)
        os.close(write)
        _Asked(self._loop, pid, read, lambda found: self._tell(address, found))

    def _tell(self, address: Address, found: Found) -> None:
        for then in self._waiting.pop(address):
            then(list(found) if isinstance(found, list) else found)


class _Asked:
    """A process that looks up one address, and what it has said."""

    def __init__(self, loop: Loop, pid: int, read: int, then: Then) -> None:
        self._loop = loop
        self._pid = pid
        self._read = read
        self._said = b""
        self._then = then
        self._timer: Timer = loop.call_in(LOOKUP_TIMEOUT_S, lambda: os.kill(pid, signal.SIGKILL))
        loop.watch(read, READ, self._ready)

    def _ready(self, events: int) -> None:
        chunk = os.read(self._read, READ_SIZE)
        self._said += chunk
        if chunk:
            return
        self._timer.cancel()
        self._loop.watch(self._read, 0, self._ready)
        os.close(self._read)
        os.waitpid(self._pid, 0)  # it leaves as soon as it has said everything
        self._then(_parse(self._said))


def _answer(write: int, find: Callable[[Address], Found], address: Address) -> None:
    """In the process. It may outlive its worker by a moment, and must not seem to be it."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    os.setsid()
    os.dup2(write, 0)
    os.closerange(1, OPEN_MAX)
    found = find(address)
    said = [type(found).__name__, found.message, found.hint] if isinstance(found, FarmError) else ["found", *found]
    os.write(0, json.dumps(said).encode())


def _parse(said: bytes) -> Found:
    if not said:
        return Unavailable("the name servers do not answer")
    kind, *rest = json.loads(said)
    if kind == "found":
        return [(family, where if isinstance(where, str) else tuple(where)) for family, where in rest]
    return (NotPermitted if kind == "NotPermitted" else Unavailable)(*rest)
