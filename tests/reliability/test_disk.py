"""R4: the disk is full. New background jobs are refused, those that were acknowledged can end, and nothing is lost.

The store is on a small tmpfs of the test's own, in a mount namespace of its own; it is filled from outside.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from farm.errors import EXIT_CANNOT_CREATE
from farm.protocol import packets as p
from farm.server.upkeep import DISK_CHECK_S
from farm.store.room import SMALL_SHARE
from tests.reliability.small_disk import DISK_SIZE, SmallDisk, connected, finish_all, small_disk, submit, submit_all
from tests.support import req, wait_until

pytestmark = pytest.mark.slow

RESERVE = BALLAST_SIZE = DISK_SIZE // SMALL_SHARE  # where nobody says anything about them
JOBS = 600
RECOVERY_S = 5.0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A small disk, empty."""
    with small_disk(tmp_path) as disk:
        yield disk


def test_loss_I_a_full_disk_takes_no_new_jobs_and_lets_the_others_end(disk: SmallDisk) -> None:
    server = disk.server()
    with connected(server) as client:
        acknowledged = submit_all(client, JOBS)
        server.kill()
        server = disk.server()  # its log begins at nothing: all that it needs from now on is in the ballast
    with connected(server) as client:
        assert disk.has_ballast()
        disk.fill()
        while handle := submit(client, b"one more"):  # until the server has noticed
            acknowledged[handle] = b"one more"
        # Their results together are larger than the ballast.
        assert finish_all(server) == acknowledged, "not all that was acknowledged could end"
        assert "giving up the ballast" in server.err()
        assert not submit(client, b"still no room")
        disk.make_room()
        begin = time.monotonic()
        wait_until(lambda: submit(client, b"again"), what="there is room again")
        assert time.monotonic() - begin < RECOVERY_S
        wait_until(disk.has_ballast, what="the ballast is put by again")
        assert "taking background jobs again" in server.err()
    server.kill()
    assert list(finish_all(disk.server()).values()) == [b"again"], "what had ended came back, or a job was lost"


