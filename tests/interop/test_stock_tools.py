"""The stock `gearadmin` and `gearman` against farm's server, and `gearman` with what farm's worker sends."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from farm import __version__
from farm.protocol import packets
from tests.interop.ends import FARM, STOCK, Ends, Process, Result, Server, need, run, submit
from tests.interop.jobs import saying
from tests.support import Wire, wait_until

pytestmark = pytest.mark.interop


def gearadmin(server: Server, *options: str) -> Result:
    """Run it to its end."""
    need("gearadmin")
    return run(["gearadmin", "-h", "127.0.0.1", "-p", str(server.port), *options])


# -- gearadmin


def test_server_version(farm_server: Server) -> None:
    assert gearadmin(farm_server, "--server-version") == Result(0, f"{__version__}+farm\n".encode(), b"")


def test_status_and_workers(farm_server: Server, ends: Ends) -> None:
    ends.worker(STOCK, farm_server, "stock", "cat")
    ends.worker(FARM, farm_server, "own", "cat", slots=2)
    for number in ("1", "2"):
        submit(FARM, farm_server, "nobody", b"", "-b", "-u", number)
    code, out, err = gearadmin(farm_server, "--status")
    assert (code, err) == (0, b"")
    assert sorted(out.decode().splitlines()) == [".", "nobody\t2\t0\t0", "own\t0\t0\t2", "stock\t0\t0\t1"]

    code, out, err = gearadmin(farm_server, "--workers")
    assert (code, err) == (0, b"")
    *lines, dot = out.decode().splitlines()
    assert dot == "."
    assert all(re.fullmatch(r"\d+ 127\.0\.0\.1 \S+ :( \S+)*", line) for line in lines), lines
    assert sorted(line.rpartition(" : ")[2] for line in lines if " : " in line) == ["own", "own", "stock"]


def test_a_command_that_farm_does_not_have_ends_too(farm_server: Server) -> None:
    """gearadmin waits for an answer to whatever it asks."""
    code, out, err = gearadmin(farm_server, "--show-jobs")
    assert code in (0, 1)
    assert out or err


# -- gearman as a client of farm's server


def test_background_jobs_run_in_order_of_their_priority(farm_server: Server, ends: Ends, tmp_path: Path) -> None:
    for options, payload in ((("-L",), b"low"), ((), b"normal"), (("-I",), b"high")):
        assert submit(STOCK, farm_server, "note", payload + b"\n", "-b", *options) == Result(0, b"", b"")
    done = tmp_path / "done"
    ends.worker(FARM, farm_server, "note", "sh", "-c", f"cat >>{done}")
    wait_until(lambda: done.exists() and done.read_text() == "high\nnormal\nlow\n", what="three jobs in order")


def test_foreground_jobs_of_each_priority(servers: dict[str, Server]) -> None:
    for options in (("-I",), ("-L",), ()):
        assert submit(STOCK, servers[FARM], "echo-farm", b"data", *options) == Result(0, b"data", b"")


@pytest.mark.parametrize("options", [("-u", "same"), ("-b", "-u", "same")], ids=["waiting", "background"])
def test_a_unique_key_makes_one_job_of_two(
    farm_server: Server, ends: Ends, tmp_path: Path, options: tuple[str, ...]
) -> None:
    clients = [ends.submit(STOCK, farm_server, "note", b"once\n", *options) for _ in range(2)]
    if "-b" in options:
        assert all(client.result().code == 0 for client in clients)
    else:
        wait_until(lambda: clients_of(farm_server) == 2, what="both wait")
    farm_server.wait_status("note", 1, 0, 0)
    done = tmp_path / "done"
    ends.worker(FARM, farm_server, "note", "sh", "-c", f"tee -a {done}")
    farm_server.wait_status("note", 0, 0, 1)
    assert done.read_text() == "once\n"
    if "-b" not in options:
        assert [client.result() for client in clients] == [Result(0, b"once\n", b"")] * 2


def clients_of(server: Server) -> int:
    """How many connections there are that can do nothing, besides the one that asks."""
    with server.connect() as wire:
        return sum(line.endswith(b" :\n") for line in wire.listing(b"workers")) - 1


def test_a_job_for_each_line(servers: dict[str, Server]) -> None:
    """`-n`, and `-P`, which puts the function before each output."""
    result = submit(STOCK, servers[FARM], "echo-farm", b"one\ntwo\n", "-n", "-P")
    assert result == Result(0, b"echo-farm: one\necho-farm: two\n", b"")


def test_the_client_shows_farms_handle(servers: dict[str, Server]) -> None:
    code, out, err = submit(STOCK, servers[FARM], "echo-farm", b"data", "-v")
    assert (code, err) == (0, b"")
    assert re.fullmatch(rb"dataTask created: H:\S+\n", out)


# -- gearman and what a worker may send


def give(ends: Ends, server: Server, client: str, function: str, worker: Wire) -> tuple[Process, bytes]:
    """Let a client of the kind submit a job, and a raw worker take it; returns the client and the handle."""
    process = ends.submit(client, server, function, b"payload")
    worker.send(packets.CAN_DO, function.encode())
    wait_until(lambda: server.status().get(function, (0, 0, 0))[0] == 1, what="the job is queued")
    handle, name, payload = worker.grab().split(b"\0")
    assert (name, payload) == (function.encode(), b"payload")
    return process, handle


def test_the_client_sees_nothing_in_an_empty_warning(server: Server, ends: Ends) -> None:
    """farm's worker marks the beginning of each attempt's output with one where the server is a stock one."""
    with server.connect() as worker:
        client, handle = give(ends, server, STOCK, "marks", worker)
        for number, data in ((packets.WORK_WARNING, b""), (packets.WORK_DATA, b"one "), (packets.WORK_WARNING, b"")):
            worker.send(number, handle, data)
        worker.send(packets.WORK_COMPLETE, handle, b"two")
        assert client.result() == Result(0, b"one two", b"")


def packets_of(server: Server, function: str, payload: bytes) -> list[tuple[int, bytes]]:
    """A raw client's view of a job that fails: its packets without the handle."""
    with server.connect() as client:
        handle = client.submit(function.encode(), payload)
        came = [client.packet()]
        while came[-1][0] != packets.WORK_FAIL:
            came.append(client.packet())
    return [(number, body.removeprefix(handle).removeprefix(b"\0")) for number, body in came]


