"""`farm server`: where it listens, how it is detached, and how it stops."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from farm.protocol import packets as p
from tests.cli.rig import Rig, alive, connect, free_port
from tests.support import wait_until


def detach(rig: Rig, *options: str, redirection: str = "") -> tuple[int, str]:
    """A detached server with a pid file; returns its process id and its log."""
    done = rig.shell(f"farm server --detach --pid-file pid --log-file log {' '.join(options)} {redirection}")
    assert (done.status, done.out) == (0, b""), done
    return int((rig.home / "pid").read_text()), (rig.home / "log").read_text()


@pytest.mark.parametrize("redirection", ["", "<&- >&- 2>&-"])
def test_detached_it_returns_when_it_is_ready(lone_rig: Rig, redirection: str) -> None:
    """The very next command finds it: no sleep in anybody's script. With its streams closed too, as under cron."""
    address = f"127.0.0.1:{free_port()}"
    pid, log = detach(lone_rig, "--listen", address, redirection=redirection)
    done = lone_rig.submit("-b", "-n", "f", "-s", address)
    assert (done.status, done.err) == (0, "")
    assert f"listening on {address}" in log
    assert alive(pid)
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not alive(pid), what="it stops")
    assert not (lone_rig.home / "pid").exists()
    assert "stopped" in (lone_rig.home / "log").read_text()


def test_detached_it_lets_go_of_the_terminal(lone_rig: Rig) -> None:
    """A session of its own that it does not lead, and no stream of the caller's: `$(farm server --detach)` returns."""
    pid, _ = detach(lone_rig, "--listen", "127.0.0.1:0")
    assert os.getsid(pid) not in (pid, os.getsid(0))
    streams = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in (0, 1, 2)]
    assert streams == ["/dev/null"] * 3


def test_detached_its_exit_status_is_the_truth(lone_rig: Rig) -> None:
    taken = lone_rig.server().address
    done = lone_rig.run("server", "--detach", "--listen", taken, "--pid-file", "pid")
    assert done.status == 69
    assert done.error == f"cannot listen on {taken}: address already in use"
    assert not (lone_rig.home / "pid").exists()
    done = lone_rig.run("server", "--detach", "--listen", "127.0.0.1:0", "--pid-file", "/no/such/dir/pid")
    assert done.status == 73
    assert len(lone_rig.processes()) == 1


def test_detached_without_a_log_it_says_so(lone_rig: Rig) -> None:
    done = lone_rig.run("server", "--detach", "--listen", "127.0.0.1:0", "--pid-file", "pid", "--log-level", "error")
    assert done.status == 0
    assert done.err == (
        "farm: the server runs; its log goes nowhere from here on\nhint: keep it with --log-file FILE or --syslog\n"
    )
    done = lone_rig.run("server", "--detach", "--listen", "127.0.0.1:0", "--log-level", "error", "--log-file", "log")
    assert (done.status, done.err) == (0, "")


def test_an_address_named_twice_is_listened_on_once(lone_rig: Rig) -> None:
    port, sock = free_port(), f"unix:{lone_rig.home}/sock"
    lone_rig.env["FARM_SERVER"] = f"127.0.0.1:{port}"
    server = lone_rig.server("--listen", f"127.0.0.1:{port},127.0.0.1:{port}", "--listen", f"{sock},{sock}")
    assert server.addresses == [f"127.0.0.1:{port}", sock]
    server.terminate()
    server = lone_rig.server("--listen", "127.0.0.1:0,127.0.0.1:0")
    assert len(set(server.addresses)) == 2  # the system chooses two ports


def test_the_log_is_appended_to(lone_rig: Rig) -> None:
    lone_rig.write("log", "earlier\n")
    server = lone_rig.start("server", "--listen", "127.0.0.1:0", "--log-file", "log")
    wait_until(lambda: "store: " in (lone_rig.home / "log").read_text(), what="it has started")
    assert server.terminate().err == ""
    lines = (lone_rig.home / "log").read_text().splitlines()
    assert lines[0] == "earlier"
    assert lines[1][:4].isdigit()
    assert lines[-1].endswith("stopped")


@pytest.mark.parametrize("log", ["--log-file /dev/full", "2> /dev/full", "2>&-", "2> >(head -1 > /dev/null)"])
def test_a_log_that_cannot_be_written_does_not_end_the_server(lone_rig: Rig, log: str) -> None:
    """Its lines are lost, its jobs are not; and no stack of ours is shown in their place."""
    address = f"127.0.0.1:{free_port()}"
    server = lone_rig.background(["bash", "-c", f"exec farm server --log-level info --listen {address} {log}"])
    lone_rig.env["FARM_SERVER"] = address
    wait_until(lambda: lone_rig.submit("-b", "-n", "f").status == 0, what="it answers")
    lone_rig.worker("f", "--", "cat")
    assert lone_rig.submit("f", stdin=b"in").out == b"in"
    assert server.terminate().status == 0


