"""Cron entries and jobs of theirs that are run again (`farm retry`), or by hand, or whose entry has gone."""

from __future__ import annotations

import pytest

from farm.protocol import packets as p
from farm.protocol.packets import request, response
from tests.unit.bench import Wire
from tests.unit.bench_life import Asker, Life, completes, fails, packet
from tests.unit.test_crons import HOUR, REPLACED, add, client, jobs, life, notes, refusal

__all__ = ["client", "life"]  # fixtures


def dead(life: Life, client: Asker, worker: Wire) -> bytes:
    """The handle of the entry's first job, which has failed, as the entry knows by now."""
    life.wait(900)
    handle = worker.grab()
    fails(worker, handle, 1)
    life.wait(HOUR)
    second = worker.grab()
    completes(worker, second)
    assert broker_knows(life) == [second]
    return handle


def broker_knows(life: Life) -> list[bytes]:
    return life.broker.crons.entries["e"].live


def rerun(client: Asker, handle: bytes) -> None:
    assert client.ask("retry", ids=[handle.decode()])["results"][0]["outcome"] == "queued"


@pytest.mark.parametrize("restarted", [False, True])
def test_a_job_that_is_run_again_overlaps(life: Life, client: Asker, restarted: bool) -> None:
    add(client)
    first = dead(life, client, life.farm_worker(b"f"))
    rerun(client, first)
    if restarted:
        life = life.again()
        client = life.farm_client()
    worker = life.farm_worker(b"f")
    assert worker.grab() == first
    life.wait(HOUR)
    assert notes(client)[-1] == (False, f"{first.decode()} has not ended")
    completes(worker, first)
    life.wait(HOUR)
    assert notes(client)[-1] == (True, None)


@pytest.mark.parametrize("restarted", [False, True])
def test_a_job_that_is_run_again_is_replaced(life: Life, client: Asker, restarted: bool) -> None:
    add(client, overlap="replace")
    first = dead(life, client, life.farm_worker(b"f"))
    rerun(client, first)
    if restarted:
        life = life.again()
        client = life.farm_client()
    worker = life.farm_worker(b"f")
    assert worker.grab() == first
    life.wait(HOUR)
    assert response(p.FARM_JOB_CANCEL, first) in worker.received()
    assert client.job(first)["reason"] == REPLACED
    assert [client.state(handle) for handle in jobs(life) if handle != first] == ["waiting"]


@pytest.mark.parametrize("restarted", [False, True])
def test_the_next_run_waits_for_one_that_is_run_again_and_for_one_beside_it(
    life: Life, client: Asker, restarted: bool
) -> None:
    """Which of the two ends first does not matter."""
    add(client, overlap="queue")
    workers = [life.farm_worker(b"f") for _ in range(2)]
    first = dead(life, client, workers[0])
    life.wait(HOUR)
    beside = workers[0].grab()
    rerun(client, first)
    life.wait(HOUR)
    if restarted:
        life = life.again()
        client, workers = life.farm_client(), [life.farm_worker(b"f") for _ in range(2)]
        assert {worker.grab() for worker in workers} == {first, beside}
        workers.sort(key=lambda worker: worker.peer.holds.keys() == {first})
    else:
        assert workers[1].grab() == first
    (last,) = [handle for handle in jobs(life) if handle not in (first, beside)]
    assert client.state(last) == "waiting"
    completes(workers[1], first)
    assert client.state(last) == "waiting"
    completes(workers[0], beside)
    assert client.state(last) == "queued"


@pytest.mark.parametrize("restarted", [False, True])
def test_runs_that_wait_for_their_turn_wait_for_one_that_is_run_again(
    life: Life, client: Asker, restarted: bool
) -> None:
    add(client, overlap="queue")
    worker = life.farm_worker(b"f")
    first = dead(life, client, worker)
    life.wait(HOUR)
    second = worker.grab()
    life.wait(HOUR)
    (_, third) = jobs(life)
    other = client.submit(b"f", b"background=1 after=any:" + second)
    rerun(client, first)
    completes(worker, second)
    assert (client.state(third), client.state(other)) == ("waiting", "queued"), "which is not the entry's"
    if restarted:
        life = life.again()
        client, worker = life.farm_client(), life.farm_worker(b"f")
        assert client.state(third) == "waiting"
    client.ask("cancel", ids=[other.decode()])
    assert worker.grab() == first
    completes(worker, first)
    assert client.state(third) == "queued"


