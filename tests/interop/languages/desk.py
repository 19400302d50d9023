"""One live `farm server` with farm's own workers and everybody's, and the ways to ask it for something."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

from tests.interop.languages import installed
from tests.interop.languages.packages import GEAR, NODE, PYGEARMAN, Package, package
from tests.support import CHECKOUT, PATIENCE_S, Wire, wait_until

BIN = str(CHECKOUT / "bin" / "farm")
CLIENT_S = 20.0  # with the start of an interpreter, on a loaded machine
BIG_S = 120.0  # 16 MiB through a library that copies all it has at each piece


class Result(NamedTuple):
    """What a client left behind."""

    code: int
    out: bytes
    err: bytes

    @property
    def events(self) -> list[str]:
        """The lines on its stderr."""
        return self.err.decode().splitlines()


class Process:
    """A process whose output goes to files."""

    def __init__(self, argv: list[str], stem: Path, stdin: bytes, env: dict[str, str]) -> None:
        self._out, self._err, source = (Path(f"{stem}.{end}") for end in ("out", "err", "in"))
        source.write_bytes(stdin)
        with source.open("rb") as file, self._out.open("wb") as out, self._err.open("wb") as err:
            self.popen = subprocess.Popen(argv, stdin=file, stdout=out, stderr=err, cwd=CHECKOUT, env=env)

    @property
    def err(self) -> bytes:
        """Its stderr so far."""
        return self._err.read_bytes()

    def result(self, timeout_s: float = CLIENT_S) -> Result:
        """Wait for its end."""
        code = self.popen.wait(timeout_s)
        return Result(code, self._out.read_bytes(), self.err)

    def kill(self) -> None:
        """End it now, however it is."""
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.wait(PATIENCE_S)


class Desk:
    """Everything is started once, when it is first asked for; `close` ends it all."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._processes: list[Process] = []
        self._workers: dict[str, Process] = {}
        self._env = {name: value for name, value in os.environ.items() if not name.startswith(("FARM_", "GEARMAN"))}
        self._env |= {"NODE_NO_WARNINGS": "1", "PYTHONWARNINGS": "ignore", "PYTHONUNBUFFERED": "1"}
        server = self.start("server", [BIN, "server", "--listen", "127.0.0.1:0", "--stop-grace", "1s"])
        wait_until(lambda: b"store: " in server.err or server.popen.poll() is not None, what="the server listens")
        self.server_pid = int(server.popen.pid)
        self.port = int(server.err.decode().partition(" listening on ")[2].split()[0].rpartition(":")[2])
        self.address = f"127.0.0.1:{self.port}"

    def start(self, name: str, argv: list[str], stdin: bytes = b"") -> Process:
        """Any program."""
        process = Process(argv, self._directory / f"{len(self._processes)}-{name}", stdin, self._env)
        self._processes.append(process)
        return process

    def close(self) -> None:
        """Clients and workers first, the server last. Nothing of farm's may have left a traceback."""
        for process in reversed(self._processes):
            process.kill()
        for process in self._processes:
            if process.popen.args[0] == BIN:  # type: ignore[index]
                assert b"Traceback" not in process.err, process.err.decode()

    # -- the server

    def connect(self) -> Wire:
        """A raw connection."""
        return Wire(("127.0.0.1", self.port))

    def status(self, function: str) -> tuple[int, int, int]:
        """Jobs, running jobs and workers of a function."""
        with self.connect() as wire:
            rows = [line.decode().rstrip("\n").split("\t") for line in wire.listing(b"status")]
        found = [tuple(map(int, row[1:])) for row in rows if row[0] == function]
        return found[0] if found else (0, 0, 0)  # type: ignore[return-value]

    def wait_status(self, function: str, *expected: int) -> None:
        """Wait until the function has exactly so many jobs, running jobs and workers."""
        wait_until(lambda: self.status(function) == expected, what=f"{function} at {expected}")

    # -- other people's programs

    def _argv(self, name: str, end: str) -> list[str]:
        found: Package = package(name)
        installed.need(*found.needs)
        words = {"here": str(installed.HERE), "name": name, "end": end, "build": str(self._directory)}
        if found.language in (GEAR, PYGEARMAN):
            words["venv"] = str(installed.venv(name))
        elif found.language == NODE:
            self._env["NODE_PATH"] = str(installed.node_modules())
        elif "{build}" in found.command[0]:
            installed.compiled(self._directory)
        return [word.format(**words) for word in found.command]

    def client(
        self,
        name: str,
        action: str,
        function: str,
        payload: bytes = b"",
        *,
        priority: str = "",
        unique: str = "",
        when: float = 0,
    ) -> Process:
        """Start a package's client."""
        words = [str(self.port), action, function, priority, unique, str(round(when))]
        return self.start(f"{name.replace(':', '')}-{action}", self._argv(name, "client") + words, payload)

    def worker(self, name: str) -> Process:
        """The package's worker, which is started when it is first asked for, and again when it has ended."""
        known = self._workers.get(name)
        if known is None or known.popen.poll() is not None:
            argv = [*self._argv(name, "worker"), str(self.port), prefix(name)]
            known = self._workers[name] = self.start(f"{prefix(name)}-worker", argv)
            for offer in offers(name):
                self._wait_worker(f"{prefix(name)}-{offer}", known)
        return known

    def _wait_worker(self, function: str, process: Process) -> None:
        wait_until(
            lambda: self.status(function)[2] or process.popen.poll() is not None, what=f"{function}: {process.err!r}"
        )
        assert process.popen.poll() is None, process.err.decode()

    # -- farm's own

    def farm_worker(self, function: str, *words: str) -> str:
        """farm's worker of a function, started when it is first asked for. words: options and the command."""
        if function not in self._workers:
            argv = [BIN, "work", "-s", self.address, "-j", "3", function, *words]
            process = self._workers[function] = self.start(f"farm-worker-{function}", argv)
            self._wait_worker(function, process)
        return function

    def submit(self, function: str, payload: bytes = b"", timeout_s: float = CLIENT_S) -> Result:
        """farm's client, to its end."""
        return self.start("submit", [BIN, "submit", "-s", self.address, function], payload).result(timeout_s)


def prefix(name: str) -> str:
    """What the functions of a package's worker begin with, and its client id."""
    return name.lower().replace("::", "-")


def offers(name: str) -> list[str]:
    """The functions that the package's worker offers, without the prefix."""
    return [feature for feature in package(name).worker.split() if feature != "id"]


def random_name() -> str:
    """A function that nobody else uses."""
    return f"f-{time.monotonic_ns()}"