def test_the_log_level(lone_rig: Rig, function: str) -> None:
    """At info there is a line for each start and end of a job, with no payload in it."""
    server = lone_rig.server("--log-level", "info")
    lone_rig.env["FARM_SERVER"] = server.address
    lone_rig.worker(function, "--", "cat")
    lone_rig.submit(function, stdin=b"secret payload")
    server.wait_for("done")
    log = server.terminate().err
    assert f"{function} started" in log
    assert "secret" not in log
    assert lone_rig.start("server", "--listen", "127.0.0.1:0", "--log-level", "error").terminate().err == ""


def test_a_unix_socket(lone_rig: Rig, function: str) -> None:
    """Private to its user; gone when the server is, and a stale one is no obstacle."""
    address = f"unix:{lone_rig.home}/farm.sock"
    path = Path(address.removeprefix("unix:"))
    server = lone_rig.server("--listen", address)
    assert server.addresses == [address]
    assert path.stat().st_mode & 0o777 == 0o600
    lone_rig.env["FARM_SERVER"] = address
    lone_rig.worker(function, "--", "cat")
    assert lone_rig.submit(function, stdin=b"in").out == b"in"
    server.kill()
    assert path.exists()
    again = lone_rig.server("--listen", address)
    assert again.terminate().status == 0
    assert not path.exists()


@pytest.mark.parametrize("there", ["server", "file"])
def test_a_unix_socket_that_is_taken(lone_rig: Rig, there: str) -> None:
    path = lone_rig.home / "farm.sock"
    if there == "server":
        lone_rig.server("--listen", f"unix:{path}")
    else:
        path.write_text("precious")
    done = lone_rig.run("server", "--listen", f"unix:{path}")
    assert done.status == 69
    assert done.error.startswith(f"cannot listen on unix:{path}: ")
    assert path.exists()


@pytest.mark.parametrize("form", ["repeated", "commas", "environment"])
def test_several_addresses(lone_rig: Rig, form: str) -> None:
    sock = f"unix:{lone_rig.home}/s"
    addresses = ["127.0.0.1:0", "127.0.0.1:0", sock]
    options = {
        "repeated": [word for address in addresses for word in ("--listen", address)],
        "commas": ["--listen", ",".join(addresses)],
        "environment": [],
    }[form]
    server = lone_rig.server(*options, env={"FARM_LISTEN": ",".join(addresses)})
    assert len(set(server.addresses)) == 3
    assert server.addresses[2] == sock
    for address in server.addresses:
        with connect(address) as wire:
            wire.expect_nothing()


def test_all_or_none_of_several_addresses(lone_rig: Rig) -> None:
    """A server on half of its addresses would be found by half of its clients."""
    taken, sock = lone_rig.server().address, lone_rig.home / "s"
    done = lone_rig.run("server", "--listen", f"unix:{sock}", "--listen", taken)
    assert done.status == 69
    assert "already in use" in done.err
    assert not sock.exists()


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (["--listen", "0.0.0.0:0"], 77, "0.0.0.0 is not a loopback address, and farm does not encrypt yet"),
        (["--listen", "[::]:0"], 77, ":: is not a loopback address, and farm does not encrypt yet"),
        (["--listen", "192.0.2.1:4730"], 77, "192.0.2.1 is not a loopback address, and farm does not encrypt yet"),
        (["--insecure", "--listen", "192.0.2.1:4730"], 69, "cannot listen on 192.0.2.1:4730: "),
        (["--listen", "127.0.0.1:99999"], 64, "not an address: '127.0.0.1:99999'"),
        (["--listen", "127.0.0.1:" + "9" * 5000], 64, "not an address: "),
        (["--listen", "unix:"], 64, "not an address: 'unix:'"),
        (["--listen", "unix:" + "x" * 200], 69, "cannot listen on unix:xxx"),
        (["--listen", "unix:/no/such/dir/s"], 69, "cannot listen on unix:/no/such/dir/s: no such file or directory"),
        (["--log-file", "/no/such/dir/log"], 73, "cannot write the log /no/such/dir/log: "),
        (["--log-level", "loud"], 64, "--log-level cannot be 'loud'"),
        (["--store", "/dev/null/x"], 73, "cannot make the store's directory /dev/null/x: "),
        (["--stop-grace", "soon"], 64, "--stop-grace is not a time: 'soon'"),
        (["--stop-grace", "-1s"], 64, "--stop-grace"),
        (["--stall", "nan"], 64, "--stall is not a time: 'nan'"),
        (["--max-job-size", "1X"], 64, "--max-job-size is not a size: '1X'"),
        (["--max-job-size", "0"], 64, "--max-job-size is not a size above 0: '0'"),
        (["--max-job-size", "0.1"], 64, "--max-job-size is not a size above 0: '0.1'"),
        (["--max-connections", "0"], 64, "--max-connections is not a whole number above 0: '0'"),
        (["extra"], 64, "extra"),
    ],
)
def test_what_it_does_not_start_with(lone_rig: Rig, options: list[str], status: int, words: str) -> None:
    done = lone_rig.run("server", *options)
    assert done.status == status
    assert words in done.error


