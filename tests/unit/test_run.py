"""One job at a worker, in packets: what is sent when, with a command that says what the test wants."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.protocol import packets as p
from farm.worker import run as run_module
from farm.worker.run import COLLECT_MAX, HOLD_MAX, HOLD_S, Assignment, Run

HANDLE = b"H:test:1"


class FakeLoop:
    """Timers that fire when the test says so."""

    def __init__(self) -> None:
        self.timers: list[FakeTimer] = []

    def call_in(self, delay_s: float, call: Callable[[], None]) -> FakeTimer:
        """Keep it."""
        self.timers.append(FakeTimer(delay_s, call))
        return self.timers[-1]

    def pass_time(self) -> None:
        """All that is set and not cancelled happens."""
        timers, self.timers = self.timers, []
        for timer in timers:
            if not timer.cancelled:
                timer.call()


class FakeTimer:
    """A call that is due."""

    def __init__(self, delay_s: float, call: Callable[[], None]) -> None:
        self.delay_s = delay_s
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        """Never."""
        self.cancelled = True


class FakeChild:
    """A command whose output and end come from the test. `failure`: it cannot be run."""

    failure: OSError | None = None
    last: FakeChild

    def __init__(self, argv: list[str], env: dict[str, str], payload: bytes, loop: Any, *then: Any) -> None:
        if FakeChild.failure:
            raise FakeChild.failure
        output, end, *_ = then
        self.env, self.payload, self.terminated = env, payload, 0
        self.out = lambda data: output(False, data)
        self.err = lambda data: output(True, data)
        self.torn = False
        self.exit = end
        FakeChild.last = self

    def terminate(self) -> None:
        """Count it."""
        self.terminated += 1


class Bench:
    """A run and what it sent."""

    def __init__(self, mark_begin: bool = False, collect: bool = False, unique: bytes = b"key") -> None:
        self.loop = FakeLoop()
        self.sent: list[tuple[int, bytes]] = []
        self.codes: list[int] = []
        job = Assignment(HANDLE, b"resize", unique, b"payload")
        self.run = Run(
            job,
            ["tool"],
            self.loop,  # type: ignore[arg-type]
            self._send,
            self.codes.append,
            mark_begin=mark_begin,
            collect=collect,
        )
        self.child = FakeChild.last if self.run.child else None

    def _send(self, pieces: tuple[bytes, ...]) -> None:
        packet = b"".join(pieces)
        assert packet[:4] == b"\0REQ"
        number, length = int.from_bytes(packet[4:8], "big"), int.from_bytes(packet[8:12], "big")
        assert len(packet) == 12 + length
        handle, _, data = packet[12:].partition(b"\0")
        assert handle == HANDLE
        self.sent.append((number, data))


@pytest.fixture(autouse=True)
def fake_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """No real command."""
    monkeypatch.setattr(run_module, "Child", FakeChild)
    monkeypatch.setattr(FakeChild, "failure", None)


def test_a_quick_short_result_travels_whole() -> None:
    """As classic clients expect it."""
    bench = Bench()
    bench.child.out(b"one ")
    bench.child.out(b"two")
    assert bench.sent == []
    bench.child.exit(0)
    assert bench.sent == [(p.WORK_COMPLETE, b"one two")]
    assert bench.codes == [0]
    bench.loop.pass_time()
    assert len(bench.sent) == 1


def test_after_a_moment_output_travels_as_it_comes() -> None:
    bench = Bench()
    bench.child.out(b"first")
    assert [timer.delay_s for timer in bench.loop.timers] == [HOLD_S]
    bench.loop.pass_time()
    assert bench.sent == [(p.WORK_DATA, b"first")]
    bench.child.out(b"second")
    bench.child.exit(0)
    assert bench.sent[1:] == [(p.WORK_DATA, b"second"), (p.WORK_COMPLETE, b"")]


def test_much_output_travels_at_once() -> None:
    bench = Bench()
    bench.child.out(b"x" * HOLD_MAX)
    assert bench.sent == []
    bench.child.out(b"y")
    assert bench.sent == [(p.WORK_DATA, b"x" * HOLD_MAX), (p.WORK_DATA, b"y")]
    bench.loop.pass_time()
    assert len(bench.sent) == 2


def test_stderr_never_waits() -> None:
    bench = Bench()
    bench.child.out(b"held")
    bench.child.err(b"loud")
    assert bench.sent == [(p.WORK_WARNING, b"loud")]
    bench.child.exit(0)
    assert bench.sent[1:] == [(p.WORK_COMPLETE, b"held")]


def test_a_failure_brings_output_and_code_first() -> None:
    """WORK_FAIL has no room for them."""
    bench = Bench()
    bench.child.out(b"partial")
    bench.child.exit(3)
    assert bench.sent == [(p.WORK_DATA, b"partial"), (p.WORK_WARNING, b"farm: exit 3\n"), (p.WORK_FAIL, b"")]
    assert bench.codes == [3]


@pytest.mark.parametrize(("code", "trailer"), [(0, b"farm: exit 125 farm\n"), (3, b"farm: exit 3\n")])
def test_output_that_may_lack_its_end_is_no_success(code: int, trailer: bytes) -> None:
    bench = Bench()
    bench.child.out(b"half")
    bench.child.torn = True
    bench.child.exit(code)
    assert bench.sent == [(p.WORK_DATA, b"half"), (p.WORK_WARNING, trailer), (p.WORK_FAIL, b"")]


def test_a_silent_failure_has_no_empty_data() -> None:
    bench = Bench()
    bench.child.exit(255)
    assert bench.sent == [(p.WORK_WARNING, b"farm: exit 255\n"), (p.WORK_FAIL, b"")]


@pytest.mark.parametrize("kind", ["stdout", "stderr", "quick", "fail"])
def test_through_a_stock_server_each_attempt_is_marked(kind: str) -> None:
    """Once, by an empty WORK_WARNING before the first thing that streams; a whole result needs no mark."""
    bench = Bench(mark_begin=True)
    mark = (p.WORK_WARNING, b"")
    if kind == "stdout":
        bench.child.out(b"a")
        bench.loop.pass_time()
        bench.child.out(b"b")
        bench.child.exit(0)
        assert bench.sent == [mark, (p.WORK_DATA, b"a"), (p.WORK_DATA, b"b"), (p.WORK_COMPLETE, b"")]
    elif kind == "stderr":
        bench.child.err(b"a")
        bench.child.err(b"b")
        bench.child.exit(0)
        assert bench.sent == [mark, (p.WORK_WARNING, b"a"), (p.WORK_WARNING, b"b"), (p.WORK_COMPLETE, b"")]
    elif kind == "quick":
        bench.child.out(b"whole")
        bench.child.exit(0)
        assert bench.sent == [(p.WORK_COMPLETE, b"whole")]
    else:
        bench.child.exit(1)
        assert bench.sent == [mark, (p.WORK_WARNING, b"farm: exit 1\n"), (p.WORK_FAIL, b"")]


def test_collected_output_travels_in_one_piece_however_slow() -> None:
    bench = Bench(collect=True)
    bench.child.out(b"x" * (HOLD_MAX + 1))
    bench.loop.pass_time()
    bench.child.out(b"y")
    bench.child.exit(0)
    assert bench.sent == [(p.WORK_COMPLETE, b"x" * (HOLD_MAX + 1) + b"y")]


def test_collecting_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    assert COLLECT_MAX > HOLD_MAX
    monkeypatch.setattr(run_module, "COLLECT_MAX", 10)
    bench = Bench(collect=True)
    bench.child.out(b"x" * 11)
    assert bench.sent == [(p.WORK_DATA, b"x" * 11)]


@given(st.lists(st.tuples(st.booleans(), st.binary(min_size=1, max_size=20)), max_size=8), st.integers(0, 255))
def test_nothing_is_lost_or_out_of_order(chunks: list[tuple[bool, bytes]], code: int) -> None:
    """Each stream arrives as it was written, whatever came between, and one end follows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "Child", FakeChild)
        bench = Bench()
    for is_stderr, chunk in chunks:
        (bench.child.err if is_stderr else bench.child.out)(chunk)
    bench.child.exit(code)
    ends = [number for number, _ in bench.sent if number in (p.WORK_COMPLETE, p.WORK_FAIL)]
    assert ends == [p.WORK_FAIL if code else p.WORK_COMPLETE]
    assert bench.sent[-1][0] == ends[0]
    warnings = [data for number, data in bench.sent if number == p.WORK_WARNING]
    assert b"".join(warnings[:-1] if code else warnings) == b"".join(chunk for is_err, chunk in chunks if is_err)
    output = b"".join(data for number, data in bench.sent if number in (p.WORK_DATA, p.WORK_COMPLETE))
    assert output == b"".join(chunk for is_err, chunk in chunks if not is_err)


