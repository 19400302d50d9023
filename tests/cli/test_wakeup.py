"""How many sleeping workers a queued job wakes: as many as needed, or all with `--wakeup all`."""

from __future__ import annotations

import time
from contextlib import ExitStack

import pytest

from farm.broker.broker import WAKE_PATIENCE_S
from farm.protocol import packets as p
from tests.cli.rig import Rig, ServerRunning
from tests.support import PATIENCE_S, req

SLEEPERS = 10


def noops(server: ServerRunning, function: bytes, jobs: int) -> tuple[list[int], float]:
    """How many NOOPs each of the sleepers gets for so many jobs, and how long it took to look."""
    with ExitStack() as stack:
        sleepers = [stack.enter_context(server.connect()) for _ in range(SLEEPERS)]
        client = stack.enter_context(server.connect())
        for sleeper in sleepers:
            sleeper.send(p.CAN_DO, function)
            sleeper.send(p.PRE_SLEEP)
            sleeper.expect_nothing()
        begin = time.monotonic()
        client.raw(req(p.SUBMIT_JOB, function, b"", b"x") * jobs)
        for _ in range(jobs):
            assert client.packet()[0] == p.JOB_CREATED
        for sleeper in sleepers:
            sleeper.send(p.ECHO_REQ, b"mark")
        counts = []
        for sleeper in sleepers:
            counts.append(0)
            while (packet := sleeper.packet()) != (p.ECHO_RES, b"mark"):
                assert packet == (p.NOOP, b"")
                counts[-1] += 1
        return counts, time.monotonic() - begin


@pytest.mark.parametrize("jobs", [1, 3, SLEEPERS + 5])
@pytest.mark.parametrize(("options", "all_of_them"), [([], False), (["--wakeup", "all"], True)], ids=["needed", "all"])
def test_how_many_are_woken(lone_rig: Rig, options: list[str], all_of_them: bool, jobs: int) -> None:
    """Each at most once in a sleep; the longest sleepers first. After a while others are woken for those that do not
    come, so a look that took so long on a busy machine is taken again."""
    server = lone_rig.server(*options)
    woken = SLEEPERS if all_of_them else min(jobs, SLEEPERS)
    deadline = time.monotonic() + PATIENCE_S
    for attempt in range(1000):
        counts, took_s = noops(server, b"f%d" % attempt, jobs)
        if all_of_them or took_s < WAKE_PATIENCE_S:
            assert counts == [1] * woken + [0] * (SLEEPERS - woken)
            return
        assert time.monotonic() < deadline, "the machine is too busy to see it"


def test_when_the_woken_one_does_not_come_the_others_follow(lone_rig: Rig) -> None:
    """One after the other, each after a delay; with `all` there is nobody left to wake."""
    server = lone_rig.server()
    with server.connect() as first, server.connect() as second, server.connect() as client:
        for sleeper in (first, second):
            sleeper.send(p.CAN_DO, b"f")
            sleeper.send(p.PRE_SLEEP)
            sleeper.expect_nothing()
        begin = time.monotonic()
        client.submit(b"f", b"x")
        assert first.packet() == (p.NOOP, b"")
        assert second.packet() == (p.NOOP, b"")
        assert time.monotonic() - begin >= WAKE_PATIENCE_S * 0.9
        assert second.grab()