def test_a_pid_file_that_cannot_be_written(lone_rig: Rig) -> None:
    done = lone_rig.run("server", "--listen", "127.0.0.1:0", "--pid-file", "/no/such/dir/pid")
    assert done.status == 73
    assert done.err.splitlines()[-1] == (
        "farm: error: cannot write the pid file /no/such/dir/pid: no such file or directory"
    )


def test_the_pid_file_of_a_later_server_stays(lone_rig: Rig) -> None:
    first, second = lone_rig.server("--pid-file", "pid"), lone_rig.server("--pid-file", "pid")
    path = lone_rig.home / "pid"
    assert first.terminate().status == 0
    assert int(path.read_text()) == second.pid
    path.write_text("neither a number nor this server's\n")
    assert second.terminate().status == 0
    assert path.exists()
    last = lone_rig.server("--pid-file", "pid")
    assert last.terminate().status == 0
    assert not path.exists()


def test_the_socket_of_a_later_server_stays(lone_rig: Rig) -> None:
    where = f"unix:{lone_rig.home}/socket"
    path = lone_rig.home / "socket"
    first = lone_rig.server("--listen", where)
    path.unlink()  # as a start script does that tidies up
    second = lone_rig.server("--listen", where)
    assert first.terminate().status == 0
    assert lone_rig.submit("-b", "-n", "f", "-s", where).status == 0
    assert second.terminate().status == 0
    assert not path.exists()


def test_insecure_may_be_said_in_the_environment(lone_rig: Rig) -> None:
    server = lone_rig.server("--listen", "0.0.0.0:0", env={"FARM_INSECURE": "1"})
    assert server.address.startswith("0.0.0.0:")


def test_sigterm_waits_for_a_running_job_that_is_awaited(lone_rig: Rig, function: str) -> None:
    server = lone_rig.server("--pid-file", "pid")
    lone_rig.env["FARM_SERVER"] = server.address
    assert int((lone_rig.home / "pid").read_text()) == server.pid
    lone_rig.fifo("gate")
    lone_rig.worker(function, "--cmd", "read x < gate; echo $x")
    submit = lone_rig.start("submit", "-n", function)
    lone_rig.wait_counts(function, 1, 1)
    server.signal(signal.SIGTERM)
    server.wait_for("stopping: waiting for 1 running job")
    assert lone_rig.submit("-b", "-n", function).status == 69
    lone_rig.release("gate")
    assert submit.wait().out == b"go\n"
    assert server.wait().status == 0
    assert not (lone_rig.home / "pid").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_second_signal_does_not_wait(lone_rig: Rig, function: str, number: signal.Signals) -> None:
    server = lone_rig.server()
    with server.connect() as worker, server.connect() as client:
        worker.send(p.CAN_DO, function.encode())
        client.submit(function.encode())
        assert worker.grab()
        server.signal(number)
        server.wait_for("stopping:")
        server.signal(number)
        assert server.wait().status == 0
    assert "stopping at once" in server.err()


def test_jobs_that_are_lost_with_it_are_counted(lone_rig: Rig) -> None:
    server = lone_rig.server()
    for _ in range(3):
        lone_rig.submit("-b", "-n", "f", "-s", server.address)
    assert "3 jobs had not ended; the memory store does not keep them" in server.terminate().err


@pytest.mark.parametrize("time", ["30d", "100000000d"])
def test_a_very_long_grace(lone_rig: Rig, time: str) -> None:
    """Longer than the system's own calls can wait."""
    server = lone_rig.server("--stop-grace", time)
    with server.connect() as worker, server.connect() as client:
        worker.send(p.CAN_DO, b"f")
        handle = client.submit(b"f")
        assert worker.grab()
        server.signal(signal.SIGTERM)
        server.wait_for("stopping:")
        worker.send(p.WORK_COMPLETE, handle, b"")
        client.expect(p.WORK_COMPLETE, handle, b"")
    assert server.wait().status == 0


@pytest.mark.parametrize("time", ["30d", "100000000d"])
def test_a_very_long_stall(lone_rig: Rig, time: str) -> None:
    server = lone_rig.server("--stall", time)
    with server.connect() as slow, server.connect() as other:
        slow.raw(b"\0RE")
        other.expect_nothing()
        other.expect_nothing()
    assert server.terminate().status == 0


def test_status_in_json_shows_its_version(lone_rig: Rig) -> None:
    server = lone_rig.server()
    done = lone_rig.run("status", "--json", "-s", server.address)
    version = json.loads(done.out)["servers"][0]["version"]
    assert version.startswith(lone_rig.run("--version").out.decode().split()[1])
