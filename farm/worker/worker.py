"""A worker process: its slots, its signals and what it says on stderr."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import socket
from dataclasses import dataclass

from farm.errors import (
    EXIT_NOT_EXECUTABLE,
    EXIT_NOT_FOUND,
    EXIT_OK,
    EXIT_SIGNAL_BASE,
    NO_SERVER_HINT,
    FarmError,
    Unavailable,
    UsageError,
)
from farm.loop import Loop
from farm.net import resolve
from farm.protocol.address import Address
from farm.protocol.names import shown
from farm.worker.child import LINGER_S
from farm.worker.guard import Guard
from farm.worker.lookup import Lookups
from farm.worker.slot import Slot

SLOTS_MAX = 1024
DESCRIPTORS_PER_SLOT = 3  # the command's pipes, besides a connection to each server
DESCRIPTORS_OTHER = 16


@dataclass
class WorkerConfig:
    """What `farm work` was told. argv: the command and its arguments, run without a shell."""

    function: bytes
    argv: list[str]
    servers: list[Address]
    slots: int = 1
    insecure: bool = False
    collect: bool = False
    linger_s: float = LINGER_S  # how long what a command left behind may be silent
    verbose: bool = False
    quiet: bool = False
    name: str = ""

    def __post_init__(self) -> None:
        self.name = self.name or f"{socket.gethostname()}-{os.getpid()}"


class Worker:
    """Runs jobs until it is told to stop.

    First SIGTERM or SIGINT: finish what runs, take no more. Second: end the commands' process groups, and leave; their
    jobs are given to other workers.
    """

    def __init__(self, config: WorkerConfig, loop: Loop) -> None:
        self.config = config
        self._loop = loop
        self.lookups = Lookups(loop, config.insecure)
        self._slots = [Slot(number + 1, self, loop) for number in range(config.slots)]
        self._stops = 0
        self._signal = 0
        self._failure: FarmError | None = None
        self._up: dict[Address, bool] = {}
        self.guard: Guard | None = None

    def run(self) -> int:
        """Returns the exit status. Raises FarmError for what trying again cannot mend."""
        _require_command(self.config.argv[0])
        _require_descriptors(self.config)
        for address in self.config.servers:
            try:
                resolve(address, self.config.insecure)  # refuses other machines before anything is sent to them
            except Unavailable:
                pass  # its name may be known later
        self.guard = Guard()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.on_signal(number, lambda number=number: self._stop(number))  # type: ignore[misc]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup means it
            self._loop.on_signal(signal.SIGHUP, self._hang_up)
        self._loop.on_signal(signal.SIGCHLD, self._reap)
        self._loop.call_in(0, self._start)
        self._loop.run()
        if self._failure:
            raise self._failure
        return EXIT_OK if self._stops < 2 else EXIT_SIGNAL_BASE + self._signal

    def _start(self) -> None:
        for slot in self._slots:
            slot.start()

    def _reap(self) -> None:
        for slot in self._slots:
            if slot.run and slot.run.child:
                slot.run.child.check_exit()

    # -- stopping

    def _stop(self, number: int) -> None:
        self._stops += 1
        self._signal = number
        if self._stops == 1:
            busy = sum(slot.run is not None for slot in self._slots)
            if busy:
                self.say(f"stopping when {busy} running job{'s are' if busy > 1 else ' is'} done; again to end now")
            for slot in self._slots:
                slot.stop()
        elif self._stops == 2:
            for slot in self._slots:
                slot.abort()
        self.check_closed()

    def _hang_up(self) -> None:
        """The terminal is gone: nobody will send a second signal."""
        self._stops = max(self._stops, 1)
        self._stop(signal.SIGHUP)

    def check_closed(self) -> None:
        """Leave once the last slot has nothing left to do."""
        if (self._stops or self._failure) and all(slot.closed for slot in self._slots):
            self._loop.stop()

    def fail(self, failure: FarmError) -> None:
        """End everything; `run` raises the failure."""
        self._failure = self._failure or failure
        for slot in self._slots:
            slot.abort()
        self.check_closed()

    # -- what a person is told

    def server_up(self, address: Address) -> None:
        """Said once for each server, and again when it is back."""
        if not self._up.get(address):
            back = "again " if address in self._up else ""
            self._up[address] = True
            self.say(f"{back}working on {shown(self.config.function)!r} for {address}, {self.config.slots} at once")

    def server_down(self, address: Address, words: str) -> None:
        """Said once until it is back, however often it is tried."""
        if self._up.get(address, True):
            hint = "" if address in self._up else NO_SERVER_HINT
            self._up[address] = False
            self.complain(f"no server at {address}: {words}; trying again until there is one", hint)

    def say(self, message: str) -> None:
        """One line on stderr, unless it was told to be quiet."""
        if not self.config.quiet:
            self.complain(message)

    def complain(self, message: str, hint: str = "") -> None:
        """What somebody has to mend is said in any case."""
        text = f"farm: {message}\n" + (f"hint: {hint}\n" if hint else "")
        with contextlib.suppress(OSError):  # nobody reads it, or its disk is full: the work goes on
            os.write(2, text.encode(errors="backslashreplace"))

    def trace(self, message: str) -> None:
        """One line on stderr if it was told to be verbose."""
        if self.config.verbose:
            self.say(message)


def _require_descriptors(config: WorkerConfig) -> None:
    """Raises UsageError now rather than fail in the middle of a job."""
    needed = config.slots * (len(config.servers) + DESCRIPTORS_PER_SLOT) + DESCRIPTORS_OTHER
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit != resource.RLIM_INFINITY and needed > limit:
        raise UsageError(
            f"--jobs {config.slots} needs {needed} open files, and {limit} are allowed",
            f"run fewer at once, or allow more: ulimit -n {needed}",
        )


def _require_command(command: str) -> None:
    """Raises FarmError now rather than fail every job later."""
    if shutil.which(command):
        return
    if "/" in command and os.path.exists(command):
        raise FarmError(f"not executable: {command}", "chmod +x it, or give a program", EXIT_NOT_EXECUTABLE)
    raise FarmError(
        f"command not found: {command}",
        f"it is not on the PATH; the file beside you is ./{command}"
        if os.path.exists(command)
        else "the command follows `--`; a shell line is given with --cmd",
        EXIT_NOT_FOUND,
    )
