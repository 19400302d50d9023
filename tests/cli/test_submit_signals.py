"""`farm submit` is interrupted: the job is given up, its whole process group ends, and the shell sees the truth."""

from __future__ import annotations

import signal
import socket
import time

import pytest

from farm.client.submit import CANCEL_TIMEOUT_S
from farm.protocol import packets as p
from tests.cli.fakes import CREATED, Caller, fake_server, res
from tests.cli.rig import Rig, ServerRunning, alive
from tests.support import req, wait_until

# A job of three processes: each writes its id, then waits.
GROUP = "sh -c 'echo $$ > a; exec sleep 300' & sh -c 'echo $$ > b; exec sleep 300' & echo $$ > c; wait"


@pytest.fixture
def group(rig: Rig, function: str) -> str:
    """A worker whose jobs are three processes that wait; returns the function."""
    rig.worker(function, "--cmd", GROUP)
    return function


def pids(rig: Rig) -> list[int]:
    """Of the job's processes, once they are all there."""
    return [int(rig.wait_file(name)) for name in "abc"]


def wait_gone(rig: Rig, function: str, group: list[int]) -> None:
    """Until nothing is left of the job, at the worker and at the server."""
    wait_until(lambda: not any(map(alive, group)), what="the group is gone")
    rig.wait_counts(function, 0, 0, 1)


def test_ctrl_c_cancels_the_job_and_is_what_the_shell_sees(rig: Rig, group: str) -> None:
    screen = rig.terminal("submit", "-n", group)
    running = pids(rig)
    screen.sendintr()
    screen.expect(r"farm: cancelled: job H:\S+ is being ended at its worker")
    wait_until(lambda: not screen.isalive(), what="it has ended")
    assert screen.signalstatus == signal.SIGINT
    wait_gone(rig, group, running)


def test_ctrl_c_of_a_job_that_waits(rig: Rig, function: str) -> None:
    screen = rig.terminal("submit", "-n", function)
    screen.expect("waiting: no worker")
    screen.sendintr()
    screen.expect(r"farm: cancelled: job H:\S+ was not running")
    wait_until(lambda: not screen.isalive(), what="it has ended")
    assert screen.signalstatus == signal.SIGINT
    rig.wait_counts(function, 0)


def test_ctrl_c_ends_a_loop_in_a_script(rig: Rig, function: str) -> None:
    """bash ends a script on Ctrl-C only if the command died of the signal itself."""
    screen = rig.terminal_of(
        ["bash", "-c", f"for i in 1 2 3; do echo turn $i; farm submit -n {function}; done; echo end"]
    )
    screen.expect("waiting: no worker")
    screen.sendintr()
    wait_until(lambda: not screen.isalive(), what="the loop has ended")
    assert "turn 2" not in screen.read()


def test_ctrl_c_while_the_payload_is_typed(rig: Rig, function: str) -> None:
    screen = rig.terminal("submit", function)
    screen.expect("-f FILE reads a file")
    screen.send("half a li")
    screen.sendintr()
    wait_until(lambda: not screen.isalive(), what="it has ended")
    assert screen.signalstatus == signal.SIGINT
    assert "Traceback" not in screen.read()
    assert rig.counts(function)[0] == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_cancels_the_job_and_is_the_end(rig: Rig, group: str, number: signal.Signals) -> None:
    submit = rig.start("submit", "-n", group)
    running = pids(rig)
    submit.signal(number)
    done = submit.wait()
    assert done.status == -number
    assert "is being ended at its worker" in done.err
    wait_gone(rig, group, running)


def test_sigkill_leaves_nothing_behind_either(rig: Rig, group: str) -> None:
    """The server sees the connection close."""
    submit = rig.start("submit", "-n", group)
    running = pids(rig)
    submit.kill()
    wait_gone(rig, group, running)


def test_nohup_is_obeyed(rig: Rig, function: str) -> None:
    rig.fifo("gate")
    rig.worker(function, "--cmd", "read x < gate; echo $x")
    submit = rig.background(["nohup", "farm", "submit", "-n", function])
    rig.wait_counts(function, 1, 1)
    submit.signal(signal.SIGHUP)
    rig.release("gate")
    done = submit.wait()
    assert (done.status, done.out) == (0, b"go\n")


