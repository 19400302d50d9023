"""`farm submit` when its own stdin, stdout or stderr is closed, full, or left by its reader."""

from __future__ import annotations

import re

import pytest

from tests.cli.rig import Rig
from tests.support import wait_until


@pytest.fixture
def cat(rig: Rig, function: str) -> str:
    """A worker that gives back the payload; returns the function."""
    rig.worker(function, "--", "cat")
    return function


def test_a_closed_stdin_is_no_empty_payload(rig: Rig, cat: str) -> None:
    done = rig.shell(f"farm submit {cat} <&-")
    assert done.status == 66
    assert done.error == "cannot read standard input: bad file descriptor"
    assert rig.shell(f"farm submit -n {cat} <&-").status == 0


def test_a_file_is_read_although_stdin_is_closed(rig: Rig, cat: str) -> None:
    rig.write("in", "from the file")
    assert rig.shell(f"farm submit {cat} -f in <&-").out == b"from the file"


@pytest.mark.parametrize("options", ["", "-b "])
@pytest.mark.parametrize(
    ("target", "words"), [(">&-", "bad file descriptor"), ("> /dev/full", "no space left on device")]
)
def test_a_result_that_cannot_be_written_is_an_error(rig: Rig, cat: str, options: str, target: str, words: str) -> None:
    """73, in one line. A closed stdout must not become the connection: the first descriptor that is free is taken."""
    done = rig.shell(f"echo payload | timeout 5 farm submit {options}{cat} {target}")
    assert done.status == 73
    assert re.fullmatch(f"cannot write .*: {words}", done.error)


def test_a_job_without_output_needs_no_stdout(rig: Rig, function: str) -> None:
    """As with any command: `true >&-` succeeds."""
    rig.worker(function, "--cmd", "cat > got")
    done = rig.shell(f"echo payload | timeout 5 farm submit {function} >&-")
    assert (done.status, done.err) == (0, "")
    assert rig.wait_file("got") == "payload\n"


def test_a_closed_stderr_costs_only_the_messages(rig: Rig, function: str) -> None:
    rig.worker(function, "--cmd", "echo lost >&2; cat; exit 3")
    assert rig.shell(f"echo in | timeout 5 farm submit {function} 2>&-; echo $?").out == b"in\n3\n"


def test_without_any_stream_the_job_is_done(rig: Rig, function: str) -> None:
    """As a daemon might start it."""
    rig.worker(function, "--cmd", "echo lost >&2; cat > got")
    rig.write("in", "payload")
    assert rig.shell(f"timeout 5 farm submit {function} -f in <&- >&- 2>&-").status == 0
    assert rig.wait_file("got") == "payload"


def test_a_result_that_cannot_be_written_ends_its_command(rig: Rig, function: str) -> None:
    rig.worker(function, "--", "yes")
    done = rig.shell(f"timeout 5 farm submit -n {function} > /dev/full")
    assert done.status == 73
    rig.wait_counts(function, 0, 0, 1)


def test_head_ends_an_endless_producer(rig: Rig, function: str) -> None:
    """SIGPIPE, as for any command on the left of a pipe; and the command at the worker is ended."""
    rig.worker(function, "--", "yes")
    done = rig.shell(f"farm submit -n {function} | head -1; echo ${{PIPESTATUS[0]}}")
    assert done.out == b"y\n141\n"
    rig.wait_counts(function, 0, 0, 1)


def test_a_reader_that_leaves_ends_a_silent_command_too(rig: Rig, function: str) -> None:
    """Nothing is written that could fail: farm notices that the reader has left while it waits."""
    rig.worker(function, "--cmd", "echo $$ > pid; exec sleep 300")
    submit = rig.start("submit", "-n", function, stdout=-1)
    rig.wait_file("pid")
    assert submit.process.stdout
    submit.process.stdout.close()
    assert submit.wait().status == -13
    rig.wait_counts(function, 0, 0, 1)


def test_the_handle_is_for_a_reader(rig: Rig, function: str) -> None:
    """-b with nobody at the other end: the job is queued all the same, and the exit status tells."""
    done = rig.shell(f"farm submit -b -n {function} 2>err | true; echo ${{PIPESTATUS[0]}}; cat err")
    assert done.out in (b"141\n", b"0\n")  # 0 where it was written before `true` had gone
    assert rig.counts(function)[0] == 1


def test_a_slow_reader_gets_everything(rig: Rig, function: str) -> None:
    """The pipe fills up, and the command waits; nothing is lost or held without bound."""
    rig.worker(function, "--", "head", "-c", "20000000", "/dev/zero")
    done = rig.shell(f"farm submit -n {function} | (read -t 0.3 x < /dev/zero; wc -c)")
    assert done.out == b"20000000\n"


def test_output_goes_to_a_non_blocking_stdout_whole(rig: Rig, function: str) -> None:
    """A terminal or pipe shared with a program that set O_NONBLOCK: a full pipe is waited for."""
    rig.worker(function, "--", "head", "-c", "3000000", "/dev/zero")
    rig.write(
        "nonblocking.py",
        "import os, subprocess, sys\n"
        "read, write = os.pipe(); os.set_blocking(write, False)\n"
        "submit = subprocess.Popen(sys.argv[1:], stdout=write); os.close(write)\n"
        "size = 0\n"
        "while chunk := os.read(read, 4096): size += len(chunk)\n"
        "print(size, submit.wait())\n",
    )
    assert rig.shell(f"python3 nonblocking.py farm submit -n {function}").out == b"3000000 0\n"


def test_stdin_is_read_to_its_end_before_the_job_is_submitted(rig: Rig, cat: str) -> None:
    """A producer that fails half-way is still a shorter payload: that is the shell's, not farm's, to notice. But a slow
    one is waited for."""
    rig.fifo("gate")
    submit = rig.shell(f"(echo one; echo two) | farm submit {cat}")
    assert submit.out == b"one\ntwo\n"
    waiting = rig.start("submit", cat, stdin=-1)
    assert waiting.process.stdin
    waiting.process.stdin.write(b"first ")
    waiting.process.stdin.flush()
    wait_until(lambda: rig.counts(cat) == (0, 0, 1), what="nothing is queued yet")
    waiting.process.stdin.write(b"last")
    waiting.process.stdin.close()
    assert waiting.wait().out == b"first last"