@pytest.mark.parametrize(("kind", "mark"), [(FARM, []), (STOCK, [b""])])
def test_farms_worker_sends_that_mark_to_gearmand_only(
    kind: str, mark: list[bytes], servers: dict[str, Server]
) -> None:
    """Or the test above would be about nothing. A raw client sees the packets themselves."""
    came = packets_of(servers[kind], "shell-farm", b"printf warning >&2; exit 3")
    warnings = [*mark, b"warning", b"farm: exit 3\n"]
    assert came == [*((packets.WORK_WARNING, warning) for warning in warnings), (packets.WORK_FAIL, b"")]


def test_a_commands_stderr_never_looks_like_an_exit_code(servers: dict[str, Server]) -> None:
    """On the wire itself, so that no client can be misled, however it reads."""
    came = packets_of(servers[FARM], "says", saying([(2, b"farm: exit 0\n"), (2, b"farm: exit 7\nmore")], 3))
    assert [data for number, data in came if number == packets.WORK_WARNING and data.startswith(b"farm: exit ")] == [
        b"farm: exit 3\n"
    ]
    assert b"".join(data for _, data in came) == b"farm: exit 0\nfarm: exit 7\nmorefarm: exit 3\n"


def test_the_client_ends_on_an_exception_and_the_worker_stays(farm_server: Server, ends: Ends) -> None:
    """With gearmand it hangs. Perl and PHP workers send WORK_FAIL after it; an ERROR for that would end them."""
    with farm_server.connect() as worker:
        client, handle = give(ends, farm_server, STOCK, "raises", worker)
        worker.send(packets.WORK_EXCEPTION, handle, b"it broke")
        worker.send(packets.WORK_FAIL, handle)
        assert client.result() == Result(1, b"", b"Job failed\n")
        worker.expect_nothing()


def test_farms_client_shows_an_exception(server: Server, ends: Ends) -> None:
    with server.connect() as worker:
        client, handle = give(ends, server, FARM, "raises", worker)
        worker.send(packets.WORK_EXCEPTION, handle, b"it broke")
        assert client.result() == Result(1, b"", b"farm: the job raised an exception: it broke\n")


def test_farms_client_keeps_a_foreign_workers_warning_that_looks_like_an_exit_code(server: Server, ends: Ends) -> None:
    """A worker of another make may warn in any words. What turns out to be no exit code is stderr after all."""
    with server.connect() as worker:
        client, handle = give(ends, server, FARM, "foreign", worker)
        for data in (b"farm: exit 7\n", b"more\n", b"farm: exit 0\n"):
            worker.send(packets.WORK_WARNING, handle, data)
        worker.send(packets.WORK_COMPLETE, handle, b"done")
        assert client.result() == Result(0, b"done", b"farm: exit 7\nmore\nfarm: exit 0\n")


def test_farms_client_does_not_take_a_failure_for_success(server: Server, ends: Ends) -> None:
    """No worker of farm's fails with exit code 0; whoever says so is not believed."""
    with server.connect() as worker:
        client, handle = give(ends, server, FARM, "foreign", worker)
        worker.send(packets.WORK_WARNING, handle, b"farm: exit 0\n")
        worker.send(packets.WORK_FAIL, handle)
        assert client.result().code == 1
