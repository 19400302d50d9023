"""Real farm processes: started through bin/farm with a clean environment, in a directory of their own.

Whatever a test starts, and whatever that starts in turn, carries a mark in its environment; at the end all of it is
ended by its process id, so that nothing outlives a test that failed half-way.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pexpect

from tests.support import CHECKOUT, PATIENCE_S, Wire, wait_until
from tests.support import free_port as free_port

BIN = CHECKOUT / "bin"
FARM = str(BIN / "farm")


@dataclass
class Done:
    """A process that has ended. status: its exit status, or minus the signal that ended it."""

    status: int
    out: bytes
    err: str

    def __post_init__(self) -> None:
        assert "Traceback" not in self.err, self.err

    @property
    def error(self) -> str:
        """What the one `farm: error:` line says; nothing but a hint may follow it."""
        lines = self.err.splitlines()
        assert lines, "nothing on stderr"
        assert lines[0].startswith("farm: error: "), self.err
        assert len(lines) == 1 or (len(lines) == 2 and lines[1].startswith("hint: ")), self.err
        return lines[0].removeprefix("farm: error: ")

    @property
    def hint(self) -> str:
        """What the hint says."""
        return self.err.splitlines()[-1].removeprefix("hint: ")


class Running:
    """A process in the background. Its stdout and stderr go to files, so it never waits for a reader."""

    def __init__(self, argv: list[str], env: dict[str, str], directory: Path, number: int, **popen: Any) -> None:
        self.out_path = directory / f"{number}.out"
        self.err_path = directory / f"{number}.err"
        popen.setdefault("stdin", subprocess.DEVNULL)
        with self.out_path.open("wb") as out, self.err_path.open("wb") as err:
            self.process = subprocess.Popen(argv, env=env, cwd=directory, **{"stdout": out, "stderr": err, **popen})
        self.pid = self.process.pid

    def out(self) -> bytes:
        """What it has written to stdout so far."""
        return self.out_path.read_bytes()

    def err(self) -> str:
        """What it has said on stderr so far."""
        return self.err_path.read_text(errors="replace")

    def wait_for(self, words: str, count: int = 1) -> None:
        """Until it has said `words`, so many times."""
        wait_until(lambda: self.err().count(words) >= count or self.ended, what=f"{words!r} in {self.err()!r}")
        assert self.err().count(words) >= count, self.err()

    @property
    def ended(self) -> bool:
        """Whether it has."""
        return self.process.poll() is not None

    def signal(self, number: int) -> None:
        """Send it one."""
        self.process.send_signal(number)

    def wait(self, timeout_s: float = PATIENCE_S) -> Done:
        """Its end."""
        status = self.process.wait(timeout_s)
        return Done(status, self.out(), self.err())

    def terminate(self) -> Done:
        """SIGTERM, and its end."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """SIGKILL: it cannot tidy up."""
        self.process.kill()
        self.process.wait(PATIENCE_S)


class ServerRunning(Running):
    """A `farm server` in the foreground, listening."""

    def started(self) -> ServerRunning:
        """Wait until it listens."""
        wait_until(lambda: "store: " in self.err() or self.ended, what="the server listens")
        assert not self.ended, self.err()
        return self

    @property
    def addresses(self) -> list[str]:
        """Where it listens, as it says itself."""
        words = (line.partition(" listening on ") for line in self.err().splitlines())
        return [where for _, found, where in words if found]

    @property
    def address(self) -> str:
        """The first of them."""
        return self.addresses[0]

    def connect(self) -> Wire:
        """A raw connection to it."""
        return connect(self.address)


class Rig:
    """Starts farm; `home` is its working directory and its home."""

    def __init__(self, home: Path, server: str = "") -> None:
        self.home = home
        self.mark = f"RIG={uuid.uuid4().hex}"
        self.env = {
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "TERM": "xterm",
            "FARM_STORE": "memory",  # a default store would be shared with whatever else runs on this machine
            **dict([self.mark.split("=")]),
        }
        if server:
            self.env["FARM_SERVER"] = server
        self._started: list[Running] = []
        self._terminals: list[pexpect.spawn] = []

    def run(self, *argv: str, stdin: bytes | int = b"", env: dict[str, str] | None = None, **popen: Any) -> Done:
        """`farm ARGV...`, to its end."""
        return self.execute([FARM, *argv], stdin, env, **popen)

    def shell(self, script: str, env: dict[str, str] | None = None) -> Done:
        """A bash script that finds farm on its PATH, to its end."""
        return self.execute(["bash", "-c", script], subprocess.DEVNULL, env)

    def execute(self, argv: list[str], stdin: bytes | int, env: dict[str, str] | None, **popen: Any) -> Done:
        """Any command, to its end."""
        feed = {"input": stdin} if isinstance(stdin, bytes) else {"stdin": stdin}
        popen = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": self.home, **popen}
        ended = subprocess.run(argv, env=self.env | (env or {}), timeout=2 * PATIENCE_S, **feed, **popen)
        return Done(ended.returncode, ended.stdout or b"", (ended.stderr or b"").decode(errors="replace"))

    def start(self, *argv: str, env: dict[str, str] | None = None, **popen: Any) -> Running:
        """`farm ARGV...`, in the background."""
        return self._start(Running, [FARM, *argv], env, **popen)

    def _start(self, kind: type[Running], argv: list[str], env: dict[str, str] | None = None, **popen: Any) -> Any:
        running = kind(argv, self.env | (env or {}), self.home, len(self._started), **popen)
        self._started.append(running)
        return running

    def background(self, argv: list[str], env: dict[str, str] | None = None, **popen: Any) -> Running:
        """Any command, in the background."""
        running: Running = self._start(Running, argv, env, **popen)
        return running

    def submit(self, *argv: str, stdin: bytes | int = b"", **popen: Any) -> Done:
        """`farm submit ARGV...`, to its end."""
        return self.run("submit", *argv, stdin=stdin, **popen)

    def worker(self, function: str, *argv: str, count: int = 1, **popen: Any) -> Running:
        """`farm work FUNCTION ARGV...`, known to the server; `count` workers of the function are then there in all."""
        running = self.start("work", function, *argv, **popen)
        wait_until(lambda: running.ended or self.counts(function)[2] >= count, what=f"a worker for {function}")
        assert not running.ended, running.err()
        return running

    def server(self, *options: str, env: dict[str, str] | None = None) -> ServerRunning:
        """A server of the test's own, on a free port unless the options say where."""
        listen = [] if "--listen" in options or "FARM_LISTEN" in (env or {}) else ["--listen", "127.0.0.1:0"]
        return self.server_of([FARM, "server", *listen, *options], env)

    def server_of(self, argv: list[str], env: dict[str, str] | None = None) -> ServerRunning:
        """A server that any command becomes."""
        server: ServerRunning = self._start(ServerRunning, argv, env)
        return server.started()

    def terminal(self, *argv: str, env: dict[str, str] | None = None) -> pexpect.spawn:
        """`farm ARGV...` at a terminal of its own."""
        return self.terminal_of([FARM, *argv], env)

    def terminal_of(self, argv: list[str], env: dict[str, str] | None = None) -> pexpect.spawn:
        """Any command at a terminal of its own."""
        spawn = pexpect.spawn(
            argv[0],
            argv[1:],
            env=self.env | (env or {}),
            cwd=str(self.home),
            timeout=PATIENCE_S,
            dimensions=(24, 100),
            encoding="utf-8",
        )
        self._terminals.append(spawn)
        return spawn

    # -- looking

    def counts(self, function: str, server: str = "") -> tuple[int, int, int]:
        """(jobs, running jobs, workers) of a function, from the admin protocol."""
        with connect(server or self.env["FARM_SERVER"]) as wire:
            rows = [row.rstrip(b"\n").split(b"\t") for row in wire.listing(b"status")]
        numbers = [tuple(map(int, row[1:])) for row in rows if row[0] == function.encode()]
        return numbers[0] if numbers else (0, 0, 0)  # type: ignore[return-value]

    def wait_counts(self, function: str, *wanted: int) -> None:
        """Until the server counts so many jobs, running jobs and workers (as many of the three as are given)."""
        wait_until(
            lambda: self.counts(function)[: len(wanted)] == wanted,
            what=f"{function}: {wanted}, not {self.counts(function)}",
        )

    def wait_file(self, name: str, content: str | None = None) -> str:
        """Until a file in the working directory is there and not empty, or has this content."""
        path = self.home / name

        def there() -> bool:
            if not path.exists():
                return False
            return path.read_text() == content if content is not None else bool(path.read_text().strip())

        wait_until(there, what=f"{name}: {path.read_text() if path.exists() else 'nothing'!r}")
        return path.read_text()

    def write(self, name: str, text: str, mode: int = 0o644) -> str:
        """A file in the working directory; returns its path."""
        path = self.home / name
        path.write_text(text)
        path.chmod(mode)
        return str(path)

    def fifo(self, name: str) -> None:
        """A command of a job waits with `read x < NAME`, until `release(NAME)`."""
        os.mkfifo(self.home / name)

    def release(self, name: str) -> None:
        """Let the one go on that waits."""
        wait_until(lambda: _give(self.home / name), what=f"a reader of {name}")

    # -- the end

    def processes(self) -> list[int]:
        """Every living process that this rig has started, directly or not."""
        return [pid for pid in _pids() if self.mark.encode() in _environment(pid)]

    def end(self) -> None:
        """End everything that is left. Nothing that ran may have shown a traceback."""
        for spawn in self._terminals:
            spawn.close(force=True)
        for running in self._started:
            if not running.ended:
                running.kill()
            for pipe in (running.process.stdin, running.process.stdout, running.process.stderr):
                if pipe:
                    with contextlib.suppress(OSError):
                        pipe.close()
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for running in self._started:
            assert "Traceback" not in running.err(), running.err()


def connect(address: str) -> Wire:
    """A raw connection to an address as the log shows it."""
    if address.startswith("unix:"):
        return Wire(address.removeprefix("unix:"))
    host, _, port = address.rpartition(":")
    return Wire((host, int(port)))


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def children(pid: int) -> list[int]:
    """The children of a process, zombies among them."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def descriptors(pid: int) -> int:
    """How many descriptors a process holds."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _give(path: Path) -> bool:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:  # nobody reads yet
        return False
    os.write(fd, b"go\n")
    os.close(fd)
    return True
