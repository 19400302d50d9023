"""One run of a command: real processes, in a real loop, in this process."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from farm.loop import Loop
from farm.worker import child as child_module
from farm.worker.child import LINGER_S, Child, Usage
from tests.cli.rig import alive, children
from tests.support import PATIENCE_S, wait_until

MIB = 1024 * 1024
SILENT = b"farm: ended what the command left running: it has been silent for 0.1s, the output still open (--linger)\n"


class Bench:
    """A loop with one child in it, and what came of it."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.out = b""
        self.err = b""
        self.codes: list[int] = []
        self.usages: list[Usage] = []
        self.child: Child | None = None
        self.loop.on_signal(signal.SIGCHLD, lambda: self.child.check_exit() if self.child else None)

    def start(
        self, *argv: str, payload: bytes = b"", env: dict[str, str] | None = None, linger_s: float = LINGER_S
    ) -> Child:
        """Start a command."""
        env = env or {"PATH": os.environ["PATH"]}
        self.child = Child(list(argv), env, payload, self.loop, self._output, self._ended, None, linger_s)
        return self.child

    def _ended(self, code: int, usage: Usage) -> None:
        self.codes.append(code)
        self.usages.append(usage)

    def shell(self, script: str, payload: bytes = b"", linger_s: float = LINGER_S) -> Child:
        """Start a shell script."""
        return self.start("sh", "-c", script, payload=payload, linger_s=linger_s)

    def _output(self, is_stderr: bool, chunk: bytes) -> None:
        if is_stderr:
            self.err += chunk
        else:
            self.out += chunk

    def until(self, condition: object) -> None:
        """Turn the loop until something is so."""
        assert callable(condition)
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, (self.out, self.err, self.codes)
            self.loop.call_in(0.01, lambda: None)
            self.loop.turn()

    def end(self) -> int:
        """Turn the loop until the child has ended; its code."""
        self.until(lambda: self.codes)
        return self.codes[0]


@pytest.fixture
def bench() -> Iterator[Bench]:
    """At the end nothing may be left: no descriptor, no zombie, no second report."""
    before = len(os.listdir("/proc/self/fd"))
    bench = Bench()
    yield bench
    if bench.child and not bench.codes:
        bench.child.terminate()
        bench.until(lambda: bench.codes)
    assert len(bench.codes) <= 1
    bench.loop.close()
    assert len(os.listdir("/proc/self/fd")) == before
    assert not bench.child or bench.child.pid not in children(os.getpid())


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, 5 * MIB])
def test_payload_in_output_out(bench: Bench, size: int) -> None:
    payload = os.urandom(size)
    bench.start("cat", payload=payload)
    assert bench.end() == 0
    assert bench.out == payload


def test_both_outputs_at_once(bench: Bench) -> None:
    bench.shell(f"head -c {MIB} /dev/zero & head -c {MIB} /dev/zero >&2; wait; exit 7")
    assert bench.end() == 7
    assert (len(bench.out), len(bench.err)) == (MIB, MIB)


def test_output_before_input(bench: Bench) -> None:
    """More than any pipe holds, both ways."""
    bench.shell(f"head -c {MIB} /dev/zero; cat", payload=b"x" * MIB)
    assert bench.end() == 0
    assert bench.out == b"\0" * MIB + b"x" * MIB


@pytest.mark.parametrize("script", ["true", "exec <&-; echo x", "head -c 1 >/dev/null"])
def test_a_payload_that_nobody_wants(bench: Bench, script: str) -> None:
    bench.shell(script, payload=b"x" * 5 * MIB)
    assert bench.end() == 0


@pytest.mark.parametrize(
    ("script", "code"), [("exit 0", 0), ("exit 255", 255), ("kill -9 $$", 137), ("kill -15 $$", 143)]
)
def test_codes(bench: Bench, script: str, code: int) -> None:
    bench.shell(script)
    assert bench.end() == code


