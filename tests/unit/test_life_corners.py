"""Corners of a job's life that the simulator (tests/sim) was the first to visit."""

from __future__ import annotations

import pytest

from farm.broker.effects import Progress, Save
from farm.broker.terms import parse_after
from farm.errors import PacketRefused
from farm.protocol import packets as p
from farm.protocol.packets import request, response
from farm.store.memory import MemoryJournal, MemoryStore
from tests.unit.bench_life import WALL, Asker, Life, completes, fails, packet


def results(answer: dict[str, list[dict[str, str]]]) -> list[str]:
    return [result["outcome"] for result in answer["results"]]


def runs(life: Life, handle: bytes) -> None:
    worker = life.worker(b"f")
    assert worker.grab() == handle
    completes(worker, handle)
    worker.leave()


# -- cancelling


def test_a_job_that_nobody_waits_for_any_more_can_be_cancelled(life: Life, client: Asker) -> None:
    left = life.client()
    handle = left.submit(b"f")
    worker = life.worker(b"f")
    worker.grab()
    left.leave()
    assert client.state(handle) == "abandoned"
    assert results(client.ask("cancel", ids=[handle.decode()])) == ["unheard"]
    completes(worker, handle)
    assert life.broker.jobs == {}


def test_a_client_that_leaves_takes_along_a_job_that_waits_for_its_other_one(life: Life, client: Asker) -> None:
    first = client.submit(b"f", b"")
    client.submit(b"f", b"after=ok:" + first)
    client.wire.leave()
    assert life.broker.jobs == {}


def test_a_job_and_one_that_needs_it_can_be_cancelled_at_once(life: Life, client: Asker) -> None:
    first = client.submit(b"f")
    second = client.submit(b"f", b"background=1 after=ok:" + first)
    assert results(client.ask("cancel", ids=[first.decode(), second.decode()])) == ["cancelled", "cancelled"]


# -- keys


def test_what_cannot_be_submitted_replaces_nothing(life: Life, client: Asker) -> None:
    handle = client.submit(b"f", unique=b"k")
    for terms in (b"background=1 if-exists=replace after=ok:H:9:9", b"colour=red if-exists=replace"):
        client.wire.send(request(p.FARM_SUBMIT, b"f", b"k", terms, b""))
        assert packet(client.wire.received()[-1])[0] == p.ERROR
    life.broker.stopping = True
    client.wire.send(request(p.FARM_SUBMIT, b"f", b"k", b"background=1 if-exists=replace", b""))
    assert packet(client.wire.received()[-1])[0] == p.ERROR
    assert client.state(handle) == "queued"


def test_a_full_queue_has_room_for_what_replaces_one_of_its_jobs(life: Life, client: Asker) -> None:
    client.submit(b"f", unique=b"k")
    life.connect(b"maxqueue f 1\n")
    client.submit(b"f", b"background=1 if-exists=replace", unique=b"k")
    assert len(life.broker.jobs) == 1


def test_a_replaced_job_lets_go_of_a_key_that_was_to_outlive_it(life: Life, client: Asker) -> None:
    old = client.submit(b"f", b"background=1 unique-for=60", unique=b"k")
    new = client.submit(b"f", b"background=1 if-exists=replace", unique=b"k")
    assert (client.state(old), client.state(new)) == ("cancelled", "queued")
    runs(life, new)
    client = life.again().farm_client()
    assert client.submit(b"f", b"background=1 if-exists=skip", unique=b"k") not in (old, new)


def test_a_job_cannot_need_the_one_that_it_replaces(life: Life, client: Asker) -> None:
    old = client.submit(b"f", unique=b"k")
    new = client.submit(b"f", b"background=1 if-exists=replace after=ok:" + old, unique=b"k")
    assert client.state(new) == "cancelled"


def test_a_dropped_function_keeps_no_key(life: Life, client: Asker) -> None:
    handle = client.submit(b"f", b"background=1 unique-for=60", unique=b"k")
    client.ask("cancel", ids=[handle.decode()])
    life.connect(b"drop function f\n")
    assert list(life.again().broker.functions) == []


# -- time


def test_a_limit_that_is_set_while_a_job_runs_holds_for_the_next_run(life: Life, client: Asker) -> None:
    client.ask("function", function="f", set={"timeout": "5"})
    handle = client.submit(b"f")
    life.farm_worker(b"f").grab()
    client.ask("function", function="f", set={"timeout": "10"})
    life.wait(6)
    assert client.job(handle)["reason"] == "timeout"


def test_a_workers_terms_are_about_retries_alone(life: Life, client: Asker) -> None:
    worker = life.farm_worker(b"f")
    worker.send(request(p.FARM_TERMS, b"f", b"retries=1 timeout=1"))
    handle = client.submit(b"f", b"background=1 priority=low keep=5")
    worker.grab()
    life.wait(2)
    assert client.state(handle) == "running"


def test_a_setting_that_is_taken_back_expires_nothing(life: Life, client: Asker) -> None:
    handle = client.submit(b"f")
    client.ask("function", function="f", set={"expires": "5"})
    client.ask("function", function="f", set={"expires": None})
    life.wait(6)
    assert client.state(handle) == "queued"


