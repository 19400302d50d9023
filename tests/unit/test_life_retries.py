"""A failed attempt is tried again, or not; what is kept of each; lost workers are counted apart, over restarts too."""

from __future__ import annotations

import pytest

from farm.broker import restart
from farm.broker.broker import Rules
from farm.broker.effects import Attempt
from farm.broker.retry import TIMEOUT_PAUSE_S, Failure, delay_s, failure_of
from farm.broker.terms import Terms
from farm.protocol import packets as p
from farm.protocol.packets import request, response
from tests.unit.bench_life import KEEPING, Asker, Life, completes, fails


def test_without_terms_a_failure_is_not_tried_again_and_kept_as_dead(life: Life) -> None:
    client, worker = life.farm_client(), life.worker(b"f")
    handle = client.submit(b"f")
    worker.grab()
    worker.send(request(p.WORK_WARNING, handle, b"oh no\n"))
    fails(worker, handle, 3)
    job = client.job(handle)
    assert (job["state"], job["reason"], job["exit_code"], job["attempts"]) == ("dead", "exit 3", 3, 1)
    assert job["attempts_list"][0]["log"] == "oh no\n"


def test_it_is_tried_again_after_a_while_and_each_attempt_is_kept(life: Life) -> None:
    client, worker = life.farm_client(), life.worker(b"f")
    handle = client.submit(b"f", b"background=1 retries=2 backoff=10")
    worker.grab()
    fails(worker, handle, 75)
    job = client.job(handle)
    assert (job["state"], job["reason"], job["failures"]) == ("delayed", "exit 75, retry 1 of 2", 1)
    assert 7.5 <= job["due_at"] - life.wall <= 10
    worker.send(request(p.GRAB_JOB))
    assert worker.received() == [response(p.NO_JOB)]
    life.wait(10)
    worker.grab()
    fails(worker, handle, 75)
    life.wait(15)
    assert client.state(handle) in ("delayed", "queued")
    life.wait(5)
    worker.grab()
    completes(worker, handle, b"at last")
    job = client.job(handle)
    assert (job["state"], job["attempts"], job["failures"]) == ("done", 3, 2)
    assert [attempt["outcome"] for attempt in job["attempts_list"]] == ["failed", "failed", "done"]
    assert [attempt["number"] for attempt in job["attempts_list"]] == [1, 2, 3]


def test_when_its_retries_are_used_up_it_is_dead(life: Life) -> None:
    client, worker = life.farm_client(), life.worker(b"f")
    handle = client.submit(b"f", b"background=1 retries=1 backoff=1")
    for _ in range(2):
        life.wait(2)
        worker.grab()
        fails(worker, handle, 1)
    job = client.job(handle)
    assert (job["state"], job["attempts"], job["failures"]) == ("dead", 2, 2)
    assert [attempt["exit_code"] for attempt in job["attempts_list"]] == [1, 1]


@pytest.mark.parametrize(
    ("retry_on", "code", "farm", "again"),
    [
        (b"75", 75, False, True),
        (b"75", 74, False, False),
        (b"1-5,75", 5, False, True),
        (b"1-5,75", 6, False, False),
        (b"signal", 137, False, True),
        (b"signal", 1, False, False),
        (b"exit", 1, False, True),
        (b"exit", 137, False, False),
        (b"timeout", 124, True, True),
        (b"timeout", 124, False, False),
        (b"any", 0, False, True),
        (b"exit", 0, False, False),
    ],
)
def test_which_failures_are_worth_another_try(life: Life, retry_on: bytes, code: int, farm: bool, again: bool) -> None:
    client, worker = life.farm_client(), life.worker(b"f")
    handle = client.submit(b"f", b"background=1 retries=1 retry-on=" + retry_on)
    worker.grab()
    fails(worker, handle, code, farm)
    assert client.state(handle) == ("delayed" if again else "dead")


def test_an_exception_is_a_failure_too(life: Life) -> None:
    client, worker = life.farm_client(), life.worker(b"f")
    handle = client.submit(b"f", b"background=1 retries=1")
    worker.grab()
    worker.send(request(p.WORK_EXCEPTION, handle, b"ValueError"))
    assert client.state(handle) == "delayed"
    assert client.job(handle)["attempts_list"][0]["log"] == "ValueError"


def test_who_waits_for_its_output_is_told_that_it_starts_anew(life: Life) -> None:
    client, worker = life.farm_client(), life.worker(b"f")
    handle = client.submit(b"f", b"retries=1")
    worker.grab()
    worker.send(request(p.WORK_DATA, handle, b"half"))
    fails(worker, handle, 9)
    kinds = [int.from_bytes(raw[4:8], "big") for raw in client.wire.received()]
    assert kinds == [p.WORK_DATA, p.WORK_WARNING, p.FARM_JOB_RESTARTED]
    life.wait(1)
    worker.grab()
    completes(worker, handle, b"whole")
    assert client.wire.received() == [response(p.WORK_COMPLETE, handle, b"whole")]


