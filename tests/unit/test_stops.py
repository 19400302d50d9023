"""What is ordered after a job that the server ended begins when its command is gone."""

from __future__ import annotations

from typing import Any

import pytest

from farm.broker.broker import Rules
from farm.broker.effects import Usage
from farm.broker.stops import STOP_MAX_S
from farm.broker.terms import AFTER_MAX
from farm.protocol import packets as p
from farm.protocol.packets import request, response
from farm.worker.child import KILL_GRACE_S, LINGER_TERMINATED_S
from tests.unit.bench import Wire
from tests.unit.bench_life import Asker, Life, completes, fails


def stopping(life: Life, client: Asker, terms: bytes = b"background=1", unique: bytes = b"") -> tuple[Wire, bytes]:
    """A worker that was told to end a job of f, and that job, which was cancelled."""
    worker = life.farm_worker(b"f")
    worker.send(request(p.SET_CLIENT_ID, b"slow"))
    handle = client.submit(b"f", terms, unique)
    assert worker.grab() == handle
    client.ask("cancel", ids=[handle.decode()])
    assert worker.received() == [response(p.FARM_JOB_CANCEL, handle)]
    return worker, handle


def codes(client: Asker, handle: bytes) -> list[str]:
    """Of the reasons that `explain` gives."""
    return [reason["code"] for reason in client.ask("explain", id=handle.decode())["reasons"]]


def test_it_is_waited_for_longer_than_a_worker_of_farms_needs() -> None:
    assert STOP_MAX_S > 2 * (KILL_GRACE_S + LINGER_TERMINATED_S)


# -- dependents


@pytest.mark.parametrize("condition", [b"any", b"fail"])
@pytest.mark.parametrize("first", [True, False])
def test_a_dependent_waits_for_the_command(life: Life, client: Asker, condition: bytes, first: bool) -> None:
    """Whether it was submitted before the job was cancelled or afterwards."""
    after = b"background=1 after=%b:last" % condition
    if first:
        worker = life.farm_worker(b"f")
        handle = client.submit(b"f")
        dependent = client.submit(b"next", after)
        worker.grab()
        client.ask("cancel", ids=[handle.decode()])
    else:
        worker, handle = stopping(life, client)
        dependent = client.submit(b"next", after)
    assert (client.state(handle), client.state(dependent)) == ("cancelled", "waiting")
    life.wait(STOP_MAX_S - 1)
    assert client.state(dependent) == "waiting"
    fails(worker, handle, 143)
    assert client.state(dependent) == "queued"


def test_a_dependent_that_will_never_run_is_told_at_once(life: Life, client: Asker) -> None:
    worker = life.farm_worker(b"f")
    handle = client.submit(b"f")
    before = client.submit(b"next", b"background=1 after=ok:" + handle)
    worker.grab()
    client.ask("cancel", ids=[handle.decode()])
    after = client.submit(b"next", b"background=1 after=ok:" + handle)
    assert (client.state(before), client.state(after)) == ("cancelled", "cancelled")


def test_who_waits_for_the_end_hears_of_it_at_once(life: Life, client: Asker) -> None:
    worker = life.farm_worker(b"f")
    handle = client.submit(b"f")
    worker.grab()
    client.ask("wait", ids=[handle.decode()])
    client.ask("cancel", ids=[handle.decode()])
    assert client.ask("job", id=handle.decode())["job"]["state"] == "cancelled"
    assert handle not in client.wire.peer.waits


def test_a_timed_out_run_holds_up_what_comes_after_it(life: Life, client: Asker) -> None:
    worker = life.farm_worker(b"f")
    handle = client.submit(b"f", b"background=1 timeout=5")
    dependent = client.submit(b"next", b"background=1 after=fail:" + handle)
    worker.grab()
    life.wait(5.1)
    assert (client.state(handle), client.state(dependent)) == ("dead", "waiting")
    fails(worker, handle, 143)
    assert client.state(dependent) == "queued"


# -- how a stop ends


