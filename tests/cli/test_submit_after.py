"""`farm submit --after` with several servers: a job waits only for jobs of its own server."""

from __future__ import annotations

import pytest

from tests.cli.rig import Rig, ServerRunning
from tests.support import free_port, wait_until


@pytest.fixture
def other(lone_rig: Rig) -> ServerRunning:
    """A second server."""
    return lone_rig.server()


def submitted(rig: Rig, where: str, *options: str) -> str:
    """A background job there; its handle."""
    done = rig.submit("-b", "-n", "-s", where, *options, "f")
    assert done.status == 0, done.err
    return done.out.decode().strip()


def shown(rig: Rig, where: str, id: str) -> str:
    done = rig.run("show", id, "-s", where)
    assert done.status == 0, done.err
    return done.out.decode()


@pytest.mark.parametrize("text", ["{id}", "last", "{number}"])
def test_it_goes_where_the_other_job_is(lone_rig: Rig, server: ServerRunning, other: ServerRunning, text: str) -> None:
    """Also where that is not the first server, and where the ID is shortened."""
    for _ in range(20):  # no other test of this module submits so many: the last number is its own
        first = submitted(lone_rig, other.address)
    after = "ok:" + text.format(id=first, number=first.rpartition(":")[2])
    second = submitted(lone_rig, f"{server.address},{other.address}", "--after", after)
    assert "waiting" in shown(lone_rig, other.address, second)
    assert first in shown(lone_rig, other.address, second)
    assert lone_rig.run("show", second, "-s", server.address).status == 66
    lone_rig.start("work", "f", "-s", other.address, "--", "true")
    wait_until(lambda: "done" in shown(lone_rig, other.address, second), what="both have run")


def test_a_foreground_job_too(lone_rig: Rig, server: ServerRunning, other: ServerRunning) -> None:
    first = submitted(lone_rig, other.address)
    lone_rig.run("cancel", first, "-s", other.address)
    done = lone_rig.submit("-n", "-s", f"{server.address},{other.address}", "--after", f"ok:{first}", "f")
    assert done.status == 130
    assert f"needs ok:{first}, which is cancelled" in done.err


def test_jobs_of_different_servers(lone_rig: Rig, server: ServerRunning, other: ServerRunning) -> None:
    one, two = submitted(lone_rig, server.address), submitted(lone_rig, other.address)
    after = f"ok:{one},any:{two}"
    done = lone_rig.submit("-b", "-s", f"{server.address},{other.address}", "--after", after, "f", stdin=b"x")
    assert (done.status, done.out) == (64, b"")
    assert done.error == f"--after names jobs of different servers: {one} of {server.address}, {two} of {other.address}"
    assert "its own server" in done.hint


def test_several_jobs_of_one_server(lone_rig: Rig, server: ServerRunning, other: ServerRunning) -> None:
    one, two = submitted(lone_rig, other.address), submitted(lone_rig, other.address)
    servers = f"{server.address},{other.address}"
    id = submitted(lone_rig, servers, "--after", f"ok:{one}", "--after", f"any:{two}")
    assert one in shown(lone_rig, other.address, id)
    assert two in shown(lone_rig, other.address, id)


def test_a_job_that_there_is_not(lone_rig: Rig, server: ServerRunning, other: ServerRunning) -> None:
    servers = f"{server.address},{other.address}"
    done = lone_rig.submit("-b", "-n", "-s", servers, "--after", "ok:H:1:1", "f")
    assert (done.status, done.out, done.error) == (66, b"", "no job 'H:1:1'")
    dead = f"127.0.0.1:{free_port()}"
    done = lone_rig.submit("-b", "-n", "-s", f"{server.address},{dead}", "--after", "ok:H:1:1", "f")
    assert (done.status, done.out) == (69, b"")
    assert done.error.startswith(f"no server at {dead}")
