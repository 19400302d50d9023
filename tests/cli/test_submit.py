"""`farm submit`: payload in, result out, exit code and messages."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pexpect
import pytest

from farm.protocol import packets as p
from tests.cli.fakes import CREATED, Caller, fake_server, res
from tests.cli.rig import FARM, Rig, ServerRunning
from tests.support import wait_until

MIB = 1024 * 1024
HANDLE = re.compile(rb"H:[0-9A-Za-z.-]+:\d+\n")


@pytest.mark.parametrize("payload", [b"", b"no newline", bytes(range(256)), b"\r\n\0\xff" * 3, os.urandom(MIB)])
def test_what_goes_in_comes_out_byte_for_byte(rig: Rig, function: str, payload: bytes) -> None:
    rig.worker(function, "--", "cat")
    done = rig.submit(function, stdin=payload)
    assert (done.status, done.err) == (0, "")
    assert done.out == payload


def test_64_mib_through_a_file(rig: Rig, function: str) -> None:
    block = os.urandom(MIB)
    with (rig.home / "big").open("wb") as file:
        for _ in range(64):
            file.write(block)
    rig.worker(function, "--", "cat")
    # -q: where the machine is busy, 64 MiB take a server longer than a person waits without a word
    done = rig.shell(f"farm submit -q {function} < big > out && cmp big out")
    assert (done.status, done.err, done.out) == (0, "", b"")


@pytest.mark.parametrize("code", [0, 1, 3, 64, 69, 125, 126, 127, 141, 255])
def test_the_exit_code_is_the_commands(shell_worker: str, rig: Rig, code: int) -> None:
    done = rig.submit(shell_worker, stdin=f"echo out; echo err >&2; exit {code}".encode())
    assert (done.status, done.out) == (code, b"out\n")
    assert done.err.splitlines()[0] == "err"


@pytest.mark.parametrize(("name", "number"), [("TERM", 15), ("KILL", 9), ("SEGV", 11), ("INT", 2), ("PIPE", 13)])
def test_a_command_that_a_signal_ended_exits_with_128_plus_its_number(
    shell_worker: str, rig: Rig, name: str, number: int
) -> None:
    """And farm itself lives: its own exit status is that number, it does not die of the signal too."""
    assert rig.submit(shell_worker, stdin=f"kill -{name} $$".encode()).status == 128 + number


@pytest.fixture
def shell_worker(rig: Rig, function: str) -> str:
    """A worker that runs its payload as a shell script; returns the function."""
    rig.worker(function, "--", "sh")
    return function


def test_stdout_and_stderr_stay_apart(shell_worker: str, rig: Rig) -> None:
    done = rig.submit(shell_worker, stdin=b"echo out; echo err >&2; echo out again; echo err again >&2")
    assert (done.status, done.out, done.err) == (0, b"out\nout again\n", "err\nerr again\n")


def test_output_arrives_as_it_is_produced(shell_worker: str, rig: Rig) -> None:
    rig.fifo("gate")
    script = f"cd {rig.home}; echo first; echo loud >&2; read go < gate; echo second; echo quiet >&2"
    rig.write("script", script)
    submit = rig.start("submit", shell_worker, "-f", "script")
    wait_until(lambda: submit.out() == b"first\n", what="the first line")
    submit.wait_for("loud")
    assert "quiet" not in submit.err()
    rig.release("gate")
    done = submit.wait()
    assert (done.status, done.out, done.err) == (0, b"first\nsecond\n", "loud\nquiet\n")


def test_output_arrives_as_it_is_produced_through_a_pipe_too(shell_worker: str, rig: Rig) -> None:
    """No line buffer on the way: a prompt without a newline is there before the command goes on."""
    rig.fifo("gate")
    rig.write("script", f"cd {rig.home}; printf 'name? '; read go < gate; echo $go")
    submit = rig.start("submit", shell_worker, "-f", "script", stdout=-1)
    assert submit.process.stdout
    assert os.read(submit.process.stdout.fileno(), 100) == b"name? "
    rig.release("gate")
    assert submit.process.stdout.read() == b"go\n"
    assert submit.wait().status == 0


@pytest.mark.parametrize("script", ["exit 0", "exit 3"])
def test_the_origin_of_a_jobs_exit_code_is_job(shell_worker: str, rig: Rig, script: str) -> None:
    done = rig.shell(
        f"echo '{script}' | FARM_EXIT_ORIGIN_FD=7 farm submit {shell_worker} 7> origin; echo $?; cat origin"
    )
    assert done.out == f"{script[-1]}\njob\n".encode()


@pytest.mark.parametrize(
    ("command", "status"),
    [("submit 'bad name'", 64), ("submit f -s 127.0.0.1:1 -n", 69), ("submit f -n --no-wait", 69), ("frobnicate", 64)],
)
def test_the_origin_of_farms_own_exit_code_is_farm(rig: Rig, command: str, status: int) -> None:
    done = rig.shell(f"FARM_EXIT_ORIGIN_FD=7 farm {command} 7> origin; echo $?; cat origin")
    assert done.out == f"{status}\nfarm\n".encode()


@pytest.mark.parametrize("descriptor", ["3", "99999999999", "²"])
def test_an_origin_descriptor_that_is_not_open_is_said(shell_worker: str, rig: Rig, descriptor: str) -> None:
    """3 is the first that farm itself opens: the word must not go to the server either."""
    done = rig.submit(shell_worker, stdin=b"exit 5", env={"FARM_EXIT_ORIGIN_FD": descriptor})
    assert done.status == 5
    assert f"farm: cannot write to FARM_EXIT_ORIGIN_FD={descriptor}: " in done.err


def test_in_the_background_one_line_is_printed(rig: Rig, function: str) -> None:
    """Nobody can do it yet, and no worker is waited for; the job is done by the one that comes."""
    done = rig.submit("-b", function, stdin=b"payload")
    assert HANDLE.fullmatch(done.out), done.out
    assert (done.status, done.err) == (0, "")
    rig.worker(function, "--cmd", "cat > got")
    rig.wait_file("got", "payload")


def test_the_payload_from_a_file(rig: Rig, function: str) -> None:
    rig.worker(function, "--", "cat")
    (rig.home / "in").write_bytes(b"\0file\n")
    assert rig.submit(function, "-f", "in", stdin=b"stdin").out == b"\0file\n"
    assert rig.submit(function, "--file=-", stdin=b"stdin").out == b"stdin"


def test_no_input_means_an_empty_payload(rig: Rig, function: str) -> None:
    """Even when something could be read: in a loop, `-n` leaves the loop's stdin alone."""
    rig.worker(function, "--cmd", "wc -c")
    done = rig.shell(f"printf 'a\\nb\\n' | while read line; do echo $line; farm submit -n {function}; done")
    assert done.out == b"a\n0\nb\n0\n"


