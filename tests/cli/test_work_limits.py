"""`farm work` with a limit on each run's time, and with what it says about retries."""

from __future__ import annotations

import pytest

from farm.protocol import packets as p
from tests.cli.fakes import Caller, fake_server, res
from tests.cli.rig import Rig, alive
from tests.support import req, wait_until

UNKNOWN_OPTION = res(p.ERROR, b"UNKNOWN_OPTION", b"Server does not recognize given option")
TERMS = ["--retries", "5", "--retry-on", "75,1-5,timeout", "--backoff", "1m30s", "--backoff-max", "1h"]


def test_a_run_that_takes_too_long_is_ended(rig: Rig, function: str) -> None:
    """With all that it has started; the worker goes on with the next job."""
    script = 'read x; [ "$x" = quick ] && exit; sleep 300 & echo $! > pid; echo begun; wait'
    rig.worker(function, "--timeout", "500ms", "--cmd", script)
    done = rig.shell(f"echo slow | FARM_EXIT_ORIGIN_FD=7 farm submit {function} 7>&1")
    assert (done.status, done.out) == (124, b"begun\nfarm\n")
    assert done.err == "farm: the command took longer than 0.5s (--timeout)\n"
    wait_until(lambda: not alive(int(rig.wait_file("pid"))), what="the group has ended")
    assert rig.submit(function, stdin=b"quick\n").status == 0


def test_who_ignores_sigterm_is_killed_and_has_timed_out_too(rig: Rig, function: str) -> None:
    rig.worker(function, "--timeout", "200ms", "--cmd", "trap '' TERM; echo $$ > pid; while :; do sleep 300; done")
    assert rig.submit("-n", function).status == 124
    assert not alive(int(rig.wait_file("pid")))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--timeout", "0"], "--timeout is not a time above 0: '0'"),
        (["--timeout", "soon"], "--timeout is not a time: 'soon'"),
        (["--retries", "-1"], "--retries is not a whole number: '-1'"),
        (["--retry-on", "0"], "--retry-on cannot be '0'"),
        (["--retry-on", "75,never"], "--retry-on cannot be 'never'"),
        (["--backoff", "x"], "--backoff is not a time: 'x'"),
    ],
)
def test_what_is_no_limit(lone_rig: Rig, options: list[str], words: str) -> None:
    done = lone_rig.run("work", "f", *options, "--", "cat")
    assert (done.status, done.error) == (64, words)


def test_terms_go_before_the_first_grab(lone_rig: Rig) -> None:
    """And not before the server has said that it knows them."""

    def talk(caller: Caller) -> None:
        caller.until(req(p.CAN_DO, b"f"))
        caller.say(res(p.OPTION_RES, b"farm-1"))
        caller.until(req(p.GRAB_JOB_ALL))
        assert terms in caller.got.partition(req(p.GRAB_JOB_ALL))[0]

    terms = req(p.FARM_TERMS, b"f", b"retries=5 retry-on=75,1-5,timeout backoff=90 backoff-max=3600")
    with fake_server(talk) as (address, callers):
        worker = lone_rig.start("work", "f", "-s", address, *TERMS, "--", "cat")
        worker.wait_for("trying again")
        worker.kill()
    assert "does not retry" not in worker.err()
    assert callers


def test_a_worker_without_terms_says_nothing_of_them(lone_rig: Rig) -> None:
    def talk(caller: Caller) -> None:
        caller.until(req(p.CAN_DO, b"f"))
        caller.say(res(p.OPTION_RES, b"farm-1"))
        caller.until(req(p.GRAB_JOB_ALL))

    with fake_server(talk) as (address, callers):
        worker = lone_rig.start("work", "f", "-s", address, "--", "cat")
        worker.wait_for("trying again")
        worker.kill()
    assert req(p.FARM_TERMS, b"f", b"")[:8] not in callers[0].got


def test_behind_a_stock_server_it_says_once_that_nothing_is_retried(lone_rig: Rig) -> None:
    """Also when it comes back, and with several slots; the work goes on."""
    came = 0

    def talk(caller: Caller) -> None:
        nonlocal came
        if came == 4:  # it is killed while it says something
            caller.until_closed()
            return
        caller.until(req(p.CAN_DO, b"f"))
        caller.say(UNKNOWN_OPTION)
        caller.until(req(p.GRAB_JOB_ALL))
        caller.say(res(p.NO_JOB))
        caller.until(req(p.PRE_SLEEP))
        came += 1

    with fake_server(talk) as (address, callers):
        worker = lone_rig.start("work", "f", "-s", address, "-j", "2", *TERMS, "--", "cat")
        wait_until(lambda: came == 4, what="it has come back")
        worker.kill()
    words = f"farm: the server at {address} is a stock Gearman server: it does not retry failed jobs\n"
    assert worker.err().count(words) == 1
    assert not [caller for caller in callers if req(p.FARM_TERMS)[4:8] in caller.got]


def test_a_job_that_says_nothing_is_retried_as_its_worker_says(rig: Rig, function: str) -> None:
    script = "echo >> attempts; n=$(wc -l < attempts); echo $n; [ $n -gt 2 ]"
    rig.worker(function, "--retries", "2", "--backoff", "50ms", "--cmd", script)
    done = rig.shell(f"farm submit -n {function} > out")
    assert (done.status, (rig.home / "out").read_text()) == (0, "3\n")
    done = rig.submit("-n", function, "-q")
    assert (done.status, done.out) == (0, b"4\n")


def test_only_those_failures_that_were_named(rig: Rig, function: str) -> None:
    rig.worker(function, "--retries", "5", "--retry-on", "75", "--backoff", "50ms", "--cmd", "echo >> attempts; exit 3")
    assert rig.submit("-n", function).status == 3
    rig.wait_file("attempts", "\n")
