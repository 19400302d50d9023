"""`farm work` being stopped, killed, or left by its server: no job is lost, and no command runs on alone."""

from __future__ import annotations

import os
import signal

import pytest

from tests.cli.rig import Rig, Running, alive, free_port
from tests.support import wait_until


def started_job(rig: Rig, function: str, script: str, *options: str) -> tuple[Running, int]:
    """A worker whose first job has begun; returns it and the command's process id."""
    worker = rig.worker(function, *options, "--cmd", f"echo $$ > pid; {script}")
    assert rig.submit("-b", "-n", function).status == 0
    return worker, int(rig.wait_file("pid"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_lets_the_running_job_finish(rig: Rig, function: str, number: signal.Signals) -> None:
    rig.fifo("gate")
    worker = rig.worker(function, "--cmd", "read x < gate; echo $x; exit 3")
    submit = rig.start("submit", "-n", function)
    rig.wait_counts(function, 1, 1, 1)
    worker.signal(number)
    worker.wait_for("stopping when 1 running job is done; again to end now")
    assert rig.submit("-b", "-n", function).status == 0
    rig.release("gate")
    done = submit.wait()
    assert (done.status, done.out) == (3, b"go\n")
    assert worker.wait().status == 0
    rig.wait_counts(function, 1, 0, 0)


def test_an_idle_worker_stops_at_once(rig: Rig, function: str) -> None:
    worker = rig.worker(function, "-j", "3", "--", "cat", count=3)
    done = worker.terminate()
    assert done.status == 0
    assert "stopping when" not in done.err
    rig.wait_counts(function, 0, 0, 0)


def test_the_second_signal_ends_the_command_and_hands_the_job_back(rig: Rig, function: str) -> None:
    """It is the first in the queue again, and its process group is gone."""
    script = "echo started $(cat) >> log; [ -e second ] || { sh -c 'echo $$ > child; exec sleep 300' & wait; }"
    worker = rig.worker(function, "--cmd", script)
    rig.submit("-b", function, stdin=b"one")
    rig.submit("-b", function, stdin=b"two")
    child = int(rig.wait_file("child"))
    worker.signal(signal.SIGTERM)
    worker.wait_for("again to end now")
    worker.signal(signal.SIGTERM)
    assert worker.wait().status == 128 + signal.SIGTERM
    wait_until(lambda: not alive(child), what="the process group has ended")
    rig.write("second", "")
    rig.worker(function, "--cmd", script)
    rig.wait_counts(function, 0)
    assert (rig.home / "log").read_text() == "started one\nstarted one\nstarted two\n"


def test_a_killed_workers_command_dies_and_its_job_goes_elsewhere(rig: Rig, function: str) -> None:
    worker, pid = started_job(rig, function, "exec sleep 300")
    worker.kill()
    wait_until(lambda: not alive(pid), what="the command has ended")
    rig.wait_counts(function, 1, 0, 0)
    rig.worker(function, "--cmd", "echo done > done")
    rig.wait_file("done")
    rig.wait_counts(function, 0)


def test_a_killed_workers_whole_job_dies(rig: Rig, function: str) -> None:
    """Also what the command has started: it would work on the same job beside the next worker."""
    worker = rig.worker(function, "--cmd", "sh -c 'echo $$ > pid; exec sleep 300'; echo end")
    rig.submit("-b", "-n", function)
    pid = int(rig.wait_file("pid"))
    worker.kill()
    wait_until(lambda: not alive(pid), timeout_s=2, what="the command's child has ended")


def test_after_ctrl_c_a_killed_workers_whole_job_dies_too(rig: Rig, function: str) -> None:
    """Ctrl-C reaches every process of the terminal's foreground group: what watches over the job must outlive it."""
    screen = rig.terminal("work", function, "--cmd", "sh -c 'echo $$ > pid; exec sleep 300'; echo end")
    screen.expect("working on")
    rig.submit("-b", "-n", function)
    pid = int(rig.wait_file("pid"))
    screen.sendintr()
    screen.expect("again to end now")
    os.kill(screen.pid, signal.SIGKILL)
    wait_until(lambda: not alive(pid), timeout_s=2, what="the command's child has ended")


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_of_a_worker(rig: Rig, function: str, end: signal.Signals) -> None:
    worker = rig.worker(function, "-j", "2", "--", "cat", count=2)
    rig.submit(function, stdin=b"x")
    worker.signal(end)
    worker.wait()
    wait_until(lambda: not rig.processes(), what="every process has gone")


def test_a_hang_up_ends_worker_and_command(rig: Rig, function: str) -> None:
    """As closing the terminal does. The whole process group of the command, for the job goes back."""
    worker, pid = started_job(rig, function, "sh -c 'echo $$ > child; exec sleep 300'; echo end")
    child = int(rig.wait_file("child"))
    worker.signal(signal.SIGHUP)
    assert worker.wait().status in (-signal.SIGHUP, 128 + signal.SIGHUP)
    wait_until(lambda: not alive(pid) and not alive(child), timeout_s=2, what="the command has ended")
    rig.wait_counts(function, 1, 0, 0)


def test_a_server_that_comes_later_is_found(rig: Rig, function: str) -> None:
    address = f"127.0.0.1:{free_port()}"
    worker = rig.start("work", function, "--server", address, "--", "cat")
    worker.wait_for("trying again until there is one")
    assert worker.err() == (
        f"farm: no server at {address}: connection refused; trying again until there is one\n"
        "hint: start one with `farm server`, or name another with --server or FARM_SERVER\n"
    )
    rig.server("--listen", address)
    worker.wait_for(f"working on '{function}' for {address}")
    assert rig.submit(function, "-s", address, stdin=b"in").out == b"in"


def test_a_quiet_worker_still_says_what_somebody_has_to_mend(rig: Rig, function: str) -> None:
    address = f"127.0.0.1:{free_port()}"
    worker = rig.start("work", "-q", function, "--server", address, "--cmd", "head -c 200000 /dev/zero")
    worker.wait_for("no server at")
    rig.server("--listen", address, "--max-job-size", "32K")
    assert rig.submit("-n", function, "-s", address).status == 125
    worker.wait_for("(ARGUMENT_TOO_LARGE)")
    said = [line.partition(": ")[0] + ": " + line.partition(": ")[2][:10] for line in worker.err().splitlines()]
    assert said[:3] == ["farm: no server ", "hint: start one ", "farm: the server"]
    assert "working on" not in worker.err()


def test_a_server_that_restarts_is_found_again(rig: Rig, function: str) -> None:
    first = rig.server()
    worker = rig.start("work", function, "-s", first.address, "--", "cat")
    worker.wait_for("working on")
    first.terminate()
    worker.wait_for("trying again")
    rig.server("--listen", first.address)
    worker.wait_for("again working on")
    assert rig.submit(function, "-s", first.address, stdin=b"in").out == b"in"
    assert len(worker.err().splitlines()) == 3


def test_the_command_ends_when_its_server_is_killed(rig: Rig, function: str) -> None:
    """The job will be run again by whoever gets it; and the worker is free at once for other servers."""
    server = rig.server()
    worker = rig.start(
        "work", function, "-s", server.address, "-s", rig.env["FARM_SERVER"], "--cmd", "echo $$ > pid; sleep 300"
    )
    worker.wait_for("working on", 2)
    rig.submit("-b", "-n", function, "-s", server.address)
    pid = int(rig.wait_file("pid"))
    server.kill()
    worker.wait_for("ending its command, its server has gone")
    wait_until(lambda: not alive(pid), what="the command has ended")


@pytest.mark.parametrize("form", ["repeated", "commas", "environment"])
def test_several_servers_are_served_in_turns(rig: Rig, function: str, form: str) -> None:
    servers = [rig.env["FARM_SERVER"], rig.server().address]
    options = {
        "repeated": ["-s", servers[0], "--server", servers[1]],
        "commas": [f"--server={servers[0]},{servers[1]}"],
        "environment": [],
    }[form]
    for server in servers:
        for turn in "12":
            rig.submit("-b", function, "-s", server, stdin=f"{servers.index(server)}{turn} ".encode())
    worker = rig.worker(function, *options, "--cmd", "cat >> order", env={"FARM_SERVER": ",".join(servers)})
    for server in servers:
        wait_until(lambda server=server: rig.counts(function, server)[0] == 0, what=f"{server} has no jobs left")
    worker.wait_for("working on", 2)
    order = (rig.home / "order").read_text().split()
    assert sorted(order) == ["01", "02", "11", "12"]
    assert order.index("01") < order.index("02")
    assert order.index("11") < order.index("12")
    assert {order[0][0], order[1][0]} == {"0", "1"} or order[1][0] != order[2][0]


def test_one_server_of_two_is_enough(rig: Rig, function: str) -> None:
    dead = f"127.0.0.1:{free_port()}"
    rig.worker(function, "-s", dead, "-s", rig.env["FARM_SERVER"], "--", "cat")
    assert rig.submit(function, stdin=b"in").out == b"in"
