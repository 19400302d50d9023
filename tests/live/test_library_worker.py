"""`farm.Worker` with real servers and raw clients: what it offers, how it stops, how it comes back."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import farm
from farm.protocol import packets as p
from tests.live.library_rig import Gate, WorkerProcess, address, jobs_of, wait_working, workers_of, working
from tests.support import PATIENCE_S, ServerProcess, wait_until


@pytest.fixture
def name(function: bytes) -> str:
    """A function's name of the test's own."""
    return function.decode()


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Any]:
    """Start workers in processes of their own."""
    started: list[WorkerProcess] = []

    def start(servers: str, source: str) -> WorkerProcess:
        started.append(WorkerProcess(tmp_path, servers, source))
        return started[-1]

    yield start
    for worker in started:
        worker.end()


def test_what_a_stock_client_hears(server: ServerProcess, name: str) -> None:
    """One packet for a short result; pieces, warnings and progress as they come; the end last."""
    worker = farm.Worker(address(server))
    worker.register(name, lambda job: b"short")

    @worker.task(name + "-long")
    def long(job: farm.WorkerJob) -> str:
        job.send_status(1, 2)
        job.send_data(b"a")
        job.send_warning("w")
        job.send_data(b"")
        job.send_warning("")
        return "rest"

    @worker.task(name + "-fails")
    def fails(job: farm.WorkerJob) -> None:
        raise farm.TaskFailed("why", 9)

    @worker.task(name + "-raises")
    def raises(job: farm.WorkerJob) -> None:
        raise KeyError("k")

    with working(worker), server.connect() as client:
        handle = client.submit(name.encode())
        client.expect(p.WORK_COMPLETE, handle, b"short")
        handle = client.submit(name.encode() + b"-long")
        client.expect(p.WORK_STATUS, handle, b"1", b"2")
        client.expect(p.WORK_DATA, handle, b"a")
        client.expect(p.WORK_WARNING, handle, b"w")
        client.expect(p.WORK_DATA, handle, b"rest")
        client.expect(p.WORK_COMPLETE, handle, b"")
        handle = client.submit(name.encode() + b"-fails")
        client.expect(p.WORK_WARNING, handle, b"why\n")
        client.expect(p.WORK_WARNING, handle, b"farm: exit 9\n")
        client.expect(p.WORK_FAIL, handle)
        handle = client.submit(name.encode() + b"-raises")
        client.expect(p.WORK_FAIL, handle)
        client.send(p.OPTION_REQ, b"exceptions")
        client.expect(p.OPTION_RES, b"exceptions")
        handle = client.submit(name.encode() + b"-raises")
        client.expect(p.WORK_EXCEPTION, handle, b"KeyError: 'k'")


def test_its_name_and_functions_are_shown(server: ServerProcess, name: str) -> None:
    worker = farm.Worker(address(server), name="the-resizer")
    worker.register(name, lambda job: None)
    worker.register(name + "-2", lambda job: None, timeout_s=PATIENCE_S)
    with working(worker):
        wait_working(server, name + "-2")
        with server.connect() as admin:
            (row,) = [line for line in admin.listing(b"workers") if b" the-resizer :" in line]
        assert row.split(b" : ")[1].split() == [name.encode() + b"-2", name.encode()]


def test_a_fixed_number_of_jobs(server: ServerProcess, name: str) -> None:
    done = []
    worker = farm.Worker(address(server))
    worker.register(name, lambda job: done.append(job.payload))
    with farm.Client(address(server)) as client:
        for number in range(3):
            client.submit_background(name, b"%d" % number)
        worker.run(2)
        assert done == [b"0", b"1"]
        assert workers_of(server, name) == 0
        worker.run(1)  # it may be run again
        assert done[2:] == [b"2"]
        worker.run(0)


def test_stop_finishes_the_job_first(server: ServerProcess, name: str) -> None:
    gate = Gate()
    worker = farm.Worker(address(server))
    worker.register(name, gate)
    with farm.Client(address(server)) as client, working(worker) as thread:
        running, waiting = client.submit(name, b"running"), client.submit(name, b"waiting")
        assert gate.entered.wait(PATIENCE_S)
        worker.stop()
        worker.stop()
        assert thread.is_alive()
        gate.open.set()
        assert running.result(PATIENCE_S) == b"running"
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
        assert jobs_of(server, name) == (1, 0)
        assert waiting.cancel() == "dropped"


def test_stop_before_run(server: ServerProcess, name: str) -> None:
    worker = farm.Worker(address(server))
    worker.register(name, lambda job: None)
    worker.stop()
    worker.run()  # returns at once


def test_a_large_result_has_arrived_when_the_worker_has_stopped(server: ServerProcess, name: str) -> None:
    worker = farm.Worker(address(server))
    worker.register(name, lambda job: bytes(30_000_000))
    with farm.Client(address(server)) as client:
        job = client.submit(name)
        running = threading.Thread(target=worker.run, args=(1,))
        running.start()
        assert job.result(20) == bytes(30_000_000)
        running.join(PATIENCE_S)


SLOW = """
@worker.task({name!r})
def slow(job):
    job.send_status(0, 1)
    while not os.path.exists({flag!r}):
        time.sleep(0.01)
    return b"done"
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_the_job_first(
    server: ServerProcess, name: str, process: Any, tmp_path: Path, number: int
) -> None:
    flag = tmp_path / "go on"
    worker = process(address(server), SLOW.format(name=name, flag=str(flag)))
    with farm.Client(address(server)) as client:
        job = client.submit(name)
        wait_until(lambda: jobs_of(server, name) == (1, 1))
        worker.process.send_signal(number)
        with pytest.raises(farm.Timeout):
            job.result(0.3)
        assert worker.process.poll() is None
        flag.touch()
        assert job.result(PATIENCE_S) == b"done"
        assert worker.process.wait(PATIENCE_S) == 0, worker.err()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, -signal.SIGINT)])
