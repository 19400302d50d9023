"""`farm jobs` at servers that answer as they are told: what is asked, and how it is shown."""

from __future__ import annotations

import json
import os
import re
from typing import Any

import pytest

from tests.cli.fake_jobs import STOCK, Asked, answer, error, job, job_server
from tests.cli.fakes import Caller
from tests.cli.rig import Rig
from tests.support import free_port

JOBS = [
    job("H:1:3", state="running", exit_code=None, ended_at=None, run_s=100.0, created_at=1767229300, worker="w-2"),
    job("H:1:2", state="dead", reason="exit 3", exit_code=3, run_s=12.5, created_at=1767229250, attempts=4),
    job("H:1:1", function="re\tport\x1b", run_s=0.25),
]


def listing(*jobs: dict[str, Any], more: object = None) -> bytes:
    return answer("jobs", {"jobs": list(jobs), "more": more})


def rows(out: bytes) -> list[list[str]]:
    return [line.split("\t") for line in out.decode().splitlines()]


def test_rows_for_pipes_are_whole(lone_rig: Rig) -> None:
    """Tab-separated, with a header; what could break a row is escaped."""
    with job_server({"jobs": listing(*JOBS)}) as (address, asked):
        done = lone_rig.run("jobs", "-s", address)
    assert (done.status, done.err) == (0, "")
    assert rows(done.out) == [
        ["ID", "STATE", "FUNCTION", "CREATED", "RUN_S", "EXIT", "ATTEMPTS", "REASON"],
        ["H:1:3", "running", "resize", "2026-01-01T01:01:40.000Z", "100", "", "1", ""],
        ["H:1:2", "dead", "resize", "2026-01-01T01:00:50.000Z", "12.5", "3", "4", "exit 3"],
        ["H:1:1", "done", "re\\tport\\x1b", "2026-01-01T01:00:00.500Z", "0.25", "0", "1", ""],
    ]
    assert asked == [("jobs", {"limit": 50})]


def test_what_is_asked(lone_rig: Rig) -> None:
    with job_server({"jobs": listing()}) as (address, asked):
        options = ["--state", "dead,done", "--state", "queued", "--function", "f", "--since", "@", "--limit", "7"]
        assert lone_rig.run("jobs", "-s", address, *options).status == 64
        options[options.index("@")] = "2026-01-01T00:00Z"
        assert lone_rig.run("jobs", "-s", address, *options).status == 0
    assert asked == [
        ("jobs", {"limit": 7, "states": ["dead", "done", "queued"], "function": "f", "since": 1767225600.0})
    ]


def test_pages_are_turned_until_there_is_enough(lone_rig: Rig) -> None:
    def page(caller: Caller, request: Asked) -> bytes:
        first = request.get("before", 9)
        jobs = [job(f"H:1:{number}", created_at=number) for number in range(first, first - 3, -1)]
        return listing(*jobs, more=first - 3 if first > 3 else None)

    with job_server({"jobs": page}) as (address, asked):
        assert len(rows(lone_rig.run("jobs", "-s", address, "--limit", "5").out)) == 6
        assert [request.get("before") for _, request in asked] == [None, 6]
        assert len(rows(lone_rig.run("jobs", "-s", address, "--all").out)) == 10
        found = lone_rig.run("jobs", "-s", address, "--limit", "1", "--where", "id ~ :2$")
        assert [row[0] for row in rows(found.out)] == ["ID", "H:1:2"]


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        (["--where", "run > 10s and exit != 0"], ["H:1:2"]),
        (["--where", "not exit = 0"], ["H:1:3", "H:1:2"]),
        (["--sort", "run"], ["H:1:1", "H:1:2", "H:1:3"]),
        (["--sort", "-run", "--limit", "2"], ["H:1:3", "H:1:2"]),
        (["--sort", "exit", "--all"], ["H:1:1", "H:1:2", "H:1:3"]),
        (["--sort", "-exit", "--all"], ["H:1:2", "H:1:1", "H:1:3"]),
        (["--sort", "-exit", "--limit", "2"], ["H:1:2", "H:1:1"]),
    ],
)
def test_selected_and_sorted(lone_rig: Rig, options: list[str], ids: list[str]) -> None:
    with job_server({"jobs": listing(*JOBS)}) as (address, _):
        done = lone_rig.run("jobs", "-s", address, *options)
    assert (done.status, [row[0] for row in rows(done.out)[1:]]) == (0, ids)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--where", "run >> 10"], "--where, column 6: a value is missing after '>'"),
        (["--where", ""], "--where is empty"),
        (["--where", " "], "--where, column 2: it is empty"),
        (["--state", "done,ded"], "--state cannot be 'ded'"),
        (["--sort", "speed"], "--sort cannot be 'speed'"),
        (["--since", "whenever"], "--since is not a time: 'whenever'"),
        (["--limit", "0"], "--limit is not a whole number above 0: '0'"),
    ],
)
def test_wrong_options_are_told_before_anybody_is_asked(lone_rig: Rig, options: list[str], words: str) -> None:
    done = lone_rig.run("jobs", "-s", f"127.0.0.1:{free_port()}", *options)
    assert (done.status, done.out, done.error) == (64, b"", words)


def test_half_an_id_is_not_guessed_while_a_server_does_not_answer(lone_rig: Rig) -> None:
    dead = f"127.0.0.1:{free_port()}"
    with job_server({"find": answer("find", {"ids": ["H:1:3"]})}) as (address, asked):
        for text in ("3", "last", "H:1"):
            done = lone_rig.run("cancel", text, "-s", f"{address},{dead}")
            assert (done.status, done.out) == (69, f"{text}\tunanswered\n".encode())
            assert done.error.startswith(f"{text!r} may be a job of a server that cannot be asked: no server at {dead}")
            assert "whole handle" in done.hint
    assert {verb for verb, _ in asked} == {"find"}


