"""The admin protocol: one line in, lines of text out, byte for byte as gearmand writes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from farm import __version__
from farm.protocol.names import one_word

if TYPE_CHECKING:
    from farm.broker.broker import Broker
    from farm.broker.peer import Peer


def answer(broker: Broker, peer: Peer, line: bytes) -> None:
    """Answer one line. Words are separated by blanks; the command word's case does not matter."""
    words = line.split()
    command = words[0].lower() if words and not line.startswith(b" ") else b""
    handler = _COMMANDS.get(command)
    if handler is None:
        reply = b"ERR UNKNOWN_COMMAND Unknown+server+command" + one_word(command) + b"\r\n"
    else:
        reply = handler(broker)
    broker.effects.send(peer.id, reply)


def _status(broker: Broker) -> bytes:
    """One line a function: name, jobs in all (running ones included), running, workers."""
    rows = [
        b"%s\t%d\t%d\t%d\n"
        % (one_word(function.name), function.queued + function.running, function.running, len(function.workers))
        for function in broker.functions.values()
    ]
    return b"".join(rows) + b".\n"


def _workers(broker: Broker) -> bytes:
    """One line a connection: file descriptor, address, client id, and what it can do."""
    rows = []
    for peer in broker.peers.values():
        abilities = b"".join(b" " + one_word(function.name) for function in peer.can_do)
        rows.append(b"%d %s %s :%s\n" % (peer.fd, peer.address.encode(), peer.client_id, abilities))
    return b"".join(rows) + b".\n"


def _version(broker: Broker) -> bytes:
    return b"OK %s+farm\n" % __version__.encode()


_COMMANDS: dict[bytes, Callable[[Broker], bytes]] = {
    b"status": _status,
    b"workers": _workers,
    b"version": _version,
}