def test_a_second_signal_ends_it_and_its_job_goes_to_another(
    server: ServerProcess, name: str, process: Any, tmp_path: Path, number: int, status: int
) -> None:
    flag = tmp_path / "go on"
    first = process(address(server), SLOW.format(name=name, flag=str(flag)))
    with farm.Client(address(server)) as client:
        job = client.submit(name)
        wait_until(lambda: jobs_of(server, name) == (1, 1))
        first.process.send_signal(number)
        with pytest.raises(farm.Timeout):
            job.result(0.3)
        first.process.send_signal(number)
        assert first.process.wait(PATIENCE_S) == status
        wait_until(lambda: jobs_of(server, name) == (1, 0))
        flag.touch()
        process(address(server), SLOW.format(name=name, flag=str(flag)))
        assert job.result(PATIENCE_S) == b"done"


def test_a_killed_workers_job_is_done_by_another(
    server: ServerProcess, name: str, process: Any, tmp_path: Path
) -> None:
    """What the lost one had sent is taken back, as long as the program has not seen it."""
    source = f"@worker.task({name!r})\ndef half(job):\n    job.send_data(b'half ')\n    time.sleep(60)\n"
    first = process(address(server), source)
    with farm.Client(address(server)) as client:
        whole, pieces = client.submit(name), client.submit(name + "-2").data
        wait_until(lambda: jobs_of(server, name) == (1, 1))
        wait_until(lambda: not whole.wait(0) and whole._pending.held == 5)
        first.end()
        worker = farm.Worker(address(server))
        worker.register(name, lambda job: b"whole")
        with working(worker):
            assert whole.result(PATIENCE_S) == b"whole"
        second = process(address(server), source.replace(name, name + "-2"))
        assert next(pieces) == b"half "
        second.end()
        with pytest.raises(farm.TryAgain, match="would repeat them"):
            next(pieces)
        assert client.echo() == b"farm"


# -- servers


def test_several_servers_at_once(start: Any, name: str) -> None:
    servers = [start(), start(), start()]
    done: list[bytes] = []
    worker = farm.Worker([address(server) for server in servers])
    worker.register(name, lambda job: done.append(job.payload))
    with working(worker):
        for number, server in enumerate(servers * 3):
            with farm.Client(address(server)) as client:
                client.run(name, b"%d" % number, timeout_s=PATIENCE_S)
    assert done == [b"%d" % number for number in range(9)]


def test_servers_take_turns(start: Any, name: str) -> None:
    servers, gate = [start(), start()], Gate()
    done: list[bytes] = []
    worker = farm.Worker([address(server) for server in servers])
    worker.register(name, lambda job: done.append(job.payload))
    worker.register(name + "-hold", gate)
    with working(worker):
        for server in servers:
            wait_working(server, name)
        with farm.Client(address(servers[0])) as client:
            client.submit_background(name + "-hold")
        assert gate.entered.wait(PATIENCE_S)  # so that all ten are there before the first of them begins
        for letter, server in zip(b"ab", servers, strict=True):
            with farm.Client(address(server)) as client:
                for _ in range(5):
                    client.submit_background(name, bytes([letter]))
        gate.open.set()
        wait_until(lambda: len(done) == 10)
    assert sorted(done) == [b"a"] * 5 + [b"b"] * 5
    assert b"ab" in b"".join(done[:4])
    assert b"ba" in b"".join(done[:4])