def test_output_is_passed_on_while_it_runs(bench: Bench, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    bench.shell(f"echo first; read x < {tmp_path}/gate; echo $x")
    bench.until(lambda: bench.out == b"first\n")
    assert not bench.codes
    (tmp_path / "gate").write_text("second\n")
    assert bench.end() == 0
    assert bench.out == b"first\nsecond\n"


@pytest.mark.parametrize(
    ("argv", "error"),
    [(["/no/such/command"], FileNotFoundError), (["/"], PermissionError), (["/dev/null"], PermissionError)],
)
def test_what_cannot_be_run(argv: list[str], error: type[OSError]) -> None:
    before = len(os.listdir("/proc/self/fd"))
    loop = Loop()
    with pytest.raises(error):
        Child(argv, {}, b"payload", loop, lambda *_: None, lambda *_: None)
    loop.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_environment_is_the_given_one(bench: Bench) -> None:
    bench.start("/usr/bin/env", env={"A": "1", "B": "zwei ü"})
    assert bench.end() == 0
    assert sorted(bench.out.decode().splitlines()) == ["A=1", "B=zwei ü"]


# -- what it used


def used(bench: Bench, script: str) -> Usage:
    """Of a Python script."""
    bench.start(sys.executable, "-S", "-c", script)
    assert bench.end() == 0
    return bench.usages[0]


def test_processor_time_is_of_the_command_and_not_of_its_waiting(bench: Bench) -> None:
    usage = used(bench, "import time\ntime.sleep(0.3)\nwhile time.process_time() < 0.3: pass")
    assert 0.3 <= usage.cpu_s < 0.55


def test_memory_is_what_it_held_at_most_in_bytes(bench: Bench) -> None:
    usage = used(bench, f"x = bytearray({200 * MIB})\nfor i in range(0, len(x), 4096): x[i] = 1\ndel x")
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts what it was started from, too
    assert 200 * MIB <= usage.peak_bytes < 400 * MIB + own


def test_what_the_command_waited_for_counts_too(bench: Bench) -> None:
    busy = "import time\nwhile time.process_time() < 0.3: pass"
    bench.start("sh", "-c", f"{sys.executable} -S -c '{busy}'; exit 7")
    assert bench.end() == 7
    assert bench.usages[0].cpu_s >= 0.3


# -- what is left behind


def test_what_holds_the_outputs_is_given_a_moment_and_killed(bench: Bench) -> None:
    """A daemon, say: what the command itself said and how it ended count, and a word tells what was done."""
    child = bench.shell("sleep 300 & echo $!; exit 3", linger_s=0.1)
    assert bench.end() == 3
    wait_until(lambda: not alive(int(bench.out)), what="it is killed")
    assert bench.err == SILENT
    assert not child.torn


def test_the_moment_is_one_of_silence(bench: Bench) -> None:
    """Whatever still says something is listened to, for longer than the moment."""
    child = bench.shell("(for i in 1 2 3 4 5; do sleep 0.4; echo $i; done) & exit 0", linger_s=1.5)
    assert bench.end() == 0
    assert (bench.out, bench.err, child.torn) == (b"1\n2\n3\n4\n5\n", b"", False)


def test_a_filter_that_takes_its_time_is_waited_for(bench: Bench) -> None:
    """`seq 5 > >(sort -rn)`: the command has ended long before its output comes."""
    bench.start("bash", "-c", "seq 1 5 > >(sleep 1.2; sort -rn)")
    assert bench.end() == 0
    assert (bench.out, bench.err) == (b"5\n4\n3\n2\n1\n", b"")


def test_what_is_cut_off_after_it_wrote_is_torn(bench: Bench) -> None:
    child = bench.shell("(sleep 0.05; echo half; sleep 300) & exit 0", linger_s=0.3)
    assert bench.end() == 0
    assert bench.out == b"half\n"
    assert bench.err == SILENT.replace(b"0.1s", b"0.3s").replace(b")\n", b"); the output may lack its end\n")
    assert child.torn


@pytest.mark.parametrize("own", ["", "sleep 300 > /dev/null 2>&1 &"])
def test_a_stranger_that_goes_on_writing(bench: Bench, tmp_path: Path, own: str) -> None:
    """In a session of its own it is waited for no longer than the moment, but while the command's session lives."""
    stranger = f"echo $$ > {tmp_path}/pid; while echo noise; do sleep 0.02; done"
    child = bench.shell(f'setsid sh -c "{stranger}" & {own} until [ -s {tmp_path}/pid ]; do :; done', linger_s=0.3)
    if own:
        deadline = time.monotonic() + 1
        bench.until(lambda: time.monotonic() > deadline)
        assert not bench.codes
        child.terminate()
        bench.end()
        return
    assert bench.end() == 0
    assert bench.err.startswith(b"farm: left what the command started in a session of its own")
    assert child.torn


def test_nobody_is_waited_for_when_the_outputs_are_closed(bench: Bench) -> None:
    bench.shell("sleep 300 >/dev/null 2>&1 & echo $!", linger_s=300)
    assert bench.end() == 0
    wait_until(lambda: not alive(int(bench.out)), what="the rest of the group is killed all the same")
    assert bench.err == b""


# -- ending it


def test_terminate_ends_the_group(bench: Bench) -> None:
    child = bench.shell("sleep 300 & echo $!; wait")
    bench.until(lambda: bench.out)
    child.terminate()
    child.terminate()  # once is enough
    assert bench.end() == 128 + signal.SIGTERM
    wait_until(lambda: not alive(int(bench.out)), what="the group has ended")


def test_who_ignores_sigterm_is_killed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_module, "KILL_GRACE_S", 0.1)
    child = bench.shell("trap '' TERM; echo ready; while :; do sleep 300; done")
    bench.until(lambda: bench.out)
    child.terminate()
    assert bench.end() == 128 + signal.SIGKILL


