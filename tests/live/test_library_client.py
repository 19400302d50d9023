"""The clients of the library, blocking and asyncio, against a real server and `farm.Worker`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import farm
from farm.protocol import packets as p
from tests.live.library_rig import KINDS, Gate, Suit, address, client_of, jobs_of, wait_working, working
from tests.support import PATIENCE_S, ServerProcess, wait_until

Do = Callable[..., str]


@pytest.fixture(params=KINDS)
def client(request: pytest.FixtureRequest, server: ServerProcess) -> Iterator[Any]:
    """A client of each kind."""
    with client_of(request.param, address(server)) as client:
        yield client


@pytest.fixture
def name(function: bytes) -> str:
    """A function's name of the test's own."""
    return function.decode()


@pytest.fixture
def gate() -> Gate:
    """A task that waits in the middle."""
    return Gate()


@pytest.fixture
def doing(server: ServerProcess, name: str) -> Iterator[Callable[[Any], None]]:
    """Start a worker for the test's function."""
    stack: list[Any] = []

    def start(task: Any, **options: Any) -> None:
        worker = farm.Worker(address(server), **options)
        worker.register(name, task)
        stack.append(working(worker))
        stack[-1].__enter__()
        wait_working(server, name, len(stack))

    yield start
    for running in stack:
        running.__exit__(None, None, None)


