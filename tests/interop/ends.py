"""The ends of a job as real processes: servers, workers and clients, farm's and the stock ones.

Every process is started through `Ends`, which ends each by its pid however the test went, and every wait is bounded.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support import CHECKOUT, PATIENCE_S, Wire, free_port, wait_until

FARM, STOCK = "farm", "stock"  # whose client, server or worker it is
KINDS = (FARM, STOCK)

_BIN = str(CHECKOUT / "bin" / "farm")
_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"  # where gearmand and ip are on Debian
_ENV = {name: value for name, value in os.environ.items() if not name.startswith(("FARM_", "GEARMAN"))}
_ENV["FARM_STORE"] = "memory"  # as gearmand's, whose way is compared


def need(*programs: str) -> None:
    """Without these programs a test is skipped on a desk, and fails in CI, where nothing may be skipped unnoticed."""
    missing = [program for program in programs if not shutil.which(program, path=_PATH)]
    if missing:
        lack("not installed: " + ", ".join(missing))


def lack(words: str) -> None:
    """Something that the test needs is not here: skip on a desk, fail in CI."""
    if os.environ.get("CI"):
        pytest.fail(words)
    pytest.skip(words)


def is_running(pid: int) -> bool:
    """Whether the process still does anything; one that nobody has reaped yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Result(NamedTuple):
    """What a client left behind."""

    code: int
    out: bytes
    err: bytes


