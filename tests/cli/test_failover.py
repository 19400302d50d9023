"""Several servers and `farm submit`: the next one when one is down, and what one call finds out the next one knows."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from farm.client.servers import RETRY_MAX_S
from tests.cli.rig import Rig, ServerRunning, free_port
from tests.support import wait_until


class Three:
    """Three servers; jobs of `f` are submitted to them in the background."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.servers: list[ServerRunning | None] = [rig.server() for _ in range(3)]
        self.addresses = [server.address for server in self.servers if server]
        rig.env["FARM_SERVER"] = ",".join(self.addresses)
        self.file = rig.home / ".cache" / "farm" / "servers"

    def kill(self, which: int) -> None:
        """kill -9."""
        server = self.servers[which]
        assert server
        server.kill()
        self.servers[which] = None

    def start(self, which: int) -> None:
        """It is back, empty."""
        self.servers[which] = self.rig.server("--listen", self.addresses[which])

    def counts(self) -> list[int]:
        """How many jobs each has; -1 for one that is down."""
        pairs = zip(self.servers, self.addresses, strict=True)
        return [self.rig.counts("f", address)[0] if server else -1 for server, address in pairs]

    def submit(self, *options: str) -> int:
        """Which of them got the job."""
        before = self.counts()
        done = self.rig.submit("-b", "-n", *options, "f")
        assert (done.status, done.err) == (0, "")
        changed = [which for which, pair in enumerate(zip(before, self.counts(), strict=True)) if pair[0] != pair[1]]
        assert len(changed) == 1
        return changed[0]

    def remember(self, which: int, rests_s: float, times: int = 9) -> None:
        """As if an earlier call had found it down."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text(f"{times} {time.monotonic() + rests_s:.3f} {self.addresses[which]}\n")

    def remembered(self) -> set[int]:
        """The servers that are known to have failed."""
        lines = self.file.read_text().splitlines() if self.file.exists() else []
        return {self.addresses.index(line.split(" ", 2)[2]) for line in lines}


@pytest.fixture
def three(lone_rig: Rig) -> Iterator[Three]:
    """Three servers, all up."""
    return Three(lone_rig)


def test_killed_one_after_the_other_and_started_again(three: Three) -> None:
    assert three.submit() == 0
    assert not three.file.exists()
    three.kill(0)
    assert three.submit() == 1
    assert three.remembered() == {0}
    three.kill(1)
    assert three.submit() == 2
    assert three.remembered() == {0, 1}
    three.kill(2)
    done = three.rig.submit("-b", "-n", "f")
    assert done.status == 69
    assert all(f"no server at {address}: connection refused" in done.error for address in three.addresses)
    three.start(1)
    assert three.submit() == 1  # at once, though it failed twice
    three.start(0)
    wait_until(lambda: three.submit() == 0, timeout_s=2 * RETRY_MAX_S, what="the first one is used again")
    assert 0 not in three.remembered()


def test_one_that_failed_lately_is_left_alone(three: Three) -> None:
    three.remember(0, rests_s=RETRY_MAX_S - 1)
    assert three.submit() == 1
    assert three.remembered() == {0}
    three.remember(0, rests_s=-0.001)
    assert three.submit() == 0
    assert three.remembered() == set()


def test_one_that_failed_lately_is_tried_at_once_when_all_others_are_down(three: Three) -> None:
    three.kill(1)
    three.kill(2)
    three.remember(0, rests_s=RETRY_MAX_S - 1)
    assert three.submit() == 0


def test_in_random_order_all_get_some(three: Three) -> None:
    assert {three.submit("--order", "random") for _ in range(40)} == {0, 1, 2}  # fails once in 3,000,000 times
    three.kill(0)
    three.rig.env["FARM_ORDER"] = "random"
    assert {three.submit() for _ in range(30)} == {1, 2}
    assert three.submit("--order=ordered") == 1


def test_an_order_that_is_none(lone_rig: Rig) -> None:
    done = lone_rig.submit("-n", "--order", "alphabetical", "f")
    assert (done.status, done.error) == (64, "--order cannot be 'alphabetical'")
    assert done.hint == "one of: ordered, random"


def test_a_lone_server_s_failure_is_not_remembered(lone_rig: Rig) -> None:
    assert lone_rig.submit("-n", "f", "-s", f"127.0.0.1:{free_port()}").status == 69
    assert not (lone_rig.home / ".cache").exists()


def test_where_nothing_can_be_remembered_nothing_is_said(three: Three, tmp_path: Path) -> None:
    three.kill(0)
    (tmp_path / "file").touch()
    for env in ({"HOME": str(tmp_path / "file")}, {"HOME": ""}, {"XDG_RUNTIME_DIR": "/proc"}):
        done = three.rig.submit("-b", "-n", "f", env=env)
        assert (done.status, done.err) == (0, "")
    assert three.counts()[1] == 3
    three.file.parent.mkdir(parents=True)
    three.file.write_bytes(b"\xff\0junk")
    assert three.submit() == 1
    assert three.remembered() == {0}


def test_a_server_that_is_lost_with_a_job_is_remembered(three: Three) -> None:
    """By the call whose job it had; with `--retry-lost` the job goes on at the next."""
    first = three.rig.start("submit", "-n", "f")
    wait_until(lambda: three.counts()[0] == 1, what="the job is at the first server")
    again = three.rig.start("submit", "-n", "--retry-lost", "f", env={"XDG_RUNTIME_DIR": str(three.rig.home / "other")})
    wait_until(lambda: three.counts()[0] == 2, what="both jobs are at the first server")
    three.kill(0)
    assert first.wait().status == 69
    assert three.remembered() == {0}
    again.wait_for("submitting it again")
    wait_until(lambda: three.counts()[1] == 1, what="one of them is at the second")
    three.kill(1)
    again.wait_for("submitting it again", count=2)
    wait_until(lambda: three.counts()[2] == 1, what="it is at the third")