def test_an_exit_line_on_stderr_is_not_the_exit() -> None:
    """It is sent in two pieces, of which neither is the trailer's form."""
    bench = Bench()
    bench.child.err(b"farm: exit 0\n")
    bench.child.exit(7)
    warnings = [data for number, data in bench.sent if number == p.WORK_WARNING]
    assert b"".join(warnings[:-1]) == b"farm: exit 0\n"
    assert [data for data in warnings if data.startswith(b"farm: exit ")] == [b"farm: exit 7\n"]


def test_a_cancelled_job_is_ended_and_reported() -> None:
    bench = Bench()
    bench.run.cancel()
    assert bench.run.cancelled
    assert bench.child.terminated == 1
    bench.child.exit(143)
    assert bench.sent[-1] == (p.WORK_FAIL, b"")


def test_an_aborted_job_is_ended_without_a_word() -> None:
    """Its server has gone, or gives it to somebody else."""
    bench = Bench()
    bench.child.out(b"held")
    bench.run.abort()
    bench.child.out(b"more")
    bench.child.err(b"more")
    bench.loop.pass_time()
    bench.child.exit(0)
    assert bench.sent == []
    assert bench.child.terminated == 1
    assert bench.codes == [0]


@pytest.mark.parametrize(
    ("number", "code", "words"),
    [
        (errno.ENOENT, 127, b"command not found"),
        (errno.EACCES, 126, b"permission denied"),
        (errno.ENOEXEC, 126, b"exec format error"),
        (errno.EAGAIN, 125, b"resource temporarily unavailable"),
        (errno.EMFILE, 125, b"too many open files"),
        (errno.E2BIG, 125, b"argument list too long"),
    ],
)
def test_what_cannot_be_run_is_farms_failure(number: int, code: int, words: bytes) -> None:
    """Reported from the loop, as an end always is: the slot is not told of the end before it knows of the run."""
    FakeChild.failure = OSError(number, os.strerror(number))
    bench = Bench()
    assert bench.run.child is None
    assert bench.codes == []
    bench.loop.pass_time()
    assert bench.sent == [
        (p.WORK_WARNING, b"farm: error: tool: %s\n" % words),
        (p.WORK_WARNING, b"farm: exit %d farm\n" % code),
        (p.WORK_FAIL, b""),
    ]
    assert bench.codes == [code]


def test_what_cannot_be_run_can_still_be_cancelled_or_aborted() -> None:
    FakeChild.failure = FileNotFoundError(errno.ENOENT, "x")
    for end in ("cancel", "abort"):
        bench = Bench()
        getattr(bench.run, end)()
        bench.loop.pass_time()
        assert bench.codes == [127]
        assert bool(bench.sent) == (end == "cancel")


@pytest.mark.parametrize("unique", [b"", b"key", b"two words", "grün".encode(), b"\xff\xfe", b"tab\there"])
def test_the_environment_names_the_job(unique: bytes) -> None:
    """As bytes: a key that is no text arrives as it was given."""
    bench = Bench(unique=unique)
    env = {os.fsencode(name): os.fsencode(value) for name, value in bench.child.env.items()}
    assert env[b"FARM_JOB"] == HANDLE
    assert env[b"FARM_FUNCTION"] == b"resize"
    assert env[b"FARM_UNIQUE"] == unique
    assert env[b"PATH"] == os.environb[b"PATH"]
    assert bench.child.payload == b"payload"
