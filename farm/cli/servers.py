"""The servers that a command was told of.

On the start-up path of `farm submit`: it imports nothing slow.
"""

from __future__ import annotations

import os
import time

from farm.cli.main import say
from farm.cli.options import Values
from farm.client.connection import Connection, chance, connect
from farm.client.remembered import Remembered, path_of
from farm.client.servers import ServerList
from farm.client.submit import require_worker
from farm.errors import Unavailable
from farm.protocol.address import parse_addresses

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing it costs a millisecond
    from collections.abc import Callable

RETRY_LOST_MAX = 5  # a job that takes server after server with it must not go on for ever
RECONNECT_MAX_S = 30.0  # as long as a server may take to start again
RECONNECT_PAUSE_S = 0.2


class Servers:
    """The servers that were named, and what earlier calls of farm found out about them."""

    def __init__(self, values: Values) -> None:
        self._list = ServerList(parse_addresses(_texts(values["server"])), str(values["order"]))
        self._remembered = Remembered(self._list, path_of(os.environ))
        self._insecure = bool(values["insecure"])
        self._notify = None if values["quiet"] else say
        self._retries = RETRY_LOST_MAX if values["retry_lost"] else 0
        self._remembered.recall()

    def __len__(self) -> int:
        return len(self._list)

    def connect(self) -> Connection:
        """A connection to the next one that answers. Raises Unavailable or NotPermitted."""
        try:
            return connect(self._list, self._insecure)
        finally:
            self._remembered.keep()

    def connect_for(self, function: bytes, no_wait: bool) -> Connection:
        """A connection to submit a job of this function by. no_wait: raises Unavailable when no worker offers it."""
        connection = self.connect()
        if no_wait:
            connection.notify = self._notify
            require_worker(connection, function)
        return connection

    def connect_again(self, lost: Connection, why: Unavailable, notify: Callable[[str, str], None]) -> Connection:
        """After a server was lost that a job was submitted to: a connection to submit it again by, with `--retry-lost`;
        else, or when that was often enough, raises `why`. A server that went away to start again gets a moment."""
        self.lost(lost)
        if not self._retries:
            raise why
        self._retries -= 1
        notify(f"{why.message}; submitting it again", "")
        deadline = time.monotonic() + RECONNECT_MAX_S
        while True:
            try:
                return self.connect()
            except Unavailable:
                if time.monotonic() > deadline:
                    raise
                time.sleep(RECONNECT_PAUSE_S)

    def lost(self, connection: Connection) -> None:
        """The server at its other end went away, or hangs: the others come first for a while."""
        self._list.failed(connection.address, time.monotonic(), chance)
        self._remembered.keep()


def _texts(value: object) -> list[str]:
    return [str(text) for text in value] if isinstance(value, list) else []