def test_who_tidies_up_on_sigterm_may_do_so(bench: Bench) -> None:
    child = bench.shell("trap 'echo tidy; exit 4' TERM; echo ready; while :; do sleep 0.01; done")
    bench.until(lambda: bench.out)
    child.terminate()
    assert bench.end() == 4
    assert bench.out == b"ready\ntidy\n"


@pytest.mark.parametrize("where", ["", "> /dev/null 2>&1"])
def test_what_a_shell_runs_may_tidy_up_too(bench: Bench, tmp_path: Path, where: str) -> None:
    """The shell itself is gone at once, with or without an output that its command keeps open."""
    tidy = tmp_path / "tidy"
    script = f"trap 'sleep 0.3; echo tidy > {tidy}; exit' TERM; echo ready > {tidy}; while :; do sleep 0.01; done"
    child = bench.shell(f'sh -c "{script}" {where}; true')
    bench.until(lambda: tidy.exists() and tidy.read_text())
    child.terminate()
    assert bench.end() == 128 + signal.SIGTERM
    assert tidy.read_text() == "tidy\n"
    assert bench.usages == [Usage(-1.0, -1)], "what the shell did not wait for is in nobody's sum"


def test_what_a_shell_runs_is_killed_when_it_does_not_end(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_module, "KILL_GRACE_S", 0.3)
    child = bench.shell("sh -c 'trap \"\" TERM; echo $$; while :; do sleep 0.01; done' & wait")
    bench.until(lambda: bench.out)
    child.terminate()
    begin = time.monotonic()
    assert bench.end() == 128 + signal.SIGTERM
    assert time.monotonic() - begin > 0.2
    wait_until(lambda: not alive(int(bench.out)), what="it was killed")


def test_what_a_command_alone_has_used_is_known_when_it_was_told_to_end(bench: Bench) -> None:
    child = bench.start("sleep", "300")
    child.terminate()
    assert bench.end() == 128 + signal.SIGTERM
    assert bench.usages[0].cpu_s >= 0
    assert bench.usages[0].peak_bytes > 0


def test_terminate_after_the_end_is_nothing(bench: Bench) -> None:
    child = bench.shell("exit 0")
    bench.end()
    child.terminate()
    assert bench.codes == [0]


# -- back-pressure


def test_a_paused_command_waits(bench: Bench) -> None:
    child = bench.shell(f"head -c {5 * MIB} /dev/zero; exit 2")
    bench.until(lambda: bench.out)
    child.pause(True)
    before = len(bench.out)
    for _ in range(20):
        bench.loop.call_in(0.001, lambda: None)
        bench.loop.turn()
    assert len(bench.out) == before
    assert not bench.codes
    child.pause(False)
    assert bench.end() == 2
    assert len(bench.out) == 5 * MIB


def test_a_command_that_exits_while_paused_loses_nothing(bench: Bench) -> None:
    """Its last output lies in the pipe; the moment of silence begins when it is read again."""
    child = bench.shell("echo last words; sleep 300 & exit 5", linger_s=0.05)
    child.pause(True)
    deadline = time.monotonic() + 0.3
    while time.monotonic() < deadline:
        bench.loop.call_in(0.01, lambda: None)
        bench.loop.turn()
    assert bench.codes == []
    child.pause(False)
    assert bench.end() == 5
    assert bench.out == b"last words\n"
    assert not child.torn  # those were the command's own


def test_a_paused_command_can_be_ended(bench: Bench) -> None:
    """Its full pipe must not keep it from hearing of it."""
    child = bench.start("yes")
    bench.until(lambda: bench.out)
    child.pause(True)
    child.terminate()
    child.pause(True)
    assert bench.end() == 128 + signal.SIGTERM
