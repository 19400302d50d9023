"""What commands do that a worker must bear: each is run as a job, and the next job runs as if nothing had been."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cli.rig import Rig, alive, children
from tests.support import wait_until

MIB = 1024 * 1024


@pytest.fixture
def job(rig: Rig, function: str) -> Iterator[str]:
    """A worker that runs its payload as a shell script; at the end it must still work, and hold on to nothing."""
    worker = rig.worker(function, "--", "sh")
    before = children(worker.pid)  # its guard
    yield function
    assert rig.submit(function, stdin=b"echo still here").out == b"still here\n"
    wait_until(lambda: children(worker.pid) == before, what="nothing is left of the command")
    assert worker.terminate().status == 0


def test_it_closes_its_stdin_early(rig: Rig, function: str) -> None:
    rig.worker(function, "--", "head", "-c", "10")
    done = rig.submit(function, stdin=b"0123456789" * MIB)
    assert (done.status, done.out, done.err) == (0, b"0123456789", "")


def test_it_never_reads_its_stdin(rig: Rig, function: str) -> None:
    rig.worker(function, "--", "echo", "no need")
    assert rig.submit(function, stdin=b"x" * 10 * MIB).out == b"no need\n"


def test_it_writes_nothing(rig: Rig, job: str) -> None:
    done = rig.submit(job, stdin=b":")
    assert (done.status, done.out, done.err) == (0, b"", "")


def test_it_writes_much_before_it_reads(rig: Rig, function: str) -> None:
    """A worker that wrote first and read later would wait for ever, and so would the command."""
    rig.worker(function, "--cmd", f"head -c {10 * MIB} /dev/zero; cat")
    done = rig.submit(function, stdin=b"x" * 10 * MIB)
    assert done.status == 0
    assert done.out == b"\0" * 10 * MIB + b"x" * 10 * MIB


def test_it_writes_much_to_both_at_once(rig: Rig, function: str) -> None:
    rig.worker(function, "--cmd", f"head -c {5 * MIB} /dev/zero & head -c {5 * MIB} /dev/zero >&2; wait")
    done = rig.submit(function)
    assert (done.status, len(done.out), len(done.err)) == (0, 5 * MIB, 5 * MIB)


def test_it_leaves_a_child_that_holds_its_stdout(rig: Rig, job: str) -> None:
    """The job ends a moment after the command, not five minutes later; what was left behind is ended too."""
    done = rig.submit(job, stdin=b"sleep 300 & echo $!")
    assert done.status == 0
    wait_until(lambda: not alive(int(done.out)), what="what was left behind has ended")


def test_what_it_leaves_behind_may_finish_its_sentence(rig: Rig, job: str) -> None:
    """Output that comes soon after the command itself has exited still belongs to the job."""
    done = rig.submit(job, stdin=b"(sleep 0.3; echo late) & echo early; exit 4")
    assert (done.status, done.out) == (4, b"early\nlate\n")


def test_it_closes_its_stdout_early_and_goes_on(rig: Rig, job: str) -> None:
    rig.fifo("gate")
    submit = rig.start(
        "submit", job, "-f", rig.write("script", f"cd {rig.home}; echo out; exec >&-; read x < gate; exit 6")
    )
    wait_until(lambda: submit.out() == b"out\n", what="the output")
    assert not submit.ended
    rig.release("gate")
    assert submit.wait().status == 6


def test_it_closes_all_its_streams_and_goes_on(rig: Rig, job: str) -> None:
    rig.fifo("gate")
    script = rig.write("script", f"cd {rig.home}; exec <&- >&- 2>&-; read x < gate; echo $x > got; exit 7")
    submit = rig.start("submit", job, "-f", script)
    rig.wait_counts(job, 1, 1)
    rig.release("gate")
    assert submit.wait().status == 7
    assert rig.wait_file("got") == "go\n"


def test_it_starts_a_daemon_of_its_own(rig: Rig, job: str) -> None:
    """In its own session, away from the job's streams: that is how one asks to outlive a job."""
    script = f"cd {rig.home}; setsid sh -c 'echo $$ > pid; exec sleep 300' <&- >&- 2>&- & until [ -s pid ]; do :; done"
    assert rig.submit(job, stdin=script.encode()).status == 0
    assert alive(int(rig.wait_file("pid")))  # the rig ends it


def test_it_starts_a_daemon_that_holds_its_stdout(rig: Rig, job: str) -> None:
    """The job still ends; whatever the daemon writes from now on is nobody's."""
    done = rig.submit(job, stdin=b"setsid sleep 300 & echo $!; exit 2")
    assert done.status == 2
    assert int(done.out)


@pytest.mark.slow
def test_it_ignores_sigterm(rig: Rig, job: str) -> None:
    """When its client leaves it is asked to end, and five seconds later it is ended."""
    script = rig.write("script", f"trap '' TERM; cd {rig.home}; echo $$ > pid; while :; do sleep 300; done")
    submit = rig.start("submit", job, "-f", script)
    pid = int(rig.wait_file("pid"))
    submit.terminate()
    wait_until(lambda: not alive(pid), what="it is killed")
    rig.wait_counts(job, 0, 0, 1)


def test_it_changes_its_process_group(rig: Rig, job: str) -> None:
    """Job control in a script (set -m) puts each pipeline into a group of its own; the job still ends as it should."""
    done = rig.shell(f"echo 'set -m; echo a | cat; sleep 0.01 & wait; exit 9' | farm submit {job}")
    assert (done.status, done.out) == (9, b"a\n")


def test_it_looks_for_a_terminal(rig: Rig, job: str) -> None:
    """A command that wants to ask (ssh, git) must fail rather than wait at a terminal that nobody looks at."""
    assert rig.submit(job, stdin=b"(: < /dev/tty) 2>/dev/null && echo has one || echo has none").out == b"has none\n"


def test_its_signals_are_as_usual(rig: Rig, function: str) -> None:
    """Python ignores SIGPIPE; a command that inherited that would never end in `yes | head`."""
    rig.worker(function, "--", "grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status")
    assert rig.submit(function).out == b"SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n"


def test_it_gets_no_descriptors_but_its_three(rig: Rig, function: str) -> None:
    """The worker's connections are none of its business, and would stay open behind it. 3 is the directory ls reads."""
    rig.worker(function, "-j", "2", "--", "ls", "/proc/self/fd", count=2)
    assert rig.submit(function).out == b"0\n1\n2\n3\n"


def test_a_stderr_line_that_looks_like_farms_own_is_only_text(rig: Rig, job: str) -> None:
    """The exit code travels on the same way as stderr: a command must not be able to forge one."""
    done = rig.submit(job, stdin=b"printf 'farm: exit 0\\n' >&2; exit 3")
    assert (done.status, done.err) == (3, "farm: exit 0\n")
    done = rig.submit(job, stdin=b"printf 'farm: exit 9\\n' >&2")
    assert (done.status, done.err) == (0, "farm: exit 9\n")
