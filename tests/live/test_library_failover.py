"""Servers that go and come back under the feet of both clients: real ones, killed."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import farm
from tests.live.library_rig import KINDS, Gate, address, client_of, jobs_of, wait_working, working
from tests.support import PATIENCE_S, ServerProcess, free_port, wait_until

pytestmark = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def cluster(start: Callable[..., ServerProcess]) -> list[ServerProcess]:
    """Three servers."""
    return [start() for _ in range(3)]


@pytest.fixture
def echoing(cluster: list[ServerProcess]) -> Iterator[farm.Worker]:
    """A worker that works for all three, and says where."""
    with contextlib.ExitStack() as stack:
        for server in cluster:
            worker = farm.Worker(address(server))
            name = address(server).encode()
            worker.register("where", lambda job, name=name: name)  # type: ignore[misc]
            stack.enter_context(working(worker))
            wait_working(server, "where")
        yield worker


def addresses(cluster: list[ServerProcess]) -> list[str]:
    """Where they listen."""
    return [address(server) for server in cluster]


def kill(server: ServerProcess) -> None:
    """kill -9."""
    server.process.kill()
    server.wait()


def test_the_next_server_when_one_is_down(kind: str, cluster: list[ServerProcess], echoing: farm.Worker) -> None:
    names = addresses(cluster)
    with client_of(kind, names) as client:
        for number, name in enumerate(names):
            assert client.run("where", timeout_s=PATIENCE_S).decode() == name == client.server
            kill(cluster[number])
        with pytest.raises(farm.Unavailable, match="no server answers") as caught:
            client.run("where")
        assert all(name in caught.value.message for name in names)
        assert "farm server" in caught.value.hint
        with pytest.raises(farm.Unavailable):
            client.submit_background("where")
        with pytest.raises(farm.Unavailable):
            client.echo()


def test_random_order_spreads_clients(kind: str, cluster: list[ServerProcess], echoing: farm.Worker) -> None:
    counts: Counter[str] = Counter()
    for _ in range(60):
        with client_of(kind, addresses(cluster), order="random") as client:
            counts[client.run("where").decode()] += 1
            assert client.run("where").decode() == client.server  # it stays there
    assert set(counts) == set(addresses(cluster))  # by chance not: 3 * (2/3)**60


def test_back_to_a_better_server(kind: str, start: Callable[..., ServerProcess], tmp_path: Path) -> None:
    first, spare = f"unix:{tmp_path}/first.sock", address(start())
    with client_of(kind, [first, spare]) as client:
        client.echo()
        assert client.server == spare
        server = start(listen=[first, "127.0.0.1:0"])

        def is_back() -> bool:
            client.echo()
            return bool(client.server == first)

        wait_until(is_back)
        kill(server)
        client.echo()
        assert client.server == spare


def test_jobs_out_at_the_spare_are_not_lost_by_going_back(
    kind: str, start: Callable[..., ServerProcess], tmp_path: Path
) -> None:
    first, spare = f"unix:{tmp_path}/first.sock", start()
    with client_of(kind, [first, address(spare)]) as client:
        job = client.submit("slow", b"payload")
        start(listen=[first, "127.0.0.1:0"])
        wait_until(lambda: client.echo() and client.server == first)
        worker = farm.Worker(address(spare))
        worker.register("slow", lambda job: job.payload)
        with working(worker):
            assert job.result(PATIENCE_S) == b"payload"
        client.echo()
        wait_until(lambda: b" - :\n" not in b"".join(spare_connections(spare)))


def spare_connections(server: ServerProcess) -> list[bytes]:
    """The connections of others."""
    with server.connect() as wire:
        return wire.listing(b"workers")[:-1]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that does not answer is given up soon."""
    for module in ("links", "aio_links"):
        monkeypatch.setattr(f"farm.client.{module}.CONNECT_TIMEOUT_S", 0.5)


@pytest.mark.usefixtures("impatient")
def test_a_server_that_hangs_is_as_good_as_down(kind: str, cluster: list[ServerProcess], echoing: farm.Worker) -> None:
    os.kill(cluster[0].pid, signal.SIGSTOP)
    try:
        with client_of(kind, addresses(cluster)) as client:
            assert client.run("where").decode() == address(cluster[1])
            begin = time.monotonic()
            for _ in range(5):
                client.run("where")
            assert time.monotonic() - begin < 2  # it is remembered
    finally:
        os.kill(cluster[0].pid, signal.SIGCONT)


