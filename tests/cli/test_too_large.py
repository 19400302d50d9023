"""A result that the server does not take fails its job, once: given to another worker it would be as large again."""

from __future__ import annotations

import pytest

from tests.cli.rig import Rig, ServerRunning

LOUD = "echo run >> runs; head -c {size} /dev/zero"


@pytest.fixture
def small(lone_rig: Rig) -> ServerRunning:
    """A server that takes little, with the rig's FARM_SERVER set to it."""
    server = lone_rig.server("--max-job-size", "32K", "--store", "memory")
    lone_rig.env["FARM_SERVER"] = server.address
    return server


@pytest.mark.parametrize("options", [[], ["--collect"]])
def test_the_client_hears_of_it_and_the_job_has_run_once(
    lone_rig: Rig, small: ServerRunning, options: list[str]
) -> None:
    lone_rig.worker("big", *options, "--cmd", LOUD.format(size=100_000))
    done = lone_rig.shell("FARM_EXIT_ORIGIN_FD=3 farm submit -n big 3> origin")
    assert done.status == 125
    assert "farm: the server does not take what the job's worker sent: WORK_" in done.err
    assert "bytes: at most 33792 (--max-job-size)" in done.err
    assert (lone_rig.home / "origin").read_text() == "farm\n"
    assert (lone_rig.home / "runs").read_text() == "run\n"


def test_a_background_job_has_failed_too(lone_rig: Rig, small: ServerRunning) -> None:
    worker = lone_rig.worker("big", "--cmd", LOUD.format(size=100_000))
    assert lone_rig.submit("-b", "-n", "big").status == 0
    lone_rig.wait_file("runs")
    lone_rig.wait_counts("big", 0, 0, 1)
    worker.wait_for("ARGUMENT_TOO_LARGE")
    assert lone_rig.submit("-n", "big").status == 125  # the worker is back, and has nothing else to do
    assert (lone_rig.home / "runs").read_text() == "run\n" * 2


def test_a_large_result_passes_in_pieces(lone_rig: Rig) -> None:
    """What a job may not be in one piece it may be in many."""
    lone_rig.env["FARM_SERVER"] = lone_rig.server("--max-job-size", "64K").address
    lone_rig.worker("big", "--cmd", "head -c 3000000 /dev/zero")
    done = lone_rig.submit("-n", "big")
    assert (done.status, done.err, len(done.out)) == (0, "", 3_000_000)
