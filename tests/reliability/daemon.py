"""`farm server` as its users start it, on a store of its own, that can be killed and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.support import CHECKOUT, PATIENCE_S, Wire, free_port, wait_until

DISK = "/var/tmp"  # a real disk: /tmp is memory on some machines


class Daemon:
    """One store and one port; a process for each life.

    mutant: the name of a rule in mutants.py to break before the server's main is called; it is the same server else.
    env: variables for the server only.
    """

    def __init__(
        self, directory: Path, *options: str, mutant: str = "", env: dict[str, str] | None = None, port: int = 0
    ) -> None:
        self.directory = directory
        self.store = directory / "store"
        self.port = port or free_port()
        self.lives = 0
        self.under: tuple[str, ...] = ()  # words before its command, which must become it
        self._argv: list[str] = [str(CHECKOUT / "bin" / "farm")]
        if mutant:
            code = "import sys; from tests.reliability.mutants import run; run(sys.argv.pop(1))"
            self._argv = [sys.executable, "-P", "-c", code, mutant]
        self._argv += ["server", "--listen", f"127.0.0.1:{self.port}", "--store", str(self.store), *options]
        self._env = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        self._env |= {"PYTHONPATH": str(CHECKOUT)} | (env or {})
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """Of this life."""
        assert self._process is not None
        return self._process

    def start(self) -> Daemon:
        """A new life; returns once it listens."""
        self.lives += 1
        with self._log_file.open("wb") as log:
            self._process = subprocess.Popen(
                [*self.under, *self._argv], cwd=CHECKOUT, env=self._env, stdin=subprocess.DEVNULL, stderr=log
            )
        wait_until(lambda: "store: " in self.log() or self.process.poll() is not None, what="the server listens")
        assert self.process.poll() is None, self.log()
        return self

    @property
    def _log_file(self) -> Path:
        return self.directory / f"life-{self.lives}.log"

    def log(self) -> str:
        """What it has said in this life."""
        return self._log_file.read_text()

    def connect(self) -> Wire:
        """A new connection to it."""
        return Wire(("127.0.0.1", self.port))

    def send(self, number: int) -> None:
        """Send it one."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """kill -9, and reap it. It must have lived until then."""
        died = self.process.poll()
        self.send(signal.SIGKILL)
        self.process.wait(PATIENCE_S)
        assert died is None and "Traceback" not in self.log(), f"it ended by itself, {died}: {self.log()}"

    def restart(self) -> Daemon:
        """kill -9, and a new life on the same store and port."""
        self.kill()
        return self.start()

    def stop(self, number: int = signal.SIGTERM) -> float:
        """End it in good order; returns how many seconds that took."""
        begin = time.monotonic()
        self.send(number)
        status = self.process.wait(PATIENCE_S)
        assert status == 0, f"{status}: {self.log()}"
        return time.monotonic() - begin

    def end(self) -> None:
        """However it is."""
        if self._process and self._process.poll() is None:
            self._process.kill()
            self._process.wait(PATIENCE_S)

    def memory(self) -> dict[str, int]:
        """Its resident memory in bytes: `VmRSS` now, `VmHWM` at most so far."""
        lines = (line.split() for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines())
        return {words[0][:-1]: int(words[1]) * 1024 for words in lines if words[0] in ("VmRSS:", "VmHWM:")}


def jobs_in_all(wire: Wire, functions: Sequence[bytes]) -> int:
    """How many jobs of these functions the server has, delayed and running ones included."""
    rows = (row.split(b"\t") for row in wire.listing(b"status"))
    return sum(int(row[1]) for row in rows if row[0] in functions)