def fill_finish_and_resume(disk: SmallDisk, size: int) -> None:
    """Jobs until no more are taken, and somebody else takes the rest of the disk; all of them end, though nothing but
    their own room is left. Then that somebody goes, and jobs are taken again."""
    server = disk.server()
    acknowledged: dict[bytes, bytes] = {}
    with connected(server) as client:
        is_full = False
        while not is_full:
            payloads = [b"%0*d" % (size, len(acknowledged) + number) for number in range(max(1, 8000 // size))]
            client.raw(b"".join(req(p.SUBMIT_JOB_BG, b"f", b"", payload) for payload in payloads))
            for payload in payloads:
                number, body = client.packet()
                is_full |= number == p.ERROR
                if number == p.JOB_CREATED:
                    acknowledged[body] = payload
    # A reserve and a ballast are an eighth each, and the log a sixteenth; of tiny jobs much is handles and pages.
    assert disk.free() < 2 * RESERVE
    disk.fill()
    assert finish_all(server, bytes(2000), at_once=50) == acknowledged, "not all that was acknowledged could end"
    with connected(server) as client:
        disk.make_room()
        begin = time.monotonic()
        wait_until(lambda: submit(client, bytes(size)), RECOVERY_S, what="there is room again")
        assert time.monotonic() - begin < RECOVERY_S
    server.kill()
    assert list(finish_all(disk.server()).values()) == [bytes(size)], "what had ended came back, or a job was lost"


@pytest.mark.parametrize("size", [20, 300, 20_000])
def test_a_disk_that_its_own_jobs_have_filled(disk: SmallDisk, size: int) -> None:
    """What is kept of the end of a tiny job takes more room than the job did."""
    fill_finish_and_resume(disk, size)


def test_a_nearly_full_disk_is_enough_to_be_careful(disk: SmallDisk) -> None:
    """No write fails; the reserve alone makes it refuse."""
    reserve = 3 * RESERVE
    server = disk.server(reserve)
    with connected(server) as client:
        acknowledged = submit_all(client, 10)
        disk.fill(leave=reserve - RESERVE // 2)
        while handle := submit(client, b"one more"):
            acknowledged[handle] = b"one more"
        assert finish_all(server, b"small") == acknowledged
        client.send(p.SUBMIT_JOB, b"f", b"", b"jobs that somebody waits for need no disk")
        assert client.packet()[0] == p.JOB_CREATED
    assert "no new background jobs: " in server.err()
    assert "ballast" not in server.err()


@pytest.mark.parametrize("failed", [False, True])
def test_a_job_with_a_payload_larger_than_the_ballast_can_end(disk: SmallDisk, failed: bool) -> None:
    """In either way: nothing of it may be written again when it does."""
    server = disk.server()
    with connected(server) as client:
        assert submit(client, os.urandom(BALLAST_SIZE + RESERVE))
    server.kill()
    server = disk.server()  # its log begins at nothing
    disk.fill()
    assert len(finish_all(server, failed=failed)) == 1
    server.kill()
    assert not finish_all(disk.server()), "what had ended came back"


def test_a_job_that_is_larger_than_what_is_left_is_refused(disk: SmallDisk) -> None:
    """No one client stops the server for everybody."""
    server = disk.server()
    with connected(server) as client:
        acknowledged = submit_all(client, JOBS)
        disk.fill(leave=2 * RESERVE)
        time.sleep(DISK_CHECK_S)  # what somebody else takes between two looks is not known to the server
        for size in (RESERVE, 2 * RESERVE + BALLAST_SIZE, DISK_SIZE):
            assert not submit(client, os.urandom(size))
        handle = submit(client, b"a small one")
        assert handle
        acknowledged[handle] = b"a small one"
        disk.make_room()
        payload = os.urandom(RESERVE)
        wait_until(lambda: acknowledged.setdefault(submit(client, payload), payload), what="it fits")
        acknowledged.pop(b"", None)
    assert "ballast" not in server.err()
    assert finish_all(server) == acknowledged


def test_many_that_are_larger_together_than_what_is_left_are_refused(disk: SmallDisk) -> None:
    """Though all of them come between two looks at the disk."""
    server = disk.server()
    size = DISK_SIZE // 64
    payloads = [os.urandom(size) for _ in range(64)]
    with connected(server) as client:
        for payload in payloads:
            client.raw(req(p.SUBMIT_JOB_BG, b"f", b"", payload))
        answers = [client.packet() for _ in payloads]
    taken = [payload for payload, (number, _) in zip(payloads, answers, strict=True) if number == p.JOB_CREATED]
    assert DISK_SIZE // 4 < len(taken) * size < DISK_SIZE - BALLAST_SIZE
    assert "ballast" not in server.err()
    assert list(finish_all(server).values()) == taken


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_server_starts_on_a_full_disk(disk: SmallDisk, how: str) -> None:
    """The one before it may have been killed when the disk was full; its jobs can end all the same."""
    server = disk.server()
    with connected(server) as client:
        acknowledged = submit_all(client, JOBS)
    if how == "killed":
        server.kill()
    else:
        assert server.terminate().status == 0
    disk.fill()
    server = disk.server()
    with connected(server) as client:
        assert not submit(client, b"no room")
    assert finish_all(server) == acknowledged
    disk.make_room()
    with connected(server) as client:
        wait_until(lambda: submit(client, b"again"), what="there is room again")


def test_without_the_ballast_they_could_not_end(disk: SmallDisk) -> None:
    server = disk.server(program=(sys.executable, "-P", "-m", "tests.reliability.power.mutant", "ballast"))
    with connected(server) as client:
        submit_all(client, 10)
        disk.fill()
        # The worker hears that the end is not kept, or, if it is sending just then, only that the server has gone.
        words = "server stops|closed the connection|reset by peer|Broken pipe"
        with pytest.raises((AssertionError, ConnectionError), match=words):
            finish_all(server)
    assert server.wait().status == EXIT_CANNOT_CREATE
