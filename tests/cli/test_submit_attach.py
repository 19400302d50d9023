"""`farm submit --unique` that comes while the job of its key runs, and has written something already."""

from __future__ import annotations

import json

import pytest

import farm
from tests.cli.rig import Rig
from tests.support import PATIENCE_S, wait_until

# It writes to both, waits for the test, and writes on.
SCRIPT = b"echo one; echo oops >&2; read x < gate; echo two; echo again >&2; exit $(cat code)"


def begun(rig: Rig, function: str) -> str:
    """The handle of a background job with the key k of which the server has what it has written so far."""
    id = rig.submit("-b", "-u", "k", function, stdin=SCRIPT).out.decode().strip()

    def sizes() -> list[int]:
        job = json.loads(rig.run("show", id, "--json").out)["job"]
        return [job["result_bytes"], job["log_bytes"]]

    wait_until(lambda: sizes() == [4, 5], what="the server has it")
    return id


@pytest.mark.parametrize("code", [0, 3])
def test_it_gets_all_that_a_background_job_writes(rig: Rig, function: str, code: int) -> None:
    """To a pipe and to a file, and its exit code."""
    rig.worker(function, "--", "sh")
    rig.fifo("gate")
    rig.write("code", str(code))
    id = begun(rig, function)
    attached = [rig.start("submit", "-u", "k", function) for _ in range(2)]
    into_pipe = rig.background(["bash", "-c", f"farm submit -u k {function} < /dev/null | cat"])
    for each in (*attached, into_pipe):
        wait_until(lambda each=each: each.out() == b"one\n", what="what it has written before")
    rig.release("gate")
    for each in attached:
        done = each.wait()
        assert (done.status, done.out, done.err) == (code, b"one\ntwo\n", "oops\nagain\n")
    assert into_pipe.wait().out == b"one\ntwo\n"
    assert rig.run("result", id).out == b"one\ntwo\n"


def test_of_a_foreground_job_a_part_has_gone_by(rig: Rig, function: str) -> None:
    rig.worker(function, "--", "sh")
    rig.fifo("gate")
    rig.write("code", "0")
    rig.write("script", SCRIPT.decode())
    first = rig.start("submit", "-u", "k", function, "-f", "script")
    wait_until(lambda: first.out() == b"one\n", what="a part of its output")
    late = rig.submit("-u", "k", function)
    assert (late.status, late.out) == (75, b"")
    assert "with this unique key runs already, and part of its output has gone by\n" in late.err
    rig.release("gate")
    assert first.wait().out == b"one\ntwo\n"


def test_who_attaches_and_leaves_does_not_end_it(rig: Rig, function: str) -> None:
    rig.worker(function, "--", "sh")
    rig.fifo("gate")
    rig.write("code", "0")
    id = begun(rig, function)
    attached = rig.start("submit", "-u", "k", function)
    wait_until(lambda: attached.out() == b"one\n", what="what it has written before")
    words = f"farm: job {id} runs on: others wait for it, or it is a background job\n"
    assert attached.terminate().err.endswith(words)  # behind what the job wrote
    rig.release("gate")
    assert rig.run("wait", id).status == 0


def test_the_library_gets_all_of_it_too(rig: Rig, function: str) -> None:
    rig.worker(function, "--", "sh")
    rig.fifo("gate")
    rig.write("code", "0")
    begun(rig, function)
    with farm.Client(rig.env["FARM_SERVER"]) as client:
        job = client.submit(function, unique="k")
        rig.release("gate")
        assert job.result(PATIENCE_S) == b"one\ntwo\n"
