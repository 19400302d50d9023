"""`farm result`, `logs` and `submit` with --json: what a job wrote comes back byte for byte, whatever the bytes are."""

from __future__ import annotations

import base64
import json
import signal
from typing import Any

import pytest

from farm.cli.logs_json import whole_letters
from farm.protocol import packets as p
from tests.cli.fake_jobs import Asked, answer, ended, job, job_server, output
from tests.cli.fakes import CREATED, Caller, fake_server, res
from tests.cli.rig import Rig, ServerRunning
from tests.support import free_port, req, wait_until

ID = "H:1:12"


def bytes_of(wrote: dict[str, str]) -> bytes:
    """As farm/docs/jobs.md says it is to be undone."""
    data = wrote["data"].encode()
    return base64.b64decode(data, validate=True) if wrote["encoding"] == "base64" else data


def lines(text: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def submitted(rig: Rig, *argv: str, stdin: bytes = b"", status: int = 0) -> dict[str, Any]:
    """What `farm submit -b --json` prints, which is one line."""
    done = rig.submit("-b", "--json", *argv, stdin=stdin)
    assert done.status == status, done.err
    (line,) = lines(done.out)
    assert line.pop("schema") == "farm.submit/1"
    return line


def ran(rig: Rig, function: str, stdin: bytes = b"") -> str:
    """The handle of a job that has ended."""
    id: str = submitted(rig, function, stdin=stdin)["id"]
    rig.run("wait", id)
    return id


# -- result


@pytest.mark.parametrize(
    ("wrote", "encoding"),
    [
        (b"", "utf-8"),
        (b"plain\n", "utf-8"),
        ('Käse \u20ac \U0001f600\0\x1b[2J"\\\r\n'.encode(), "utf-8"),
        (bytes(range(256)), "base64"),
        (b"cut letter \xc3", "base64"),
        (b"half a character \xed\xa0\x80", "base64"),
    ],
)
def test_a_result_is_what_was_written(rig: Rig, function: str, wrote: bytes, encoding: str) -> None:
    rig.worker(function, "--", "cat")
    id = ran(rig, function, wrote)
    done = rig.run("result", "--json", id)
    found = json.loads(done.out)
    assert (done.status, done.err, found["schema"], found["exit"]) == (0, "", "farm.result/1", 0)
    assert (found["stdout"]["encoding"], bytes_of(found["stdout"])) == (encoding, wrote)
    shown = json.loads(rig.run("show", "--json", id).out)["job"]
    assert shown.pop("attempts_list") != []
    assert found["job"] == shown
    assert (found["job"]["state"], found["job"]["result_bytes"], found["job"]["cut"]) == ("done", len(wrote), False)


def test_the_result_of_a_job_that_failed(rig: Rig, function: str) -> None:
    rig.worker(function, "--cmd", "echo half; echo why >&2; exit 3")
    id = ran(rig, function)
    done = rig.run("result", "--json", id)
    found = json.loads(done.out)
    assert (done.status, done.err, found["exit"], bytes_of(found["stdout"])) == (3, "", 3, b"half\n")
    assert (found["job"]["state"], found["job"]["reason"], found["job"]["exit_code"]) == ("dead", "exit 3", 3)


def test_a_result_of_which_a_part_was_kept(lone_rig: Rig) -> None:
    server = lone_rig.server("--result-max", "1K")
    lone_rig.env["FARM_SERVER"] = server.address
    lone_rig.worker("f", "--cmd", "head -c 5000 /dev/zero; exit $(cat)")
    whole, failed = ran(lone_rig, "f", b"0"), ran(lone_rig, "f", b"7")
    done = lone_rig.run("result", "--json", whole)
    found = json.loads(done.out)
    assert (done.status, done.error) == (65, f"only a part of what job {whole} wrote was kept")
    assert (found["exit"], found["job"]["cut"], found["job"]["state"]) == (65, True, "done")
    assert set(bytes_of(found["stdout"])) <= {0} and len(bytes_of(found["stdout"])) < 5000
    done = lone_rig.run("result", "--json", failed)
    assert (done.status, json.loads(done.out)["exit"], json.loads(done.out)["job"]["cut"]) == (7, 7, True)


def test_no_result_before_the_end(rig: Rig, function: str) -> None:
    id = submitted(rig, function)["id"]
    done = rig.run("result", "--json", id)
    assert (done.status, done.out, done.error) == (75, b"", f"job {id} has not ended: it is queued")
    logs = json.loads(rig.run("logs", "--json", id).out)
    assert (logs["job"]["state"], logs["attempts_list"]) == ("queued", [])
    rig.run("cancel", id)


@pytest.mark.parametrize("command", ["result", "logs", "logs -f", "logs --attempt 1"])
def test_nobody_knows_the_job(rig: Rig, command: str) -> None:
    done = rig.run(*command.split(), "--json", "H:fade:1")
    assert (done.status, done.out, done.error) == (66, b"", "no job 'H:fade:1'")


def test_of_several_servers_the_one_that_has_it(rig: Rig, server: ServerRunning, function: str) -> None:
    other = rig.server()
    dead = f"127.0.0.1:{free_port()}"
    rig.env["FARM_SERVER"] = other.address
    rig.worker(function, "--cmd", "echo out; echo err >&2")
    rig.env["FARM_SERVER"] = f"{dead},{other.address},{server.address}"
    line = submitted(rig, function)
    assert line["server"] == other.address
    rig.run("wait", line["id"])
    for command in ("result", "logs"):
        found = json.loads(rig.run(command, "--json", line["id"]).out)
        assert (found["job"]["server"], found["job"]["id"]) == (other.address, line["id"])
    assert {each["server"] for each in lines(rig.run("logs", "-f", "--json", line["id"]).out)} == {other.address}


def test_a_job_that_runs_again_meanwhile_has_no_result(lone_rig: Rig) -> None:
    verbs = {
        "find": answer("find", {"ids": [ID]}),
        "job": answer("job", {"job": job(ID, state="dead")}),
        "output": answer("output", {"job": job(ID, state="queued", ended_at=None)}),
    }
    with job_server(verbs) as (address, _):
        done = lone_rig.run("result", "--json", "12", "-s", address)
    assert (done.status, done.out, done.error) == (75, b"", f"job {ID} has not ended: it is queued")


def test_a_full_disk_is_said(rig: Rig, function: str) -> None:
    rig.worker(function, "--", "cat")
    id = ran(rig, function, b"x")
    for command in ("result", "logs", "logs -f"):
        with open("/dev/full", "wb") as full:
            done = rig.run(*command.split(), "--json", id, stdout=full)
        assert (done.status, done.error) == (73, "cannot write standard output: no space left on device")


# -- logs


def test_the_logs_of_each_attempt(rig: Rig, function: str) -> None:
    rig.worker(function, "--cmd", r"echo x >> tries; printf '%d\377\n' $(wc -l < tries) >&2; echo out; exit 3")
    id = submitted(rig, function, "--retries", "1", "--backoff", "100ms")["id"]
    rig.run("wait", id)
    found = json.loads(rig.run("logs", "--json", id).out)
    assert (found["schema"], found["job"]["attempts"], found["job"]["state"]) == ("farm.logs/1", 2, "dead")
    first, second = found["attempts_list"]
    assert (first["number"], first["outcome"], first["exit_code"], first["cut"]) == (1, "failed", 3, None)
    assert first["stderr"] == {"encoding": "utf-8", "data": "1\ufffd\n"}  # the end of it, as text
    assert (second["number"], second["cut"], bytes_of(second["stderr"])) == (2, False, b"2\xff\n")
    assert "log" not in first
    for number, attempt in ((1, first), (2, second)):
        only = json.loads(rig.run("logs", "--json", id, "--attempt", str(number)).out)
        assert only["attempts_list"] == [attempt]
    done = rig.run("logs", "--json", id, "--attempt", "9")
    assert (done.status, done.out) == (66, b"")
    assert done.error == f"nothing is known of attempt 9 of job {id}: 2 have begun"
    assert rig.run("logs", "-f", "--json", id, "--attempt", "1").status == 64


def test_the_log_of_a_job_that_runs(rig: Rig, function: str) -> None:
    rig.fifo("go")
    rig.worker(function, "--cmd", "echo begun >&2; read x < go")
    id = submitted(rig, function)["id"]
    wait_until(lambda: rig.run("logs", id).out == b"begun\n", what="it has begun")
    found = json.loads(rig.run("logs", "--json", id).out)
    (attempt,) = found["attempts_list"]
    assert (found["job"]["state"], attempt["outcome"], bytes_of(attempt["stderr"])) == (
        "running",
        "running",
        b"begun\n",
    )
    rig.release("go")
    rig.run("wait", id)


def test_the_log_of_a_job_that_waits_for_its_next_attempt(rig: Rig, function: str) -> None:
    """Its server keeps no more than the end of it; that is not said to be all."""
    rig.worker(function, "--cmd", r"head -c 20000 /dev/zero | tr '\0' x >&2; echo why >&2; exit 3")
    id = submitted(rig, function, "--retries", "1", "--backoff", "1h")["id"]
    wait_until(lambda: b"delayed" in rig.run("show", id).out, what="it has failed once")
    end = b"x" * (16 * 1024 - 4) + b"why\n"
    for cancelled in (False, True):
        found = json.loads(rig.run("logs", "--json", id).out)
        (attempt,) = found["attempts_list"]
        assert found["job"]["state"] == ("cancelled" if cancelled else "delayed")
        assert (attempt["outcome"], attempt["cut"], bytes_of(attempt["stderr"])) == ("failed", None, end)
        assert rig.run("logs", id).out == end
        rig.run("cancel", id)


def test_an_empty_log(rig: Rig, function: str) -> None:
    rig.worker(function, "--", "true")
    found = json.loads(rig.run("logs", "--json", ran(rig, function)).out)
    assert [bytes_of(each["stderr"]) for each in found["attempts_list"]] == [b""]
    assert found["attempts_list"][0]["stderr"] == {"encoding": "utf-8", "data": ""}


def test_an_attempt_that_began_between_two_questions(lone_rig: Rig) -> None:
    """It is there, though nothing is known of it yet but what it wrote."""
    running = {"state": "running", "ended_at": None}
    verbs = {
        "find": answer("find", {"ids": [ID]}),
        "job": answer("job", {"job": {**job(ID, **running), "attempts_list": [{"number": 1, "log": "old"}]}}),
        "output": output(ID, "log", b"new") + answer("output", {"job": job(ID, attempts=2, **running)}),
    }
    with job_server(verbs) as (address, _):
        found = json.loads(lone_rig.run("logs", "--json", "12", "-s", address).out)
    assert [(each["number"], bytes_of(each["stderr"])) for each in found["attempts_list"]] == [(1, b"old"), (2, b"new")]


# -- followed


def test_each_piece_as_it_comes(rig: Rig, function: str) -> None:
    """Also a letter whose halves come apart, and what never becomes one."""
    rig.fifo("go")
    rig.worker(function, "--cmd", r"printf 'out\303'; read x < go; printf '\244'; printf '\377\376' >&2; exit 4")
    id = submitted(rig, function)["id"]
    following = rig.start("logs", "-f", "--json", id)
    wait_until(lambda: following.out().endswith(b"\n"), what="the first piece")
    (first,) = lines(following.out())
    assert first == {
        "schema": "farm.follow/1",
        "server": rig.env["FARM_SERVER"],
        "id": id,
        "attempt": 1,
        "anew": False,
        "stream": "stdout",
        "output": {"encoding": "utf-8", "data": "out"},
        "end": None,
    }
    rig.release("go")
    done = following.wait()
    *pieces, last = lines(done.out)
    assert (done.status, done.err) == (4, "")
    wrote = {name: [each["output"] for each in pieces if each["stream"] == name] for name in ("stdout", "stderr")}
    assert wrote["stdout"] == [{"encoding": "utf-8", "data": "out"}, {"encoding": "utf-8", "data": "ä"}]
    assert b"".join(map(bytes_of, wrote["stderr"])) == b"\xff\xfe"
    assert (last["stream"], last["output"]) == (None, None)
    assert last["end"] == {"state": "dead", "reason": "exit 4", "exit_code": 4, "exit": 4, "cut": False}


def test_an_end_without_a_reason(rig: Rig, function: str) -> None:
    """What is not known is null, as in all that lists jobs."""
    rig.worker(function, "--", "true")
    id = submitted(rig, function)["id"]
    (waited,) = lines(rig.run("wait", "--json", id).out)
    (*_, followed) = lines(rig.run("logs", "-f", "--json", id).out)
    assert (waited["state"], waited["reason"]) == ("done", None)
    assert followed["end"] == {"state": "done", "reason": None, "exit_code": 0, "exit": 0, "cut": False}


def test_a_second_attempt_begins_anew(lone_rig: Rig) -> None:
    """What the first one had begun is not continued by the second."""
    running = {"state": "running", "ended_at": None}

    def following(caller: Caller, request: Asked) -> bytes:
        if request["number"] == 0:
            return output(ID, "log", b"one\xc3") + answer("output", {"job": job(ID, **running)})
        return output(ID, "log", b"\xa4two") + answer("output", {"job": job(ID, attempts=2, cut=True)})

    verbs = {"find": answer("find", {"ids": [ID]}), "output": following}
    with job_server({**verbs, "wait": answer("wait", {"unknown": []}) + ended(ID)}) as (address, _):
        done = lone_rig.run("logs", "-f", "--json", "12", "-s", address)
    *pieces, last = lines(done.out)
    assert (done.status, done.err) == (0, "")
    assert [(each["attempt"], each["anew"], bytes_of(each["output"])) for each in pieces] == [
        (1, False, b"one"),
        (1, False, b"\xc3"),
        (2, True, b"\xa4two"),
    ]
    assert (last["attempt"], last["anew"], last["end"]["cut"]) == (2, False, True)


def test_who_reads_the_lines_leaves(rig: Rig, function: str) -> None:
    id = submitted(rig, function)["id"]
    done = rig.shell(f"farm logs -f --json {id} | true; echo ${{PIPESTATUS[0]}}")
    assert done.out == f"{128 + signal.SIGPIPE}\n".encode()
    rig.run("cancel", id)


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (b"", 0),
        (b"abc", 3),
        (b"a\xc3", 1),
        (b"a\xc3\xa4", 3),
        (b"\xe2\x82", 0),
        (b"a\xf0\x9f\x98", 1),
        (b"\xff\xc3", 2),
        (b"\xc3a", 2),
        (b"a\xed\xa0", 3),
    ],
)
def test_where_a_letter_is_cut_off(data: bytes, size: int) -> None:
    assert whole_letters(data) == size


