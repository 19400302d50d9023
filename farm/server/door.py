"""Where connections come in: the listening sockets, and a pause where the system has no descriptor for another one."""

from __future__ import annotations

import socket
from collections.abc import Callable
from logging import getLogger
from typing import TYPE_CHECKING

from farm.loop import READ
from farm.server.listener import Listener, listen

if TYPE_CHECKING:
    from farm.loop import Loop, Timer
    from farm.net import Target
    from farm.server.config import ServerConfig

log = getLogger("farm.server")

ACCEPT_BATCH = 64  # connections taken in one turn, so that a flood of them does not starve those that are open
ACCEPT_PAUSE_S = 1.0  # when there is no descriptor left, unless one is given back before; and between two complaints


class Door:
    """Calls `connect(socket, address)` for each new connection."""

    def __init__(self, config: ServerConfig, loop: Loop, connect: Callable[[socket.socket, object], None]) -> None:
        self._config = config
        self._loop = loop
        self._connect = connect
        self._listeners: list[Listener] = []
        self._pause: Timer | None = None
        self._complained_at = -ACCEPT_PAUSE_S

    def open(self) -> list[str]:
        """Listen on every configured address; returns them as they turned out (port 0 has become a number)."""
        taken: set[Target] = set()
        for address in self._config.listen:
            self._listeners += listen(address, self._config.insecure, self._config.backlog, taken)
        self._watch(READ)
        return [_name(sock) for sock in self._listeners]

    def close(self) -> None:
        """Take nobody any more."""
        self._watch(0)
        for sock in self._listeners:
            sock.stop()
        self._listeners.clear()

    def has_room(self) -> None:
        """A connection was closed: whoever waits outside need not wait until the pause is over."""
        if self._pause:
            self._pause.cancel()
            self._resume()

    def _watch(self, events: int) -> None:
        for sock in self._listeners:
            self._loop.watch(sock.fileno(), events, lambda events, sock=sock: self._accept(sock))  # type: ignore[misc]

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(ACCEPT_BATCH):
            try:
                sock, where = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                # No descriptor or memory left; or an error of the new connection, which Linux passes on here.
                self._stop_for_now(error)
                return
            self._connect(sock, where)

    def _stop_for_now(self, error: OSError) -> None:
        if self._loop.now - self._complained_at >= ACCEPT_PAUSE_S:
            self._complained_at = self._loop.now
            log.error("cannot accept a connection: %s; trying again in %gs", error.strerror, ACCEPT_PAUSE_S)
        if not self._pause:
            self._watch(0)
            self._pause = self._loop.call_in(ACCEPT_PAUSE_S, self._resume)

    def _resume(self) -> None:
        self._pause = None
        self._watch(READ)


def _name(sock: socket.socket) -> str:
    where = sock.getsockname()
    if isinstance(where, str):
        return f"unix:{where}"
    host, port = where[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