@pytest.mark.parametrize("size", [0, 1, 255, 64 * 1024, 1024 * 1024 + 1, 16 * 1024 * 1024])
def test_binary_payloads(client: Any, doing: Any, name: str, size: int) -> None:
    payload = (bytes(range(256)) * (size // 256 + 1))[:size]
    doing(lambda job: job.payload[::-1])
    assert client.run(name, payload, timeout_s=30) == payload[::-1]
    assert client.run(name, bytearray(payload[:9])) == payload[:9][::-1]
    assert client.run(name, memoryview(payload)[:9]) == payload[:9][::-1]


def test_names_in_utf_8(client: Any, server: ServerProcess) -> None:
    worker = farm.Worker(address(server), name="größe-1")

    @worker.task("größe-変える")
    def resize(job: farm.WorkerJob) -> str:
        return f"{job.function} {job.unique}"

    with working(worker):
        job = client.submit("größe-変える", unique="schlüssel")
        assert job.function == "größe-変える"
        assert job.result(PATIENCE_S).decode() == "größe-変える schlüssel"
    assert resize.__name__ == "resize"


def test_the_pieces_of_the_output_come_as_they_are_sent(client: Any, doing: Any, name: str, gate: Gate) -> None:
    def task(job: farm.WorkerJob) -> bytes:
        job.send_data(b"first")
        gate(job)
        job.send_data(b"second")
        return b"third"

    doing(task)
    job = client.submit(name)
    pieces = job.data
    assert next(pieces) == b"first"
    gate.open.set()
    assert b"".join(pieces) == b"secondthird"
    assert (job.exit_code, job.done, job.error) == (0, True, None)
    assert job.result() == b""  # all was taken


def test_the_result_may_be_taken_again(client: Any, doing: Any, name: str) -> None:
    def task(job: farm.WorkerJob) -> bytes:
        job.send_data(b"one ")
        return b"two"

    doing(task)
    job = client.submit(name)
    assert (job.result(), job.result()) == (b"one two", b"one two")


def test_progress_and_warnings(client: Any, doing: Any, name: str, gate: Gate) -> None:
    def task(job: farm.WorkerJob) -> None:
        for step in range(3):
            job.send_status(step + 1, 3)
        job.send_warning("careful: ü\n")
        job.send_warning(b"farm: exit 7\n")  # not the worker's word on the exit code
        gate(job)

    doing(task)
    heard: list[Any] = []
    job = client.submit(name, on_progress=lambda *numbers: heard.append(numbers), on_stderr=heard.append)
    assert gate.entered.wait(PATIENCE_S)
    wait_until(lambda: client.status(job.handle).numerator == 3, what="the server has heard of it")
    status = client.status(job.handle)
    assert (status.known, status.running, status.numerator, status.denominator) == (True, True, 3, 3)
    gate.open.set()
    assert job.result(PATIENCE_S) == b""
    assert heard[:3] == [(1, 3), (2, 3), (3, 3)]
    assert b"".join(heard[3:]) == job.stderr == "careful: ü\nfarm: exit 7\n".encode()
    assert (job.progress, job.exit_code) == ((3, 3), 0)


def test_a_callback_that_raises(client: Any, doing: Any, name: str) -> None:
    """The blocking call raises it, and nothing of the job is lost; a loop is told."""

    def task(job: farm.WorkerJob) -> bytes:
        time.sleep(0.2)  # so that the submission is over when the first progress comes
        for step in range(3):
            job.send_status(step, 3)
            job.send_data(b"%d " % step)
        return b"end"

    def on_progress(done: int, total: int) -> None:
        if done == 1:
            raise LookupError

    doing(task)
    told: list[Any] = []
    if isinstance(client, Suit):
        client.runner.get_loop().set_exception_handler(lambda loop, context: told.append(context["exception"]))
    job = client.submit(name, on_progress=on_progress)
    try:
        job.result(PATIENCE_S)
    except LookupError as error:
        told.append(error)
    assert job.result(PATIENCE_S) == b"0 1 2 end"
    assert [type(error) for error in told] == [LookupError]
    assert client.echo() == b"farm"


def test_a_failure_with_its_exit_code(client: Any, doing: Any, name: str) -> None:
    def task(job: farm.WorkerJob) -> None:
        job.send_data(b"half")
        raise farm.TaskFailed("disk full", exit_code=28)

    doing(task)
    job = client.submit(name)
    with pytest.raises(farm.JobFailed, match="exit code 28: disk full") as caught:
        job.result(PATIENCE_S)
    failure = caught.value
    assert (failure.exit_code, failure.status, failure.stderr, failure.data) == (28, 28, b"disk full\n", b"half")
    assert (failure.handle, job.exit_code, job.error) == (job.handle, 28, failure)
    with pytest.raises(farm.JobFailed):
        client.run(name)
    pieces = client.submit(name).data
    assert next(pieces) == b"half"
    with pytest.raises(farm.JobFailed):
        next(pieces)


def test_an_exception(client: Any, doing: Any, name: str) -> None:
    def task(job: farm.WorkerJob) -> None:
        raise ValueError("no\nsuch ü")

    doing(task)
    with pytest.raises(farm.JobException, match="ValueError") as caught:
        client.run(name, timeout_s=PATIENCE_S)
    assert caught.value.text.decode() == "ValueError: no\nsuch ü"
    assert isinstance(caught.value, farm.JobFailed)


@pytest.mark.parametrize(("exceptions", "kind"), [("always", farm.JobException), ("never", farm.JobFailed)])
def test_how_exceptions_travel(client: Any, doing: Any, name: str, exceptions: str, kind: type[farm.JobFailed]) -> None:
    def task(job: farm.WorkerJob) -> object:
        return 1 if job.payload else object()

    doing(task, exceptions=exceptions)
    with pytest.raises(kind, match="TypeError") as caught:
        client.run(name, timeout_s=PATIENCE_S)
    assert type(caught.value) is kind
    assert caught.value.exit_code == (None if kind is farm.JobException else 1)


def test_a_worker_of_another_make_fails_without_an_exit_code(client: Any, server: ServerProcess, name: str) -> None:
    with server.connect() as stock:
        stock.send(p.CAN_DO, name.encode())
        stock.expect_nothing()
        job = client.submit(name)
        stock.grab()
        stock.send(p.WORK_DATA, job.handle.encode(), b"stock ")
        stock.send(p.WORK_WARNING, job.handle.encode(), b"farm: exit 0\n")
        stock.send(p.WORK_FAIL, job.handle.encode())
        with pytest.raises(farm.JobFailed, match="gave no exit code") as caught:
            job.result(PATIENCE_S)
        assert (caught.value.exit_code, caught.value.data) == (None, b"stock ")
        job = client.submit(name)
        stock.grab()
        stock.send(p.WORK_DATA, job.handle.encode(), b"stock ")
        stock.send(p.WORK_COMPLETE, job.handle.encode(), b"result")
        assert job.result(PATIENCE_S) == b"stock result"


def test_map_keeps_the_order_and_takes_payloads_as_needed(client: Any, doing: Any, name: str) -> None:
    def task(job: farm.WorkerJob) -> bytes:
        if job.payload == b"0":
            time.sleep(0.05)  # the others are ready before
        return job.payload

    doing(task)
    doing(task)
    taken = []

    def payloads() -> Iterator[bytes]:
        for number in range(100):
            taken.append(number)
            yield b"%d" % number

    results = client.map(name, payloads(), in_flight=7)
    assert next(results) == b"0"
    assert len(taken) == 7
    assert list(results) == [b"%d" % number for number in range(1, 100)]


def test_a_map_ends_its_jobs_when_one_fails_or_nobody_goes_on(
    client: Any, server: ServerProcess, doing: Any, name: str
) -> None:
    def task(job: farm.WorkerJob) -> bytes:
        if job.payload == b"3":
            raise farm.TaskFailed
        return job.payload

    doing(task)
    results = client.map(name, (b"%d" % number for number in range(50)), in_flight=5)
    found = []
    with pytest.raises(farm.JobFailed):
        found.extend(results)
    results = client.map(name + "-nobody", [b""] * 10)
    wait_until(lambda: jobs_of(server, name) == (0, 0))
    with pytest.raises(farm.Timeout):
        list(client.map(name + "-nobody", [b""] * 10, timeout_s=0.05))
    client.echo()
    wait_until(lambda: jobs_of(server, name + "-nobody") == (0, 0))
    results.close()


def test_many_jobs_at_once_on_one_connection(client: Any, server: ServerProcess, doing: Any, name: str) -> None:
    doing(lambda job: job.payload)
    jobs = [client.submit(name, b"%d" % number) for number in range(50)]
    with server.connect() as wire:
        ours = [line for line in wire.listing(b"workers") if b" - :" in line]
    assert len(ours) <= 2  # this client's and the one that asks
    assert [job.result(PATIENCE_S) for job in reversed(jobs)] == [b"%d" % number for number in reversed(range(50))]


# -- background jobs and questions


def test_background_jobs(client: Any, server: ServerProcess, doing: Any, name: str, gate: Gate) -> None:
    handle = client.submit_background(name, b"later")
    assert handle.server == address(server) == client.server
    assert (client.status(handle).known, client.status(handle).running) == (True, False)
    assert client.status(str(handle)).known
    doing(gate)
    assert gate.entered.wait(PATIENCE_S)
    assert client.status(handle).running
    gate.open.set()
    wait_until(lambda: not client.status(handle).known)
    assert gate.job
    assert gate.job.payload == b"later"
    assert len(gate.job.unique) == 32  # made by chance


def test_status_by_unique(client: Any, name: str) -> None:
    job = client.submit(name, unique=name[:20])
    client.submit_background(name, unique=name[:21])
    assert client.status_by_unique(name[:20]) == farm.Status(True, False, 0, 0, 1)
    assert client.status_by_unique(name[:21]) == farm.Status(True, False, 0, 0, 0)
    assert not client.status_by_unique("nobody's").known
    assert job.cancel() == "dropped"
    assert not client.status("H:none:1").known


def test_a_job_for_later(client: Any, doing: Any, name: str, gate: Gate) -> None:
    gate.open.set()
    doing(gate)
    due = time.time() + 0.2
    client.submit_background(name, b"at its time", at=due)
    assert gate.entered.wait(PATIENCE_S)
    assert time.time() >= due
    gate.entered.clear()
    client.submit_background(name, at=time.time() - 100)
    assert gate.entered.wait(PATIENCE_S)


@pytest.mark.parametrize("priority", ["high", "normal", "low"])
def test_priorities(client: Any, server: ServerProcess, name: str, priority: str) -> None:
    for _ in (client.submit(name, priority=priority), client.submit_background(name, priority=priority)):
        pass
    with server.connect() as wire:
        (row,) = [line for line in wire.listing(b"prioritystatus") if line.startswith(name.encode())]
    counts = dict(zip(("high", "normal", "low"), map(int, row.split(b"\t")[1:4]), strict=True))
    assert counts == {"high": 0, "normal": 0, "low": 0} | {priority: 2}


def test_echo(client: Any) -> None:
    assert client.echo() == b"farm"
    assert client.echo(b"\0\xff" * 1000) == b"\0\xff" * 1000


# -- one job, twice


def test_the_same_key_is_the_same_job(client: Any, doing: Any, name: str, gate: Gate) -> None:
    doing(gate)
    first = client.submit(name, b"first", unique="k")
    second = client.submit(name, b"second", unique="k")
    other = client.submit(name + "-other", unique="k")
    assert first.handle == second.handle != other.handle
    assert second.cancel() == "shared"
    assert second.cancel() == "unknown"
    gate.open.set()
    assert first.result(PATIENCE_S) == b"first"
    again = client.submit(name, b"third", unique="k")
    assert again.result(PATIENCE_S) == b"third"


def test_a_payload_as_the_key(client: Any, doing: Any, name: str, gate: Gate) -> None:
    doing(gate)
    jobs = [client.submit(name, payload, unique="-") for payload in (b"a", b"b", b"a", b"", b"")]
    assert [jobs[0].handle == job.handle for job in jobs] == [True, False, True, False, False]
    assert jobs[3].handle != jobs[4].handle
    gate.open.set()
    assert [job.result(PATIENCE_S) for job in jobs] == [b"a", b"b", b"a", b"", b""]


def test_a_job_whose_output_has_gone_by_is_not_joined(
    client: Any, server: ServerProcess, doing: Any, name: str, gate: Gate
) -> None:
    def task(job: farm.WorkerJob) -> bytes:
        job.send_data(b"gone by ")
        return gate(job)

    doing(task)
    with farm.Client(address(server)) as earlier:
        first = earlier.submit(name, b"end", unique="k")
        assert gate.entered.wait(PATIENCE_S)
        joined = client.submit(name, unique="k")
        with pytest.raises(farm.TryAgain, match="part of its output has gone by"):
            joined.result(PATIENCE_S)
        gate.open.set()
        assert first.result(PATIENCE_S) == b"gone by end"


# -- giving up


def test_a_queued_job_is_dropped(client: Any, server: ServerProcess, name: str) -> None:
    job = client.submit(name)
    assert job.cancel() == "dropped"
    with pytest.raises(farm.JobCancelled):
        job.result(PATIENCE_S)
    assert jobs_of(server, name) == (0, 0)


def test_the_worker_of_a_cancelled_job_is_told(client: Any, doing: Any, name: str, gate: Gate) -> None:
    seen = threading.Event()

    def task(job: farm.WorkerJob) -> bytes:
        gate.entered.set()
        wait_until(lambda: job.cancelled)
        seen.set()
        return b"too late"

    doing(task)
    job = client.submit(name)
    assert gate.entered.wait(PATIENCE_S)
    assert job.cancel() == "told"
    assert seen.wait(PATIENCE_S)
    with pytest.raises(farm.JobCancelled):
        job.result(PATIENCE_S)
    assert client.echo() == b"farm"  # the worker's late report has not come here


def test_timeouts(client: Any, server: ServerProcess, doing: Any, name: str, gate: Gate) -> None:
    job = client.submit(name, b"slow")
    begin = time.monotonic()
    with pytest.raises(farm.Timeout, match=r"waited 0\.1 s in vain for the end of job"):
        job.result(0.1)
    with pytest.raises(farm.Timeout):
        next(job.iterate(0.05))
    assert not job.wait(0.05)
    assert not job.wait(0)
    assert time.monotonic() - begin < 5
    doing(gate)  # the job is still out
    gate.open.set()
    assert job.wait(PATIENCE_S)
    assert job.result() == b"slow"
    with pytest.raises(farm.Timeout):
        client.run(name + "-nobody", timeout_s=0.05)
    client.echo()
    wait_until(lambda: jobs_of(server, name + "-nobody") == (0, 0))  # `run` has given it up


def test_a_client_that_leaves_ends_its_jobs(server: ServerProcess, doing: Any, name: str) -> None:
    entered, seen = threading.Event(), threading.Event()

    def task(job: farm.WorkerJob) -> None:
        entered.set()
        wait_until(lambda: job.cancelled)
        seen.set()

    doing(task)
    with farm.Client(address(server)) as client:
        job = client.submit(name)
        assert entered.wait(PATIENCE_S)
    assert seen.wait(PATIENCE_S)
    with pytest.raises(farm.JobCancelled, match="the client was closed"):
        job.result()
    with pytest.raises(farm.Unavailable, match="closed"):
        client.echo()


# -- what is refused


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda c: c.run(""), "is empty"),
        (lambda c: c.run("two words"), "blank"),
        (lambda c: c.run("f" * 513), "513 bytes"),
        (lambda c: c.submit("f", unique="k" * 65), "64 bytes"),
        (lambda c: c.submit("f", priority="urgent"), "high, normal, low"),
        (lambda c: c.submit_background("f", at=1.0, priority="low"), "normal priority"),
        (lambda c: c.status("x" * 65), "handle"),
        (lambda c: c.echo(b"x" * 65537), "65536"),
    ],
)
def test_wrong_arguments(client: Any, call: Callable[[Any], object], words: str) -> None:
    with pytest.raises(farm.UsageError, match=words):
        call(client)