def test_the_functions_settings_hold_for_who_says_nothing_and_the_jobs_own_terms_come_first(life: Life) -> None:
    client, worker = life.farm_client(), life.worker(b"f")
    client.ask("function", function="f", set={"retries": "1", "backoff": "5"})
    plain = client.wire.submit(b"f", number=p.SUBMIT_JOB_BG)
    worker.grab()
    fails(worker, plain, 1)
    assert client.state(plain) == "delayed"
    own = client.submit(b"f", b"background=1 retries=0")
    worker.grab()
    fails(worker, own, 1)
    assert client.state(own) == "dead"


def test_the_retries_that_are_told_are_those_that_apply(life: Life) -> None:
    """Its own, else its function's, else those of the worker that runs it or ran it last; null where only the worker
    can say that will take it."""
    client, worker = life.farm_client(), life.farm_worker(b"f")
    worker.send(request(p.FARM_TERMS, b"f", b"retries=3 backoff=1"))
    own, plain = client.submit(b"f", b"background=1 retries=7"), client.submit(b"f")
    assert [client.job(handle)["retries"] for handle in (own, plain)] == [7, None]
    worker.grab()
    worker.grab()
    assert [client.job(handle)["retries"] for handle in (own, plain)] == [7, 3]
    fails(worker, plain, 1)
    assert (client.job(plain)["retries"], client.job(plain)["reason"]) == (3, "exit 1, retry 1 of 3")
    restarted = life.again().farm_client().job(plain)
    assert (restarted["retries"], restarted["failures"], restarted["reason"]) == (None, 1, "retry 1")


def test_nobody_says_anything_about_retries(life: Life) -> None:
    client, worker = life.farm_client(), life.worker(b"f")
    handle = client.submit(b"f")
    worker.grab()
    assert client.job(handle)["retries"] == 0
    fails(worker, handle, 1)
    assert (client.job(handle)["state"], client.job(handle)["retries"]) == ("dead", None)


def test_run_again_it_has_all_its_retries_and_its_attempts_are_counted_on(life: Life) -> None:
    client, worker = life.farm_client(), life.worker(b"f")
    handle = client.submit(b"f", b"background=1 retries=1 backoff=1")

    def counted() -> list[int]:
        job, (listed,) = client.job(handle), client.ask("jobs")["jobs"]
        assert listed["attempts"] == client.ask("explain", id=handle.decode())["job"]["attempts"] == job["attempts"]
        return [job[name] for name in ("attempts", "failures", "retries")]

    for expected in ([1, 1, 1], [2, 2, 1]):
        worker.grab()
        fails(worker, handle, 1)
        assert counted() == expected
        life.wait(1)
    client.ask("retry", ids=[handle.decode()])
    client.ask("cancel", ids=[handle.decode()])
    assert counted() == [2, 0, 1]
    life = life.again()
    client, worker = life.farm_client(), life.worker(b"f")
    assert counted() == [2, 0, 1]
    client.ask("function", function="f", set={"queue-timeout": "3"})
    client.ask("retry", ids=[handle.decode()])
    life.wait(4)
    assert (client.state(handle), counted()) == ("expired", [2, 0, 1])
    client.ask("retry", ids=[handle.decode()])
    assert counted() == [2, 0, 1]
    for expected in ([3, 1, 1], [4, 2, 1]):
        worker.grab()
        fails(worker, handle, 1)
        assert counted() == expected
        life.wait(1)
    assert client.state(handle) == "dead"


def test_a_workers_terms_hold_where_nobody_else_says_anything(life: Life) -> None:
    client, worker = life.farm_client(), life.farm_worker(b"f")
    worker.send(request(p.FARM_TERMS, b"f", b"retries=3 backoff=1"))
    handle = client.submit(b"f")
    worker.grab()
    fails(worker, handle, 1)
    assert client.job(handle)["reason"] == "exit 1, retry 1 of 3"


def test_what_the_command_used_is_kept(life: Life) -> None:
    client, worker = life.farm_client(), life.farm_worker(b"f")
    handle = client.submit(b"f")
    worker.grab()
    worker.send(request(p.FARM_USAGE, handle, b"1.25", b"4096"))
    completes(worker, handle)
    job = client.job(handle)
    assert (job["cpu_s"], job["peak_bytes"]) == (1.25, 4096)


# -- lost workers


def test_a_job_that_takes_its_workers_along_is_poison_and_dead_in_the_end(life: Life) -> None:
    client = life.farm_client()
    handle = client.submit(b"f", b"background=1 retries=9")
    for lost in range(6):
        assert client.state(handle) == "queued", lost
        worker = life.worker(b"f")
        worker.grab()
        worker.leave()
    job = client.job(handle)
    assert (job["state"], job["reason"], job["losses"], job["failures"]) == ("dead", "poison", 6, 0)
    assert [attempt["outcome"] for attempt in job["attempts_list"]] == ["lost"] * 6