def test_a_worker_that_has_gone_holds_up_nobody(life: Life, client: Asker) -> None:
    worker, handle = stopping(life, client)
    dependent = client.submit(b"next", b"background=1 after=any:" + handle)
    worker.leave()
    assert client.state(dependent) == "queued"
    assert life.broker.next_deadline() is None


def test_a_command_that_cannot_be_stopped_holds_up_others_for_a_while(life: Life, client: Asker) -> None:
    worker, handle = stopping(life, client, unique=b"k")
    dependent = client.submit(b"f", b"background=1 after=any:" + handle, b"k")
    life.wait(STOP_MAX_S - 0.1)
    assert client.state(dependent) == "waiting"
    life.wait(0.2)
    assert client.state(dependent) == "queued"
    fails(worker, handle)
    assert client.state(dependent) == "queued"
    assert worker.grab() == dependent


def test_only_the_worker_that_was_told_can_end_it(life: Life, client: Asker) -> None:
    _, handle = stopping(life, client)
    dependent = client.submit(b"next", b"background=1 after=any:" + handle)
    fails(life.farm_worker(b"f"), handle)
    assert client.state(dependent) == "waiting"


def test_a_stock_worker_is_not_told_and_nobody_waits_for_it(life: Life, client: Asker) -> None:
    worker = life.worker(b"f")
    handle = client.submit(b"f", unique=b"k")
    worker.grab()
    client.ask("cancel", ids=[handle.decode()])
    assert client.state(client.submit(b"f", unique=b"k")) == "queued"
    assert life.broker.stops.by_id == {}


# -- keys


@pytest.mark.parametrize("policy", [b"attach", b"skip", b"fail", b"replace"])
def test_a_job_of_the_same_key_waits_for_the_command(life: Life, client: Asker, policy: bytes) -> None:
    worker, handle = stopping(life, client, unique=b"k")
    second = client.submit(b"f", b"background=1 if-exists=" + policy, b"k")
    assert second != handle
    assert client.state(second) == "waiting"
    assert client.state(client.submit(b"f", unique=b"other")) == "queued"
    assert client.state(client.submit(b"g", unique=b"k")) == "queued"
    fails(worker, handle, 143)
    assert client.state(second) == "queued"


def test_a_replacing_job_waits_for_the_one_that_it_replaces(life: Life, client: Asker) -> None:
    worker = life.farm_worker(b"f")
    first = client.submit(b"f", unique=b"k")
    worker.grab()
    second = client.submit(b"f", b"background=1 if-exists=replace", b"k")
    third = client.submit(b"f", b"background=1 if-exists=replace", b"k")
    assert [client.state(handle) for handle in (first, second, third)] == ["cancelled", "cancelled", "waiting"]
    fails(worker, first, 143)
    assert client.state(third) == "queued"


def test_a_job_of_the_same_payload_waits_for_the_command(life: Life, client: Asker) -> None:
    worker = life.farm_worker(b"f")
    stock = life.client()
    first = stock.submit(b"f", b"payload", b"-")
    worker.grab()
    stock.leave()
    assert client.state(client.submit(b"f", unique=b"-", payload=b"another")) == "queued"
    second = client.submit(b"f", unique=b"-", payload=b"payload")
    assert client.state(second) == "waiting"
    fails(worker, first, 143)
    assert client.state(second) == "queued"


def test_a_job_that_is_run_again_waits_for_the_one_that_has_its_key(life: Life, client: Asker) -> None:
    failing = life.farm_worker(b"f")
    first = client.submit(b"f", unique=b"k")
    fails(failing, failing.grab(), 1)
    worker, second = stopping(life, client, unique=b"k")
    assert client.ask("retry", ids=[first.decode()])["results"][0]["outcome"] == "queued"
    assert client.state(first) == "waiting"
    fails(worker, second, 143)
    assert client.state(first) == "queued"