@pytest.mark.parametrize("how", ["lost", "released", "restarted"])
def test_the_wait_for_a_worker_begins_anew(life: Life, client: Asker, how: str) -> None:
    terms = b"background=1 queue-timeout=10"
    worker = life.worker(b"f")
    if how == "released":
        first = client.submit(b"f")
        handle = client.submit(b"g", terms + b" after=ok:" + first)
        life.wait(20)
        runs(life, first)
    else:
        handle = client.submit(b"f", terms)
        worker.grab()
        life.wait(20)
        if how == "lost":
            worker.leave()
        else:
            life = life.again()
            client = life.farm_client()
    life.wait(9)
    assert client.state(handle) == "queued"
    life.wait(2)
    assert client.state(handle) == "expired"


def test_an_expired_job_that_is_run_again_does_not_expire_at_once(life: Life, client: Asker) -> None:
    client.ask("function", function="g", set={"expires": "30"})
    handles = [client.submit(b"f", b"background=1 expires=5"), client.submit(b"g")]
    life.wait(31)
    assert [client.state(handle) for handle in handles] == ["expired", "expired"]
    client.ask("retry", ids=[handle.decode() for handle in handles])
    life = life.again()
    client = life.farm_client()
    life.wait(29)
    assert [client.state(handle) for handle in handles] == ["queued", "queued"]
    life.wait(2)
    assert [client.state(handle) for handle in handles] == ["queued", "expired"]


# -- a second life


def test_a_reducer_is_there_when_a_job_is_run_again(life: Life, client: Asker) -> None:
    submitter = life.connect(request(p.SUBMIT_REDUCE_JOB_BACKGROUND, b"f", b"", b"sum", b"", b"data"))
    handle = packet(submitter.received()[0])[1]
    worker = life.worker(b"f")
    worker.grab()
    fails(worker, handle, 1)
    client.ask("retry", ids=[handle.decode()])
    worker.send(request(p.GRAB_JOB_ALL))
    assert worker.received() == [response(p.JOB_ASSIGN_ALL, handle, b"f", b"", b"sum", b"data")]


def test_attempts_are_counted_on_whatever_becomes_of_a_retried_job(life: Life, client: Asker) -> None:
    worker = life.worker(b"f")
    handle = client.submit(b"f", b"background=1 retries=1 backoff=0")
    for _ in range(2):
        worker.grab()
        fails(worker, handle, 1)
        life.wait(0.1)
    for _ in range(2):  # cancelled while it waits: this end describes no attempt
        client.ask("retry", ids=[handle.decode()])
        client.ask("cancel", ids=[handle.decode()])
    client.ask("retry", ids=[handle.decode()])
    worker.grab()
    assert [attempt["number"] for attempt in client.job(handle)["attempts_list"]] == [1, 2, 3]


# -- restarts


def test_what_a_dependency_was_is_not_asked_again_after_a_restart(life: Life, client: Asker) -> None:
    first = client.submit(b"f")
    runs(life, first)
    handle = client.submit(b"g", b"background=1 after=ok:" + first)
    client.ask("purge", ids=[first.decode()])
    assert life.again().farm_client().state(handle) == "queued"


def test_a_foreground_job_that_becomes_a_background_job_has_its_failures_kept(life: Life, client: Asker) -> None:
    worker = life.worker(b"f")
    handle = client.submit(b"f", b"retries=1 backoff=5", unique=b"k")
    worker.grab()
    fails(worker, handle, 1)
    assert life.client().submit(b"f", unique=b"k", number=p.SUBMIT_JOB_BG) == handle
    job = life.again().farm_client().job(handle)
    assert (job["state"], job["failures"]) == ("delayed", 1)


def test_the_server_being_the_last_worker_that_a_job_took_along_its_dependents_hear_of_it() -> None:
    journal = MemoryJournal()
    store = MemoryStore(journal)
    store.open()
    store.apply(
        [
            Save(1, b"f", b"", 1, b"", created=WALL),
            Progress(1, 6, 0, 5, running=True),
            Save(2, b"f", b"", 1, b"", created=WALL, terms=b"after=fail:H:0:1"),
        ]
    )
    client = Life(journal=journal).farm_client()
    assert (client.state(b"H:0:1"), client.state(b"H:0:2")) == ("dead", "queued")
    job = client.job(b"H:0:1")
    assert (job["attempts"], job["losses"], job["run_s"]) == (6, 6, None)
    assert [(attempt["number"], attempt["outcome"]) for attempt in job["attempts_list"]] == [(6, "lost")]


# -- small things


def test_one_job_cannot_be_waited_for_in_two_ways() -> None:
    with pytest.raises(PacketRefused):
        parse_after(b"ok:H:1:1,fail:H:1:1")


def test_nobody_waits_for_the_jobs_of_a_paused_function_before_leaving(life: Life, client: Asker) -> None:
    client.submit(b"f")
    assert life.broker.busy()
    client.ask("pause", function="f")
    assert not life.broker.busy()


def test_a_job_that_can_never_run_wakes_nobody(life: Life, client: Asker) -> None:
    first = client.submit(b"f")
    worker = life.worker(b"g")
    worker.send(request(p.PRE_SLEEP))
    runs(life, first)
    client.submit(b"g", b"background=1 after=fail:" + first)
    assert worker.received() == []
