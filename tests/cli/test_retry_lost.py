"""`farm submit --retry-lost`: a server that goes away while a foreground job is out, or before it has said that it has
a background job."""

from __future__ import annotations

import json

import pytest

from farm.cli import servers
from farm.cli.main import run
from farm.client import answers
from tests.cli.fakes import CREATED, Caller, fake_server
from tests.cli.rig import Rig
from tests.cli.test_frozen_server import frozen
from tests.support import free_port


def test_the_job_goes_to_the_next_server(lone_rig: Rig) -> None:
    first, second = lone_rig.server(), lone_rig.server()
    both = f"{first.address},{second.address}"
    lone_rig.fifo("gate")
    lone_rig.env["FARM_SERVER"] = first.address
    lone_rig.worker("f", "--cmd", "echo begun; read x < gate; echo never")
    with (lone_rig.home / "result").open("wb") as result:
        job = lone_rig.start("submit", "-n", "--retry-lost", "-s", both, "f", stdout=result)
        lone_rig.wait_file("result", "begun\n")
        lone_rig.env["FARM_SERVER"] = second.address
        lone_rig.worker("f", "--cmd", "echo again")
        first.kill()
        done = job.wait()
    assert done.status == 0
    assert (lone_rig.home / "result").read_text() == "again\n"
    assert "submitting it again" in done.err


def test_the_same_server_may_come_back(lone_rig: Rig) -> None:
    server = lone_rig.server()
    lone_rig.env["FARM_SERVER"] = server.address
    job = lone_rig.start("submit", "-n", "--retry-lost", "f")
    lone_rig.wait_counts("f", 1)
    server.kill()
    job.wait_for("submitting it again")
    lone_rig.server("--listen", server.address)
    lone_rig.worker("f", "--cmd", "echo result")
    assert job.wait().out == b"result\n"


def test_without_it_the_job_is_not_submitted_twice(lone_rig: Rig) -> None:
    first, second = lone_rig.server(), lone_rig.server()
    job = lone_rig.start("submit", "-n", "-s", f"{first.address},{second.address}", "f")
    lone_rig.env["FARM_SERVER"] = first.address
    lone_rig.wait_counts("f", 1)
    first.kill()
    done = job.wait()
    assert done.status == 69
    assert "it may have run or not" in done.error
    assert lone_rig.counts("f", second.address) == (0, 0, 0)


def test_output_that_cannot_be_taken_back_ends_it(lone_rig: Rig) -> None:
    first, second = lone_rig.server(), lone_rig.server()
    lone_rig.env["FARM_SERVER"] = first.address
    lone_rig.fifo("gate")
    lone_rig.worker("f", "--cmd", "echo begun; read x < gate")
    job = lone_rig.terminal("submit", "-n", "--retry-lost", "-s", f"{first.address},{second.address}", "f")
    job.expect("begun")
    first.kill()
    job.expect("which it would repeat: its server was lost")
    job.expect("hint: ")
    job.wait()
    assert job.exitstatus == 75


# -- in the background


NEVER_SAID = "and never said that it has the job, which may run or not"


def take_it(caller: Caller) -> None:
    """And go, without a word."""
    caller.until(b"payload")


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_background_job_goes_to_the_next_server(lone_rig: Rig, options: list[str]) -> None:
    second = lone_rig.server()
    with fake_server(take_it) as (first, callers):
        both = f"{first},{second.address}"
        done = lone_rig.submit("-b", "--retry-lost", "-s", both, *options, "f", stdin=b"payload")
    assert (done.status, len(callers)) == (0, 1)
    assert done.err == f"farm: the server at {first} closed the connection, {NEVER_SAID}; submitting it again\n"
    handle = json.loads(done.out)["id"] if options else done.out.decode().strip()
    assert lone_rig.run("show", handle, "-s", second.address).status == 0
    if options:
        assert json.loads(done.out)["server"] == second.address
    assert lone_rig.counts("f", second.address) == (1, 0, 0)


def test_without_it_a_background_job_does_not(lone_rig: Rig) -> None:
    second = lone_rig.server()
    with fake_server(take_it) as (first, _):
        done = lone_rig.submit("-b", "-s", f"{first},{second.address}", "f", stdin=b"payload")
    assert (done.status, done.out) == (69, b"")
    assert done.error == f"the server at {first} closed the connection, {NEVER_SAID}"
    assert lone_rig.counts("f", second.address) == (0, 0, 0)


def test_or_to_the_same_one_when_it_is_back(lone_rig: Rig) -> None:
    def take_it_twice(caller: Caller) -> None:
        caller.until(b"payload")
        if len(callers) > 1:
            caller.say(b"OK 1.1\n" + CREATED)

    with fake_server(take_it_twice) as (address, callers):
        done = lone_rig.submit("-b", "-q", "--retry-lost", "-s", address, "f", stdin=b"payload")
    assert (done.status, done.out, done.err, len(callers)) == (0, b"H:fake:1\n", "", 2)


def test_but_not_for_ever(lone_rig: Rig) -> None:
    with fake_server(take_it) as (address, callers):
        done = lone_rig.submit("-b", "--retry-lost", "-s", address, "f", stdin=b"payload")
    assert (done.status, done.out, len(callers)) == (69, b"", 1 + servers.RETRY_LOST_MAX)
    lines = done.err.splitlines()
    words = f"the server at {address} closed the connection, {NEVER_SAID}"
    assert lines[:-2] == [f"farm: {words}; submitting it again"] * servers.RETRY_LOST_MAX
    assert lines[-2] == f"farm: error: {words}"


def test_nobody_is_called_again_who_was_not_there(lone_rig: Rig) -> None:
    done = lone_rig.submit("-b", "-n", "--retry-lost", "-s", f"127.0.0.1:{free_port()}", "f")
    assert (done.status, "submitting it again" in done.err) == (69, False)


@pytest.mark.parametrize("options", [["-b"], ["-b", "--unique-for", "1h", "-u", "k"]])
def test_a_frozen_server_is_left_for_the_next_one(
    lone_rig: Rig, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], options: list[str]
) -> None:
    """In this process, with shorter patience."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(lone_rig.home))
    monkeypatch.setattr(answers, "NOTICE_S", 0.3)
    monkeypatch.setattr(answers, "ANSWER_TIMEOUT_S", 0.3)
    first, second = lone_rig.server(), lone_rig.server()
    with frozen(first):
        assert run(["submit", *options, "-n", "--retry-lost", "-s", f"{first.address},{second.address}", "f"]) == 0
    said = capfd.readouterr()
    assert lone_rig.run("show", said.out.strip(), "-s", second.address).status == 0
    words = f"the server at {first.address} does not answer{'' if '-u' in options else f', {NEVER_SAID}'}"
    assert f"farm: {words}; submitting it again\n" in said.err