class Process:
    """A process whose output goes to files."""

    def __init__(
        self,
        argv: list[str],
        stem: Path,
        stdin: bytes | None = None,
        out: Path | int | None = None,
        cwd: Path = CHECKOUT,
    ) -> None:
        """out: a file, or a descriptor of the test's own, instead of a file beside `stem`."""
        self._out = out if isinstance(out, Path) else Path(f"{stem}.out")
        self._err = Path(f"{stem}.err")
        with contextlib.ExitStack() as files:
            source: object = subprocess.DEVNULL
            if stdin is not None:
                Path(f"{stem}.in").write_bytes(stdin)
                source = files.enter_context(Path(f"{stem}.in").open("rb"))
            self.popen = subprocess.Popen(
                argv,
                stdin=source,  # type: ignore[call-overload]
                stdout=out if isinstance(out, int) else files.enter_context(self._out.open("wb")),
                stderr=files.enter_context(self._err.open("wb")),
                cwd=cwd,
                env=_ENV,
                # A shell's background job ignores SIGINT, and so would all that it starts.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )

    @property
    def pid(self) -> int:
        """Of the program itself: every start here is an exec."""
        return int(self.popen.pid)

    @property
    def out(self) -> bytes:
        """Its stdout so far."""
        return self._out.read_bytes()

    @property
    def err(self) -> bytes:
        """Its stderr so far."""
        return self._err.read_bytes()

    def says(self, words: bytes) -> None:
        """Wait until `words` are on its stderr."""
        wait_until(lambda: words in self.err or self.popen.poll() is not None, what=f"{words!r} in {self.err!r}")
        assert words in self.err

    def send(self, number: int) -> None:
        """A signal, to this process alone."""
        self.popen.send_signal(number)

    def result(self, timeout_s: float = PATIENCE_S) -> Result:
        """Wait for its end. The code is negative when a signal ended it."""
        code = self.popen.wait(timeout_s)
        return Result(code, self.out, self.err)

    def kill(self) -> None:
        """End it now, however it is."""
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.wait(PATIENCE_S)


class Server:
    """A running server of either kind."""

    def __init__(self, kind: str, process: Process, port: int) -> None:
        self.kind = kind
        self.process = process
        self.port = port
        self.address = f"127.0.0.1:{port}"

    def connect(self) -> Wire:
        """A raw connection to it."""
        return Wire(("127.0.0.1", self.port))

    def status(self) -> dict[str, tuple[int, int, int]]:
        """For each function: jobs, running jobs, workers."""
        with self.connect() as wire:
            rows = [line.decode().rstrip("\n").split("\t") for line in wire.listing(b"status")]
        return {name: (int(total), int(running), int(workers)) for name, total, running, workers in rows}

    def wait_status(self, function: str, *expected: int) -> None:
        """Wait until the function has exactly so many jobs, running jobs and workers."""
        wait_until(lambda: self.status().get(function, (0, 0, 0)) == expected, what=f"{function} at {expected}")


class Ends:
    """Starts processes, and ends them all."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._processes: list[Process] = []

    def start(
        self,
        name: str,
        argv: list[str],
        stdin: bytes | None = None,
        out: Path | int | None = None,
        cwd: Path = CHECKOUT,
    ) -> Process:
        """Any program. Its output goes to files that are called by `name`."""
        process = Process(argv, self.directory / f"{len(self._processes)}-{name}", stdin, out, cwd)
        self._processes.append(process)
        return process

    def close(self) -> None:
        """Clients and workers first, servers last. No farm process may have left a traceback."""
        for process in reversed(self._processes):
            process.kill()
        for process in self._processes:
            assert b"Traceback" not in process.err, process.err.decode()

    # -- servers

    def server(self, kind: str, port: int = 0) -> Server:
        """A server that listens. port: 0 for any free one."""
        return self._farm_server(port) if kind == FARM else self._gearmand(port)

    def _farm_server(self, port: int) -> Server:
        process = self.start("farm-server", [_BIN, "server", "--listen", f"127.0.0.1:{port}", "--stop-grace", "1s"])
        process.says(b"store: ")
        found = process.err.decode().partition(" listening on ")[2].split()[0]
        return Server(FARM, process, int(found.rpartition(":")[2]))

    def _gearmand(self, port: int) -> Server:
        need("gearmand")
        port = port or free_port()
        stem = self.directory / f"gearmand-{len(self._processes)}"
        argv = ["gearmand", "-L", "127.0.0.1", "-p", str(port), "-l", f"{stem}.log", "-P", f"{stem}.pid"]
        process = self.start("gearmand", [str(shutil.which(argv[0], path=_PATH)), *argv[1:]])
        wait_until(lambda: _answers(port) or process.popen.poll() is not None, what="gearmand listens")
        assert process.popen.poll() is None, process.err
        return Server(STOCK, process, port)

    # -- workers

    def worker(self, kind: str, server: Server, function: str, *command: str, slots: int = 1) -> Process:
        """A worker that the server knows of."""
        before = server.status().get(function, (0, 0, 0))[2]
        if kind == FARM:
            argv = [_BIN, "work", "-s", server.address, "-j", str(slots), "-v", function, "--", *command]
        else:
            need("gearman")
            argv = ["gearman", "-w", "-h", "127.0.0.1", "-p", str(server.port), "-f", function, "--", *command]
        process = self.start(f"{kind}-worker-{function}", argv)
        wait_until(
            lambda: server.status().get(function, (0, 0, 0))[2] >= before + slots, what=f"a worker: {process.err!r}"
        )
        return process

    # -- clients

    def submit(
        self,
        kind: str,
        server: Server,
        function: str,
        payload: bytes = b"",
        *options: str,
        out: Path | int | None = None,
    ) -> Process:
        """A client that waits for its job (unless the options say otherwise)."""
        return self.start(f"{kind}-client", client_argv(kind, server, function, *options), payload, out)


def client_argv(kind: str, server: Server, function: str, *options: str) -> list[str]:
    """The command line of a client."""
    if kind == FARM:
        return [_BIN, "submit", "-s", server.address, *options, function]
    need("gearman")
    return ["gearman", "-h", "127.0.0.1", "-p", str(server.port), *options, "-f", function]


def submit(
    kind: str, server: Server, function: str, payload: bytes = b"", *options: str, timeout_s: float = PATIENCE_S
) -> Result:
    """Run a client to its end, with pipes; one that hangs is killed, and the test fails."""
    return run(client_argv(kind, server, function, *options), payload, timeout_s)


def run(
    argv: list[str], stdin: bytes = b"", timeout_s: float = PATIENCE_S, more: Mapping[str, str] | None = None
) -> Result:
    """Run any program to its end. more: environment variables."""
    done = subprocess.run(
        argv,
        input=stdin,
        capture_output=True,
        timeout=timeout_s,
        cwd=CHECKOUT,
        env={**_ENV, **(more or {})},
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr)


@contextlib.contextmanager
def ends_in(directory: Path) -> Iterator[Ends]:
    """Processes that live as long as the block."""
    ends = Ends(directory)
    try:
        yield ends
    finally:
        ends.close()


def _answers(port: int) -> bool:
    try:
        Wire(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