@pytest.mark.parametrize("restarted", [False, True])
def test_one_that_is_cancelled_while_it_waits_lets_nobody_run_early(life: Life, client: Asker, restarted: bool) -> None:
    add(client, overlap="queue")
    worker = life.farm_worker(b"f")
    life.wait(900)
    first = worker.grab()
    life.wait(3 * HOUR)
    (_, second, third, fourth) = jobs(life)
    other = client.submit(b"f", b"background=1 after=any:" + third)
    client.ask("cancel", ids=[third.decode(), second.decode()])
    assert (client.state(fourth), client.state(other)) == ("waiting", "queued"), "which is not the entry's"
    if restarted:
        life = life.again()
        client, worker = life.farm_client(), life.farm_worker(b"f")
        assert worker.grab() == first
    assert client.state(fourth) == "waiting"
    completes(worker, first)
    assert client.state(fourth) == "queued"


def test_a_job_by_hand_is_waited_for_as_well(life: Life, client: Asker) -> None:
    add(client, overlap="queue")
    workers = [life.farm_worker(b"f") for _ in range(2)]
    life.wait(900)
    first = workers[0].grab()
    by_hand = client.ask("cron run", name="e")["id"].encode()
    assert workers[1].grab() == by_hand
    life.wait(HOUR)
    (*_, last) = jobs(life)
    completes(workers[1], by_hand)
    assert client.state(last) == "waiting"
    completes(workers[0], first)
    assert client.state(last) == "queued"


@pytest.mark.parametrize("restarted", [False, True])
def test_run_again_though_its_entry_is_no_more(life: Life, client: Asker, restarted: bool) -> None:
    add(client)
    add(client, name="other", function="g")
    first = dead(life, client, life.farm_worker(b"f"))
    client.ask("cron remove", name="e")
    rerun(client, first)
    if restarted:
        life = life.again()
        client = life.farm_client()
    assert life.farm_worker(b"f").grab() == first
    assert first not in life.broker.crons.entries["other"].live


@pytest.mark.parametrize("restarted", [False, True])
def test_an_entry_that_is_added_anew_knows_the_jobs_of_its_name(life: Life, client: Asker, restarted: bool) -> None:
    """Also one that is run again when the entry is there again; not that of another name."""
    add(client)
    add(client, name="other")
    worker = life.farm_worker(b"f")
    life.wait(900)
    first, other = worker.grab(), worker.grab()
    client.ask("cron remove", name="e")
    if restarted:
        life = life.again()
        client = life.farm_client()
    add(client, line="30 * * * *", overlap="replace")
    assert broker_knows(life) == [first]
    client.ask("cancel", ids=[first.decode()])
    if not restarted:
        fails(worker, first, 143)
    life.wait(HOUR / 2)
    assert first not in broker_knows(life)
    rerun(client, first)
    assert first in broker_knows(life) and other not in broker_knows(life)


def test_many_that_are_run_again_are_all_waited_for(life: Life, client: Asker) -> None:
    """Also more than a submission may name, and after a restart."""
    add(client, overlap="queue")
    many = [client.ask("cron run", name="e")["id"] for _ in range(80)]
    client.ask("cancel", ids=many)
    life.wait(900)
    (first,) = jobs(life)
    client.ask("cancel", ids=[first.decode()])
    client.ask("retry", ids=many)
    life.wait(HOUR)
    (*_, last) = jobs(life)
    life = life.again()
    client, worker = life.farm_client(), life.farm_worker(b"f")
    for _ in many:
        assert client.state(last) == "waiting"
        handle = worker.grab()
        assert handle.decode() in many
        completes(worker, handle)
    assert worker.grab() == last


def test_whose_job_it_is_only_the_server_says(life: Life, client: Asker) -> None:
    client.wire.send(request(p.FARM_SUBMIT, b"f", b"", b"background=1 cron=e", b""))
    assert packet(client.wire.received()[-1]) == (p.ERROR, b"INVALID_REQUEST\0Unknown term: cron")
    assert refusal(client, terms={"cron": "x"}) == (b"INVALID_REQUEST", "A cron entry has no term cron")