# -- submit


def test_what_became_of_a_submission(rig: Rig, server: ServerRunning, function: str) -> None:
    new = submitted(rig, function)
    assert new == {
        "server": server.address,
        "id": new["id"],
        "function": function,
        "unique": None,
        "existed": False,
        "state": None,
    }
    assert json.loads(rig.run("show", "--json", new["id"]).out)["job"]["background"] is True
    keyed = submitted(rig, function, "-u", "key")
    assert (keyed["unique"], keyed["existed"], keyed["state"]) == ("key", False, None)
    for how in ("attach", "skip"):
        there = submitted(rig, function, "-u", "key", "--if-exists", how)
        assert there == {**keyed, "existed": True, "state": "queued"}
    refused = rig.submit("-b", "--json", function, "-u", "key", "--if-exists", "fail")
    assert (refused.status, refused.out) == (75, b"")
    replacing = submitted(rig, function, "-u", "key", "--if-exists", "replace")
    assert (replacing["existed"], replacing["id"] != keyed["id"]) == (False, True)
    assert submitted(rig, function, "-u", "-")["existed"] is None
    automatic = submitted(rig, function, "-u", "auto", stdin=b"x")
    assert automatic["unique"].startswith("auto:")
    assert submitted(rig, function, "-u", "auto", stdin=b"x") == {**automatic, "existed": True, "state": "queued"}
    rig.run("cancel", "-", stdin=b"\n".join(line.split(b"\t")[0] for line in rig.run("jobs").out.splitlines()[1:]))