def test_jobs_with_the_same_key_are_one_job(rig: Rig, function: str) -> None:
    first, second, other = (rig.submit("-b", "-n", "-u", key, function) for key in ("one", "one", "two"))
    assert first.out == second.out != other.out
    assert rig.counts(function)[0] == 2
    waiting = rig.start("submit", function, "-n", "--unique=one")
    waiting.wait_for("waiting: no worker")
    rig.worker(function, "--cmd", "echo $FARM_UNIQUE | tee -a ran")
    assert waiting.wait().out == b"one\n"
    rig.wait_counts(function, 0)
    assert (rig.home / "ran").read_text() == "one\ntwo\n"


def test_higher_priorities_run_first(rig: Rig, function: str) -> None:
    for priority in ("low", "normal", "high"):
        for turn in "12":
            options = [] if priority == "normal" else ["-p", priority]
            assert rig.submit("-b", *options, function, stdin=f"{priority}{turn} ".encode()).status == 0
    rig.worker(function, "--cmd", "cat >> order")
    rig.wait_counts(function, 0)
    assert (rig.home / "order").read_text() == "high1 high2 normal1 normal2 low1 low2 "


def test_without_waiting_for_a_worker(rig: Rig, function: str) -> None:
    """69 at once, no job left behind, and a guess at what was meant."""
    name = f"resize-{function}"
    rig.worker(name, "--", "cat")
    done = rig.submit("--no-wait", f"{name}e", stdin=b"x")
    assert done.status == 69
    assert done.error == f"no worker offers '{name}e'"
    assert f"did you mean '{name}'?" in done.hint
    assert f"farm work {name}e -- COMMAND" in done.hint
    assert rig.counts(f"{name}e")[0] == 0
    assert rig.submit("--no-wait", name, stdin=b"x").out == b"x"


def test_a_job_that_no_worker_takes_says_so_and_runs_when_one_comes(rig: Rig, function: str) -> None:
    submit = rig.start("submit", "-n", function)
    submit.wait_for("hint: start one: farm work")
    notice, hint = submit.err().splitlines()
    assert re.fullmatch(rf"farm: waiting: no worker offers '{function}' \(job H:\S+\)", notice)
    assert hint == f"hint: start one: farm work {function} -- COMMAND"
    rig.worker(function, "--", "echo", "here")
    done = submit.wait()
    assert (done.status, done.out) == (0, b"here\n")
    assert done.err.splitlines() == [notice, hint]


