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
from tests.support import free_port

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


@pytest.mark.parametrize(
    ("command", "first"), [("jobs", True), ("function list", False), ("cron list", True), ("status", False)]
)
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
    assert (done.status, done.out) == (69, b"last\tunanswered\n")
    words = "'last' may be a job of a server that cannot be asked"
    assert f"farm: error: {words}: the server at {ice} does not answer\n" in done.err
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


# -- waiting for a job of a server that is frozen


def submit(rig: Rig, server: ServerRunning, *argv: str) -> str:
    """A job that nobody runs."""
    return rig.submit("-b", "-n", "-s", server.address, "f", *argv).out.decode().strip()


@pytest.mark.parametrize("text", ["whole", "last"])
def test_wait_goes_on_looking_until_its_time_is_up(lone_rig: Rig, server: ServerRunning, text: str) -> None:
    """For longer than a listing would: the server may go on."""
    other = lone_rig.server()
    submit(lone_rig, server)
    id = submit(lone_rig, other)
    limit_s = SILENT_S + 2
    with frozen(other):
        done, took_s = timed(
            lone_rig,
            *("wait", id if text == "whole" else text, "--timeout", f"{limit_s}s"),
            *("-s", f"{server.address},{other.address}"),
        )
    assert (done.status, done.out) == (124, b"")
    assert limit_s <= took_s < limit_s + SLACK_S
    assert done.err.count(f"farm: waiting: the server at {other.address} does not answer yet\n") == 1
    assert done.err.count(f"farm: the server at {other.address} does not answer; waiting for it to come back\n") == 1
    assert f"the server at {other.address} does not answer within {limit_s:g}s (--timeout)\n" in done.err


def test_wait_finds_the_job_when_its_server_goes_on(lone_rig: Rig, server: ServerRunning) -> None:
    other = lone_rig.server()
    id = submit(lone_rig, other)
    servers = f"{server.address},{other.address}"
    with frozen(other):
        waiting = lone_rig.start("wait", id, "-v", "-s", servers)
        waiting.wait_for(f"the server at {other.address} does not answer; waiting for it to come back")
        assert not waiting.ended
    waiting.wait_for(f"the server at {other.address} is back")
    lone_rig.run("cancel", id, "-s", other.address)
    assert waiting.wait().status == 130


def test_a_job_that_is_nowhere_is_said_to_be_when_all_have_answered(lone_rig: Rig, server: ServerRunning) -> None:
    other = lone_rig.server()
    with frozen(other):
        waiting = lone_rig.start("wait", "H:fade:1", "-s", f"{server.address},{other.address}")
        waiting.wait_for("waiting for it to come back")
    done = waiting.wait()
    assert (done.status, done.err.splitlines()[-2]) == (66, "farm: error: no job 'H:fade:1'")


def test_the_ends_of_the_others_are_heard_meanwhile(lone_rig: Rig, server: ServerRunning) -> None:
    other = lone_rig.server()
    here, there = submit(lone_rig, server), submit(lone_rig, other)
    servers = f"{server.address},{other.address}"
    with frozen(other):
        waiting = lone_rig.start("wait", here, there, "--json", "-v", "-s", servers)
        any = lone_rig.start("wait", here, there, "--any", "-s", servers)
        for each in (waiting, any):
            each.wait_for("waiting for it to come back")
        lone_rig.run("cancel", here, "-s", server.address)
        assert any.wait().status == 130
        waiting.wait_for(f"{here} is cancelled")
        assert [json.loads(line)["id"] for line in waiting.out().splitlines()] == [here]
    waiting.wait_for(f"the server at {other.address} is back")
    lone_rig.run("cancel", there, "-s", other.address)
    assert waiting.wait().status == 130
    assert [json.loads(line)["id"] for line in waiting.out().splitlines()] == [here, there]


def test_another_one_may_start_again_meanwhile(lone_rig: Rig) -> None:
    """One that had answered is no reason to give up, when it is away while the frozen one is."""
    options = ("--listen", f"127.0.0.1:{free_port()}", "--store", "store")
    restarting, other = lone_rig.server(*options), lone_rig.server()
    here, there = submit(lone_rig, restarting), submit(lone_rig, other)
    with frozen(other):
        waiting = lone_rig.start("wait", here, there, "-v", "-s", f"{restarting.address},{other.address}")
        waiting.wait_for(f"the server at {other.address} does not answer; waiting for it to come back")
        restarting.kill()
        waiting.wait_for("waiting for it to come back", 2)
        restarting = lone_rig.server(*options)
        waiting.wait_for(f"the server at {restarting.address} is back")
        lone_rig.run("cancel", here, "-s", restarting.address)
        waiting.wait_for(f"{here} is cancelled")
    waiting.wait_for(f"the server at {other.address} is back")
    lone_rig.run("cancel", there, "-s", other.address)
    assert waiting.wait().status == 130


def test_nobody_is_waited_for_who_is_not_there(lone_rig: Rig, server: ServerRunning) -> None:
    """Nothing says that there ever was a server."""
    dead = f"127.0.0.1:{free_port()}"
    for servers in (dead, f"{dead},{server.address}"):
        done, took_s = timed(lone_rig, "wait", "H:fade:1", "--timeout", "1m", "-s", servers)
        assert (done.status, took_s < SLACK_S) == (69, True)


# -- changes