def test_its_time_is_kept_where_a_key_is_asked_about(rig: Rig, function: str) -> None:
    line = submitted(rig, function, "-u", "key", "--in", "1h")
    shown = json.loads(rig.run("show", "--json", line["id"]).out)["job"]
    assert (shown["state"], line["existed"]) == ("delayed", False)
    rig.run("cancel", line["id"])


def test_a_job_that_has_ended_and_whose_key_counts(rig: Rig, function: str) -> None:
    rig.worker(function, "--", "true")
    first = submitted(rig, function, "-u", "key", "--unique-for", "1h")
    rig.run("wait", first["id"])
    assert submitted(rig, function, "-u", "key") == {**first, "existed": True, "state": "done"}


def test_a_foreground_job_that_is_joined_outlives_its_client(rig: Rig, function: str) -> None:
    """As without --json: it becomes a background job."""
    waiting = rig.start("submit", "-u", "key", "-n", function)
    rig.wait_counts(function, 1)
    line = submitted(rig, function, "-u", "key")
    assert (line["existed"], line["state"]) == (True, "queued")
    waiting.terminate()
    shown = json.loads(rig.run("show", "--json", line["id"]).out)["job"]
    assert (shown["state"], shown["background"]) == ("queued", True)
    rig.run("cancel", line["id"])


