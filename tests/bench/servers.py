"""The two servers that are measured: in memory or on a disk, fresh or with what an earlier one left, and what the
system says they cost."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import farm.compiled
from farm.protocol import packets as p
from tests.cli.rig import FARM, Rig, connect
from tests.support import free_port, wait_until

OURS, PEER = "farm", "gearmand"  # farm as bin/compile makes it
INTERPRETED = "interpreted"  # farm as it is without
_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"  # where gearmand is on Debian
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
START_MAX_S = 120.0  # with a backlog of a million jobs, on a machine that does a lot else


class Server:
    """A running server, as a load and an observer see it. serving_s: from the start of its process to its first
    answer."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], port: int, serving_s: float) -> None:
        self.name = name
        self.process = process
        self.port = port
        self.serving_s = serving_s

    def cpu_s(self) -> float:
        """The processor time that it has used, in user and system mode."""
        words = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) * _TICK_S

    def waited_s(self) -> float:
        """How long its main thread was ready to run and had no processor: what others cost it."""
        return int(Path(f"/proc/{self.process.pid}/schedstat").read_text().split()[1]) / 1e9

    def memory(self) -> int:
        """Its resident memory in bytes."""
        words = Path(f"/proc/{self.process.pid}/statm").read_text().split()
        return int(words[1]) * os.sysconf("SC_PAGE_SIZE")

    def settle(self) -> None:
        """Wait until farm has made all that it was given durable, so that what it does later counts too. gearmand
        does everything before it answers."""
        if self.name != PEER:
            with connect(f"127.0.0.1:{self.port}") as wire:
                wire.send(p.OPTION_REQ, b"farm-sync")
                wire.expect(p.OPTION_RES, b"farm-sync")
                wire.expect_nothing()


def missing() -> list[str]:
    """The programs that a comparison needs and that are not here."""
    return [name for name in ("cc", PEER) if not shutil.which(name, path=_PATH)]


def on_memory(directory: Path) -> bool:
    """Whether a file there would never see a disk."""
    kind = subprocess.run(["stat", "-f", "-c", "%T", directory], capture_output=True, text=True, check=True).stdout
    return kind.strip() in ("tmpfs", "ramfs")


@contextlib.contextmanager
def fresh(name: str, directory: Path, *options: str, durable: bool = False) -> Iterator[Server]:
    """A server of this name with nothing in it; gone afterwards, with all that it kept below this directory."""
    with (
        tempfile.TemporaryDirectory(dir=directory) as place,
        running(name, Path(place), *options, durable=durable) as it,
    ):
        yield it


@contextlib.contextmanager
def running(name: str, place: Path, *options: str, durable: bool = False) -> Iterator[Server]:
    """A server of this name on a port of its own; killed afterwards. It keeps jobs in memory, or durably in this
    directory, with those that are there."""
    port = free_port()
    env = {}
    if name in (OURS, INTERPRETED):
        env = {farm.compiled.INTERPRETED: "1"} if name == INTERPRETED else {}
        store = str(place / "store") if durable else "memory"
        argv = [FARM, "server", "--store", store, "--listen", f"127.0.0.1:{port}", *options]
    else:
        argv = [str(shutil.which(PEER, path=_PATH)), "-p", str(port), "-L", "127.0.0.1", "-l", str(place / "log")]
        argv += ["-q", "libsqlite3", "--libsqlite3-db", str(place / "queue.db")] if durable else []
        argv += options
    rig = Rig(place)
    try:
        begin = time.monotonic()
        server = rig.background(argv, env)
        wait_until(lambda: _answers(port) or server.ended, START_MAX_S, what=f"{name} answers")
        assert not server.ended, server.err()
        yield Server(name, server.process, port, time.monotonic() - begin)
    finally:
        rig.end()


def _answers(port: int) -> bool:
    try:
        with connect(f"127.0.0.1:{port}") as wire:
            wire.raw(b"version\n")
            return wire.line().startswith(b"OK")
    except OSError:
        return False
