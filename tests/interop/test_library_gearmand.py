"""The libraries against Debian's gearmand, and with Debian's gearman at the other end."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import farm
from tests.live.library_rig import KINDS, Gate, client_of, working
from tests.support import PATIENCE_S, Wire, free_port, wait_until

pytestmark = pytest.mark.interop

PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"  # where gearmand is on Debian


def program(name: str) -> str:
    """Its path. Without it the test is skipped on a desk, and fails in CI."""
    found = shutil.which(name, path=PATH)
    if found:
        return found
    words = f"not installed: {name}"
    if os.environ.get("CI"):
        pytest.fail(words)
    pytest.skip(words)


class Gearmand:
    """A gearmand of one's own."""

    def __init__(self) -> None:
        gearmand = program("gearmand")
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.process = subprocess.Popen(
            [gearmand, "--listen", "127.0.0.1", "--port", str(self.port), "--log-file", "stderr"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(self._listens, what="gearmand listens")

    def _listens(self) -> bool:
        try:
            Wire(("127.0.0.1", self.port)).close()
        except OSError:
            assert self.process.poll() is None
            return False
        return True

    def counts(self, function: str) -> tuple[int, int, int]:
        """Jobs, running jobs, workers."""
        with Wire(("127.0.0.1", self.port)) as wire:
            rows = [line.rstrip(b"\n").split(b"\t") for line in wire.listing(b"status")]
        found = [tuple(map(int, row[1:])) for row in rows if row[0] == function.encode()]
        return found[0] if found else (0, 0, 0)  # type: ignore[return-value]

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait(PATIENCE_S)


@pytest.fixture
def gearmand() -> Iterator[Gearmand]:
    """One for this test."""
    server = Gearmand()
    yield server
    server.kill()


@pytest.fixture(params=KINDS)
def client(request: pytest.FixtureRequest, gearmand: Gearmand) -> Iterator[Any]:
    """A client of each kind."""
    with client_of(request.param, gearmand.address) as client:
        yield client


@pytest.fixture
def worker(gearmand: Gearmand) -> Iterator[farm.Worker]:
    """A worker with the functions below."""
    worker = farm.Worker(gearmand.address)

    @worker.task("reverse")
    def reverse(job: farm.WorkerJob) -> bytes:
        return job.payload[::-1]

    @worker.task("größe")
    def size(job: farm.WorkerJob) -> str:
        return f"{job.function} {job.unique} {len(job.payload)}"

    @worker.task("stream")
    def stream(job: farm.WorkerJob) -> bytes:
        job.send_status(1, 2)
        job.send_data(b"one ")
        job.send_warning("careful\n")
        job.send_data(b"two ")
        return b"three"

    @worker.task("fail")
    def fail(job: farm.WorkerJob) -> None:
        raise farm.TaskFailed("why", 7)

    @worker.task("raise")
    def raises(job: farm.WorkerJob) -> None:
        raise ValueError("boom")

    with working(worker):
        wait_until(lambda: gearmand.counts("raise")[2] == 1)
        yield worker


@pytest.mark.parametrize("size", [0, 1, 1024 * 1024, 16 * 1024 * 1024])
@pytest.mark.usefixtures("worker")
def test_payloads(client: Any, size: int) -> None:
    payload = (bytes(range(256)) * (size // 256 + 1))[:size]
    assert client.run("reverse", payload, timeout_s=30) == payload[::-1]


@pytest.mark.usefixtures("worker")
def test_what_travels(client: Any) -> None:
    assert client.run("größe", b"123", unique="schlüssel").decode() == "größe schlüssel 3"
    job = client.submit("stream")
    assert (job.result(PATIENCE_S), job.stderr, job.progress, job.exit_code) == (
        b"one two three",
        b"careful\n",
        (1, 2),
        0,
    )
    with pytest.raises(farm.JobFailed, match="exit code 7: why") as failed:
        client.run("fail", timeout_s=PATIENCE_S)
    assert (failed.value.exit_code, failed.value.stderr) == (7, b"why\n")
    with pytest.raises(farm.JobFailed, match="ValueError: boom") as failed:
        client.run("raise", timeout_s=PATIENCE_S)
    assert failed.value.exit_code == 1
    assert client.echo(b"\0x") == b"\0x"
    payloads = [b"%d" % number for number in range(100, 200)]
    assert list(client.map("reverse", payloads)) == [payload[::-1] for payload in payloads]


def test_exceptions_as_such(client: Any, gearmand: Gearmand) -> None:
    worker = farm.Worker(gearmand.address, exceptions="always")

    @worker.task("raise")
    def raises(job: farm.WorkerJob) -> None:
        raise ValueError("boom")

    with working(worker), pytest.raises(farm.JobException) as caught:
        client.run("raise", timeout_s=PATIENCE_S)
    assert caught.value.text == b"ValueError: boom"


def test_background_jobs_and_status(client: Any, gearmand: Gearmand) -> None:
    gate = Gate()
    worker = farm.Worker(gearmand.address)
    worker.register("gate", gate)
    handle = client.submit_background("gate", b"later", unique="k")
    assert (client.status(handle).known, client.status(handle).running) == (True, False)
    assert client.status_by_unique("k").known
    assert not client.status("H:none:9").known
    assert not client.status_by_unique("none").known
    with working(worker):
        assert gate.entered.wait(PATIENCE_S)
        assert client.status(handle).running
        gate.open.set()
        wait_until(lambda: not client.status(handle).known)
    epoch = client.submit_background("gate", at=time.time() + 3600)
    assert client.status(epoch).known


def test_the_same_key_is_the_same_job(client: Any, gearmand: Gearmand) -> None:
    """gearmand would send everything twice."""
    jobs = [client.submit("stream", unique="k") for _ in range(3)]
    worker = farm.Worker(gearmand.address)

    @worker.task("stream")
    def stream(job: farm.WorkerJob) -> bytes:
        job.send_data(b"once ")
        return b"only"

    with working(worker):
        assert [job.result(PATIENCE_S) for job in jobs] == [b"once only"] * 3


def test_a_job_that_is_given_up(client: Any, gearmand: Gearmand) -> None:
    """gearmand cannot cancel: the connection is closed where nothing else is out on it."""
    alone = client.submit("nobody", unique="k")
    assert alone.cancel() == ""
    with pytest.raises(farm.JobCancelled):
        alone.result()
    assert client.server == ""
    kept, given_up = client.submit("kept", b"x"), client.submit("nobody", unique="k2")
    assert given_up.cancel() == ""
    with pytest.raises(farm.TryAgain, match="was given up, but this server cannot cancel"):
        client.submit("nobody", unique="k2")
    worker = farm.Worker(gearmand.address)
    worker.register("kept", lambda job: job.payload)
    with working(worker):
        assert kept.result(PATIENCE_S) == b"x"


def test_a_second_attempt(client: Any, gearmand: Gearmand) -> None:
    """A stock server does not say that a worker was lost; farm's worker marks its beginnings."""
    from farm.protocol import packets as p

    job = client.submit("twice")
    with Wire(("127.0.0.1", gearmand.port)) as first:
        first.send(p.CAN_DO, b"twice")
        first.grab()
        first.send(p.WORK_WARNING, job.handle.encode(), b"")
        first.send(p.WORK_DATA, job.handle.encode(), b"half ")
        first.send(p.ECHO_REQ, b"sent")
        first.expect(p.ECHO_RES, b"sent")
    worker = farm.Worker(gearmand.address)

    @worker.task("twice")
    def twice(job: farm.WorkerJob) -> bytes:
        job.send_data(b"a ")
        return b"whole"

    with working(worker):
        assert job.result(PATIENCE_S) == b"a whole"


@pytest.mark.parametrize("retry_lost", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_gearmand(kind: str, gearmand: Gearmand, retry_lost: bool) -> None:
    other = Gearmand()
    try:
        worker = farm.Worker(other.address)
        worker.register("job", lambda job: job.payload)
        servers = [gearmand.address, other.address]
        with working(worker), client_of(kind, servers, retry_lost=retry_lost) as client:
            job = client.submit("job", b"payload")
            assert job.server == gearmand.address
            gearmand.kill()
            if retry_lost:
                assert job.result(PATIENCE_S) == b"payload"
            else:
                with pytest.raises(farm.JobLost):
                    job.result(PATIENCE_S)
                assert client.run("job", b"next", timeout_s=PATIENCE_S) == b"next"
    finally:
        other.kill()


def test_the_worker_stops_and_comes_back(gearmand: Gearmand) -> None:
    gate = Gate()
    worker = farm.Worker(gearmand.address)
    worker.register("gate", gate)
    with farm.Client(gearmand.address) as client:
        job = client.submit("gate", b"x")
        with working(worker) as thread:
            assert gate.entered.wait(PATIENCE_S)
            worker.stop()
            gate.open.set()
            assert job.result(PATIENCE_S) == b"x"
            thread.join(PATIENCE_S)
            assert not thread.is_alive()
        wait_until(lambda: gearmand.counts("gate") == (0, 0, 0))


def test_a_timeout_gives_the_job_to_another(gearmand: Gearmand) -> None:
    slow, quick = farm.Worker(gearmand.address), farm.Worker(gearmand.address)

    @slow.task("job", timeout_s=1)
    def too_slow(job: farm.WorkerJob) -> bytes:
        wait_until(lambda: job.cancelled)
        time.sleep(0.2)  # gearmand's clock is not ours
        return b"slow"

    quick.register("job", lambda job: b"quick")
    with farm.Client(gearmand.address) as client, working(slow, 1) as thread:
        job = client.submit("job")
        thread.join(PATIENCE_S)
        with working(quick):
            assert job.result(PATIENCE_S) == b"quick"


# -- Debian's gearman at the other end


def gearman(server: Gearmand, *args: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """The stock client."""
    command = [program("gearman"), "-h", "127.0.0.1", "-p", str(server.port), *args]
    return subprocess.run(command, input=stdin, capture_output=True, timeout=PATIENCE_S, check=False)


@pytest.mark.usefixtures("worker")
def test_the_stock_client_and_our_worker(gearmand: Gearmand) -> None:
    assert gearman(gearmand, "-f", "reverse", stdin=b"abc").stdout == b"cba"
    assert gearman(gearmand, "-f", "stream").stdout.startswith(b"one two three")  # it adds the progress
    assert gearman(gearmand, "-f", "fail").returncode == 1
    assert gearman(gearmand, "-f", "raise").returncode == 1  # as WORK_EXCEPTION, it would wait for ever


def test_our_client_and_the_stock_worker(client: Any, gearmand: Gearmand, tmp_path: Path) -> None:
    command = [
        program("gearman"),
        "-w",
        "-h",
        "127.0.0.1",
        "-p",
        str(gearmand.port),
        "-f",
        "upper",
        "--",
        "tr",
        "a-z",
        "A-Z",
    ]
    with (tmp_path / "worker.log").open("wb") as log:
        stock = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        assert client.run("upper", b"hello", timeout_s=10) == b"HELLO"
        assert client.submit("upper", b"again").result(10) == b"AGAIN"
    finally:
        stock.kill()
        stock.wait(PATIENCE_S)
