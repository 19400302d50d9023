"""`farm show`, `explain`, `logs` and `result` at servers that answer as they are told."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import pytest

from farm.cli import logs
from farm.client.job_servers import JobServers
from farm.errors import Unavailable
from farm.protocol.address import parse_address
from tests.cli.fake_jobs import Asked, Say, answer, ended, error, job, job_server, output
from tests.cli.fakes import Caller
from tests.cli.rig import Rig
from tests.support import wait_until

ID = "H:1:12"

ATTEMPTS = [
    {
        "number": 1,
        "started_at": 1767229201.0,
        "ended_at": 1767229203.25,
        "run_s": 2.25,
        "outcome": "failed",
        "reason": "exit 3",
        "worker": "host-1",
        "exit_code": 3,
        "cpu_s": 0.5,
        "peak_bytes": 64 << 20,
        "log": "out of memory\n",
    },
    {"number": 2, "started_at": 1767229205.0, "ended_at": 1767229206.0, "run_s": 1.0, "outcome": "lost", "log": ""},
    {"number": 3, "started_at": 1767229207.0, "outcome": "lost", "reason": "the server did not end cleanly"},
    {"number": 4, "outcome": "lost"},
]


def found(*ids: str) -> bytes:
    return answer("find", {"ids": list(ids or [ID])})


def told(**fields: Any) -> bytes:
    return answer("job", {"job": {**job(ID, **fields), "attempts_list": ATTEMPTS, "events": []}})


def verbs(more: dict[str, Say | bytes] | None = None, **fields: Any) -> dict[str, Say | bytes]:
    return {"find": found(), "job": told(**fields), **(more or {})}


def test_a_timeline_for_people(lone_rig: Rig) -> None:
    fields = {"state": "dead", "reason": "poison", "unique": "night\x1b[2J", "retries": 5, "timeout_s": 60, "cut": True}
    with job_server(verbs(None, **fields)) as (address, asked):
        done = lone_rig.run("show", "12", "-s", address, env={"TZ": "UTC"})
    assert (done.status, done.err) == (0, "")
    assert asked == [("find", {"text": "12"}), ("job", {"id": ID})]
    assert done.out.decode().splitlines() == [
        "H:1:12  resize  ✖ dead: poison",
        "  unique    night\\x1b[2J",
        "  priority  normal, background",
        "  payload   10 B",
        "  output    result 20 B, log 30 B, of which only a part was kept",
        "  terms     5 retries, timeout 1m00s, kept for 7d0h",
        "",
        "  2026-01-01 01:00:00.5  created",
        "  2026-01-01 01:00:01.0  attempt 1 began at host-1, 500ms later",
        "  2026-01-01 01:00:03.2  attempt 1 failed: exit 3 (ran 2.2s, exit 3, cpu 500ms, memory 64 MiB)",
        "  2026-01-01 01:00:03.2  dead: poison",
        "  2026-01-01 01:00:05.0  attempt 2 began, 1.8s later",
        "  2026-01-01 01:00:06.0  attempt 2 lost (ran 1s)",
        "  2026-01-01 01:00:06.0  attempt 4 lost, when is not known",
        "  2026-01-01 01:00:07.0  attempt 3 began, 1s later",
        "  2026-01-01 01:00:07.0  attempt 3 lost: the server did not end cleanly, when is not known",
    ]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"attempts": 4, "failures": 1, "losses": 3}, ["4: 1 failed, 3 lost"]),
        ({"attempts": 4, "failures": 0, "losses": 0}, ["4: 1 failed, 3 lost; since farm retry 0 failed, 0 lost"]),
        ({"attempts": 1, "failures": 1, "losses": 0}, []),
    ],
)
def test_how_its_attempts_ended(lone_rig: Rig, fields: dict[str, Any], words: list[str]) -> None:
    with job_server(verbs(None, **fields)) as (address, _):
        shown = lone_rig.run("show", "12", "-s", address).out.decode().splitlines()
    assert [line.partition("attempts  ")[2] for line in shown if line.startswith("  attempts")] == words


def test_the_same_at_a_terminal(lone_rig: Rig) -> None:
    with job_server(verbs(state="running", ended_at=None)) as (address, _):
        text = lone_rig.terminal("show", "last", "-s", address).read()
    assert "\x1b[32m● running\x1b[0m" in text


def test_a_job_that_is_not_there(lone_rig: Rig) -> None:
    with job_server({"find": answer("find", {"ids": []})}) as (address, _):
        for command in ("show", "logs", "result", "explain", "wait", "cancel"):
            done = lone_rig.run(command, "12", "-s", address)
            rows = b"12\tunknown\n" if command == "cancel" else b""  # one for each job that was named
            assert (done.status, done.out, done.error) == (66, rows, "no job '12'")


def test_an_id_that_may_mean_several(lone_rig: Rig) -> None:
    with job_server({"find": found("H:1:12", "H:2:12")}) as (address, _):
        for command in ("show", "logs", "result", "explain", "wait", "cancel", "retry", "purge"):
            done = lone_rig.run(command, "12", "-s", address)
            assert (done.status, done.out) == (64, b"")
            assert done.error == "'12' may mean several jobs: H:1:12, H:2:12"


def test_why_it_does_not_run(lone_rig: Rig) -> None:
    reasons = [
        {"code": "no_worker", "text": "no worker offers 'resize'", "hint": "start one: farm work resize -- COMMAND"},
        {"code": "ahead", "text": "11 jobs are ahead"},
    ]
    said = answer("explain", {"job": job(ID, state="queued"), "reasons": reasons})
    with job_server(verbs({"explain": said})) as (address, _):
        done = lone_rig.run("explain", "12", "-s", address)
        shown = json.loads(lone_rig.run("explain", "12", "-s", address, "--json").out)
    assert (done.status, done.out.decode()) == (
        0,
        "H:1:12  resize  queued\n"
        "  no worker offers 'resize'\n"
        "    hint: start one: farm work resize -- COMMAND\n"
        "  11 jobs are ahead\n",
    )
    assert (shown["schema"], shown["job"]["state"], shown["job"]["server"]) == ("farm.explain/1", "queued", address)
    assert [reason["code"] for reason in shown["reasons"]] == ["no_worker", "ahead"]


# -- logs


def test_its_stderr(lone_rig: Rig) -> None:
    said = (
        output(ID, "log", b"one\n\xff\0") + output(ID, "log", b"two\n") + answer("output", {"job": job(ID, cut=True)})
    )
    with job_server(verbs({"output": said})) as (address, asked):
        done = lone_rig.run("logs", "12", "-s", address)
    assert (done.status, done.out) == (0, b"one\n\xff\0two\n")
    assert done.err.startswith("farm: only a part of what it wrote was kept\n")
    assert asked[-1] == ("output", {"id": ID, "number": 1, "result": 20, "log": 0, "wait": False})


def test_an_earlier_attempts(lone_rig: Rig) -> None:
    with job_server(verbs()) as (address, _):
        assert lone_rig.run("logs", "12", "--attempt", "1", "-s", address).out == b"out of memory\n"
        done = lone_rig.run("logs", "12", "--attempt", "9", "-s", address)
        assert (done.status, done.out) == (66, b"")
        assert lone_rig.run("logs", "-f", "12", "--attempt", "1", "-s", address).status == 64


def following(caller: Caller, request: Asked) -> bytes:
    """Two attempts, told in turns as the client has them."""
    have = (request["number"], request["result"], request["log"])
    running = {"state": "running", "ended_at": None}
    if have == (0, 0, 0):
        return (
            output(ID, "result", b"out1") + output(ID, "log", b"err1") + answer("output", {"job": job(ID, **running)})
        )
    if have == (1, 4, 4):
        new = {**running, "attempts": 2}
        return output(ID, "log", b"err2") + answer("output", {"job": job(ID, **new)})
    assert have == (2, 0, 4), have
    return output(ID, "result", b"out2") + answer("output", {"job": job(ID, state="dead", exit_code=3, attempts=2)})


def test_followed_to_the_end(lone_rig: Rig) -> None:
    """Each stream to its own, and its exit code."""
    ends = answer("wait", {"unknown": []}) + ended(ID, "dead", 3, 3)
    with job_server(verbs({"output": following, "wait": ends})) as (address, asked):
        done = lone_rig.run("logs", "-f", "12", "-s", address)
    assert (done.status, done.out) == (3, b"out1out2")
    assert done.err == "err1farm: attempt 2 of job H:1:12 begins\nerr2"
    assert all(request["wait"] for verb, request in asked if verb == "output")


@pytest.mark.parametrize("restarted", [False, True])
def test_a_followed_job_whose_server_goes_away(lone_rig: Rig, restarted: bool) -> None:
    """Only the connection: it goes on behind what it has. The server too, which has forgotten that attempt: what the
    new one of the same number writes is wanted from its first byte on."""
    running = {"state": "running", "ended_at": None}
    lost: list[bool] = []

    def say(caller: Caller, request: Asked) -> bytes:
        have = (request["number"], request["result"])
        if have == (0, 0) and not lost:
            return output(ID, "result", b"abc") + answer("output", {"job": job(ID, **running)})
        if not lost:
            lost.append(True)
            raise EOFError
        assert have == ((0, 0) if restarted else (1, 3))
        later = {"started_at": 1767229209.0} if restarted else {}
        return output(ID, "result", b"wxyz" if restarted else b"z") + answer("output", {"job": job(ID, **later)})

    def told(caller: Caller, request: Asked) -> bytes:
        if lost and restarted:
            return answer("job", {"job": job(ID, state="queued", attempts=0, started_at=None, ended_at=None)})
        return answer("job", {"job": job(ID, **running)})

    ends = answer("wait", {"unknown": []}) + ended(ID)
    with job_server(verbs({"output": say, "job": told, "wait": ends})) as (address, _):
        done = lone_rig.run("logs", "-f", "12", "-s", address)
    assert (done.status, done.out) == (0, b"abcwxyz" if restarted else b"abcz")
    anew = f"farm: attempt 1 of job {ID} begins\n" if restarted else ""
    assert done.err == (
        f"farm: the server at {address} closed the connection; waiting for it to come back\n"
        f"farm: the server at {address} is back\n{anew}"
    )


def test_a_followed_job_whose_server_forgets_it(lone_rig: Rig) -> None:
    def leave(caller: Caller, request: Asked) -> bytes:
        raise EOFError

    gone = error("JOB_NOT_FOUND", f"There is no job {ID}")
    with job_server(verbs({"output": leave, "job": gone})) as (address, _):
        done = lone_rig.run("logs", "-f", "12", "-s", address)
    assert (done.status, done.out) == (66, b"")
    assert f"error: There is no job {ID}" in done.err


def test_a_followed_job_whose_server_stays_away(lone_rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(caller: Caller, request: Asked) -> bytes:
        raise EOFError

    monkeypatch.setattr(logs, "RECONNECT_MAX_S", 0.3)
    monkeypatch.setattr(logs, "RECONNECT_PAUSE_S", 0.05)
    with job_server(verbs({"output": leave, "job": leave})) as (address, asked):
        with JobServers([parse_address(address)]) as servers, pytest.raises(Unavailable):
            logs._follow(servers, servers.opened(address), ID, logs.Streams(ID))
        assert [verb for verb, _ in asked].count("job") > 1


def test_a_server_that_closes_every_connection_is_not_called_for_ever(
    lone_rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leave(caller: Caller, request: Asked) -> bytes:
        raise EOFError

    monkeypatch.setattr(logs, "LOSSES_MAX", 2)
    monkeypatch.setattr(logs, "RECONNECT_PAUSE_S", 0.0)
    with job_server(verbs({"output": leave})) as (address, asked):
        with JobServers([parse_address(address)]) as servers, pytest.raises(Unavailable):
            logs._follow(servers, servers.opened(address), ID, logs.Streams(ID))
        assert [verb for verb, _ in asked].count("output") == 3


def test_the_reader_of_a_followed_job_leaves(lone_rig: Rig) -> None:
    """It is noticed though nothing comes any more."""

    def silent(caller: Caller, request: Asked) -> bytes:
        caller.until_closed()
        raise EOFError

    with job_server(verbs({"output": silent})) as (address, asked):
        read, write = os.pipe()
        running = lone_rig.start("logs", "-f", "12", "-s", address, stdout=write)
        os.close(write)
        wait_until(lambda: asked and asked[-1][0] == "output", what="it follows")
        os.close(read)
        assert running.wait().status == -signal.SIGPIPE


# -- result


def test_the_bytes_and_nothing_else(lone_rig: Rig) -> None:
    data = bytes(range(256)) * 50
    said = output(ID, "result", data) + output(ID, "result", data) + answer("output", {"job": job(ID)})
    ends = answer("wait", {"unknown": []}) + ended(ID)
    with job_server(verbs({"output": said, "wait": ends})) as (address, asked):
        done = lone_rig.run("result", "12", "-s", address)
    assert (done.status, done.out, done.err) == (0, data * 2, "")
    assert asked[-2] == ("output", {"id": ID, "number": 1, "result": 0, "log": 30, "wait": False})


def test_of_a_job_that_has_not_ended(lone_rig: Rig) -> None:
    for state in ("waiting", "delayed", "queued", "running", "abandoned"):
        with job_server(verbs(state=state)) as (address, _):
            done = lone_rig.run("result", "12", "-s", address)
        assert (done.status, done.out) == (75, b"")
        assert done.error == f"job {ID} has not ended: it is {state}"
        assert done.hint.startswith(f"farm wait {ID}")


def test_of_a_job_that_failed(lone_rig: Rig) -> None:
    fields = {"state": "dead", "exit_code": 3}
    said = output(ID, "result", b"half") + answer("output", {"job": job(ID, **fields)})
    ends = answer("wait", {"unknown": []}) + ended(ID, "dead", 3, 3, "exit 3")
    with job_server(verbs({"output": said, "wait": ends}, **fields)) as (address, _):
        done = lone_rig.run("result", "12", "-s", address)
    assert (done.status, done.out) == (3, b"half")
    assert done.err == f"farm: job {ID} is dead: exit 3\nhint: farm logs {ID}\n"


def test_of_which_only_a_part_was_kept(lone_rig: Rig) -> None:
    said = output(ID, "result", b"half") + answer("output", {"job": job(ID)})
    ends = answer("wait", {"unknown": []}) + ended(ID)
    with job_server(verbs({"output": said, "wait": ends}, cut=True)) as (address, _):
        done = lone_rig.run("result", "12", "-s", address)
    assert (done.status, done.out) == (65, b"half")
    assert done.error == f"only a part of what job {ID} wrote was kept"


def test_a_full_disk_is_said(lone_rig: Rig) -> None:
    said = output(ID, "result", b"bytes") + answer("output", {"job": job(ID)})
    with job_server(verbs({"output": said})) as (address, _), open("/dev/full", "wb") as full:
        done = lone_rig.run("result", "12", "-s", address, stdout=full)
    assert (done.status, done.error) == (73, "cannot write the job's output: no space left on device")


@pytest.mark.parametrize("verb", ["find", "job", "explain", "output"])
def test_a_refusal_has_its_exit_code(lone_rig: Rig, verb: str) -> None:
    command = {"output": "result", "explain": "explain"}.get(verb, "show")
    with job_server(verbs({verb: error("PERMISSION_DENIED", "not from there")})) as (address, _):
        done = lone_rig.run(command, "12", "-s", address)
    assert (done.status, done.out) == (77, b"")
    assert done.error == f"the server at {address} refuses: not from there"


@pytest.mark.parametrize("command", ["show", "explain", "logs", "result"])
def test_a_server_that_cannot_read_what_it_has_kept(lone_rig: Rig, command: str) -> None:
    """The job may be there or not; nobody knows."""
    verb = {"show": "job", "explain": "explain", "logs": "job"}.get(command, "output")
    with job_server(verbs({verb: error("STORE_ERROR", "cannot be read; see the log")})) as (address, _):
        done = lone_rig.run(command, ID, "-s", address)
    assert (done.status, done.out) == (65, b"")
    assert "cannot be read; see the log" in done.error
    assert "farm store check" in done.err
