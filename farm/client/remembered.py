"""Which servers failed lately, from one `farm submit` to the next: a process that lives for milliseconds would find out
anew each time that the first of its servers is down.

A small file of this user, looked at only where several servers are named. It can only change the order in which they
are tried: whatever is wrong with it, it counts as empty, and nothing is said.
"""

from __future__ import annotations

import os
import time

from farm.client.servers import RETRY_MAX_S, ServerList

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

Failures = dict[str, tuple[int, float]]

READ_MAX = 64 * 1024  # more than a thousand servers
FORGET_S = 60.0  # how long after its rest a failure still lengthens the next one


def path_of(environment: Mapping[str, str]) -> str:
    """The file's place: gone with the login where there is such a directory. "": there is none. (As the XDG base
    directory specification has it, a path that is not absolute does not count.)"""
    runtime = environment.get("XDG_RUNTIME_DIR", "")
    if runtime.startswith("/"):
        return f"{runtime}/farm/servers"
    home = environment.get("HOME", "")
    cache = environment.get("XDG_CACHE_HOME", "")
    if not cache.startswith("/"):
        cache = f"{home}/.cache" if home.startswith("/") else ""
    return f"{cache}/farm/servers" if cache else ""


class Remembered:
    """What is remembered of these servers. Times are monotonic seconds, which all processes of a machine share."""

    def __init__(self, servers: ServerList, path: str) -> None:
        self._servers = servers
        self._path = path if len(servers) > 1 else ""
        self._known: Failures = {}

    def recall(self) -> None:
        """Tell the list what earlier processes found."""
        if self._path:
            now = time.monotonic()
            self._servers.recall(_read(self._path, now), now)
            self._known = self._servers.failures()

    def keep(self) -> None:
        """Write down what this process found, if that is anything new."""
        found = self._servers.failures()
        if not self._path or found == self._known:
            return
        others = _read(self._path, time.monotonic())
        for address in self._servers:
            others.pop(str(address), None)
        _write(self._path, {**others, **found})
        self._known = found


def _read(path: str, now: float) -> Failures:
    """The failures that still count. What another machine or an earlier start of this one wrote does not."""
    failures: Failures = {}
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            text = os.read(fd, READ_MAX)
        finally:
            os.close(fd)
        for line in text.decode().splitlines():
            times, rests_until, address = line.split(" ", 2)
            if now - FORGET_S <= float(rests_until) <= now + RETRY_MAX_S:
                failures[address] = (int(times), float(rests_until))
    except (OSError, ValueError):
        return {}
    return failures


def _write(path: str, failures: Failures) -> None:
    """The whole file at once, so that nobody reads half of it."""
    lines = [f"{times} {rests_until:.3f} {address}\n" for address, (times, rests_until) in failures.items()]
    text = "".join(line for line in lines if len(line.splitlines()) == 1)
    draft = f"{path}.{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except (OSError, ValueError):
        return
    try:
        os.write(fd, text.encode())
        os.rename(draft, path)
    except (OSError, ValueError):
        try:
            os.unlink(draft)
        except OSError:
            pass
    finally:
        os.close(fd)
