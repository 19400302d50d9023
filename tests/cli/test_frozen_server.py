"""One of several servers is stopped (SIGSTOP): its port takes connections, and nothing ever answers. The others are
heard all the same, and no time limit is overrun."""

from __future__ import annotations

import contextlib
import json
import signal
import time
from collections.abc import Iterator

import pytest

from farm.client.side_by_side import SILENT_S
from tests.cli.rig import Done, Rig, ServerRunning
from tests.support import wait_until

# What a command may take beyond the limit that is tested; the servers' own answer would be awaited for 30 s.
SLACK_S = 6.0


@contextlib.contextmanager
def frozen(server: ServerRunning) -> Iterator[str]:
    """Its address, while it is stopped."""
    server.signal(signal.SIGSTOP)
    try:
        yield server.address
    finally:
        server.signal(signal.SIGCONT)


def timed(rig: Rig, *argv: str) -> tuple[Done, float]:
    """What came of a command, and how long it took."""
    begun = time.monotonic()
    done = rig.run(*argv)
    return done, time.monotonic() - begun


@pytest.fixture
def ice(lone_rig: Rig) -> Iterator[str]:
    """The address of a server that is stopped."""
    with frozen(lone_rig.server()) as address:
        yield address


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("command", ["jobs", "function list", "cron list", "status"])
def test_a_listing_says_what_the_others_know_and_who_is_silent(
    lone_rig: Rig, server: ServerRunning, ice: str, command: str, first: bool
) -> None:
    id = lone_rig.submit("-b", "-n", "-s", server.address, "f").out.decode().strip()
    lone_rig.run("cron", "add", "--replace", "@daily", "f", "-n", "-s", server.address)
    servers = f"{ice},{server.address}" if first else f"{server.address},{ice}"
    done, took_s = timed(lone_rig, *command.split(), "-s", servers)
    assert done.status == 0
    assert f"error: the server at {ice} does not answer" in done.err
    assert server.address in done.out.decode()
    assert SILENT_S <= took_s < SILENT_S + SLACK_S
    shown = json.loads(lone_rig.run(*command.split(), "-s", servers, "--json").out)
    errors = {each["server"]: each.get("error") for each in shown["servers"]}
    assert errors[server.address] is None
    assert errors[ice]["message"] == f"the server at {ice} does not answer"
    if command == "jobs":
        assert id in [job["id"] for job in shown["jobs"]]


def test_two_frozen_ones_take_no_longer_than_one(lone_rig: Rig, server: ServerRunning, ice: str) -> None:
    with frozen(lone_rig.server()) as other:
        done, took_s = timed(lone_rig, "jobs", "-s", f"{ice},{other},{server.address}")
    assert (done.status, took_s < SILENT_S + SLACK_S) == (0, True)
    assert ice in done.err
    assert other in done.err


@pytest.mark.parametrize("command", ["show", "explain", "cancel"])
def test_a_whole_handle_is_not_held_up(lone_rig: Rig, server: ServerRunning, ice: str, command: str) -> None:
    id = lone_rig.submit("-b", "-n", "-s", server.address, "f").out.decode().strip()
    done, took_s = timed(lone_rig, command, id, "-s", f"{ice},{server.address}")
    assert (done.status, id in done.out.decode()) == (0, True)
    assert took_s < SILENT_S


def test_what_may_be_its_job_is_not_guessed(lone_rig: Rig, server: ServerRunning, ice: str) -> None:
    lone_rig.submit("-b", "-n", "-s", server.address, "f")
    done, took_s = timed(lone_rig, "cancel", "last", "-s", f"{ice},{server.address}")
    assert (done.status, done.out) == (69, b"")
    assert "'last' may be a job of a server that cannot be asked" in done.err
    assert took_s < SILENT_S + SLACK_S


@pytest.mark.parametrize("several", [True, False])
def test_wait_looks_for_the_job_no_longer_than_it_may(
    lone_rig: Rig, server: ServerRunning, ice: str, several: bool
) -> None:
    servers = f"{server.address},{ice}" if several else ice
    done, took_s = timed(lone_rig, "wait", "H:1:1", "--timeout", "1500ms", "-s", servers)
    assert done.status == 124
    assert f"error: the server at {ice} does not answer within 1.5s (--timeout)\n" in done.err
    assert 1.5 <= took_s < 1.5 + SLACK_S


def test_wait_ends_in_time_though_a_server_freezes_meanwhile(lone_rig: Rig, server: ServerRunning) -> None:
    other = lone_rig.server()
    servers = f"{server.address},{other.address}"
    ids = [lone_rig.submit("-b", "-n", "-s", each.address, "f").out.decode().strip() for each in (server, other)]
    waiting = lone_rig.start("wait", *ids, "-v", "--timeout", "4s", "-s", servers)
    waiting.wait_for("waiting for 2 jobs")
    begun = time.monotonic()
    with frozen(other):
        lone_rig.run("cancel", ids[0], "-s", server.address)
        waiting.wait_for(f"{ids[0]} is cancelled")
        assert waiting.wait().status == 124
    assert time.monotonic() - begun < 4 + SLACK_S


def test_a_change_is_no_listing(lone_rig: Rig, server: ServerRunning, ice: str) -> None:
    """It is made where it can be; a server that is merely slow to commit is waited for, or it would be said to have
    failed when it has not."""
    changing = lone_rig.start("pause", "f", "-s", f"{ice},{server.address}")
    changing.wait_for(f"the server at {ice} does not answer yet")
    begun = time.monotonic()
    wait_until(lambda: changing.ended or time.monotonic() > begun + SILENT_S)
    assert not changing.ended
    assert "yes" in lone_rig.run("function", "list", "-s", server.address).out.decode()
    changing.kill()
    assert lone_rig.run("resume", "f", "-s", server.address).status == 0