@pytest.mark.usefixtures("impatient")
def test_a_program_that_is_no_server_is_as_good_as_down(kind: str, cluster: list[ServerProcess]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # Not accepted: the greeting is what times out. What talks is dealt with in the unit tests.
        silent = f"127.0.0.1:{listener.getsockname()[1]}"
        with client_of(kind, [silent, address(cluster[0])]) as client:
            assert client.echo() == b"farm"
            assert client.server == address(cluster[0])


def test_an_idle_connection_whose_server_was_restarted(
    kind: str, start: Callable[..., ServerProcess], tmp_path: Path
) -> None:
    path = f"unix:{tmp_path}/farm.sock"
    server = start(listen=[path, "127.0.0.1:0"])
    with client_of(kind, path) as client:
        client.echo()
        kill(server)
        os.unlink(path.removeprefix("unix:"))
        server = start(listen=[path, "127.0.0.1:0"])
        assert client.submit_background("f")
        assert jobs_of(server, "f") == (1, 0)


# -- a server that dies while a foreground job is out


def test_a_lost_job_is_an_error_that_says_what_is_known(kind: str, cluster: list[ServerProcess]) -> None:
    server, gate = cluster[0], Gate()
    worker = farm.Worker(address(server))
    worker.register("gate", gate)

    @worker.task("half")
    def half(job: farm.WorkerJob) -> bytes:
        job.send_data(b"12345")
        return gate(job)

    with client_of(kind, addresses(cluster)) as client, working(worker):
        wait_working(server, "half")
        queued = client.submit("nobody")
        running = client.submit("half")
        assert gate.entered.wait(PATIENCE_S)
        assert not running.wait(0.2)
        kill(server)
        gate.open.set()
        with pytest.raises(farm.JobLost, match="no output had come; it may have run or not") as caught:
            queued.result(PATIENCE_S)
        assert (caught.value.handle, caught.value.server) == (queued.handle, address(server))
        assert (caught.value.running, caught.value.received) == (False, 0)
        assert "if it may run twice" in caught.value.hint
        with pytest.raises(farm.JobLost, match="5 bytes of output had come; it may have ended or not") as caught:
            running.result(PATIENCE_S)
        assert (caught.value.running, caught.value.received) == (True, 5)
        assert isinstance(caught.value, farm.Unavailable)
        assert client.echo() == b"farm"  # elsewhere
        assert client.server == address(cluster[1])


def test_a_lost_job_is_submitted_again_when_it_may(
    kind: str, cluster: list[ServerProcess], echoing: farm.Worker
) -> None:
    gate = Gate()
    worker = farm.Worker(address(cluster[0]))
    worker.register("job", gate)
    others = farm.Worker(addresses(cluster[1:]))
    others.register("job", lambda job: b"again " + job.payload)
    with client_of(kind, addresses(cluster), retry_lost=True) as client, working(worker), working(others):
        wait_working(cluster[0], "job")
        jobs = [client.submit("job", b"%d" % number) for number in range(5)]
        careful = client.submit("job", b"careful", retry_lost=False)
        assert gate.entered.wait(PATIENCE_S)
        kill(cluster[0])
        gate.open.set()
        assert [job.result(PATIENCE_S) for job in jobs] == [b"again %d" % number for number in range(5)]
        assert {job.server for job in jobs} == {address(cluster[1])}
        with pytest.raises(farm.JobLost):
            careful.result(PATIENCE_S)


def test_a_map_goes_on_while_servers_are_killed(kind: str, cluster: list[ServerProcess], echoing: farm.Worker) -> None:
    with client_of(kind, addresses(cluster), retry_lost=True) as client:
        results = client.map("where", [b""] * 300, in_flight=8)
        found = []
        for number, result in enumerate(results):
            found.append(result.decode())
            if number in (50, 150):
                kill(cluster[number // 100])
    assert len(found) == 300
    assert set(found) == set(addresses(cluster))


def test_the_only_server_comes_back(kind: str, start: Callable[..., ServerProcess], tmp_path: Path) -> None:
    path = f"unix:{tmp_path}/farm.sock"
    server = start(listen=[path, "127.0.0.1:0"])
    worker = farm.Worker(path)
    worker.register("other", lambda job: None)
    with client_of(kind, path, retry_lost=True) as client:
        job = client.submit("job", b"payload")
        kill(server)
        os.unlink(path.removeprefix("unix:"))
        with pytest.raises(farm.Timeout):
            job.result(0.3)  # there is none
        assert not job.done
        start(listen=[path, "127.0.0.1:0"])
        worker.register("job", lambda job: job.payload)
        with working(worker):
            assert job.result(10) == b"payload"


def test_patience_ends(kind: str, start: Callable[..., ServerProcess], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("farm.client.strays.PATIENCE_S", 0.3)
    server = start()
    with client_of(kind, address(server), retry_lost=True) as client:
        job = client.submit("job")
        kill(server)
        with pytest.raises(farm.JobLost, match="then no server at"):
            job.result(10)


def test_output_that_the_program_has_is_not_repeated(kind: str, cluster: list[ServerProcess]) -> None:
    gate = Gate()
    worker = farm.Worker(addresses(cluster))

    @worker.task("half")
    def half(job: farm.WorkerJob) -> bytes:
        job.send_data(b"half")
        return gate(job)

    with client_of(kind, addresses(cluster), retry_lost=True) as client, working(worker):
        pieces = client.submit("half").data
        assert next(pieces) == b"half"
        kill(cluster[0])
        gate.open.set()
        with pytest.raises(farm.JobLost, match="4 bytes") as caught:
            next(pieces)
        assert "would be repeated" in caught.value.hint


def test_a_job_that_brings_servers_down_does_not_go_round_for_ever(
    kind: str, start: Callable[..., ServerProcess], tmp_path: Path
) -> None:
    path = f"unix:{tmp_path}/farm.sock"
    submissions = 0
    with client_of(kind, path, retry_lost=True) as client:
        server = start(listen=[path, "127.0.0.1:0"])
        job = client.submit("deadly")
        while not job.done:
            submissions += 1
            assert submissions <= 5
            kill(server)
            os.unlink(path.removeprefix("unix:"))
            server = start(listen=[path, "127.0.0.1:0"])
            wait_until(lambda server=server: job.wait(0.05) or jobs_of(server, "deadly") == (1, 0))  # type: ignore[misc]
    assert submissions == 5
    assert isinstance(job.error, farm.JobLost)


# -- background jobs and questions


def test_a_server_that_stops_takes_no_jobs(kind: str, cluster: list[ServerProcess]) -> None:
    """It said that it has not taken the job, so the job goes elsewhere in any case."""
    gate = Gate()
    worker = farm.Worker(address(cluster[0]))
    worker.register("gate", gate)
    with client_of(kind, addresses(cluster)) as client, working(worker):
        running = client.submit("gate", b"first")
        assert gate.entered.wait(PATIENCE_S)
        cluster[0].terminate()
        wait_until(lambda: "stopping" in cluster[0].log())
        second = client.submit("other")
        assert second.server == address(cluster[1])
        handle = client.submit_background("other")
        assert handle.server == address(cluster[1])
        gate.open.set()
        assert running.result(PATIENCE_S) == b"first"  # it is still waited for there
        assert cluster[0].wait() == 0


def test_status_knows_where_to_ask(kind: str, cluster: list[ServerProcess]) -> None:
    handles = []
    for server in cluster:
        with client_of(kind, address(server)) as client:
            handles.append(client.submit_background("nobody", unique=f"at {len(handles)}"))
    with client_of(kind, addresses(cluster)) as client:
        assert all(client.status(handle).known for handle in handles)
        assert client.status_by_unique("at 2").known
        assert client.status(str(handles[2])).known
        kill(cluster[1])
        assert client.status(str(handles[2])).known
        with pytest.raises(farm.Unavailable):
            client.status(handles[1])
        with pytest.raises(farm.Unavailable, match="no server at"):
            client.status("H:nobody:1")  # it may be known at the server that is down


def test_no_server_at_all(kind: str) -> None:
    where = f"127.0.0.1:{free_port()}"
    with client_of(kind, where) as client:
        for call in (client.run, client.submit, client.submit_background, client.status, client.status_by_unique):
            with pytest.raises(farm.Unavailable, match="no server at"):
                call("name")
        with pytest.raises(farm.Unavailable, match="no server at"):
            list(client.map("name", [b""]))
        with pytest.raises(farm.Unavailable, match="no server at"):
            client.echo()


@pytest.fixture
def quick_pulse(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes 12 s takes 1.2."""
    monkeypatch.setattr("farm.protocol.silence.HEARTBEAT_S", 0.4)


@pytest.fixture
def stopped(cluster: list[ServerProcess]) -> Iterator[Callable[[], None]]:
    """Call it, and the first server stands still: its kernel keeps every connection."""
    yield lambda: cluster[0].process.send_signal(signal.SIGSTOP)
    cluster[0].process.send_signal(signal.SIGCONT)


@pytest.mark.usefixtures("quick_pulse")
@pytest.mark.parametrize("retry", [False, True])
def test_a_server_that_stands_still_is_given_up(
    kind: str, cluster: list[ServerProcess], retry: bool, stopped: Callable[[], None]
) -> None:
    gate = Gate()
    first, second = addresses(cluster)[:2]
    slow, quick = farm.Worker(first), farm.Worker(second)
    slow.register("f", gate)
    quick.register("f", lambda job: b"second")
    with working(slow), working(quick):
        wait_working(cluster[0], "f")
        wait_working(cluster[1], "f")
        with client_of(kind, [first, second], retry_lost=retry) as client:
            job = client.submit("f")
            assert gate.entered.wait(PATIENCE_S)
            stopped()
            if retry:
                assert job.result(PATIENCE_S) == b"second"
            else:
                with pytest.raises(farm.JobLost, match="no sign of life"):
                    job.result(PATIENCE_S)
        cluster[0].process.send_signal(signal.SIGCONT)
        gate.open.set()


@pytest.mark.usefixtures("quick_pulse")
def test_a_server_that_has_nothing_to_say_is_not(kind: str, cluster: list[ServerProcess]) -> None:
    """A long job: the server lives, and says so when it is asked; also to who does not listen for a while."""
    gate = Gate()
    worker = farm.Worker(addresses(cluster)[0])
    worker.register("f", gate)
    with working(worker), client_of(kind, addresses(cluster)[:1]) as client:
        wait_working(cluster[0], "f")
        job = client.submit("f", b"payload")
        assert gate.entered.wait(PATIENCE_S)
        assert not job.wait(2.5)
        time.sleep(2.5)  # the program does something else, for longer than the server may be silent
        assert not job.wait(0.01)
        gate.open.set()
        assert job.result(PATIENCE_S) == b"payload"