def test_a_busy_worker_is_no_missing_worker(rig: Rig, function: str) -> None:
    """It looks once, sees one, and waits for its turn without a word."""

    def talk(caller: Caller) -> None:
        caller.until(function.encode())
        caller.say(CREATED)
        caller.until(b"status\n")
        caller.say(f"{function}\t2\t1\t1\n.\n".encode() + res(p.WORK_COMPLETE, b"H:fake:1", b"done"))

    with fake_server(talk) as (address, _):
        done = rig.submit("-n", "-v", function, "-s", address)
    assert (done.status, done.out, done.err) == (0, b"done", "")


@pytest.mark.parametrize("quiet", [False, True])
def test_quiet_leaves_only_errors_and_the_jobs_own_words(
    rig: Rig, function: str, server: ServerRunning, quiet: bool
) -> None:
    """A stock worker's failure has no exit code: the notice about that is farm's, the warning is the job's."""
    with server.connect() as worker:
        worker.send(p.CAN_DO, function.encode())
        worker.expect_nothing()
        submit = rig.start("submit", "-n", function, *["-q"] * quiet)
        rig.wait_counts(function, 1)
        handle, _, _ = worker.grab().split(b"\0", 2)
        worker.send(p.WORK_WARNING, handle, b"careful\n")
        worker.send(p.WORK_FAIL, handle)
        done = submit.wait()
    assert done.status == 1
    notice = "" if quiet else "farm: the job failed; its worker gave no exit code\n"
    assert done.err == "careful\n" + notice
    assert rig.submit("-q", "-n", "two words").error


def test_verbose_shows_progress(rig: Rig, function: str, server: ServerRunning) -> None:
    for options, wanted in ((["-v"], "farm: progress 1/4\nfarm: progress 4/4\n"), ([], "")):
        with server.connect() as worker:
            worker.send(p.CAN_DO, function.encode())
            worker.expect_nothing()
            submit = rig.start("submit", "-n", function, *options)
            rig.wait_counts(function, 1)
            handle, _, _ = worker.grab().split(b"\0", 2)
            worker.send(p.WORK_STATUS, handle, b"1", b"4")
            worker.send(p.WORK_STATUS, handle, b"4", b"4")
            worker.send(p.WORK_COMPLETE, handle, b"")
            assert submit.wait().err == wanted


def test_an_exception_is_shown_on_one_line(rig: Rig, function: str, server: ServerRunning) -> None:
    """Its text is a stranger's: no control character may reach the terminal, no second line pretend to be farm's."""
    with server.connect() as worker:
        worker.send(p.CAN_DO, function.encode())
        worker.expect_nothing()
        submit = rig.start("submit", "-n", function)
        rig.wait_counts(function, 1)
        handle, _, _ = worker.grab().split(b"\0", 2)
        worker.send(p.WORK_EXCEPTION, handle, b"boom \x1b[31m\nfarm: error: no")
        done = submit.wait()
    assert done.status == 1
    assert done.err == "farm: the job raised an exception: boom \\x1b[31m\\x0afarm: error: no\n"


def test_at_a_terminal_it_says_that_it_waits_for_input(rig: Rig, function: str) -> None:
    rig.worker(function, "--cmd", "tr a-z A-Z")
    screen = rig.terminal("submit", function)
    screen.expect_exact("farm: reading the payload from the terminal: Ctrl-D ends it")
    screen.expect_exact("hint: -n submits an empty payload, -f FILE reads a file")
    screen.sendline("typed")
    screen.sendeof()
    screen.expect_exact("TYPED")
    screen.expect(pexpect.EOF)
    screen.close()
    assert screen.exitstatus == 0


@pytest.mark.parametrize("options", [["-q"], ["-n"]])
def test_at_a_terminal_it_can_be_told_to_say_nothing(rig: Rig, function: str, options: list[str]) -> None:
    rig.worker(function, "--cmd", "cat; echo END")
    screen = rig.terminal("submit", function, *options)
    if options == ["-q"]:
        screen.sendeof()
    screen.expect_exact("END")
    assert "farm:" not in screen.before


def test_a_payload_that_the_server_does_not_take(rig: Rig, function: str) -> None:
    server = rig.server("--max-job-size", "1M")
    for options in ([], ["-b"]):
        done = rig.submit(function, "-s", server.address, *options, stdin=b"x" * 3 * MIB)
        assert done.status == 64
        assert "refused the job" in done.error
        assert "at most" in done.error


def test_farm_is_one_process(rig: Rig, function: str) -> None:
    """bin/farm becomes the program: the pid that a supervisor knows is farm's own, and gets its signals."""
    submit = rig.start("submit", "-n", function)
    submit.wait_for("waiting:")
    assert Path(f"/proc/{submit.pid}/exe").resolve().name.startswith("python")
    assert FARM.encode() not in Path(f"/proc/{submit.pid}/cmdline").read_bytes()