def test_a_background_job_outlives_its_submitter(rig: Rig, function: str) -> None:
    rig.fifo("gate")
    rig.worker(function, "--cmd", "read x < gate; echo $x > got")
    assert rig.submit("-b", "-n", function).status == 0
    rig.release("gate")
    assert rig.wait_file("got") == "go\n"


def test_a_job_that_others_wait_for_goes_on(rig: Rig, function: str, server: ServerRunning) -> None:
    rig.fifo("gate")
    rig.worker(function, "--cmd", "read x < gate; echo $x")
    submit = rig.start("submit", "-n", "-u", "shared", function)
    rig.wait_counts(function, 1, 1, 1)
    with server.connect() as other:
        handle = other.submit(function.encode(), b"", b"shared")
        submit.signal(signal.SIGINT)
        done = submit.wait()
        assert done.status == -signal.SIGINT
        assert done.err == f"farm: job {handle.decode()} runs on: others wait for it, or it is a background job\n"
        rig.release("gate")
        other.expect(p.WORK_COMPLETE, handle, b"go\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_does_not_wait_for_the_servers_word(lone_rig: Rig, number: signal.Signals) -> None:
    """It detaches at once; what becomes of the job is not said then."""

    def talk(caller: Caller) -> None:
        caller.until(req(p.SUBMIT_JOB, b"f", b"", b""))
        caller.say(res(p.OPTION_RES, b"farm-1") + CREATED)
        caller.until(req(p.FARM_CANCEL, b"H:fake:1"))
        submit.signal(number)
        caller.until_closed()

    with fake_server(talk) as (address, callers):
        submit = lone_rig.start("submit", "-n", "-s", address, "f")
        wait_until(lambda: callers and req(p.SUBMIT_JOB)[:8] in callers[0].got, what="the job")
        submit.signal(signal.SIGINT)
        begun = time.monotonic()
        done = submit.wait()
    assert (done.status, done.out, done.err) == (-number, b"", "")
    assert time.monotonic() - begun < CANCEL_TIMEOUT_S


def test_impatience_shows_no_traceback(rig: Rig, group: str) -> None:
    """Ctrl-C again and again, at every moment of its going."""
    for _ in range(5):
        submit = rig.start("submit", "-n", group)
        rig.wait_counts(group, 1, 1)
        while not submit.ended:
            submit.signal(signal.SIGINT)
        assert submit.wait().status == -signal.SIGINT
        rig.wait_counts(group, 0)


STARTS = 100


def test_ctrl_c_while_it_starts_is_never_a_traceback(rig: Rig) -> None:
    """At whatever moment it comes, from the shell's first line to the wait for an answer: the process dies of it."""
    with socket.create_server(("127.0.0.1", 0), backlog=STARTS) as silent:
        argv = ["submit", "-b", "-n", "-q", "-s", f"127.0.0.1:{silent.getsockname()[1]}", "f"]
        begin = time.monotonic()
        first = rig.start(*argv)
        silent.accept()[0].close()  # so long a start takes here
        whole_s = time.monotonic() - begin
        first.wait()
        for number in range(STARTS):
            early = rig.start(*argv)
            time.sleep(whole_s * 1.2 * number / STARTS)
            early.signal(signal.SIGINT)
            done = early.wait()
            assert (done.status, done.err) == (-signal.SIGINT, "")


def test_ctrl_c_before_all_is_sent_has_submitted_nothing(rig: Rig) -> None:
    """There is nothing to say about a job that the server has not got."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        payload = rig.home / "large"
        with payload.open("wb") as file:
            file.truncate(64 << 20)
        upload = rig.start("submit", "-f", str(payload), "-s", f"127.0.0.1:{listener.getsockname()[1]}", "f")
        connection, _ = listener.accept()
        with connection:
            assert connection.recv(1)
            upload.signal(signal.SIGINT)
            done = upload.wait()
    assert (done.status, done.err) == (-signal.SIGINT, "")