def test_a_server_that_comes_later_and_one_that_comes_back(start: Any, name: str, tmp_path: Path) -> None:
    path = f"unix:{tmp_path}/farm.sock"
    worker = farm.Worker([path, address(start())])
    worker.register(name, lambda job: job.payload)
    with working(worker):
        for _ in range(2):
            server = start(listen=[path, "127.0.0.1:0"])
            with farm.Client(path) as client:
                assert client.run(name, b"here", timeout_s=10) == b"here"
            server.process.kill()
            server.wait()
            os.unlink(path.removeprefix("unix:"))


def test_a_server_lost_in_the_middle_of_a_job(start: Any, name: str) -> None:
    server, other = start(), start()
    gate, lost = Gate(), threading.Event()
    worker = farm.Worker([address(server), address(other)])
    worker.register(name + "-other", lambda job: b"still here")

    @worker.task(name)
    def task(job: farm.WorkerJob) -> bytes:
        gate.entered.set()
        wait_until(lambda: job.cancelled)
        job.send_data(b"to nobody")
        job.send_status(1, 1)
        lost.set()
        return b"to nobody"

    with working(worker):
        with farm.Client(address(server)) as client:
            client.submit(name)
            assert gate.entered.wait(PATIENCE_S)
            server.process.kill()
            assert lost.wait(PATIENCE_S)
        with farm.Client(address(other)) as client:
            assert client.run(name + "-other", timeout_s=PATIENCE_S) == b"still here"


def test_a_job_that_takes_longer_than_it_may(server: ServerProcess, name: str) -> None:
    """It goes to another worker, and this one is told."""
    told = threading.Event()
    first, second = farm.Worker(address(server)), farm.Worker(address(server))

    @first.task(name, timeout_s=1)
    def slow(job: farm.WorkerJob) -> bytes:
        assert job.time_left_s is not None
        assert 0 < job.time_left_s <= 1
        wait_until(lambda: job.cancelled)
        wait_until(lambda: jobs_of(server, name) == (1, 0), what="the server has noticed too")
        told.set()
        return b"too late"

    second.register(name, lambda job: b"in time")
    with farm.Client(address(server)) as client, working(first, 1) as thread:
        job = client.submit(name)
        assert told.wait(PATIENCE_S)
        thread.join(PATIENCE_S)
        with working(second):
            assert job.result(PATIENCE_S) == b"in time"


def test_what_is_no_gearman_server_is_tried_again_and_does_not_end_the_worker(
    server: ServerProcess, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)
        worker = farm.Worker([f"127.0.0.1:{listener.getsockname()[1]}", address(server)])
        worker.register(name, lambda job: job.payload)
        with working(worker), farm.Client(address(server)) as client:
            for _ in range(2):
                peer, _ = listener.accept()
                peer.sendall(b"220 smtp ready\r\n")
                assert client.run(name, b"x", timeout_s=PATIENCE_S) == b"x"
                peer.close()
    assert "does not speak Gearman" in caplog.text


def test_a_client_that_reads_slowly_holds_up_the_function(server: ServerProcess, name: str) -> None:
    sent = 0
    worker = farm.Worker(address(server))

    @worker.task(name)
    def pour(job: farm.WorkerJob) -> None:
        nonlocal sent
        for _ in range(64):
            job.send_data(bytes(1024 * 1024))
            sent += 1

    with working(worker), server.connect() as client:
        client.submit(name.encode())
        before = -1
        while before != sent:  # until it does not get on any more
            before = sent
            time.sleep(0.2)
        assert 0 < sent < 40
        size = 0
        while (packet := client.packet())[0] == p.WORK_DATA:
            size += len(packet[1].partition(b"\0")[2])
        assert size == 64 * 1024 * 1024
        assert packet[0] == p.WORK_COMPLETE


# -- what is refused


def test_wrong_settings(name: str) -> None:
    for options in ({"servers": "host:port"}, {"exceptions": "sometimes"}):
        with pytest.raises(farm.UsageError):
            farm.Worker(**options)  # type: ignore[arg-type]
    worker = farm.Worker()
    with pytest.raises(farm.UsageError, match="no functions"):
        worker.run()
    for wrong in ("", "two words"):
        with pytest.raises(farm.UsageError):
            worker.register(wrong, lambda job: None)
    with pytest.raises(farm.UsageError):
        worker.register(name, lambda job: None, timeout_s=0)
    with pytest.raises(ValueError, match="1 to 255"):
        farm.TaskFailed("", 0)


def test_other_machines_need_to_be_allowed(name: str) -> None:
    worker = farm.Worker("192.0.2.1")
    worker.register(name, lambda job: None)
    with pytest.raises(farm.NotPermitted):
        worker.run()
