"""A worker is killed with half of a job's output passed on: nobody may get that half twice, or the job never."""

from __future__ import annotations

import re
import signal

import pytest

from tests.cli.rig import Rig, Running, alive
from tests.support import wait_until

# The first attempt says something and waits for ever; the next ones get to the end.
TWICE = """
echo >> attempts; n=$(wc -l < attempts); echo attempt $n; echo attempt $n >&2
[ $n -gt 1 ] || { echo $$ > pid; sleep 300; }
echo end
"""


class Attempts:
    """A function whose first attempt hangs at a worker that is about to be killed."""

    def __init__(self, rig: Rig, function: str) -> None:
        self.rig = rig
        self.function = function
        self.first = rig.worker(function, "--cmd", TWICE)

    def submit(self, redirection: str) -> Running:
        """In the background, its output redirected; returns when that has got the first part."""
        submit = self.rig.background(["sh", "-c", f"exec farm submit -n {self.function} {redirection}"])
        wait_until(lambda: b"attempt 1" in submit.out() + self.written(), what="the first attempt's output")
        return submit

    def written(self) -> bytes:
        """In the file `out`."""
        path = self.rig.home / "out"
        return path.read_bytes() if path.exists() else b""

    def kill(self) -> None:
        """A second worker comes, then the first is killed."""
        self.rig.worker(self.function, "--cmd", TWICE, count=2)
        self.first.kill()


@pytest.fixture
def attempts(rig: Rig, function: str) -> Attempts:
    """A worker that runs TWICE."""
    return Attempts(rig, function)


def test_a_file_is_started_again(rig: Rig, attempts: Attempts) -> None:
    submit = attempts.submit("> out")
    attempts.kill()
    done = submit.wait()
    assert done.status == 0
    assert attempts.written() == b"attempt 2\nend\n"
    assert "farm: the job runs again: its worker was lost" in done.err


def test_ctrl_c_of_a_job_that_waits_for_its_second_worker(rig: Rig, attempts: Attempts) -> None:
    submit = attempts.submit("> out")
    attempts.first.kill()
    rig.wait_counts(attempts.function, 1, 0, 0)
    submit.signal(signal.SIGINT)
    assert re.search(r"farm: cancelled: job H:\S+ was not running\n", submit.wait().err)
    rig.wait_counts(attempts.function, 0, 0, 0)


def test_only_the_jobs_own_part_of_a_file_is_started_again(rig: Rig, attempts: Attempts) -> None:
    submit = rig.background(["sh", "-c", f"{{ echo before; farm submit -n {attempts.function}; echo after; }} > out"])
    wait_until(lambda: b"attempt 1" in attempts.written(), what="the first attempt's output")
    attempts.kill()
    assert submit.wait().status == 0
    assert attempts.written() == b"before\nattempt 2\nend\nafter\n"


def test_a_file_shared_with_stderr_gets_no_output_twice(rig: Rig, attempts: Attempts) -> None:
    """`> out 2>&1` has one position: what stderr wrote meanwhile must not be counted as output."""
    submit = attempts.submit("> out 2>&1")
    attempts.kill()
    done = submit.wait()
    assert done.status == 0
    lines = attempts.written().splitlines()
    assert [line for line in lines if line in (b"attempt 2", b"end")].count(b"end") == 1
    assert lines.count(b"attempt 1") <= 1  # at most what the first said on stderr
    assert not [line for line in lines if line.startswith(b"\0")]


@pytest.mark.parametrize("redirection", [">> out", "| cat"])
def test_what_cannot_be_taken_back_is_an_error(rig: Rig, attempts: Attempts, redirection: str) -> None:
    """75: part of the output is out, and a second attempt would repeat it; the job is cancelled."""
    rig.write("out", "before\n")
    submit = rig.background(
        ["bash", "-c", f"farm submit -n {attempts.function} {redirection}; exit ${{PIPESTATUS[0]}}"]
    )
    wait_until(lambda: b"attempt 1" in submit.out() + attempts.written(), what="the first attempt's output")
    attempts.kill()
    done = submit.wait()
    assert done.status == 75
    assert "the job runs again after 10 bytes of output, which it would repeat: its worker was lost" in done.err
    assert b"before\nattempt 1\n" in (attempts.written() + submit.out(), attempts.written() + b"attempt 1\n")
    rig.wait_counts(attempts.function, 0, 0, 1)


def test_what_has_written_nothing_is_started_again_anywhere(rig: Rig, function: str) -> None:
    script = "echo >> attempts; [ $(wc -l < attempts) -gt 1 ] || sleep 300; echo whole"
    first = rig.worker(function, "--cmd", script)
    submit = rig.background(["sh", "-c", f"farm submit -n {function} | cat"])
    rig.wait_file("attempts", "\n")
    rig.worker(function, "--cmd", script, count=2)
    first.kill()
    done = submit.wait()
    assert (done.status, done.out, done.err) == (0, b"whole\n", "")


def test_the_command_of_a_killed_worker_ends(rig: Rig, attempts: Attempts) -> None:
    """It must not run on beside the second attempt."""
    attempts.submit("> out")
    pid = int(rig.wait_file("pid"))
    attempts.kill()
    wait_until(lambda: not alive(pid), what="the first attempt's command has ended")


def test_the_server_goes_away(rig: Rig, function: str) -> None:
    server = rig.server("--stop-grace", "100ms")
    submit = rig.start("submit", "-n", function, "-s", server.address)
    submit.wait_for("waiting: no worker")
    server.terminate()
    done = submit.wait()
    assert done.status == 69
    assert f"farm: error: the server at {server.address} closed the connection, and no end of job H:" in done.err
