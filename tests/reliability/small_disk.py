"""A small disk of a test's own, a tmpfs in a mount namespace of its own, and what is done to servers on it."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from farm.protocol import packets as p
from farm.store.room import SMALL_SHARE
from tests.cli.rig import FARM, Rig, Running, connect
from tests.interop.ends import lack, need
from tests.support import CHECKOUT, PATIENCE_S, Wire, req

DISK_SIZE = 4 << 20

_HOLD = 'mount -t tmpfs -o size="$1",mode=700 tmpfs "$2" && echo mounted && exec cat'


class SmallDisk:
    """A disk of so many bytes, which is full quickly, and servers on it. `place` is it, as this process sees it."""

    def __init__(self, directory: Path, size: int = DISK_SIZE) -> None:
        self._rig = Rig(directory)
        self._share = size // SMALL_SHARE
        self._inside = directory / "disk"
        self._inside.mkdir()
        command = ["unshare", "--mount", "sh", "-c", _HOLD, "sh", str(size), str(self._inside)]
        # It holds the namespace until its input ends.
        self._holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert self._holder.stdout
        self._is_mounted = self._holder.stdout.readline() == b"mounted\n"
        self.place = Path(f"/proc/{self._holder.pid}/root{self._inside}")

    def must_be_there(self) -> None:
        """Skip on a desk where nothing can be mounted."""
        if not self._is_mounted:
            _, words = self._holder.communicate(timeout=PATIENCE_S)
            lack(f"cannot mount a disk of the test's own: {words.decode().strip()}")

    def end(self) -> None:
        """The servers go, and with them the disk."""
        self._rig.end()
        self._holder.kill()
        self._holder.communicate(timeout=PATIENCE_S)

    def server(self, reserve: int = 0, program: Sequence[str] = (FARM,)) -> Running:
        """A server with its store on the disk. reserve: 0: as it chooses."""
        options = ["--listen", "127.0.0.1:0", "--store", f"{self._inside}/store"]
        options += ["--disk-reserve", str(reserve)] if reserve else []
        enter = ["nsenter", "--mount", f"--target={self._holder.pid}"]
        server = self._rig.background([*enter, *program, "server", *options], {"PYTHONPATH": str(CHECKOUT)})
        server.wait_for("store: ")
        return server

    def fill(self, leave: int = 0) -> None:
        """Until only so much is free."""
        with (self.place / "filler").open("ab") as filler:
            while self.free() > leave:
                try:
                    os.write(filler.fileno(), bytes(min(1 << 16, self.free() - leave)))
                except OSError:
                    return

    def free(self) -> int:
        """Bytes."""
        disk = os.statvfs(self.place)
        return disk.f_bavail * disk.f_frsize

    def make_room(self) -> None:
        """Somebody has tidied up."""
        (self.place / "filler").unlink()

    def has_ballast(self) -> bool:
        """Whether the server has put by what it would need."""
        path = self.place / "store" / "ballast"
        return path.exists() and path.stat().st_size == self._share


@contextlib.contextmanager
def small_disk(directory: Path, size: int = DISK_SIZE) -> Iterator[SmallDisk]:
    """A small disk, empty; with it go its servers."""
    need("unshare", "nsenter", "mount")
    if os.geteuid() != 0:
        lack("not root: cannot mount a disk of the test's own")
    disk = SmallDisk(directory, size)
    try:
        disk.must_be_there()
        yield disk
    finally:
        disk.end()


def connected(server: Running) -> Wire:
    """A connection to the server."""
    return connect(server.err().partition(" listening on ")[2].split()[0])


def submit(client: Wire, payload: bytes) -> bytes:
    """The handle, or b"" where the disk is nearly full and that is said."""
    client.send(p.SUBMIT_JOB_BG, b"f", b"", payload)
    number, body = client.packet()
    if number == p.JOB_CREATED:
        return body
    code, _, text = body.partition(b"\0")
    assert (number, code) == (p.ERROR, b"QUEUE_ERROR")
    assert text.startswith(b"Disk nearly full: "), text
    return b""


def submit_all(client: Wire, count: int) -> dict[bytes, bytes]:
    """So many jobs, handle -> payload."""
    payloads = [b"%d " % number + bytes(300) for number in range(count)]
    for payload in payloads:
        client.raw(req(p.SUBMIT_JOB_BG, b"f", b"", payload))
    handles = []
    for _ in payloads:
        number, body = client.packet()
        assert number == p.JOB_CREATED, body
        handles.append(body)
    return dict(zip(handles, payloads, strict=True))


def finish_all(
    server: Running, result: bytes = bytes(20_000), *, failed: bool = False, at_once: int = 1
) -> dict[bytes, bytes]:
    """Do every job there is, and the end of so many durable before the next begin; returns them. failed: with no
    success."""
    done = {}
    with connected(server) as worker:
        worker.send(p.OPTION_REQ, b"farm-sync")
        worker.expect(p.OPTION_RES, b"farm-sync")
        worker.send(p.CAN_DO, b"f")
        while some := grab_some(worker, at_once):
            for handle in some:
                worker.send(*(p.WORK_FAIL, handle) if failed else (p.WORK_COMPLETE, handle, result))
            worker.send(p.ECHO_REQ, b"durable?")
            worker.expect(p.ECHO_RES, b"durable?")
            done |= some
    return done


def grab_some(worker: Wire, count: int) -> dict[bytes, bytes]:
    """So many jobs, or as many as there are: handle -> payload."""
    worker.raw(count * req(p.GRAB_JOB))
    found = {}
    for _ in range(count):
        number, body = worker.packet()
        if number == p.JOB_ASSIGN:
            handle, _, payload = body.split(b"\0", 2)
            found[handle] = payload
    return found
