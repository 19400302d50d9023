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
from farm.protocol.address import parse_addresses


class Servers:
    """The servers that were named, and what earlier calls of farm found out about them."""

    def __init__(self, values: Values) -> None:
        self._list = ServerList(parse_addresses(_texts(values["server"])), str(values["order"]))
        self._remembered = Remembered(self._list, path_of(os.environ))
        self._insecure = bool(values["insecure"])
        self._notify = None if values["quiet"] else say
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

    def lost(self, connection: Connection) -> None:
        """The server at its other end went away, or hangs: the others come first for a while."""
        self._list.failed(connection.address, time.monotonic(), chance)
        self._remembered.keep()


def _texts(value: object) -> list[str]:
    return [str(text) for text in value] if isinstance(value, list) else []