def test_losses_are_counted_over_a_restart_and_what_ran_then_is_one_of_them(life: Life) -> None:
    client, worker = life.farm_client(), life.worker(b"f")
    handle = client.submit(b"f")
    worker.grab()
    worker.leave()
    life.worker(b"f").grab()
    life.wait(1.5)  # long enough to be counted
    after = life.again()
    job = after.farm_client().job(handle)
    assert (job["state"], job["losses"], job["attempts"]) == ("queued", 2, 2)


def test_a_job_that_takes_the_server_along_is_poison_too(life: Life) -> None:
    client = life.farm_client()
    handle = client.submit(b"f")
    for _ in range(6):
        life.worker(b"f").grab()
        life.wait(1.5)
        life = life.again()
    assert life.farm_client().job(handle)["reason"] == "poison"


def test_what_a_server_hands_back_when_it_is_stopped_is_no_loss(life: Life) -> None:
    handle = life.farm_client().submit(b"f")
    life.worker(b"f").grab()
    life.wait(1.5)
    restart.hand_back(life.broker)
    life.turn()
    job = life.again().farm_client().job(handle)
    assert (job["state"], job["losses"], job["attempts"]) == ("queued", 0, 1)


def test_back_off_goes_on_after_a_restart(life: Life) -> None:
    client, worker = life.farm_client(), life.worker(b"f")
    handle = client.submit(b"f", b"background=1 retries=2 backoff=100")
    worker.grab()
    fails(worker, handle, 1)
    due = client.job(handle)["due_at"]
    after = life.again()
    job = after.farm_client().job(handle)
    assert (job["state"], job["due_at"], job["failures"], job["retries"]) == ("delayed", due, 1, 2)


# -- the pure part


@pytest.mark.parametrize("failures", range(1, 80))
def test_the_delay_doubles_up_to_its_limit_less_a_quarter_at_most(failures: int) -> None:
    terms = Terms(retries=1000, backoff_s=2.0, backoff_max_s=600.0)
    whole = min(2.0 * 2 ** (failures - 1), 600.0)
    delay = delay_s(terms, Failure("exit", 1), failures, 7)
    assert delay is not None
    assert 0.75 * whole <= delay <= whole


def test_two_jobs_do_not_come_back_at_the_same_time() -> None:
    terms = Terms(retries=1, backoff_s=100.0)
    assert len({delay_s(terms, Failure("exit", 1), 1, id) for id in range(50)}) > 40


def test_after_a_timeout_the_command_has_time_to_end() -> None:
    assert delay_s(Terms(retries=1, backoff_s=0.0), failure_of(124, True), 1, 7) == TIMEOUT_PAUSE_S
    assert delay_s(Terms(retries=1, backoff_s=0.0), failure_of(124, False), 1, 7) == 0.0


def test_no_limit_of_lost_workers() -> None:
    life = Life(KEEPING._replace(losses_max=0))
    client = life.farm_client()
    handle = client.submit(b"f")
    for _ in range(20):
        worker = life.worker(b"f")
        worker.grab()
        worker.leave()
    assert client.state(handle) == "queued"


@pytest.mark.parametrize("lives", [1, 2])
def test_an_attempt_that_was_lost_with_the_server_has_a_row(life: Life, client: Asker, lives: int) -> None:
    """Once, however often the server is killed before another attempt is written down. When it ended nobody knows."""
    worker = life.worker(b"f")
    worker.send(request(p.SET_CLIENT_ID, b"far"))
    handle = client.submit(b"f")
    worker.grab()
    started = life.wall
    life.wait(5)
    for _ in range(lives):
        life = life.again()
    (attempt,) = life.farm_client().job(handle)["attempts_list"]
    assert attempt == {
        "number": 1,
        "started_at": started,
        "ended_at": None,
        "run_s": None,
        "outcome": "lost",
        "reason": "the server did not end cleanly",
        "worker": "far",
        "exit_code": None,
        "cpu_s": None,
        "peak_bytes": None,
        "log": "",
    }
    worker = life.worker(b"f")
    completes(worker, worker.grab())
    rows = life.farm_client().job(handle)["attempts_list"]
    assert [(row["number"], row["outcome"]) for row in rows] == [(1, "lost"), (2, "done")]


def test_where_nothing_is_kept_of_attempts_none_is_written_at_a_start() -> None:
    life = Life(Rules())
    worker = life.worker(b"f")
    life.farm_client().submit(b"f")
    worker.grab()
    life.wait(5)
    assert not [change for change in life.again(Rules()).changes if isinstance(change, Attempt)]


def test_a_clean_stop_leaves_no_lost_attempt(life: Life, client: Asker) -> None:
    worker = life.worker(b"f")
    handle = client.submit(b"f")
    worker.grab()
    life.wait(5)
    restart.hand_back(life.broker)
    life.turn()
    job = life.again().farm_client().job(handle)
    assert (job["attempts"], job["losses"], job["attempts_list"]) == (1, 0, [])