def test_text_is_no_payload(client: Any) -> None:
    with pytest.raises(TypeError, match="a payload is bytes, not str"):
        client.run("f", "text")


def test_a_full_queue(client: Any, server: ServerProcess, name: str) -> None:
    job = client.submit(name)
    with server.connect() as admin:
        admin.raw(b"maxqueue %s 1\n" % name.encode())
        assert admin.line() == b"OK\r\n"
    with pytest.raises(farm.TryAgain, match="queue is full"):
        client.submit(name)
    with pytest.raises(farm.TryAgain, match="queue is full"):
        client.submit_background(name)
    assert job.cancel() == "dropped"


def test_wrong_settings() -> None:
    for options in ({"order": "alphabetical"}, {"servers": "host:port"}):
        with pytest.raises(farm.UsageError):
            farm.Client(**options)
        with pytest.raises(farm.UsageError):
            farm.aio.Client(**options)


@pytest.mark.parametrize("kind", KINDS)
def test_other_machines_need_to_be_allowed(kind: str) -> None:
    with client_of(kind, "192.0.2.1:4730") as client, pytest.raises(farm.NotPermitted, match="not a loopback address"):
        client.run("f")


@pytest.mark.parametrize("kind", KINDS)
def test_the_server_of_the_environment(kind: str, server: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FARM_SERVER", address(server))
    with client_of(kind, None) as client:
        assert client.echo() == b"farm"


@pytest.mark.parametrize("kind", KINDS)
def test_a_unix_socket(kind: str, start: Any, tmp_path: Any) -> None:
    start(listen=[f"unix:{tmp_path}/farm.sock", "127.0.0.1:0"])
    with client_of(kind, f"unix:{tmp_path}/farm.sock") as client:
        assert client.echo() == b"farm"
        assert client.status(client.submit_background("f")).known