def test_several_servers_are_merged_and_who_is_silent_is_said(lone_rig: Rig) -> None:
    dead = f"127.0.0.1:{free_port()}"
    with (
        job_server({"jobs": listing(JOBS[0], JOBS[2])}) as (one, _),
        job_server({"jobs": listing(job("H:2:1", state="queued", ended_at=None, created_at=1767229260))}) as (two, _),
    ):
        servers = f"{one},{dead},{two}"
        done = lone_rig.run("jobs", "-s", servers)
        shown = json.loads(lone_rig.run("jobs", "-s", servers, "--json").out)
    assert done.status == 0
    assert [(row[0], row[-1]) for row in rows(done.out)] == [
        ("ID", "SERVER"),
        ("H:1:3", one),
        ("H:2:1", two),
        ("H:1:1", one),
    ]
    assert done.error.startswith(f"no server at {dead}: ")
    assert [each["server"] for each in shown["jobs"]] == [one, two, one]
    assert [(each["server"], each["error"] is None) for each in shown["servers"]] == [
        (one, True),
        (dead, False),
        (two, True),
    ]


def test_nobody_answers(lone_rig: Rig) -> None:
    for options in ([], ["--json"]):
        done = lone_rig.run("jobs", "-s", f"127.0.0.1:{free_port()},127.0.0.1:{free_port()}", *options)
        assert (done.status, done.out) == (69, b"")
        assert done.error.startswith("no server at ")


def test_a_server_that_leaves_half_way(lone_rig: Rig) -> None:
    """What it had said is shown, and the end is no success."""

    def page(caller: Caller, request: Asked) -> bytes:
        if "before" in request:
            raise EOFError
        return listing(*JOBS, more=1)

    with job_server({"jobs": page}) as (address, _):
        done = lone_rig.run("jobs", "-s", address)
    assert (done.status, len(rows(done.out))) == (69, 4)
    assert "closed the connection" in done.error


@pytest.mark.parametrize("command", ["jobs", "show last", "wait last", "cancel last", "explain last", "function list"])
def test_a_stock_server_cannot_be_asked(lone_rig: Rig, command: str) -> None:
    with job_server({}, greeting=STOCK) as (address, _):
        done = lone_rig.run(*command.split(), "-s", address)
    assert (done.status, done.out) == (69, b"")
    assert done.error == f"the server at {address} is a stock Gearman server; this needs farm's own"
    assert "gearadmin --status" in done.hint


@pytest.mark.parametrize(
    "said",
    [
        answer("jobs", {}),
        answer("jobs", {"jobs": [3]}),
        answer("jobs", {"jobs": [{"id": "H:1:1"}]}),
        listing(job("a b")),
        listing(job("H:1:1", run_s="fast")),
        error("WHATEVER", "no"),
    ],
)
def test_a_strange_answer_is_one_clear_error(lone_rig: Rig, said: bytes) -> None:
    with job_server({"jobs": said}) as (address, _):
        done = lone_rig.run("jobs", "-s", address)
    assert (done.status, done.out) == (76, b"")
    assert done.error.startswith(f"the server at {address} ")


def test_a_table_at_a_terminal(lone_rig: Rig) -> None:
    long = job("H:1:4", function="f" * 90, state="delayed", reason="until its time", created_at=1767229400)
    with job_server({"jobs": listing(long, *JOBS)}) as (address, _):
        screen = lone_rig.terminal("jobs", "-s", address)
        text = screen.read()
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip() for line in text.splitlines()]
    assert lines[0].split() == ["ID", "STATE", "FUNCTION", "AGE", "RUN", "EXIT", "TRIES", "REASON"]
    assert lines[1].startswith("H:1:4  ◷ delayed  fff") and "…" in lines[1]
    assert [line.split()[:3] for line in lines[2:5]] == [
        ["H:1:3", "●", "running"],
        ["H:1:2", "✖", "dead"],
        ["H:1:1", "✔", "done"],
    ]
    assert "\x1b[1;31m✖ dead" in text
    assert max(map(len, lines)) <= 100


def test_an_empty_table_says_so(lone_rig: Rig) -> None:
    with job_server({"jobs": listing()}) as (address, _):
        lone_rig.terminal("jobs", "-s", address).expect("farm: no such jobs")
        assert rows(lone_rig.run("jobs", "-s", address).out)[1:] == []


def test_a_full_disk_is_said(lone_rig: Rig) -> None:
    for options in ([], ["--json"]):
        with job_server({"jobs": listing(*JOBS)}) as (address, _), open("/dev/full", "wb") as full:
            done = lone_rig.run("jobs", "-s", address, *options, stdout=full)
        assert (done.status, done.error) == (73, "cannot write standard output: no space left on device")


def test_a_key_is_compared_as_it_is(rig: Rig, function: str) -> None:
    """Not as it is shown on a terminal, where blanks and what is no text are escaped."""
    keys = ["a b", "a\\x20b", "é\t1", os.fsdecode(b"\xff")]
    ids = {key: rig.submit("-b", "-n", "-u", key, function).out.decode().strip() for key in keys}
    for key, id in ids.items():
        for operator in ("=", "~"):
            value = key if operator == "=" else f"^{re.escape(key)}$"
            done = rig.run("jobs", "--where", f"function = {function} and unique {operator} '{value}'")
            assert [row[0] for row in rows(done.out)[1:]] == [id]
    shown = json.loads(rig.run("jobs", "--json", "--function", function).out)["jobs"]
    assert {job["unique"]: job["id"] for job in shown} == ids
