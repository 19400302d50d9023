"""Sockets as all ends of farm want them: which addresses are allowed, and how a connection is set up.

On the start-up path of `farm submit`, hence `_socket`, the half of `socket` that is written in C: the other half brings
enums and selectors along and takes as long to import as the rest of `farm submit` together (measured: 7 of 27 ms).
"""

from __future__ import annotations

import _socket as socket

from farm.errors import NotPermitted, Unavailable
from farm.protocol.address import Address, is_loopback

KEEPALIVE_IDLE_S = 30  # a peer whose machine vanished is noticed after 30 + 3 * 10 seconds
KEEPALIVE_COUNT = 3  # questions without an answer, a third of the idle time apart

Target = tuple[int, tuple[object, ...] | str]  # address family, and where to connect or bind


def resolve(address: Address, insecure: bool, listening: bool = False) -> list[Target]:
    """Where an address leads: one target for a Unix socket, one or more for a host name.

    Raises Unavailable when the name has no address, NotPermitted when one is not loopback and `insecure` is off.
    """
    if address.path:
        return [(socket.AF_UNIX, address.path)]
    flags = socket.AI_PASSIVE if listening else 0
    # As bytes, an ASCII name is not sent through the IDNA codec, which would have to be imported (3 ms).
    host: str | bytes = address.host.encode() if address.host.isascii() else address.host
    try:
        found = socket.getaddrinfo(host, address.port, type=socket.SOCK_STREAM, flags=flags)
    except (OSError, UnicodeError) as error:
        raise Unavailable(
            f"cannot resolve {address.host!r}: {reason(error)}", "check the name of the server"
        ) from error
    targets: dict[Target, None] = {}
    for family, _, _, _, where in found:
        refuse_insecure(str(where[0]), insecure)
        targets[family, where] = None
    return list(targets)


def is_numeric(host: str) -> bool:
    """Whether it is an address already, so that no name server has to be asked."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except (OSError, UnicodeError, ValueError):
            continue
        return True
    return False


def refuse_insecure(host: str, insecure: bool) -> None:
    """Raises NotPermitted for a numeric address that is another machine's, or open to others, unless asked for."""
    if not insecure and not is_loopback(host):
        raise NotPermitted(
            f"{host} is not a loopback address, and farm does not encrypt yet",
            "go through an ssh tunnel, or say --insecure on a network that you trust",
        )


def reason(error: Exception) -> str:
    """The system's words for an error, fit for the end of a line."""
    return (getattr(error, "strerror", None) or str(error)).lower()


def keepalive_interval(idle_s: int) -> int:
    """Seconds between two questions to a peer that was silent for `idle_s`."""
    return max(1, idle_s // KEEPALIVE_COUNT)


def tune(sock: socket.socket, keepalive_s: int = KEEPALIVE_IDLE_S) -> None:
    """Set up a connected socket: small packets go out at once, and a dead peer is noticed."""
    if sock.family == socket.AF_UNIX:
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        ("TCP_KEEPIDLE", keepalive_s),
        ("TCP_KEEPINTVL", keepalive_interval(keepalive_s)),
        ("TCP_KEEPCNT", KEEPALIVE_COUNT),
    ):
        if hasattr(socket, option):  # Linux; elsewhere the system's own times hold
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
