"""`farm server` as a process: detaching, the pid file, signals, and the order of starting and stopping.

Detached, the process that was started lives until the daemon listens or has failed; so its exit status is the truth and
whatever comes after it in a script finds the server ready.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pwd
import signal
import sys
from collections.abc import Callable, Iterator

from farm import __version__, compiled
from farm.errors import EXIT_CANNOT_CREATE, EXIT_INTERNAL, EXIT_OK, FarmError, UsageError
from farm.loop import Loop
from farm.net import reason
from farm.server import garbage
from farm.server.config import ServerConfig
from farm.server.listener import check
from farm.server.logs import NOTICE, LogConfig, give_to, reopen, set_up
from farm.server.server import Server
from farm.store.contract import Store

log = logging.getLogger("farm.server")

READY = b"ready"
DESCRIPTORS_MAX = 65536  # above what a shell has open


def serve(
    config: ServerConfig,
    store: Store,
    *,
    logs: LogConfig | None = None,
    pid_file: str | None = None,
    detach: bool = False,
    user: str | None = None,
) -> int:
    """Run a server until it is told to stop; returns the exit status. Raises FarmError when it cannot start.

    SIGTERM and SIGINT stop it, twice at once; SIGUSR1 drains it; SIGHUP reopens the log file.
    """
    logs = logs or LogConfig()
    if not detach:
        return _serve(config, store, logs, pid_file, user, lambda: None)
    return _detached(lambda ready: _serve(config, store, logs, pid_file, user, ready))


def _serve(
    config: ServerConfig,
    store: Store,
    logs: LogConfig,
    pid_file: str | None,
    user: str | None,
    ready: Callable[[], None],
) -> int:
    garbage.set_up()
    handler = set_up(logs)
    check(config.listen, config.insecure)
    loop = Loop()
    with _as_user(user, store), garbage.paused():
        server = Server(config, store, loop)
    try:
        loop.on_signal(signal.SIGTERM, server.stop)
        loop.on_signal(signal.SIGINT, server.stop)
        loop.on_signal(signal.SIGUSR1, server.drain)
        loop.on_signal(signal.SIGHUP, lambda: reopen(handler))
        for address in server.listen():
            log.log(NOTICE, "farm %s listening on %s", __version__, address)
        log.log(NOTICE, "store: %s", store.describe())
        if said := compiled.note():
            log.log(NOTICE, "job path: %s", said)
        with _pid_file(pid_file):
            if user:
                entry = _user(user)
                give_to(handler, entry.pw_uid, entry.pw_gid)
                _become(user)
            ready()
            loop.run()
        log.log(NOTICE, "stopped")
    finally:
        server.close()
        loop.close()
    if server.failure:
        raise server.failure
    return EXIT_OK


def _become(name: str) -> None:
    """Give up root's rights, which only listening on a low port and writing to system directories needed."""
    entry = _user(name)
    try:
        os.initgroups(name, entry.pw_gid)
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
    except PermissionError as error:
        raise _cannot_become(name) from error


@contextlib.contextmanager
def _as_user(name: str | None, store: Store) -> Iterator[None]:
    """For a moment: what the store makes must be that user's, who goes on with it, and not root's."""
    if name is None:
        yield
        return
    entry, group, groups = _user(name), os.getegid(), os.getgroups()
    if os.geteuid() != 0:
        raise _cannot_become(name)
    store.give_to(entry.pw_uid, entry.pw_gid)
    os.initgroups(name, entry.pw_gid)
    os.setegid(entry.pw_gid)
    os.seteuid(entry.pw_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)


def _user(name: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        raise UsageError(f"there is no user {name!r}") from None


def _cannot_become(name: str) -> UsageError:
    return UsageError(f"cannot become {name!r}", "only root can")


@contextlib.contextmanager
def _pid_file(path: str | None) -> Iterator[None]:
    if path:
        try:
            with open(path, "w") as file:
                file.write(f"{os.getpid()}\n")
        except OSError as error:
            raise FarmError(f"cannot write the pid file {path}: {reason(error)}", status=EXIT_CANNOT_CREATE) from error
    try:
        yield
    finally:
        if path:
            with contextlib.suppress(OSError):
                if _named_in(path) == os.getpid():  # it may be another server's by now
                    os.unlink(path)


def _named_in(path: str) -> int:
    """The process id in a pid file; 0 if it has none."""
    with open(path, "rb") as file:
        text = file.read(32)
    return int(text) if text.strip().isdigit() else 0


def _detached(run: Callable[[Callable[[], None]], int]) -> int:
    """Run away from the terminal, in another process; returns in this one once that is ready or has failed."""
    sys.stdout.flush()
    sys.stderr.flush()
    read, write = os.pipe()
    child = os.fork()
    if child:
        os.close(write)
        os.waitpid(child, 0)
        with os.fdopen(read, "rb") as pipe:
            word = pipe.read()  # ends when the daemon closes its end, by itself or by dying
        return EXIT_OK if word == READY else int(word or EXIT_INTERNAL)
    os.close(read)
    os.closerange(3, write)  # a lock or a pipe of the script that started it must not live as long as the server
    os.closerange(write + 1, DESCRIPTORS_MAX)
    os.setsid()
    if os.fork():  # the daemon must lead no session, or it could get a terminal again
        os._exit(0)

    def ready() -> None:
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        os.close(null)
        os.write(write, READY)
        os.close(write)

    try:
        return run(ready)
    except FarmError as error:
        with contextlib.suppress(OSError):
            os.write(write, b"%d" % error.status)
        raise