@pytest.mark.parametrize(
    ("command", "outcome", "first"),
    [
        ("cancel", "cancelled", True),
        ("cancel", "cancelled", False),
        ("retry", "queued", True),
        ("purge", "purged", False),
    ],
)
def test_what_can_be_changed_is(lone_rig: Rig, server: ServerRunning, command: str, outcome: str, first: bool) -> None:
    other = lone_rig.server()
    here, there = (submit(lone_rig, each) for each in (server, other))
    if command != "cancel":
        for id, each in ((here, server), (there, other)):
            lone_rig.run("cancel", id, "-s", each.address)
    servers = f"{other.address},{server.address}" if first else f"{server.address},{other.address}"
    with frozen(other):
        done, took_s = timed(lone_rig, command, *((there, here) if first else (here, there)), "-s", servers)
    assert (done.status, took_s < SILENT_S + SLACK_S) == (69, True)
    assert done.out.decode() == f"{there}\tunanswered\n{here}\t{outcome}\n"
    assert done.err.splitlines()[-2:] == [
        f"farm: error: nothing was done about '{there}': the server at {other.address} does not answer",
        "hint: is it overloaded or stopped?",
    ]
    states = {"cancel": "queued", "retry": "cancelled", "purge": "cancelled"}
    shown = json.loads(lone_rig.run("show", "--json", there, "-s", other.address).out)
    assert shown["job"]["state"] == states[command]


def test_so_it_is_in_the_json(lone_rig: Rig, server: ServerRunning, ice: str) -> None:
    id = submit(lone_rig, server)
    done = lone_rig.run("cancel", "H:fade:1", id, "--json", "-s", f"{ice},{server.address}")
    assert done.status == 69
    assert json.loads(done.out)["results"] == [
        {"id": "H:fade:1", "server": None, "outcome": "unanswered"},
        {"id": id, "server": server.address, "outcome": "cancelled"},
    ]


@pytest.mark.parametrize(
    ("command", "first"),
    [("pause f", True), ("pause f", False), ("resume f", True), ("function set f --retries 3", False)],
)
def test_a_function_is_changed_where_it_can_be(
    lone_rig: Rig, server: ServerRunning, ice: str, command: str, first: bool
) -> None:
    submit(lone_rig, server)
    servers = f"{ice},{server.address}" if first else f"{server.address},{ice}"
    done, took_s = timed(lone_rig, *command.split(), "-s", servers, "--json")
    assert (done.status, SILENT_S <= took_s < SILENT_S + SLACK_S) == (69, True)
    assert done.err.splitlines()[-2:] == [
        f"farm: error: the server at {ice} does not answer",
        "hint: it may do it late, or not at all: say it again when it answers",
    ]
    shown = json.loads(done.out)
    (function,) = shown["functions"]
    assert (function["server"], function["paused"]) == (server.address, command == "pause f")
    assert ("retries" in function["settings"]) == ("set" in command)
    errors = {each["server"]: each["error"] for each in shown["servers"]}
    assert errors[server.address] is None
    assert errors[ice]["message"] == f"the server at {ice} does not answer"
    for undo in ("resume f", "function set f --unset retries"):
        assert lone_rig.run(*undo.split(), "-s", server.address).status == 0


def test_a_cron_entry_is_added_where_it_can_be(lone_rig: Rig, server: ServerRunning, ice: str) -> None:
    """Whether there is one of its name at the other server nobody knows."""
    servers = f"{ice},{server.address}"
    crontab = lone_rig.write("crontab", "@daily true\n")
    for command in (("add", "@daily", "entry", "-n"), ("import", crontab)):
        done, took_s = timed(lone_rig, "cron", *command, "-s", servers)
        assert (done.status, SILENT_S <= took_s < SILENT_S + SLACK_S) == (69, True)
        assert f"farm: error: the server at {ice} does not answer\n" in done.err
        assert (
            "hint: an entry of this name may be there too, and run twice: farm cron list, when it answers" in done.err
        )
    names = [
        line.split("\t")[0] for line in lone_rig.run("cron", "list", "-s", server.address).out.decode().splitlines()
    ]
    assert {"entry", "true"} <= set(names)
    for name in ("entry", "true"):
        assert lone_rig.run("cron", "remove", name, "-s", server.address).status == 0


@pytest.mark.parametrize(("command", "first"), [("show", False), ("run", True)])
def test_a_cron_entry_is_found_where_it_can_be(
    lone_rig: Rig, server: ServerRunning, ice: str, command: str, first: bool
) -> None:
    """And then the other server is named, for it may have one of the same name; until it is removed, in the end."""
    assert lone_rig.run("cron", "add", "--replace", "@daily", "kept", "-n", "-s", server.address).status == 0
    servers = f"{ice},{server.address}" if first else f"{server.address},{ice}"
    told = f"farm: error: the server at {ice} does not answer\nhint: an entry of this name may be there too"
    done, took_s = timed(lone_rig, "cron", command, "kept", "--json", "-s", servers)
    assert (done.status, SILENT_S <= took_s < SILENT_S + SLACK_S) == (69, True)
    assert done.err.endswith(
        f"{told}{'' if command == 'show' else ', and is as it was'}: farm cron list, when it answers\n"
    )
    answer = json.loads(done.out)
    (entry,) = answer["entries"]
    assert (entry["server"], entry["name"], entry["paused"]) == (server.address, "kept", command == "pause")
    assert ("id" in answer) == (command == "run")
    removed = lone_rig.run("cron", "remove", "kept", "-s", servers)
    assert (removed.status, told in removed.err) == (69, True)
    assert lone_rig.run("cron", "show", "kept", "-s", server.address).status == 66
