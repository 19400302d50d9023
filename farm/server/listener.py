"""Listening sockets: TCP and Unix, each opened or refused with one clear line."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat

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


def listen(address: Address, insecure: bool, backlog: int, taken: set[Target]) -> list[Listener]:
    """The sockets for one address (a name may stand for several). Raises Unavailable or NotPermitted.

    taken: where this server listens already; what is named twice, or by two names, is opened once.
    """
    wanted = [target for target in resolve(address, insecure, listening=True) if target not in taken]
    if address.path or address.port:  # each port 0 is another one
        taken.update(wanted)
    if address.path:
        return [_listen_unix(address, backlog) for _ in wanted]
    sockets: list[Listener] = []
    try:
        for family, where in wanted:
            sockets.append(_listen_tcp(family, where, address, backlog))
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _listen_tcp(family: int, where: tuple[object, ...] | str, address: Address, backlog: int) -> Listener:
    sock = Listener(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(where)
        sock.listen(backlog)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise _cannot_listen(address, error) from error
    return sock


def _listen_unix(address: Address, backlog: int) -> Listener:
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
        sock.listen(backlog)
        sock.setblocking(False)
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
    return Unavailable(f"cannot listen on {address}: {reason(error)}", hint)
