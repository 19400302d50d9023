"""Time limits, expiry, dependencies, and keys that count longer than their job lives."""

from __future__ import annotations

import json

import pytest

from farm.protocol import packets as p
from farm.protocol.packets import request, response
from tests.unit.bench_life import KEEPING, Asker, Life, completes, fails, packet

# -- a run


def test_a_run_that_takes_too_long_is_ended_and_is_a_failure(life: Life, client: Asker) -> None:
    worker = life.farm_worker(b"f")
    handle = client.submit(b"f", b"background=1 timeout=5")
    worker.grab()
    life.wait(4.9)
    assert client.state(handle) == "running"
    life.wait(0.2)
    assert worker.received() == [response(p.FARM_JOB_CANCEL, handle)]
    job = client.job(handle)
    assert (job["state"], job["reason"]) == ("dead", "timeout")
    assert job["attempts_list"][0]["outcome"] == "timeout"
    fails(worker, handle, 143)  # too late, and nobody minds
    assert worker.received() == []


def test_a_timeout_is_tried_again_when_the_command_has_had_time_to_end(life: Life, client: Asker) -> None:
    worker = life.farm_worker(b"f")
    handle = client.submit(b"f", b"background=1 timeout=5 retries=1 retry-on=timeout")
    worker.grab()
    life.wait(5.1)
    job = client.job(handle)
    assert (job["state"], job["reason"]) == ("delayed", "timeout, retry 1 of 1")
    assert job["due_at"] - life.wall > 5


def test_who_waits_for_a_run_hears_why_it_ends_and_a_stock_client_that_it_failed(life: Life, client: Asker) -> None:
    worker = life.worker(b"f")
    handle = client.submit(b"f", b"timeout=5", unique=b"k")
    stock = life.client()
    assert stock.submit(b"f", unique=b"k") == handle
    worker.grab()
    life.wait(6)
    said = client.wire.received()
    assert [packet(raw) for raw in said] == [
        (p.WORK_WARNING, handle + b"\0farm: the job took longer than 5s\n"),
        (p.WORK_WARNING, handle + b"\0farm: exit 124 farm\n"),
        (p.WORK_FAIL, handle),
    ]
    assert stock.received() == [response(p.WORK_FAIL, handle)]


def test_a_workers_own_limit_still_gives_the_job_to_another(life: Life, client: Asker) -> None:
    worker = life.connect(request(p.CAN_DO_TIMEOUT, b"f", b"2000"))
    handle = client.submit(b"f", b"background=1 timeout=5")
    worker.grab()
    life.wait(2.1)
    job = client.job(handle)
    assert (job["state"], job["losses"], job["failures"]) == ("queued", 1, 0)


# -- waiting


@pytest.mark.parametrize("terms", [b"background=1 expires=10", b"background=1 queue-timeout=10", b"expires=10"])
def test_what_has_waited_too_long_expires(life: Life, client: Asker, terms: bytes) -> None:
    handle = client.submit(b"f", terms)
    life.wait(9.9)
    assert client.state(handle) == "queued"
    life.wait(0.2)
    if b"background" in terms:
        assert client.state(handle) == "expired"
    else:
        assert packet(client.wire.received()[-1]) == (p.WORK_FAIL, handle)
    assert life.broker.jobs == {}


def test_what_runs_in_time_does_not_expire(life: Life, client: Asker) -> None:
    handle = client.submit(b"f", b"background=1 expires=10")
    worker = life.worker(b"f")
    life.wait(9)
    worker.grab()
    life.wait(9)
    completes(worker, handle)
    assert client.state(handle) == "done"


def test_a_job_that_was_tried_does_not_expire_but_its_wait_for_a_worker_is_limited_each_time(
    life: Life, client: Asker
) -> None:
    worker = life.worker(b"f")
    handle = client.submit(b"f", b"background=1 expires=10 queue-timeout=30 retries=1 backoff=20")
    worker.grab()
    fails(worker, handle, 1)
    life.wait(25)
    assert client.state(handle) == "queued"
    life.wait(30)
    assert client.state(handle) == "expired"


def test_a_delayed_job_expires_too(life: Life, client: Asker) -> None:
    handle = client.submit(b"f", b"background=1 in=100 expires=10")
    assert client.state(handle) == "delayed"
    life.wait(11)
    assert client.state(handle) == "expired"


def test_expiry_goes_by_the_wall_clock_and_survives_a_restart(life: Life, client: Asker) -> None:
    handle = client.submit(b"f", b"background=1 expires=100")
    after = life.again()
    after.broker.wall_offset += 200
    after.wait(0)
    after.broker.tick(after.now)
    after.turn()
    assert after.farm_client().state(handle) == "expired"


# -- dependencies


