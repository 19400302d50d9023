"""Listening sockets: TCP and Unix, each opened or refused with one clear line."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Iterable

from farm.errors import Unavailable
from farm.net import Target, reason, resolve
from farm.protocol.address import Address


class Listener(socket.socket):
    """A listening socket; `place` is its file, as (path, device, inode), if it has one."""

    place: tuple[str, int, int] | None = None

    def stop(self) -> None:
        """Close it. Its file goes too, unless another server has put one of its own there meanwhile."""
        if self.place:
            path, *mark = self.place
            with contextlib.suppress(OSError):
                found = os.stat(path, follow_symlinks=False)
                if [found.st_dev, found.st_ino] == mark:
                    os.unlink(path)
        self.close()


def check(addresses: Iterable[Address], insecure: bool) -> None:
    """Whether `listen` would take all of them now; nothing of it stays. Raises Unavailable or NotPermitted.

    It lets a server say what is wrong with an address before it looks at its store, which may take long, and makes one.
    """
    taken: set[Target] = set()
    for address in addresses:
        for sock in _bind(address, insecure, taken):
            sock.stop()


def listen(address: Address, insecure: bool, backlog: int, taken: set[Target]) -> list[Listener]:
    """The sockets for one address (a name may stand for several). Raises Unavailable or NotPermitted.

    taken: where this server listens already; what is named twice, or by two names, is opened once.
    """
    sockets = _bind(address, insecure, taken)
    try:
        for sock in sockets:
            sock.listen(backlog)
            sock.setblocking(False)
    except OSError as error:
        for sock in sockets:
            sock.stop()
        raise _cannot_listen(address, error) from error
    return sockets


def _bind(address: Address, insecure: bool, taken: set[Target]) -> list[Listener]:
    """The same, not listening yet."""
    wanted = [target for target in resolve(address, insecure, listening=True) if target not in taken]
    if address.path or address.port:  # each port 0 is another one
        taken.update(wanted)
    if address.path:
        return [_bind_unix(address) for _ in wanted]
    sockets: list[Listener] = []
    try:
        for family, where in wanted:
            sockets.append(_bind_tcp(family, where, address))
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _bind_tcp(family: int, where: tuple[object, ...] | str, address: Address) -> Listener:
    sock = Listener(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(where)
    except OSError as error:
        sock.close()
        raise _cannot_listen(address, error) from error
    return sock


def _bind_unix(address: Address) -> Listener:
    _remove_stale(address)
    sock = Listener(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        mask = os.umask(0o177)  # only this user may connect
        try:
            sock.bind(address.path)
            found = os.stat(address.path)
            sock.place = address.path, found.st_dev, found.st_ino
        finally:
            os.umask(mask)
    except OSError as error:
        sock.close()
        raise _cannot_listen(address, error) from error
    return sock


def _remove_stale(address: Address) -> None:
    """A socket file that nobody listens on is left over from a server that was killed."""
    try:
        if not stat.S_ISSOCK(os.stat(address.path).st_mode):
            raise Unavailable(f"cannot listen on {address}: the file exists and is no socket")
    except OSError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(address.path)
        except ConnectionRefusedError:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(address.path)
        except OSError:
            return


def _cannot_listen(address: Address, error: OSError) -> Unavailable:
    hint = ""
    if error.errno == errno.EADDRINUSE:
        hint = "another server runs there already; choose another address with --listen"
    elif error.errno == errno.EACCES:
        hint = "ports below 1024 and foreign directories need more rights; choose another address with --listen"
    elif error.errno == errno.ENOENT:
        hint = "make its directory first, or choose another address with --listen"
    return Unavailable(f"cannot listen on {address}: {reason(error)}", hint)