def test_a_job_whose_command_is_being_stopped_is_not_run_again_yet(life: Life, client: Asker) -> None:
    worker = life.farm_worker(b"f")
    handle = client.submit(b"f", b"background=1 timeout=5")
    worker.grab()
    life.wait(5.1)
    assert client.ask("retry", ids=[handle.decode()])["results"][0]["outcome"] == "live"
    fails(worker, handle, 143)
    assert client.ask("retry", ids=[handle.decode()])["results"][0]["outcome"] == "queued"


# -- the next attempt


def test_a_retry_waits_for_the_attempt_before(life: Life, client: Asker) -> None:
    worker = life.farm_worker(b"f")
    handle = client.submit(b"f", b"background=1 timeout=5 retries=1")
    worker.grab()
    life.wait(5.1)
    life.wait(8)
    assert (client.state(handle), codes(client, handle)) == ("delayed", ["stopping"])
    fails(worker, handle, 143)
    life.wait(0)
    assert client.state(handle) == "queued"


def test_a_retry_does_not_come_before_its_pause(life: Life, client: Asker) -> None:
    worker = life.farm_worker(b"f")
    handle = client.submit(b"f", b"background=1 timeout=5 retries=1")
    worker.grab()
    life.wait(5.1)
    assert codes(client, handle) == ["stopping", "back-off"]
    fails(worker, handle, 143)
    life.wait(4)
    assert (client.state(handle), codes(client, handle)) == ("delayed", ["back-off"])
    life.wait(2)
    assert client.state(handle) == "queued"


def test_a_job_that_a_workers_limit_takes_away_waits_too(life: Life, client: Asker) -> None:
    worker = life.farm_worker()
    worker.send(request(p.CAN_DO_TIMEOUT, b"f", b"2000"))
    handle = client.submit(b"f", b"background=1 queue-timeout=3")
    worker.grab()
    life.wait(10)
    job = client.job(handle)
    assert (job["state"], job["losses"]) == ("delayed", 1)
    assert job["reason"] == "until its command has been stopped"
    assert job["attempts_list"][0]["outcome"] == "lost"
    fails(worker, handle, 143)
    life.wait(2)
    assert client.state(handle) == "queued", "its wait for a worker begins only now"
    life.wait(2)
    assert client.state(handle) == "expired"


def test_a_held_back_job_can_be_cancelled(life: Life, client: Asker) -> None:
    worker = life.farm_worker(b"f")
    handle = client.submit(b"f", b"background=1 timeout=5 retries=1", b"k")
    dependent = client.submit(b"next", b"background=1 after=any:" + handle)
    worker.grab()
    life.wait(8)
    client.ask("cancel", ids=[handle.decode()])
    same = client.submit(b"f", b"background=1", b"k")
    assert [client.state(each) for each in (handle, dependent, same)] == ["cancelled", "waiting", "waiting"]
    fails(worker, handle, 143)
    assert [client.state(each) for each in (dependent, same)] == ["queued", "queued"]


def test_the_wall_clock_does_not_matter(life: Life, client: Asker) -> None:
    worker = life.farm_worker(b"f")
    handle = client.submit(b"f", b"background=1 timeout=5 retries=1")
    worker.grab()
    life.wait(5.1)
    life.broker.wall_offset += 3600
    life.wait(1)
    assert client.state(handle) == "delayed"
    life.broker.wall_offset -= 7200
    life.wait(STOP_MAX_S)
    life.broker.wall_offset += 3600
    life.wait(1)
    assert client.state(handle) == "queued"


# -- restarts


def test_after_a_restart_nobody_waits_for_a_command(life: Life, client: Asker) -> None:
    """Its worker's connection is gone, and what it does is not known."""
    _, handle = stopping(life, client, unique=b"k")
    followers = [client.submit(b"next", b"background=1 after=any:" + handle), client.submit(b"f", unique=b"k")]
    life = life.again()
    assert [life.farm_client().state(follower) for follower in followers] == ["queued", "queued"]


def test_a_job_that_waits_for_as_many_as_it_may_and_for_its_key_survives_a_restart(life: Life, client: Asker) -> None:
    stopping(life, client, unique=b"k")
    others = [client.submit(b"other") for _ in range(AFTER_MAX)]
    client.submit(b"f", b"background=1 after=" + b",".join(b"any:" + other for other in others), b"k")
    life = life.again()
    assert len([job for job in life.broker.jobs.values() if job.state == "waiting"]) == 1


