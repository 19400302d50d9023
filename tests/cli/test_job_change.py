"""`farm cancel`, `retry`, `purge`, `pause`, `resume` and `function` at servers that answer as they are told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cli.fake_jobs import Asked, Say, answer, error, job, job_server
from tests.cli.fakes import Caller
from tests.cli.rig import Rig
from tests.support import free_port


def find(caller: Caller, request: Asked) -> bytes:
    number = request["text"].rpartition(":")[2]
    return answer("find", {"ids": [f"H:1:{number}"] * (number != "404")})


def outcomes(verb: str, *outcomes: str) -> dict[str, Say | bytes]:
    """Each job's outcome, in the order in which they are asked for."""

    def say(caller: Caller, request: Asked) -> bytes:
        results = [{"id": id, "outcome": outcome} for id, outcome in zip(request["ids"], outcomes, strict=True)]
        return answer(verb, {"results": results})

    return {"find": find, verb: say, "jobs": answer("jobs", {"jobs": [job("H:1:2"), job("H:1:1")], "more": None})}


@pytest.mark.parametrize(
    ("verb", "outcome", "status", "words"),
    [
        ("cancel", "cancelled", 0, ""),
        ("cancel", "told", 0, ""),
        ("cancel", "unheard", 0, ""),
        ("cancel", "ended", 75, "has ended already"),
        ("cancel", "unknown", 66, "no job 'H:1:1' any more"),
        ("retry", "queued", 0, ""),
        ("retry", "live", 75, "has not ended"),
        ("retry", "done", 75, "is done: there is nothing to repeat"),
        ("retry", "gone", 75, "its payload is not kept any more"),
        ("retry", "unreadable", 75, "the server cannot read what it has kept of it"),
        ("purge", "purged", 0, ""),
        ("purge", "live", 75, "has not ended"),
        ("purge", "something new", 75, "something new"),
    ],
)
def test_an_outcome_is_a_row_and_an_exit_code(lone_rig: Rig, verb: str, outcome: str, status: int, words: str) -> None:
    with job_server(outcomes(verb, outcome)) as (address, _):
        done = lone_rig.run(verb, "1", "-s", address)
    assert (done.status, done.out.decode()) == (status, f"H:1:1\t{outcome}\n")
    assert words in done.error if status else not done.err


def test_one_that_is_not_there_does_not_keep_the_others(lone_rig: Rig) -> None:
    with job_server(outcomes("cancel", "told", "ended")) as (address, asked):
        done = lone_rig.run("cancel", "404", "1", "2", "-s", address, "--reason", "wrong input")
    assert (done.status, done.out) == (66, b"404\tunknown\nH:1:1\ttold\nH:1:2\tended\n")
    assert done.err.count("farm: error: ") == 2
    assert asked[-1] == ("cancel", {"ids": ["H:1:1", "H:1:2"], "reason": "wrong input"})


def test_as_json(lone_rig: Rig) -> None:
    with job_server(outcomes("cancel", "told")) as (address, _):
        done = lone_rig.run("cancel", "1", "404", "-s", address, "--json")
    assert json.loads(done.out) == {
        "schema": "farm.cancel/1",
        "results": [
            {"id": "404", "server": None, "outcome": "unknown"},
            {"id": "H:1:1", "server": address, "outcome": "told"},
        ],
    }


@pytest.mark.parametrize(("verb", "states"), [("retry", ["dead"]), ("purge", ["done", "dead", "cancelled", "expired"])])
def test_those_that_an_expression_means(lone_rig: Rig, verb: str, states: list[str]) -> None:
    with job_server(outcomes(verb, "x")) as (address, asked):
        assert lone_rig.run(verb, "--where", "id = H:1:2", "-s", address).out == b"H:1:2\tx\n"
        assert asked == [("jobs", {"limit": 1000, "states": states}), (verb, {"ids": ["H:1:2"]})]
        lone_rig.run(verb, "--state", "cancelled", "--where", "id = H:1:2", "-s", address)
        assert asked[2] == ("jobs", {"limit": 1000, "states": ["cancelled"]})
        done = lone_rig.run(verb, "--where", "id = none", "-s", address)
        assert (done.status, done.out, done.err) == (0, b"", "")


