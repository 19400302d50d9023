"""`farm work` and `farm server`: either notices that the other is dead though its connection lives."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest

from farm.protocol import packets as p
from farm.protocol.silence import SILENCE_MAX_S
from tests.cli.fakes import Caller, fake_server, res
from tests.cli.rig import Rig, ServerRunning
from tests.support import wait_until

NOTICED_S = 20.0


@pytest.fixture
def server(lone_rig: Rig) -> ServerRunning:
    """One with a fast pulse."""
    server = lone_rig.server("--heartbeat", "400ms")
    lone_rig.env["FARM_SERVER"] = server.address
    return server


def test_a_stopped_worker_loses_its_job(lone_rig: Rig, server: ServerRunning) -> None:
    """Its kernel keeps the connection alive; the job goes to another worker all the same, and once it can go on it ends
    the command that nobody waits for any more."""
    lone_rig.fifo("gate")
    script = 'echo $$ >> pids; [ "$(wc -l < pids)" = 1 ] && read x < gate; cat'
    stopped = lone_rig.worker("f", "--cmd", script)
    client = lone_rig.start("submit", "f", stdin=subprocess.PIPE)
    assert client.process.stdin
    client.process.stdin.write(b"hello")
    client.process.stdin.close()
    first = int(lone_rig.wait_file("pids"))
    stopped.signal(signal.SIGSTOP)
    lone_rig.worker("f", "--cmd", script, count=1)
    done = client.wait()
    assert (done.status, done.out) == (0, b"hello")
    assert "no sign of life for" in server.err()
    stopped.signal(signal.SIGCONT)
    stopped.wait_for("ending its command, its server has gone")
    wait_until(lambda: not os.path.exists(f"/proc/{first}"), what="the first attempt's command has ended")
    lone_rig.wait_counts("f", 0, 0, 2)


def test_a_stopped_server_is_left(lone_rig: Rig, server: ServerRunning) -> None:
    """The worker ends the command and comes back when the server does."""
    worker = lone_rig.worker("f", "--cmd", "echo $$ > pid; sleep 1000")
    lone_rig.start("submit", "-n", "f")
    pid = int(lone_rig.wait_file("pid"))
    server.signal(signal.SIGSTOP)
    worker.wait_for(f"no server at {server.address}: no sign of life for")
    worker.wait_for("ending its command, its server has gone")
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"), what="the command has ended")
    server.signal(signal.SIGCONT)
    worker.wait_for("again working on 'f'")


def test_a_client_leaves_a_stopped_server(lone_rig: Rig, server: ServerRunning) -> None:
    """With the same words as for one that went away, and the same exit code; but not before it was given its time."""
    lone_rig.worker("f", "--cmd", "echo $$ > pid; sleep 1000")
    client = lone_rig.start("submit", "-n", "f", stdout=subprocess.DEVNULL)
    lone_rig.wait_file("pid")
    server.signal(signal.SIGSTOP)
    began = time.monotonic()
    done = client.wait(2 * SILENCE_MAX_S)
    took_s = time.monotonic() - began
    server.signal(signal.SIGCONT)
    assert SILENCE_MAX_S - 1.5 < took_s < NOTICED_S
    assert done.status == 69
    assert done.error.startswith(f"the server at {server.address} ")
    assert done.error.endswith(" was under way; it may have run or not")


def test_a_client_that_waits_for_its_pager_is_left_alone(lone_rig: Rig, server: ServerRunning) -> None:
    """`farm submit | less`, paused: nothing is owed and nothing lost."""
    size = 2_000_000
    lone_rig.worker("f", "--cmd", f"head -c {size} /dev/zero")
    client = lone_rig.start("submit", "-n", "f", stdout=subprocess.PIPE)
    with server.connect() as watcher:
        for option in (b"farm-1", b"farm-heartbeat"):
            watcher.send(p.OPTION_REQ, option)
            watcher.expect(p.OPTION_RES, option)
        for _ in range(5):  # longer than a worker may be silent
            assert watcher.packet()[0] == p.FARM_HEARTBEAT
            watcher.send(p.FARM_ALIVE)
    assert not client.ended
    assert client.process.stdout
    assert len(client.process.stdout.read()) == size
    assert client.wait().status == 0
    assert "no sign of life" not in server.err()


@pytest.mark.parametrize("beat", [None, b"", b"x", b"-", b"9" * 5000])
def test_servers_that_know_no_heartbeats_or_strange_ones(lone_rig: Rig, beat: bytes | None) -> None:
    """An older farm server answers that it does not know the option: no reason to complain."""

    def talk(caller: Caller) -> None:
        caller.until(b"farm-1")
        caller.say(res(p.OPTION_RES, b"farm-1"))
        caller.until(b"farm-heartbeat")
        if beat is None:
            caller.say(res(p.ERROR, b"UNKNOWN_OPTION", b"Server does not recognize given option"))
        else:
            caller.say(res(p.OPTION_RES, b"farm-heartbeat") + res(p.FARM_HEARTBEAT, beat))
        caller.until(b"\0REQ\0\0\0\x27")  # it grabs
        caller.say(res(p.NO_JOB))
        caller.until_closed()

    with fake_server(talk) as (address, callers):
        worker = lone_rig.start("work", "-s", address, "f", "--", "cat")
        if beat is None:
            wait_until(lambda: callers and b"\0REQ\0\0\0\x04" in callers[0].got, what="it sleeps")
            assert worker.err().count("\n") == 1, worker.err()  # that it works
            worker.kill()
        else:
            done = worker.wait()
            assert done.status == 76
            assert "a strange heartbeat" in done.err


SLOW_NAME = """
import _socket, os, time
from pathlib import Path
real = _socket.getaddrinfo
def slow(host, *rest, **named):
    if host != b"slow.test":
        return real(host, *rest, **named)
    if os.path.exists("asked"):
        Path("asked").write_text("twice")
        time.sleep(300)
    Path("asked").write_text("once")
    raise _socket.gaierror(-3, "Temporary failure in name resolution")
_socket.getaddrinfo = slow
"""


def test_a_name_server_that_does_not_answer_is_no_reason_to_seem_dead(lone_rig: Rig, server: ServerRunning) -> None:
    lone_rig.write("sitecustomize.py", SLOW_NAME)
    servers = ["-s", server.address, "-s", "slow.test:4730"]
    worker = lone_rig.worker("f", *servers, "--cmd", "echo run >> runs; sleep 2; cat", env={"PYTHONPATH": "."})
    lone_rig.wait_file("asked", "twice")
    done = lone_rig.submit("f", stdin=b"payload")
    assert (done.status, done.out) == (0, b"payload")
    assert "no sign of life" not in server.err() + worker.err()
    assert (lone_rig.home / "runs").read_text() == "run\n"
    assert worker.terminate().status == 0