def test_a_condition_that_was_met_before_is_not_looked_at_again(life: Life, client: Asker) -> None:
    """A job that waited for one job, which is done and forgotten, and waits for its key now: as many as at first."""
    done = life.farm_worker(b"g")
    first = client.submit(b"g")
    completes(done, done.grab())
    stopping(life, client, unique=b"k")
    second = client.submit(b"f", b"background=1 after=ok:" + first, b"k")
    client.ask("purge", ids=[first.decode()])
    assert life.again().farm_client().state(second) == "queued"


# -- what people are shown


def test_show_and_explain_name_the_worker(life: Life, client: Asker) -> None:
    worker, handle = stopping(life, client, unique=b"k")
    follower = client.submit(b"f", unique=b"k")
    assert (client.job(handle)["stopping"], client.job(follower)["stopping"]) == ("slow", None)
    assert codes(client, handle) == ["ended", "stopping", "held"]
    reasons: list[Any] = client.ask("explain", id=follower.decode())["reasons"]
    assert reasons[0]["text"] == f"it waits for {handle.decode()}: its command is still being stopped on worker slow"
    fails(worker, handle, 143)
    assert client.job(handle)["stopping"] is None
    assert codes(client, handle) == ["ended", "exists"]


def test_of_an_abandoned_job_it_is_said_too(life: Life, client: Asker) -> None:
    worker = life.farm_worker(b"f")
    stock = life.client()
    handle = stock.submit(b"f")
    worker.grab()
    stock.leave()
    assert (client.state(handle), codes(client, handle)) == ("abandoned", ["abandoned", "stopping"])


# -- what the command used


def used(worker: Wire, handle: bytes) -> None:
    """It says so before it reports the end."""
    worker.send(request(p.FARM_USAGE, handle, b"1.5", b"4096"))
    fails(worker, handle, 143)


def test_what_a_cancelled_command_used_is_kept(life: Life, client: Asker) -> None:
    worker, handle = stopping(life, client)
    assert client.job(handle)["cpu_s"] is None
    used(worker, handle)
    job = client.job(handle)
    assert (job["state"], job["cpu_s"], job["peak_bytes"]) == ("cancelled", 1.5, 4096)
    assert [(a["cpu_s"], a["peak_bytes"]) for a in job["attempts_list"]] == [(1.5, 4096)]


@pytest.mark.parametrize("retries", [0, 1])
def test_what_a_timed_out_command_used_is_kept(life: Life, client: Asker, retries: int) -> None:
    worker = life.farm_worker(b"f")
    handle = client.submit(b"f", b"background=1 timeout=5 retries=%d" % retries)
    worker.grab()
    life.wait(5.1)
    used(worker, handle)
    (attempt,) = client.job(handle)["attempts_list"]
    assert (attempt["outcome"], attempt["cpu_s"], attempt["peak_bytes"]) == ("timeout", 1.5, 4096)


def test_it_is_not_taken_for_that_of_another_attempt(life: Life, client: Asker) -> None:
    """That runs at somebody else's since the worker has had its time to end the first."""
    first, second = life.farm_worker(b"f"), life.farm_worker(b"f")
    handle = client.submit(b"f", b"background=1 timeout=20 retries=1")
    first.grab()
    life.wait(20 + STOP_MAX_S + 1)
    assert second.grab() == handle
    used(first, handle)
    assert [attempt["cpu_s"] for attempt in client.job(handle)["attempts_list"]] == [None, None]


def test_of_what_is_not_kept_nothing_is_written() -> None:
    life = Life(Rules())
    worker, handle = stopping(life, life.farm_client())
    used(worker, handle)
    foreground = life.farm_client()
    handle = foreground.submit(b"f", b"priority=low")
    worker.grab()
    foreground.wire.leave()
    used(worker, handle)
    assert not [change for change in life.changes if isinstance(change, Usage)]
