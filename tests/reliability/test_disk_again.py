"""R4, again and again: jobs fill a small disk until no more are taken, all of them end, and then it takes new ones by
itself, as many as before. Nobody else has anything on the disk, and nobody tidies up."""

from __future__ import annotations

import re
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from farm.protocol import packets as p
from farm.store.check import check
from tests.cli.rig import FARM, Running
from tests.reliability.small_disk import SmallDisk, connected, finish_all, grab_some, small_disk, submit
from tests.support import Wire, req, wait_until

pytestmark = pytest.mark.slow

MIB = 1 << 20
ROUNDS = 3
RECOVERY_S = 5.0
AGAIN_PART = 0.4  # of what a disk takes when it is new: at the first refusal, which may be one for a moment
FAILED_PART = 0.3
UNITS = {"KiB": 1 << 10, "MiB": 1 << 20}


@pytest.fixture
def disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[SmallDisk]:
    """A disk of so many MiB, empty."""
    with small_disk(tmp_path, request.param * MIB) as disk:
        yield disk


def fill_with_jobs(client: Wire, size: int) -> dict[bytes, bytes]:
    """Jobs of so many bytes until one is refused: handle -> payload."""
    acknowledged: dict[bytes, bytes] = {}
    is_full = False
    while not is_full:
        first = len(acknowledged)
        payloads = [b"%0*d" % (size, first + number) if size else b"" for number in range(8000 // max(size, 8) or 1)]
        client.raw(b"".join(req(p.SUBMIT_JOB_BG, b"f", b"", payload) for payload in payloads))
        for payload in payloads:
            number, body = client.packet()
            is_full |= number == p.ERROR
            if number == p.JOB_CREATED:
                acknowledged[body] = payload
    return acknowledged


def takes_again(server: Running, payload: bytes) -> None:
    """By itself, and soon."""
    with connected(server) as client:
        begin = time.monotonic()
        wait_until(lambda: submit(client, payload), what="there is room again")
        assert time.monotonic() - begin < RECOVERY_S
    assert list(finish_all(server).values()) == [payload]


def refusals(server: Running) -> list[tuple[float, float]]:
    """What the server said was free, and what it wanted, in bytes."""
    words = re.findall(r"no new background jobs: ([\d.]+) (.iB) free .*, ([\d.]+) (.iB) wanted\n", server.err())
    return [(float(free) * UNITS[one], float(wanted) * UNITS[two]) for free, one, wanted, two in words]


def fill_and_drain(
    disk: SmallDisk, size: int, result: int = 0, *, failed: bool = False, program: Sequence[str] = (FARM,)
) -> Running:
    """Several times over, and it is as good as new each time, or nearly where what is kept of failed jobs stays."""
    server = disk.server(program=program)
    part = FAILED_PART if failed else AGAIN_PART
    first = 0
    for _ in range(ROUNDS):
        with connected(server) as client:
            taken = fill_with_jobs(client, size)
        first = first or len(taken)
        assert len(taken) >= part * first
        assert finish_all(server, bytes(result), failed=failed, at_once=200) == taken, "not all could end"
        takes_again(server, bytes(size))
    said = refusals(server)
    assert said or size > 1000, "of a large one alone is said that it has no room"
    assert all(free < wanted for free, wanted in said), said
    return server


@pytest.mark.parametrize(
    ("disk", "size", "result"),
    [(4, 0, 0), (4, 20, 2000), (8, 20, 0), (8, 300, 2000), (16, 300, 2000), (16, 20_000, 2000)],
    indirect=["disk"],
)
def test_a_drained_disk_is_as_good_as_new(disk: SmallDisk, size: int, result: int) -> None:
    server = fill_and_drain(disk, size, result)
    assert server.err().count("hardly any room on the disk: the oldest results go before their time") == 1


@pytest.mark.parametrize("disk", [4, 8], indirect=True)
def test_so_it_is_where_they_failed(disk: SmallDisk) -> None:
    """Their payloads, which nobody else has, do not give way to new jobs: but there is a limit to them."""
    fill_and_drain(disk, 300, 0, failed=True)


@pytest.mark.parametrize("disk", 6 * [4], indirect=True)
def test_large_ones_that_fail_little_by_little_cost_nothing_but_their_payloads(disk: SmallDisk, tmp_path: Path) -> None:
    """Each payload is written once more, into what is kept of it, and a transaction has only some of them: so each must
    look whether it has the room, or the last one finds a full disk, and so does the next start."""
    server = disk.server()
    with connected(server) as client:
        large, small = (
            sum(submit(client, b"%0*d" % (size, 0)) != b"" for _ in range(count))
            for size, count in ((50_000, 100), (100, 200))
        )
    assert large >= 40, "hardly any large ones"
    with connected(server) as worker:
        worker.send(p.OPTION_REQ, b"farm-sync")
        worker.expect(p.OPTION_RES, b"farm-sync")
        worker.send(p.CAN_DO, b"f")
        ended = 0
        while some := grab_some(worker, 50):
            for handle in some:
                worker.send(p.WORK_FAIL, handle)  # each alone: the server takes them in several turns
            worker.send(p.ECHO_REQ, b"durable?")
            worker.expect(p.ECHO_RES, b"durable?")
            ended += len(some)
    assert ended == large + small
    takes_again(server, bytes(100))
    server.kill()
    shutil.copytree(disk.place / "store", tmp_path / "copy")  # SQLite would follow /proc/PID/root out of it
    report = check(str(tmp_path / "copy"))
    assert (report.sound, report.jobs) == (True, 0), report
    assert not finish_all(disk.server()), "what had ended came back"


def drain_beside_others(disk: SmallDisk, program: Sequence[str] = (FARM,)) -> None:
    """Jobs fill the disk, and others take the rest and keep it. What was the jobs' room is inside the store's file, and
    the disk has none for the ballast and the log unless that is given back."""
    server = disk.server(program=program)
    with connected(server) as client:
        taken = fill_with_jobs(client, 20)
    disk.fill()
    assert finish_all(server, at_once=200) == taken
    takes_again(server, b"again")
    assert "that were free inside are the disk's again" in server.err()
    server.kill()
    assert not finish_all(disk.server()), "what had ended came back"


@pytest.mark.parametrize("disk", [4, 8], indirect=True)
def test_what_is_free_inside_the_file_goes_back_to_the_disk(disk: SmallDisk) -> None:
    drain_beside_others(disk)


def test_it_notices(tmp_path: Path) -> None:
    """large: the file stays as large as it was. results: they do not give way. inside: what is free in the file counts
    for nothing."""
    words = r"there is room again|server stops|closed|reset|pipe"
    for mutant, size, fails in (
        ("large", 4, drain_beside_others),
        ("results", 8, lambda disk, program: fill_and_drain(disk, 20, program=program)),
        ("inside", 4, lambda disk, program: fill_and_drain(disk, 300, 2000, program=program)),
    ):
        place = tmp_path / mutant
        place.mkdir()
        program = (sys.executable, "-P", "-m", "tests.reliability.power.mutant", mutant)
        with (
            small_disk(place, size * MIB) as disk,
            pytest.raises((AssertionError, ConnectionError), match=words),
        ):
            fails(disk, program)
