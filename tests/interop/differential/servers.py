"""A pair of fresh servers, so that nothing of one script can be seen by the next."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.interop.ends import _ENV, _PATH, _answers, need
from tests.support import CHECKOUT, PATIENCE_S, free_port, wait_until


class Pair(NamedTuple):
    """The ports."""

    gearmand: int
    farm: int


@contextlib.contextmanager
def pair(directory: Path, number: int = 0) -> Iterator[Pair]:
    """Both servers, with a log level of the same name, for `verbose` shows it."""
    need("gearmand")
    port = free_port()
    log = directory / f"{number}-farm.log"
    gearmand = [str(shutil.which("gearmand", path=_PATH)), "-L", "127.0.0.1", "-p", str(port), "--verbose", "NOTICE"]
    gearmand += ["-l", str(directory / f"{number}-gearmand.log"), "-P", str(directory / f"{number}-gearmand.pid")]
    farm = [str(CHECKOUT / "bin" / "farm"), "server", "--order", "registration", "--wakeup", "all"]
    farm += ["--listen", "127.0.0.1:0", "--store", "memory"]
    null = subprocess.DEVNULL
    with log.open("wb") as err:
        # With an environment of their own, for these are started in threads. Without one the new process reads this
        # one's while it execs; pytest changes that at each test, and now and then the exec fails: EFAULT.
        servers = [
            subprocess.Popen(farm, env=_ENV, stdin=null, stderr=err),
            subprocess.Popen(gearmand, env=_ENV, stdin=null, stdout=null, stderr=null),
        ]
    try:
        wait_until(lambda: _answers(port), what="gearmand listens")
        wait_until(lambda: b"store: " in log.read_bytes() or servers[0].poll() is not None, what="farm listens")
        where = log.read_text().partition(" listening on ")[2].split()[0]
        yield Pair(port, int(where.rpartition(":")[2]))
    finally:
        ended = [server.poll() for server in servers]
        for server in servers:
            server.kill()
            server.wait(PATIENCE_S)
        assert ended[0] is None, log.read_text()
        assert "Traceback" not in log.read_text(), log.read_text()
