"""What is kept of a background job that has ended: what its worker said, from when on, and how much of it."""

from __future__ import annotations

import pytest

from farm.broker.broker import Rules
from farm.broker.effects import Finish, Save
from farm.broker.keeping import ATTEMPT_LOG_MAX, Report
from farm.protocol import packets as p
from farm.protocol.packets import request
from tests.unit.bench import Rig


@pytest.fixture
def rig() -> Rig:
    return Rig(rules=Rules(result_max=10))


def said(handle: bytes, number: int, *parts: bytes) -> bytes:
    """A worker's packet about its job."""
    return request(number, handle, *parts)


def end_of(rig: Rig) -> Finish:
    """The only job's end."""
    save, end = rig.rows
    assert isinstance(save, Save) and isinstance(end, Finish)
    return end


def test_output_errors_exit_code_and_worker(rig: Rig) -> None:
    client, worker = rig.client(), rig.worker(b"f")
    worker.send(request(p.SET_CLIENT_ID, b"w 1"))
    handle = client.submit(b"f", number=p.SUBMIT_JOB_BG)
    rig.wait(5)
    worker.grab()
    rig.wait(2)
    worker.send(said(handle, p.WORK_DATA, b"out"), said(handle, p.WORK_WARNING, b"err"))
    worker.send(said(handle, p.WORK_WARNING, b"farm: exit 3\n"), said(handle, p.WORK_FAIL))
    assert end_of(rig) == Finish(
        end_of(rig).id, "failed", 105.0, 107.0, b"w\\x201", 3, b"out", b"err", False, b"exit 3", failures=1
    )


@pytest.mark.parametrize(
    ("output", "kept", "cut"), [(b"0123456789", b"0123456789", False), (b"0123456789x", b"0123456789", True)]
)
def test_too_much_is_cut(rig: Rig, output: bytes, kept: bytes, cut: bool) -> None:
    worker = rig.worker(b"f")
    handle = rig.client().submit(b"f", number=p.SUBMIT_JOB_BG)
    worker.grab()
    worker.send(said(handle, p.WORK_DATA, output[:4]), said(handle, p.WORK_COMPLETE, output[4:]))
    assert (end_of(rig).result, end_of(rig).cut) == (kept, cut)


@pytest.mark.parametrize("before", [b"", b"0123456789abc"])
def test_the_end_of_stderr_is_known_however_much_was_said_before(before: bytes) -> None:
    report, said = Report(10), [b"first ", b"x" * 20_000, b" last\n"]
    report.take(p.WORK_DATA, before)
    for piece in said:
        report.take(p.WORK_WARNING, piece)
    assert report.cut and sum(map(len, report.result + report.log)) == 10
    assert report.log_end == b"".join(said)[-ATTEMPT_LOG_MAX:]


def test_what_was_said_before_it_became_a_background_job_counts_as_cut(rig: Rig) -> None:
    client, worker = rig.client(), rig.worker(b"f")
    handle = client.submit(b"f", unique=b"key")
    worker.grab()
    worker.send(said(handle, p.WORK_DATA, b"early "))
    rig.client().submit(b"f", unique=b"key", number=p.SUBMIT_JOB_BG)
    worker.send(said(handle, p.WORK_COMPLETE, b"late"))
    assert (end_of(rig).result, end_of(rig).cut) == (b"late", True)


def test_a_later_attempt_is_reported_alone_and_whole(rig: Rig) -> None:
    client, lost, worker = rig.client(), rig.worker(b"f"), rig.worker(b"f")
    handle = client.submit(b"f", unique=b"key")
    lost.grab()
    lost.send(said(handle, p.WORK_DATA, b"early "))
    rig.client().submit(b"f", unique=b"key", number=p.SUBMIT_JOB_BG)
    lost.leave()
    worker.grab()
    worker.send(said(handle, p.WORK_COMPLETE, b"all"))
    assert (end_of(rig).result, end_of(rig).cut) == (b"all", False)


def test_where_nothing_is_kept_the_job_is_forgotten() -> None:
    rig = Rig()
    worker = rig.worker(b"f")
    handle = rig.client().submit(b"f", number=p.SUBMIT_JOB_BG)
    worker.grab()
    worker.send(said(handle, p.WORK_COMPLETE, b"out"))
    assert [type(change).__name__ for change in rig.changes] == ["Save", "Forget"]
