"""The two servers that are measured, each fresh for each load, and what the system says they cost."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.cli.rig import FARM, connect, free_port
from tests.support import PATIENCE_S, wait_until

OURS, PEER = "farm", "gearmand"
_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"  # where gearmand is on Debian
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


class Server:
    """A running server, as a load and an observer see it."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self.port = port

    def cpu_s(self) -> float:
        """The processor time that it has used, in user and system mode."""
        words = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) * _TICK_S

    def memory(self) -> int:
        """Its resident memory in bytes."""
        words = Path(f"/proc/{self.process.pid}/statm").read_text().split()
        return int(words[1]) * os.sysconf("SC_PAGE_SIZE")


def missing() -> list[str]:
    """The programs that a comparison needs and that are not here."""
    return [name for name in ("cc", "gearmand") if not shutil.which(name, path=_PATH)]


@contextlib.contextmanager
def fresh(name: str, directory: Path) -> Iterator[Server]:
    """A server of this name with nothing in it, on a port of its own; gone afterwards. Both keep jobs in memory."""
    port = free_port()
    if name == OURS:
        argv = [FARM, "server", "--store", "memory", "--listen", f"127.0.0.1:{port}"]
    else:
        log = directory / f"gearmand-{port}.log"
        argv = [str(shutil.which("gearmand", path=_PATH)), "-p", str(port), "-L", "127.0.0.1", "-l", str(log)]
    env = {name: value for name, value in os.environ.items() if not name.startswith(("FARM_", "GEARMAN"))}
    with (directory / f"{name}-{port}.err").open("wb") as err:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=err, stderr=err, env=env)
    try:
        wait_until(lambda: _answers(port) or process.poll() is not None, what=f"{name} answers")
        assert process.poll() is None, (directory / f"{name}-{port}.err").read_text()
        yield Server(process, port)
    finally:
        process.kill()
        process.wait(PATIENCE_S)


def _answers(port: int) -> bool:
    try:
        with connect(f"127.0.0.1:{port}") as wire:
            wire.raw(b"version\n")
            return wire.line().startswith(b"OK")
    except OSError:
        return False