def test_only_listed(lone_rig: Rig) -> None:
    with job_server(outcomes("retry")) as (address, asked):
        done = lone_rig.run("retry", "--where", "run > 0s", "--dry-run", "-s", address)
        assert [line.split("\t")[0] for line in done.out.decode().splitlines()] == ["ID", "H:1:2", "H:1:1"]
        shown = json.loads(lone_rig.run("retry", "--where", "run > 0s", "--dry-run", "-s", address, "--json").out)
        assert shown["schema"] == "farm.jobs/1"
        assert {verb for verb, _ in asked} == {"jobs"}


def test_a_person_is_asked_before_many(lone_rig: Rig) -> None:
    with job_server(outcomes("purge", "purged", "purged")) as (address, asked):
        for word, changed in (("n", False), ("", False), ("y", True)):
            screen = lone_rig.terminal("purge", "--where", "run > 0s", "-s", address)
            screen.expect_exact("farm: purge 2 jobs? [y/N] ")
            screen.sendline(word)
            screen.expect_exact("H:1:1\tpurged" if changed else "farm: nothing was changed")
            assert any(verb == "purge" for verb, _ in asked) == changed
        screen = lone_rig.terminal("purge", "--where", "run > 0s", "-s", address, "--yes")
        assert "?" not in screen.read()


def test_not_of_one(lone_rig: Rig) -> None:
    with job_server(outcomes("purge", "purged")) as (address, _):
        assert "?" not in lone_rig.terminal("purge", "--where", "id = H:1:1", "-s", address).read()


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ("retry", "no job was named"),
        ("retry 1 --where run>0s", "IDs and --where or --state exclude each other"),
        ("purge 1 --state done", "IDs and --where or --state exclude each other"),
        ("retry 1 --dry-run", "--dry-run is for --where and --state"),
        ("purge --where run>", "--where, column 5: a value is missing after '>'"),
        ("cancel", "no job was named"),
    ],
)
def test_wrong_usage(lone_rig: Rig, argv: str, words: str) -> None:
    with job_server({"find": find}) as (address, _):
        done = lone_rig.run(*argv.split(), "-s", address)
    assert (done.status, done.out, done.error) == (64, b"", words)


def test_a_silent_server_is_no_success(lone_rig: Rig) -> None:
    """It may have more of the jobs that were meant."""
    with job_server(outcomes("retry", "queued", "queued")) as (address, _):
        done = lone_rig.run("retry", "--where", "run > 0s", "-s", f"{address},127.0.0.1:{free_port()}")
    assert (done.status, done.out) == (69, b"H:1:2\tqueued\nH:1:1\tqueued\n")


def test_what_comes_from_another_machine_is_refused(lone_rig: Rig) -> None:
    with job_server({"find": find, "cancel": error("PERMISSION_DENIED", "no")}) as (address, _):
        done = lone_rig.run("cancel", "1", "-s", address)
    assert (done.status, done.out) == (77, b"")
    assert "--remote-admin" in done.hint


@pytest.mark.parametrize("failed", [0, 1])
@pytest.mark.parametrize(("outcome", "status"), [("unanswered", 69), ("refused", 77)])
def test_a_server_that_fails_keeps_nobody_from_the_others(
    lone_rig: Rig, failed: int, outcome: str, status: int
) -> None:
    """It was there when the jobs were looked for."""

    def fail(caller: Caller, request: Asked) -> bytes:
        if outcome == "unanswered":
            raise EOFError
        return error("PERMISSION_DENIED", "no")

    def only(number: int) -> Say:
        return lambda caller, request: answer("find", {"ids": [f"H:1:{number}"] * (request["text"] == str(number))})

    with (
        job_server({"find": only(0), "cancel": fail}) as (fails, _),
        job_server({**outcomes("cancel", "told"), "find": only(1)}) as (well, _),
    ):
        names = ("0", "1") if failed == 0 else ("1", "0")
        done = lone_rig.run("cancel", *names, "-s", f"{fails},{well}", "--json")
        alone = lone_rig.run("cancel", "0", "-s", fails)
    assert done.status == status
    assert sorted(map(tuple, (row.values() for row in json.loads(done.out)["results"]))) == [
        ("H:1:0", fails, outcome),
        ("H:1:1", well, "told"),
    ]
    assert done.error.startswith(f"the server at {fails} ")
    assert (alone.status, alone.out) == (status, b"")


# -- functions