@pytest.mark.parametrize(
    ("condition", "ends_well", "state"),
    [
        (b"ok", True, "queued"),
        (b"ok", False, "cancelled"),
        (b"any", True, "queued"),
        (b"any", False, "queued"),
        (b"fail", True, "cancelled"),
        (b"fail", False, "queued"),
    ],
)
@pytest.mark.parametrize("early", [True, False])
def test_a_job_waits_for_another_to_end(
    life: Life, client: Asker, condition: bytes, ends_well: bool, state: str, early: bool
) -> None:
    worker = life.worker(b"first")
    first = client.submit(b"first")
    terms = b"background=1 after=" + condition + b":" + first
    second = b"" if not early else client.submit(b"second", terms)
    if early:
        assert client.state(second) == "waiting"
        assert client.job(second)["reason"] == f"for {condition.decode()}:{first.decode()}"
    worker.grab()
    (completes if ends_well else fails)(worker, first)
    second = second or client.submit(b"second", terms)
    assert client.state(second) == state
    if state == "cancelled":
        assert first.decode() in client.job(second)["reason"]


def test_it_waits_for_all_of_them(life: Life, client: Asker) -> None:
    worker = life.worker(b"first")
    one, two = client.submit(b"first"), client.submit(b"first")
    both = client.submit(b"second", b"background=1 after=ok:%s,any:%s" % (one, two))
    completes(worker, worker.grab())
    assert client.job(both)["reason"] == f"for any:{two.decode()}"
    after = life.again()  # what it still waits for is kept
    client = after.farm_client()
    assert client.job(both)["reason"] == f"for any:{two.decode()}"
    worker = after.worker(b"first")
    fails(worker, worker.grab())
    assert client.state(both) == "queued"


def test_a_long_chain_falls_at_once(life: Life, client: Asker) -> None:
    handles = [client.submit(b"first")]
    for _ in range(1500):  # more than Python's calls may be deep
        handles.append(client.submit(b"next", b"background=1 after=ok:" + handles[-1]))
    worker = life.worker(b"first")
    worker.grab()
    fails(worker, handles[0])
    assert client.state(handles[-1]) == "cancelled"
    assert life.broker.jobs == {}


def test_a_cancelled_running_job_counts_as_ended_at_once(life: Life, client: Asker) -> None:
    """Of a stock worker, which cannot be told; of others tests/unit/test_stops.py."""
    worker = life.worker(b"first")
    first = client.submit(b"first")
    second = client.submit(b"second", b"background=1 after=any:" + first)
    third = client.submit(b"second", b"background=1 after=ok:" + first)
    worker.grab()
    client.ask("cancel", ids=[first.decode()], reason="no need")
    assert [client.state(handle) for handle in (first, second, third)] == ["cancelled", "queued", "cancelled"]
    fails(worker, first, 143)
    assert client.job(first)["reason"] == "no need"


def test_the_job_to_wait_for_may_be_said_shortly(life: Life, client: Asker) -> None:
    first, second = client.submit(b"first"), client.submit(b"first")
    waiting = client.submit(b"next", b"background=1 after=ok:last,any:1")
    assert client.job(waiting)["reason"] == f"for ok:{second.decode()}, any:{first.decode()}"
    client.wire.send(request(p.FARM_SUBMIT, b"f", b"", b"after=ok:H:", b""))
    assert packet(client.wire.received()[-1])[1].startswith(b"JOB_NOT_FOUND\0")  # it may be either


def test_a_job_cannot_wait_for_what_nobody_knows(client: Asker) -> None:
    client.wire.send(request(p.FARM_SUBMIT, b"f", b"", b"after=ok:H:1:99", b""))
    assert packet(client.wire.received()[-1])[1].startswith(b"JOB_NOT_FOUND")


def test_a_delayed_dependent_still_waits_for_its_time(life: Life, client: Asker) -> None:
    worker = life.worker(b"first")
    first = client.submit(b"first")
    second = client.submit(b"second", b"background=1 in=50 after=ok:" + first)
    completes(worker, worker.grab())
    assert client.state(second) == "delayed"
    life.wait(51)
    assert client.state(second) == "queued"


# -- keys


@pytest.mark.parametrize("policy", [b"skip", b"fail"])
def test_a_job_with_the_key_is_there_and_nothing_is_submitted(life: Life, client: Asker, policy: bytes) -> None:
    first = client.submit(b"f", unique=b"nightly")
    client.wire.send(request(p.FARM_SUBMIT, b"f", b"nightly", b"background=1 if-exists=" + policy, b""))
    assert client.wire.received() == [response(p.FARM_EXISTS, first, b"queued")]
    assert len(life.broker.jobs) == 1


def test_it_replaces_the_job_with_the_key(life: Life, client: Asker) -> None:
    first = client.submit(b"f", unique=b"nightly")
    second = client.submit(b"f", b"background=1 if-exists=replace", unique=b"nightly")
    assert second != first
    assert (client.state(first), client.state(second)) == ("cancelled", "queued")


