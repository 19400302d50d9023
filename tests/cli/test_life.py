"""The life of background jobs, with real servers and workers: come back, look, wait, follow, cancel, retry, pause."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from farm.broker.job import id_of
from tests.cli.rig import Rig, free_port
from tests.support import wait_until


def submit(rig: Rig, function: str, *options: str, stdin: bytes = b"") -> str:
    """In the background; returns the handle."""
    done = rig.submit("-b", function, *options, stdin=stdin)
    assert (done.status, done.err) == (0, "")
    return done.out.decode().strip()


def state(rig: Rig, id: str) -> str:
    """As farm show has it."""
    shown: str = json.loads(rig.run("show", id, "--json").out)["job"]["state"]
    return shown


def wait_state(rig: Rig, id: str, wanted: str) -> None:
    """Until it is in that state."""
    wait_until(lambda: state(rig, id) == wanted, what=f"{id} is {wanted}, not {state(rig, id)}")


def test_every_byte_of_the_result(rig: Rig, function: str) -> None:
    rig.worker(function, "--", "cat")
    data = bytes(range(256)) * 3000
    id = submit(rig, function, stdin=data)
    assert rig.run("wait", id).status == 0
    done = rig.run("result", id)
    assert (done.status, done.out, done.err) == (0, data, "")
    done = rig.run("logs", id)
    assert (done.status, done.out, done.err) == (0, b"", "")


def test_a_result_of_which_only_a_part_was_kept(lone_rig: Rig) -> None:
    lone_rig.env["FARM_SERVER"] = lone_rig.server("--result-max", "1K").address
    lone_rig.worker("big", "--", "cat")
    id = submit(lone_rig, "big", stdin=b"x" * 5000)
    assert lone_rig.run("wait", id).status == 0
    done = lone_rig.run("result", id)
    assert (done.status, done.out) == (65, b"x" * 1024)
    assert done.error == f"only a part of what job {id} wrote was kept"
    assert "of which only a part was kept" in lone_rig.run("show", id).out.decode()


def test_a_result_of_many_megabytes(lone_rig: Rig) -> None:
    """Beyond what may be listed at once."""
    lone_rig.env["FARM_SERVER"] = lone_rig.server("--result-max", "16M").address
    lone_rig.worker("big", "--", "cat")
    id = submit(lone_rig, "big", stdin=b"x" * 6_000_000)
    assert lone_rig.run("wait", id).status == 0
    assert lone_rig.run("result", id).out == b"x" * 6_000_000
    assert lone_rig.run("show", id).status == 0


def test_many_attempts_with_much_on_stderr(lone_rig: Rig) -> None:
    """The last line says why, whatever was cut; and together they are more than may be listed at once."""
    lone_rig.env["FARM_SERVER"] = lone_rig.server("--result-max", "20K").address
    lone_rig.worker("fails", "--cmd", "head -c 30000 /dev/zero >&2; echo fatal >&2; exit 9")
    id = submit(lone_rig, "fails", "--retries", "50", "--backoff", "1ms", "--backoff-max", "1ms")
    assert lone_rig.run("wait", id).status == 9
    done = lone_rig.run("logs", id, "--attempt", "1")
    assert (done.status, len(done.out), done.out[-7:]) == (0, 16 * 1024, b"\0fatal\n")
    assert len(json.loads(lone_rig.run("show", id, "--json").out)["job"]["attempts_list"]) == 51
    assert lone_rig.run("result", id).status == 9


def test_an_id_may_be_short(rig: Rig, function: str) -> None:
    id = submit(rig, function)
    life, number = id.rpartition(":")[::2]
    shown = rig.run("show", id, "--json").out
    for text in (number, "last", id.removeprefix("H:")):
        assert json.loads(rig.run("show", text, "--json").out) == json.loads(shown), text
    second = submit(rig, function)
    done = rig.run("show", life)
    assert (done.status, done.out) == (64, b"")
    assert f"{life!r} may mean several jobs: " in done.error
    assert rig.run("cancel", "-", stdin=f"{id}\n{second}\n".encode()).out.decode().split() == [
        id,
        "cancelled",
        second,
        "cancelled",
    ]


def test_waiting_ends_with_the_job(rig: Rig, function: str) -> None:
    rig.fifo("go")
    rig.worker(function, "--cmd", "read x < go; exit 7")
    id = submit(rig, function)
    waiting = rig.start("wait", id, "-v")
    wait_state(rig, id, "running")
    assert rig.run("wait", id, "--timeout", "100ms").status == 124
    assert not waiting.ended
    rig.release("go")
    done = waiting.wait()
    assert (done.status, done.out, done.err) == (7, b"", f"farm: waiting for the job\nfarm: {id} is dead: exit 7\n")


def test_followed_while_it_runs(rig: Rig, function: str) -> None:
    """From before it begins; what it writes comes at once."""
    rig.fifo("go")
    following = rig.start("logs", "-f", id := submit(rig, function))
    rig.worker(function, "--cmd", "echo out1; echo err1 >&2; read x < go; echo out2; echo err2 >&2; exit 4")
    wait_until(lambda: following.out() == b"out1\n" and following.err() == "err1\n", what="the first lines")
    assert b"err1" in rig.run("logs", id).out
    assert rig.run("result", id).status == 75
    rig.release("go")
    done = following.wait()
    assert (done.status, done.out, done.err) == (4, b"out1\nout2\n", "err1\nerr2\n")


def test_cancelled_while_it_runs(rig: Rig, function: str) -> None:
    rig.worker(function, "--cmd", "echo $$ > pid; sleep 1000")
    id = submit(rig, function)
    waiting = rig.start("wait", id, "--json")
    rig.wait_file("pid")
    done = rig.run("cancel", id, "--reason", "wrong input")
    assert (done.status, done.out.decode()) == (0, f"{id}\ttold\n")
    ended = waiting.wait()
    assert ended.status == 130
    told = json.loads(ended.out)
    assert (told["state"], told["reason"], told["exit"]) == ("cancelled", "wrong input", 130)
    done = rig.run("cancel", id)
    assert (done.status, done.out.decode(), done.error) == (75, f"{id}\tended\n", f"job {id} has ended already")
    assert rig.run("result", id).status == 130


def test_cancelled_before_it_runs(rig: Rig, function: str) -> None:
    id = submit(rig, function)
    assert rig.run("cancel", id).out.decode() == f"{id}\tcancelled\n"
    rig.worker(function, "--", "touch", "ran")
    assert rig.submit(function, stdin=b"").status == 0  # the worker has no older job
    assert state(rig, id) == "cancelled"


def test_failed_jobs_are_found_and_run_again(rig: Rig, function: str) -> None:
    rig.worker(function, "--cmd", "read word; test -e fixed || test $word = good || exit 9")
    ids = {word: submit(rig, function, stdin=f"{word}\n".encode()) for word in ("good", "bad", "worse")}
    assert rig.run("wait", *ids.values()).status == 9
    expression = f"function = {function} and exit != 0"
    listed = rig.run("jobs", "--where", expression).out.decode().splitlines()[1:]
    assert {line.split("\t")[0] for line in listed} == {ids["bad"], ids["worse"]}
    rig.write("fixed", "")
    done = rig.run("retry", "--where", expression, "--dry-run")
    assert len(done.out.splitlines()) == 3
    done = rig.run("retry", "--where", expression)
    assert done.status == 0
    assert {line.split("\t")[1] for line in done.out.decode().splitlines()} == {"queued"}
    assert rig.run("wait", *ids.values()).status == 0
    done = rig.run("retry", ids["good"])
    assert (done.status, done.out.decode()) == (75, f"{ids['good']}\tdone\n")


def test_forgotten_jobs_are_gone(rig: Rig, function: str) -> None:
    rig.worker(function, "--", "cat")
    id = submit(rig, function)
    assert rig.run("wait", id).status == 0
    assert rig.run("purge", id).out.decode() == f"{id}\tpurged\n"
    for command in ("show", "result", "logs", "wait", "explain"):
        done = rig.run(command, id)
        assert (done.status, done.out, done.error) == (66, b"", f"no job {id!r}")


def test_paused_and_resumed(rig: Rig, function: str) -> None:
    rig.worker(function, "--", "cat")
    assert rig.run("pause", function).out.decode().splitlines()[1].split("\t")[6] == "yes"
    id = submit(rig, function)
    assert f"the function {function} is paused" in rig.run("explain", id).out.decode()
    assert state(rig, id) == "queued"
    assert rig.run("resume", function).out.decode().splitlines()[1].split("\t")[6] == "no"
    assert rig.run("wait", id).status == 0


def test_a_functions_settings_hold_for_its_jobs(rig: Rig, function: str) -> None:
    settings = ["--retries", "2", "--backoff", "100ms", "--retry-on", "9"]
    assert rig.run("function", "set", function, *settings).status == 0
    rig.worker(function, "--cmd", "echo $(date) >&2; exit 9")
    id = submit(rig, function)
    assert rig.run("wait", id).status == 9
    shown = json.loads(rig.run("show", id, "--json").out)["job"]
    assert (shown["state"], shown["attempts"], len(shown["attempts_list"])) == ("dead", 3, 3)
    text = rig.run("show", id).out.decode()
    assert [text.count(f"attempt {number} failed: exit 9") for number in (1, 2, 3)] == [1, 1, 1]
    assert rig.run("logs", id, "--attempt", "1").out == shown["attempts_list"][0]["log"].encode() != b""
    assert rig.run("function", "set", function, "--unset", "retries,backoff,retry-on").status == 0
    assert json.loads(rig.run("function", "show", function, "--json").out)["functions"][0]["settings"] == {}
    assert rig.run("function", "set", function, "--retry-on", "sometimes").status == 64
    assert rig.run("function", "show", "unheard-of").status == 66


def test_jobs_of_two_servers(lone_rig: Rig) -> None:
    one, two = lone_rig.server().address, lone_rig.server().address
    lone_rig.env["FARM_SERVER"] = f"{one},{two}"
    lone_rig.start("work", "fail", "--cmd", "read code; exit $code")
    ids = [submit(lone_rig, "fail", "-s", server, stdin=code) for server, code in ((one, b"3\n"), (two, b"5\n"))]
    done = lone_rig.run("wait", *ids, "--json")
    assert done.status == 5
    assert {(told["server"], told["exit"]) for told in map(json.loads, done.out.splitlines())} == {(one, 3), (two, 5)}
    listed = [line.split("\t") for line in lone_rig.run("jobs").out.decode().splitlines()]
    assert {(row[0], row[-1]) for row in listed[1:]} == {(ids[0], one), (ids[1], two)}
    assert lone_rig.run("retry", "--state", "dead").status == 0
    assert lone_rig.run("logs", "-f", ids[1]).status == 5


@pytest.mark.parametrize("kill", [True, False])
def test_waiting_survives_a_restart_of_the_server(lone_rig: Rig, kill: bool) -> None:
    address = f"127.0.0.1:{free_port()}"
    options = ["--listen", address, "--store", str(lone_rig.home / "store"), "--stop-grace", "1s"]
    lone_rig.env["FARM_SERVER"] = address
    first = lone_rig.server(*options)
    id = submit(lone_rig, "later", stdin=b"3\n")
    waiting = lone_rig.start("wait", id, "-v")
    waiting.wait_for("waiting for the job")
    if kill:
        first.kill()
    else:
        first.terminate()
    waiting.wait_for("waiting for it to come back")
    lone_rig.server(*options)
    waiting.wait_for("is back")
    lone_rig.worker("later", "--cmd", "echo result; read code; exit $code")
    assert waiting.wait().status == 3
    done = lone_rig.run("result", id)
    assert (done.status, done.out) == (3, b"result\n")


@pytest.mark.parametrize("kill", [True, False])
def test_following_survives_a_restart_of_the_server(lone_rig: Rig, kill: bool) -> None:
    """The attempt that ran begins anew, and all that it writes comes: behind what the first one wrote."""
    address = f"127.0.0.1:{free_port()}"
    options = ["--listen", address, "--store", str(lone_rig.home / "store"), "--stop-grace", "100ms"]
    lone_rig.env["FARM_SERVER"] = address
    first = lone_rig.server(*options)
    lone_rig.fifo("gate")
    lone_rig.worker("long", "--cmd", "echo begun; read x < gate; echo $x; exit 3")
    following = lone_rig.start("logs", "-f", id := submit(lone_rig, "long"))
    wait_until(lambda: following.out() == b"begun\n", what="it follows")
    if kill:
        first.kill()
    else:
        first.terminate()
    following.wait_for("waiting for it to come back")
    lone_rig.server(*options)
    following.wait_for("is back")
    wait_until(
        lambda: following.out() == b"begun\nbegun\n", what=f"it goes on: {following.out()!r} {following.err()!r}"
    )
    lone_rig.release("gate")
    done = following.wait()
    assert (done.status, done.out) == (3, b"begun\nbegun\ngo\n")
    assert f"of job {id} begins" in done.err


def test_an_attempt_that_was_lost_with_the_server_is_shown(lone_rig: Rig) -> None:
    """After kill -9; the worker has another try when the server is back."""
    store = str(lone_rig.home / "store")
    server = lone_rig.server("--store", store)
    lone_rig.env["FARM_SERVER"] = server.address
    lone_rig.worker("f", "--name", "here", "--cmd", "[ -e go ] || exec sleep 600")
    id = submit(lone_rig, "f")
    running = json.loads(lone_rig.run("show", id, "--json").out)["job"]["attempts_list"]
    wait_until(lambda: Progressed(store).running(id), what="it is written down that the attempt has begun")
    server.kill()
    lone_rig.write("go", "")
    lone_rig.server("--store", store, "--listen", server.address)
    wait_state(lone_rig, id, "done")
    lost, done = json.loads(lone_rig.run("show", id, "--json").out)["job"]["attempts_list"]
    assert (lost["number"], lost["outcome"], lost["reason"]) == (1, "lost", "the server did not end cleanly")
    assert (lost["worker"], lost["started_at"], lost["ended_at"]) == ("here", running[0]["started_at"], None)
    assert (done["number"], done["outcome"]) == (2, "done")
    assert "attempt 1 lost: the server did not end cleanly, when is not known" in lone_rig.run("show", id).out.decode()


class Progressed:
    """What a store has on disk of how far jobs have come."""

    def __init__(self, store: str) -> None:
        self._path = Path(store) / "jobs.db"

    def running(self, id: str) -> bool:
        """Whether it is written down that the newest attempt of this job has begun."""
        with closing(sqlite3.connect(f"file:{self._path}?mode=ro", uri=True)) as database:
            query = "SELECT count(*) FROM progress WHERE id = ? AND running"
            return bool(database.execute(query, (id_of(id.encode()),)).fetchone()[0])
