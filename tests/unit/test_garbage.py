"""When a backlog counts as gone, and what is given back then."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from farm.broker.effects import Expire, Finish, Save
from farm.server.garbage import BACKLOG_MIN, LEFT_PART, SIZE_MIN, Backlog
from farm.store.memory import MemoryStore
from tests.support import CHECKOUT

PAYLOADS, PAYLOAD_SIZE = 2000, 20_000


def gone(*jobs: int) -> list[int]:
    """How many jobs were left each time."""
    backlog = Backlog()
    return [left for left in jobs if backlog.has_gone(left)]


def test_a_backlog_goes_once() -> None:
    assert gone(0, 100_000, 50_000, 1001, 1000, 999, 5, 0, 0, 7) == [1000]


def test_each_backlog_goes() -> None:
    assert gone(100_000, 0, 40_000, 20_000, 400, 0) == [0, 400]


def test_what_is_left_of_a_large_one_may_be_another() -> None:
    assert gone(10_000_000, 100_000, 50_000, 1000, 10) == [100_000, 1000]


def test_a_few_jobs_are_no_backlog() -> None:
    assert gone(BACKLOG_MIN, 0, BACKLOG_MIN - 1, 1, BACKLOG_MIN // LEFT_PART, 0) == []


def shrunk(*sizes: int) -> list[int]:
    """How many bytes were left each time."""
    backlog = Backlog()
    return [left for left in sizes if backlog.has_shrunk(left)]


def test_bytes_go_once_for_each_backlog_of_them() -> None:
    most = 4 * SIZE_MIN
    assert shrunk(0, most, most // 2, most // 4 + 1, most // 4, 0, most, 5, 0) == [most // 4, 5]
    assert shrunk(SIZE_MIN, 0, SIZE_MIN, 0) == [], "a few bytes are no backlog"


def resident() -> int:
    """Bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_the_payloads_of_failed_jobs_are_given_back_when_they_are_dropped() -> None:
    """Though something that stays was allocated between them. In a process of its own: what this one has free already
    need not grow for them."""
    program = "from tests.unit import test_garbage as test; test.payloads_come_and_go()"
    subprocess.run([sys.executable, "-c", program], cwd=CHECKOUT, check=True)


def payloads_come_and_go() -> None:
    store = MemoryStore()
    store.open()
    before, between = resident(), []
    for id in range(1, PAYLOADS + 1):
        store.apply(
            [Save(id, b"f", b"", 1, id.to_bytes(4, "big") * (PAYLOAD_SIZE // 4)), Finish(id, "failed", 0.0, 1.0)]
        )
        between.append(bytes(700))
    full = resident()
    assert full - before > PAYLOADS * PAYLOAD_SIZE * 0.9
    backlog = Backlog()
    backlog.look(0, store.held)
    store.apply([Expire(2.0, 0)])
    assert resident() > full - PAYLOADS * PAYLOAD_SIZE / 2, "it needs no help here: the test shows nothing"
    backlog.look(0, store.held)
    assert resident() < before + PAYLOADS * PAYLOAD_SIZE / 2
    assert len(between) == PAYLOADS