def test_a_stock_server_does_not_say_whether_it_was_there(lone_rig: Rig) -> None:
    def talk(caller: Caller) -> None:
        caller.until(req(p.OPTION_REQ, b"farm-1"))
        caller.say(b"OK 1.1.20\n" + res(p.ERROR, b"UNKNOWN_OPTION", b"Server does not recognize given option"))
        caller.until(req(p.SUBMIT_JOB_BG, b"f", b"k", b"x"))
        caller.say(b"OK 1.1.20\n" + CREATED)

    with fake_server(talk) as (address, _):
        line = submitted(lone_rig, "-s", address, "-u", "k", "f", stdin=b"x")
    assert (line["id"], line["existed"], line["state"]) == ("H:fake:1", None, None)


def test_a_stock_server_is_not_given_terms(lone_rig: Rig) -> None:
    def talk(caller: Caller) -> None:
        caller.until(req(p.OPTION_REQ, b"farm-1"))
        caller.say(b"OK 1.1.20\n" + res(p.ERROR, b"UNKNOWN_OPTION", b"Server does not recognize given option"))

    with fake_server(talk) as (address, _):
        done = lone_rig.submit("-b", "--json", "-s", address, "-u", "k", "--retries", "1", "f")
    assert (done.status, done.out) == (69, b"")
    assert "it does not know --retries" in done.error


def test_a_foreground_job_has_stdout_for_itself(lone_rig: Rig) -> None:
    done = lone_rig.submit("--json", "f")
    assert (done.status, done.out) == (64, b"")
    assert done.error == "--json is for --background: else stdout is what the job writes, byte for byte"
    assert done.hint == "farm submit -b --json FUNCTION, then farm wait ID and farm result --json ID"


def test_a_line_that_cannot_be_written(rig: Rig, function: str) -> None:
    with open("/dev/full", "wb") as full:
        done = rig.submit("-b", "--json", function, stdout=full)
    assert done.status == 73
    assert done.error.startswith("cannot write the handle of job H:")
    rig.run("cancel", "last")
