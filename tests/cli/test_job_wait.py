"""`farm wait` at servers that answer as they are told, go away and come back."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator

import pytest

from tests.cli.fake_jobs import Asked, Say, answer, ended, job_server
from tests.cli.fakes import Caller
from tests.cli.rig import Rig
from tests.support import free_port, wait_until

END = {"1": ended("H:1:1"), "2": ended("H:1:2", "dead", 7, 7, "exit 7"), "3": ended("H:1:3", "cancelled", None, 130)}
WAITED = answer("wait", {"unknown": []})


def find(caller: Caller, request: Asked) -> bytes:
    return answer("find", {"ids": [f"H:1:{request['text'].rpartition(':')[2]}"]})


def ending(*numbers: str) -> dict[str, Say | bytes]:
    return {"find": find, "wait": WAITED + b"".join(END[number] for number in numbers)}


@pytest.mark.parametrize(
    ("argv", "order", "status"),
    [
        ("1", "1", 0),
        ("2", "2", 7),
        ("3", "3", 130),
        ("1 2", "12", 7),
        ("1 2 3", "213", 130),
        ("1 2 3 --exit first", "213", 7),
        ("1 2 --exit first", "12", 0),
        ("1 2 --any", "12", 0),
        ("1 1 H:1:1", "1", 0),
    ],
)
def test_it_exits_as_the_jobs_did(lone_rig: Rig, argv: str, order: str, status: int) -> None:
    with job_server(ending(*order)) as (address, _):
        done = lone_rig.run("wait", *argv.split(), "-s", address)
    assert (done.status, done.out, done.err) == (status, b"", "")


def test_more_jobs_than_fit_into_a_question(lone_rig: Rig) -> None:
    def wait(caller: Caller, request: Asked) -> bytes:
        return WAITED + b"".join(map(ended, request["ids"]))

    ids = "".join(f"{number}\n" for number in range(2001))
    with job_server({"find": find, "wait": wait}) as (address, asked):
        assert lone_rig.run("wait", "-", "-s", address, stdin=ids.encode()).status == 0
        assert [len(request["ids"]) for verb, request in asked if verb == "wait"] == [1000, 1000, 1]


def test_ids_on_stdin(lone_rig: Rig) -> None:
    with job_server(ending("1", "2")) as (address, asked):
        done = lone_rig.run("wait", "-", "-s", address, stdin=b"H:1:1\n\n 2 \n")
        assert done.status == 7
        assert asked[-1] == ("wait", {"ids": ["H:1:1", "H:1:2"]})
        assert lone_rig.run("wait", "-", "-s", address, stdin=b"x" * 9999).status == 64
        for command in ("wait", "show"):
            assert lone_rig.run(command, "", "-s", address).error == "an empty ID was given"
        assert lone_rig.run("wait", "-s", address).error == "no job was named"


@pytest.mark.parametrize("command", ["wait", "cancel", "retry", "purge"])
def test_nothing_on_stdin_is_nothing_to_do(lone_rig: Rig, command: str) -> None:
    """As with xargs -r: a script that has nothing to wait for is no failure, and nobody is asked."""
    nobody = f"127.0.0.1:{free_port()}"
    for nothing in (b"", b"\n\n"):
        done = lone_rig.run(command, "-", "-s", nobody, stdin=nothing)
        assert (done.status, done.out, done.err) == (0, b"", "")
    shown = lone_rig.run(command, "-", "-s", nobody, "--json", stdin=b"")
    assert shown.status == 0
    assert shown.out == b"" if command == "wait" else json.loads(shown.out)["results"] == []


def test_a_line_for_each_when_asked_for(lone_rig: Rig) -> None:
    with job_server(ending("2", "1")) as (address, _):
        done = lone_rig.run("wait", "1", "2", "-s", address, "--json")
        told = lone_rig.run("wait", "1", "2", "-s", address, "-v")
    assert [json.loads(line) for line in done.out.splitlines()] == [
        {
            "schema": "farm.wait/1",
            "server": address,
            "id": f"H:1:{number}",
            "state": state,
            "reason": reason,
            "exit_code": code,
            "exit": code,
        }
        for number, state, reason, code in ((2, "dead", "exit 7", 7), (1, "done", None, 0))
    ]
    assert (told.out, told.err) == (b"", "farm: waiting for 2 jobs\nfarm: H:1:2 is dead: exit 7\nfarm: H:1:1 is done\n")


def test_whose_exit_code_it_is(lone_rig: Rig) -> None:
    with job_server(ending("2")) as (address, _):
        done = lone_rig.shell(f"farm wait 2 -s {address} 3>&1 1>&2; true", env={"FARM_EXIT_ORIGIN_FD": "3"})
    assert done.out == b"job\n"


def test_no_longer_than_it_may(lone_rig: Rig) -> None:
    with job_server(ending("1")) as (address, _):
        done = lone_rig.run("wait", "1", "2", "-s", address, "--timeout", "300ms")
        assert (done.status, done.error) == (124, "the job has not ended within 300ms")
        assert lone_rig.run("wait", "1", "2", "-s", address, "--timeout", "300ms", "--any").status == 0


def test_jobs_of_several_servers(lone_rig: Rig) -> None:
    def only(number: str) -> Say:
        return lambda caller, request: answer("find", {"ids": [f"H:1:{number}"] * (request["text"] == number)})

    one, two = ending("1") | {"find": only("1")}, ending("2") | {"find": only("2")}
    with job_server(one) as (first, asked), job_server(two) as (second, _):
        done = lone_rig.run("wait", "1", "2", "-s", f"{first},{second}")
    assert (done.status, asked[-1]) == (7, ("wait", {"ids": ["H:1:1"]}))


@contextlib.contextmanager
def restarted(leave: int) -> Iterator[tuple[str, threading.Event]]:
    """A server that closes `leave` connections that wait, and tells the end to the next one once the event is set."""
    back, left = threading.Event(), iter(range(leave))

    def wait(caller: Caller, request: Asked) -> bytes:
        if next(left, None) is not None:
            caller.say(WAITED)
            raise EOFError
        caller.say(WAITED)
        assert back.wait(20)
        return END["2"]

    with job_server({"find": find, "wait": wait}) as (address, _):
        yield address, back


@pytest.mark.parametrize("leave", [1, 4])
def test_a_server_that_goes_away_and_comes_back(lone_rig: Rig, leave: int) -> None:
    with restarted(leave) as (address, back):
        waiting = lone_rig.start("wait", "2", "-s", address)
        waiting.wait_for("is back")
        back.set()
        done = waiting.wait()
    assert (done.status, done.out) == (7, b"")
    assert f"farm: the server at {address} closed the connection; waiting for it to come back\n" in done.err


def test_a_job_that_is_forgotten_meanwhile(lone_rig: Rig) -> None:
    """A server without a store knows nothing any more after a restart."""
    asked_before: list[Asked] = []

    def wait(caller: Caller, request: Asked) -> bytes:
        asked_before.append(request)
        if len(asked_before) == 1:
            raise EOFError
        return answer("wait", {"unknown": ["H:1:1"]}) + END["2"]

    with job_server({"find": find, "wait": wait}) as (address, _):
        done = lone_rig.run("wait", "1", "2", "-s", address)
    assert done.status == 66
    assert "farm: error: no job 'H:1:1': its server does not know it any more\n" in done.err


def test_ctrl_c(lone_rig: Rig) -> None:
    def silent(caller: Caller, request: Asked) -> bytes:
        caller.say(WAITED)
        caller.until_closed()
        raise EOFError

    with job_server({"find": find, "wait": silent}) as (address, asked):
        screen = lone_rig.terminal("wait", "1", "-s", address)
        wait_until(lambda: asked and asked[-1][0] == "wait", what="it waits")
        screen.sendintr()
        screen.expect_exact("^C")
        assert screen.read() == ""
        screen.close()
        assert screen.signalstatus == 2