def test_from_another_machine_nobody_elses_job_is_replaced(life: Life) -> None:
    here, there = life.farm_client(), life.farm_client()
    there.wire.peer.may_change = False
    words = b"This is taken from the server's own machine only"
    for unique, terms in ((b"queued", b"background=1"), (b"ended", b"background=1 unique-for=60")):
        first = here.submit(b"f", terms, unique=unique)
        if unique == b"ended":
            here.ask("cancel", ids=[first.decode()])
        there.wire.send(request(p.FARM_SUBMIT, b"f", unique, b"background=1 if-exists=replace", b""))
        assert there.wire.received() == [response(p.ERROR, b"PERMISSION_DENIED", words)]
    assert here.state(here.submit(b"f", b"background=1", unique=b"queued")) == "queued"
    own = there.submit(b"f", b"", unique=b"own")
    assert there.submit(b"f", b"background=1 if-exists=replace", unique=b"own") != own


def test_the_key_of_a_foreground_job_counts_once_it_has_ended(life: Life, client: Asker) -> None:
    """Not before: it is kept nowhere, and where the server dies somebody else must be able to run it."""
    worker = life.worker(b"f")
    client.submit(b"f", b"unique-for=3600", unique=b"nightly")
    worker.grab()
    life = life.again()
    client, worker = life.farm_client(), life.worker(b"f")
    second = client.submit(b"f", b"unique-for=3600", unique=b"nightly")
    assert worker.grab() == second
    completes(worker, second)
    life = life.again()
    assert life.client().submit(b"f", unique=b"nightly", number=p.SUBMIT_JOB_BG) == second
    assert not life.broker.jobs


def test_the_key_of_a_foreground_job_that_was_given_up_counts_no_longer(life: Life, client: Asker) -> None:
    worker = life.worker(b"f")
    first = client.submit(b"f", b"unique-for=3600", unique=b"k")
    worker.grab()
    client.wire.send(request(p.FARM_CANCEL, first))
    completes(worker, first)
    second = client.submit(b"f", b"background=1 if-exists=skip", unique=b"k")
    assert second != first
    assert client.state(second) == "queued"


def test_the_key_of_a_job_that_became_a_background_job_counts_from_then_on(life: Life, client: Asker) -> None:
    first = client.submit(b"f", b"unique-for=3600", unique=b"k")
    assert client.submit(b"f", b"background=1", unique=b"k") == first
    life.farm_client().ask("cancel", ids=[first.decode()])
    client = life.again().farm_client()
    assert client.wire.submit(b"f", unique=b"k", number=p.SUBMIT_JOB_BG) == first


def test_no_more_keys_that_outlive_their_jobs_than_there_is_memory_for() -> None:
    life = Life(KEEPING._replace(keys_max=1))
    client = life.farm_client()
    client.submit(b"f", b"background=1 unique-for=60", unique=b"one")
    client.submit(b"f", b"background=1 if-exists=replace unique-for=60", unique=b"one")
    client.wire.send(request(p.FARM_SUBMIT, b"f", b"two", b"background=1 unique-for=60", b""))
    assert client.wire.received() == [response(p.ERROR, b"QUEUE_ERROR", b"Too many keys that outlive their jobs")]
    client.submit(b"f", b"background=1", unique=b"two")


def test_a_key_counts_for_a_while_after_its_job_has_ended_also_over_a_restart(life: Life, client: Asker) -> None:
    worker = life.worker(b"f")
    first = client.submit(b"f", b"background=1 unique-for=3600", unique=b"nightly")
    completes(worker, worker.grab())
    for _ in range(2):
        client.wire.send(request(p.FARM_SUBMIT, b"f", b"nightly", b"background=1 if-exists=skip", b""))
        assert client.wire.received() == [response(p.FARM_EXISTS, first, b"done")]
        assert client.wire.submit(b"f", unique=b"nightly", number=p.SUBMIT_JOB_BG) == first  # a stock client's
        life = life.again()
        client = life.farm_client()
    life.wait(3601)
    assert client.submit(b"f", b"background=1 if-exists=skip", unique=b"nightly") != first


# -- to wait for an end


def test_who_waits_hears_of_the_end_now_or_later(life: Life, client: Asker) -> None:
    worker = life.worker(b"f")
    done, dead, queued = (client.submit(b"f") for _ in range(3))
    completes(worker, worker.grab())
    client.wire.send(
        request(
            p.FARM_ASK,
            b"wait",
            json.dumps({"ids": [handle.decode() for handle in (done, dead, queued, b"H:1:77")]}).encode(),
            b"",
        )
    )
    answer, first = client.wire.received()
    assert json.loads(packet(answer)[1].partition(b"\0")[2]) == {"unknown": ["H:1:77"]}
    assert end_in(first) == (done, {"state": "done", "reason": "", "exit_code": 0, "exit": 0})
    worker.grab()
    fails(worker, dead, 3)
    (second,) = client.wire.received()
    assert end_in(second) == (dead, {"state": "dead", "reason": "exit 3", "exit_code": 3, "exit": 3})
    client.ask("cancel", ids=[queued.decode()], reason="")
    client.wire.leave()


def end_in(raw: bytes) -> tuple[bytes, object]:
    """Handle and data of a FARM_ENDED."""
    number, body = packet(raw)
    assert number == p.FARM_ENDED
    handle, _, data = body.partition(b"\0")
    return handle, json.loads(data)