def function(**fields: Any) -> dict[str, Any]:
    counts = {"queued": 3, "running": 1, "delayed": 0, "waiting": 0, "workers": 2, "paused": False, "settings": {}}
    return {"function": "resize", **counts, **fields}


def one(verb: str, **fields: Any) -> dict[str, Say | bytes]:
    return {verb: answer(verb, {"function": function(**fields)})}


HEADER = "FUNCTION\tQUEUED\tRUNNING\tDELAYED\tWAITING\tWORKERS\tPAUSED\tSETTINGS\n"


def test_functions_are_listed(lone_rig: Rig) -> None:
    functions = [function(settings={"retries": "5", "timeout": "60", "retry-on": "1-5,signal"}), function(paused=True)]
    with job_server({"functions": answer("functions", {"functions": functions})}) as (address, _):
        done = lone_rig.run("function", "list", "-s", address)
        shown = json.loads(lone_rig.run("function", "list", "-s", address, "--json").out)
        assert "resize" in lone_rig.terminal("function", "list", "-s", address).read()
    assert done.out.decode() == (
        HEADER
        + "resize\t3\t1\t0\t0\t2\tno\tretries=5 timeout=1m00s retry-on=1-5,signal\n"
        + "resize\t3\t1\t0\t0\t2\tyes\t\n"
    )
    assert shown["schema"] == "farm.functions/1"
    assert shown["functions"] == [{"server": address, **each} for each in functions]
    assert shown["servers"] == [{"server": address, "error": None}]


@pytest.mark.parametrize("verb", ["pause", "resume"])
def test_paused_and_resumed(lone_rig: Rig, verb: str) -> None:
    with job_server(one(verb, paused=verb == "pause")) as (address, asked):
        done = lone_rig.run(verb, "resize", "-s", address)
        assert (done.status, asked) == (0, [(verb, {"function": "resize"})])
        assert done.out.decode() == HEADER + f"resize\t3\t1\t0\t0\t2\t{'yes' if verb == 'pause' else 'no'}\t\n"
        assert lone_rig.run(verb, "re size", "-s", address).status == 64


def test_settings_are_set_and_taken_back(lone_rig: Rig) -> None:
    options = "--retries 5 --retry-on 75,signal --backoff 2s --keep-results 1d --unset timeout,--queue-timeout"
    with job_server(one("function")) as (address, asked):
        done = lone_rig.run("function", "set", "resize", *options.split(), "-s", address, "--json")
        assert lone_rig.run("function", "show", "resize", "-s", address).status == 0
    assert json.loads(done.out)["schema"] == "farm.function/1"
    settings = {"retries": "5", "retry-on": "75,signal", "backoff": "2", "keep": "86400"}
    assert asked == [
        ("function", {"function": "resize", "set": {"timeout": None, "queue-timeout": None, **settings}}),
        ("function", {"function": "resize"}),
    ]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("", "no setting was given"),
        ("--backoff fast", "--backoff is not a time: 'fast'"),
        ("--unset speed", "--unset cannot be 'speed'"),
        ("--unset timeout --timeout 3s", "--unset timeout and --timeout exclude each other"),
    ],
)
def test_wrong_settings(lone_rig: Rig, options: str, words: str) -> None:
    done = lone_rig.run("function", "set", "resize", *options.split(), "-s", f"127.0.0.1:{free_port()}")
    assert (done.status, done.out, done.error) == (64, b"", words)


def test_a_function_that_one_of_them_knows(lone_rig: Rig) -> None:
    unknown: dict[str, Say | bytes] = {"function": error("UNKNOWN_FUNCTION", "There is no function resize")}
    with job_server(one("function")) as (knows, _), job_server(unknown) as (does_not, _):
        assert lone_rig.run("function", "show", "resize", "-s", f"{does_not},{knows}").status == 0
        done = lone_rig.run("function", "show", "resize", "-s", does_not)
    assert (done.status, done.out, done.error) == (66, b"", "There is no function resize")


def test_a_change_has_to_reach_all_servers(lone_rig: Rig) -> None:
    with job_server(one("pause", paused=True)) as (address, _):
        done = lone_rig.run("pause", "resize", "-s", f"127.0.0.1:{free_port()},{address}")
    assert (done.status, done.out.decode()) == (
        69,
        HEADER.strip() + f"\tSERVER\nresize\t3\t1\t0\t0\t2\tyes\t\t{address}\n",
    )
