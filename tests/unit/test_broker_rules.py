"""Reduce jobs, the status by key, and the rules that can be chosen. PROTOCOL 1.5, 1.7, 1.10."""

from __future__ import annotations

import pytest

from farm.broker import restart
from farm.broker.broker import WAKE_PATIENCE_S, Rules
from farm.broker.effects import Save
from farm.broker.job import first_id
from farm.protocol import packets as p
from farm.protocol.packets import request, response
from tests.unit.bench import GRAB, NOOP, SLEEP, Rig, Wire, error

GRAB_ALL = request(p.GRAB_JOB_ALL)


@pytest.fixture
def rig() -> Rig:
    return Rig()


def reduce(client: Wire, reducer: bytes = b"sum", unique: bytes = b"", number: int = p.SUBMIT_REDUCE_JOB) -> bytes:
    client.send(request(number, b"f", unique, reducer, b"", b"lo\0ad"))
    created = client.received().pop(0)
    assert created[:8] == response(p.JOB_CREATED)[:8], created
    return created[12:]


# -- reduce jobs


def test_the_reducer_goes_to_who_can_take_it(rig: Rig) -> None:
    client, worker = rig.client(), rig.worker(b"f")
    for number, answer, head in (
        (p.GRAB_JOB_ALL, p.JOB_ASSIGN_ALL, (b"f", b"key", b"sum")),
        (p.GRAB_JOB_UNIQ, p.JOB_ASSIGN_UNIQ, (b"f", b"key")),
        (p.GRAB_JOB, p.JOB_ASSIGN, (b"f",)),
    ):
        handle = reduce(client, unique=b"key")
        worker.send(request(number))
        assert worker.received() == [response(answer, handle, *head, b"lo\0ad")]
        worker.send(request(p.WORK_COMPLETE, handle, b"sum"))
        assert client.received() == [response(p.WORK_COMPLETE, handle, b"sum")]


def test_without_a_reducer_it_is_a_job_like_others(rig: Rig) -> None:
    handle = reduce(rig.client(), reducer=b"")
    assert rig.worker(b"f").send(GRAB_ALL).received() == [response(p.JOB_ASSIGN_UNIQ, handle, b"f", b"", b"lo\0ad")]


def test_a_background_reduce_job_is_stored_with_its_reducer_and_keeps_it(rig: Rig) -> None:
    client = rig.client()
    reduce(client, unique=b"key", number=p.SUBMIT_REDUCE_JOB_BACKGROUND)
    saved = Save(first_id(1), b"f", b"key", 1, b"lo\0ad", b"sum", 0.0, rig.now)
    assert rig.changes == [saved]
    later = Rig(shard=2)
    restart.restore(later.broker, saved, later.now)
    worker = later.worker(b"f").send(GRAB_ALL)
    assert worker.received() == [response(p.JOB_ASSIGN_ALL, b"H:1:1", b"f", b"key", b"sum", b"lo\0ad")]


def test_a_foreground_reduce_job_is_not_stored_and_leaves_with_its_client(rig: Rig) -> None:
    client = rig.client()
    reduce(client)
    client.leave()
    assert (rig.changes, rig.broker.jobs) == ([], {})


def test_a_requeued_reduce_job_keeps_its_reducer(rig: Rig) -> None:
    handle, worker = reduce(rig.client()), rig.worker(b"f")
    worker.send(GRAB_ALL)
    worker.leave()
    worker = rig.worker(b"f").send(GRAB_ALL)
    assert worker.received() == [response(p.JOB_ASSIGN_ALL, handle, b"f", b"", b"sum", b"lo\0ad")]


def test_of_two_reducers_the_first_wins_also_in_the_journal(rig: Rig) -> None:
    client = rig.client()
    handle = reduce(client, unique=b"key")
    assert reduce(client, b"other", b"key", p.SUBMIT_REDUCE_JOB_BACKGROUND) == handle
    assert rig.changes == [Save(first_id(1), b"f", b"key", 1, b"lo\0ad", b"sum", 0.0, rig.now)]
    worker = rig.worker(b"f").send(GRAB_ALL)
    assert worker.received() == [response(p.JOB_ASSIGN_ALL, handle, b"f", b"key", b"sum", b"lo\0ad")]


@pytest.mark.parametrize("number", [p.SUBMIT_REDUCE_JOB, p.SUBMIT_REDUCE_JOB_BACKGROUND])
def test_what_is_too_large_in_a_reduce_job(rig: Rig, number: int) -> None:
    client = rig.connect(
        request(number, b"f", b"", b"r" * 65, b"", b""), request(number, b"f", b"u" * 65, b"r", b"", b"")
    )
    assert [packet.split(b"\0")[-1] for packet in client.received()] == [
        b"Reducer value too large",
        b"Unique value too large",
    ]
    assert not client.closed
    assert not rig.broker.jobs


def test_three_arguments_are_too_few(rig: Rig) -> None:
    client = rig.connect(request(p.SUBMIT_REDUCE_JOB, b"f", b"", b"r", b"data"))
    assert client.received()[0].startswith(error(b"INVALID_PACKET", b"")[:4])
    assert client.closed


# -- the status by key


def status(client: Wire, unique: bytes) -> list[bytes]:
    client.send(request(p.GET_STATUS_UNIQUE, unique))
    (packet,) = client.received()
    assert packet[:8] == response(p.STATUS_RES_UNIQUE)[:8]
    key, *numbers = packet[12:].split(b"\0")
    assert key == unique
    return numbers


def test_the_status_by_key_follows_a_job_and_counts_who_waits(rig: Rig) -> None:
    client, other, worker = rig.client(), rig.client(), rig.worker(b"f")
    assert status(client, b"key") == [b"0"] * 5
    handle = client.submit(b"f", unique=b"key")
    other.submit(b"f", unique=b"key")
    assert status(other, b"key") == [b"1", b"0", b"0", b"0", b"2"]
    worker.send(GRAB, request(p.WORK_STATUS, handle, b"3", b"7"))
    client.received()
    other.leave()
    assert status(client, b"key") == [b"1", b"1", b"3", b"7", b"1"]
    worker.send(request(p.WORK_COMPLETE, handle, b""))
    client.received()
    assert status(client, b"key") == [b"0"] * 5


def test_nobody_waits_for_a_background_job(rig: Rig) -> None:
    client = rig.client()
    client.submit(b"f", unique=b"key", number=p.SUBMIT_JOB_BG)
    assert status(client, b"key") == [b"1", b"0", b"0", b"0", b"0"]


def test_of_two_functions_the_first_mentioned_one_answers(rig: Rig) -> None:
    client, worker = rig.client(), rig.worker(b"first", b"second")
    client.submit(b"second", unique=b"key", number=p.SUBMIT_JOB_BG)
    worker.grab()
    client.submit(b"first", unique=b"key")
    assert status(client, b"key") == [b"1", b"0", b"0", b"0", b"1"]


@pytest.mark.parametrize("unique", [b"", b"-", b"load", b"u" * 64, b"u" * 300])
def test_what_is_no_key_of_a_job_is_unknown(rig: Rig, unique: bytes) -> None:
    client = rig.client()
    client.submit(b"f", b"load", b"-")
    client.submit(b"f", b"load", b"")
    assert status(client, unique) == [b"0"] * 5


def test_an_unwanted_job_is_unknown_by_its_key(rig: Rig) -> None:
    client, worker = rig.client(), rig.worker(b"f")
    client.submit(b"f", unique=b"key")
    worker.grab()
    client.leave()
    assert status(rig.client(), b"key") == [b"0"] * 5


# -- what can be chosen


def test_by_registration_a_function_that_is_registered_anew_is_the_last() -> None:
    rig = Rig(rules=Rules(by_registration=True))
    client, worker = rig.client(), rig.worker(b"f", b"g", b"f")
    first, second = client.submit(b"g"), client.submit(b"f")
    assert [worker.grab(), worker.grab()] == [second, first]


def test_by_registration_the_last_registered_function_is_emptied_first() -> None:
    rig = Rig(rules=Rules(by_registration=True))
    client = rig.client()
    low_b = client.submit(b"b", number=p.SUBMIT_JOB_LOW)
    high_a = client.submit(b"a", number=p.SUBMIT_JOB_HIGH)
    normal_b = client.submit(b"b")
    normal_a = client.submit(b"a")
    worker = rig.worker(b"a", b"b")
    assert [worker.grab() for _ in range(4)] == [normal_b, low_b, high_a, normal_a]


def test_by_priority_functions_take_turns_by_default(rig: Rig) -> None:
    client = rig.client()
    low_b = client.submit(b"b", number=p.SUBMIT_JOB_LOW)
    high_a = client.submit(b"a", number=p.SUBMIT_JOB_HIGH)
    normal_b, normal_a = client.submit(b"b"), client.submit(b"a")
    worker = rig.worker(b"a", b"b")
    assert [worker.grab() for _ in range(4)] == [high_a, normal_b, normal_a, low_b]


@pytest.mark.parametrize("wake_all", [True, False])
def test_one_job_wakes_all_or_one(wake_all: bool) -> None:
    rig = Rig(rules=Rules(wake_all=wake_all))
    workers = [rig.worker(b"f").send(SLEEP) for _ in range(3)]
    other = rig.worker(b"g").send(SLEEP)
    handle = rig.client().submit(b"f")
    assert [worker.received() for worker in workers] == [[NOOP]] + [[NOOP] if wake_all else []] * 2
    assert other.received() == []
    assert workers[-1].grab() == handle
    rig.wait(2 * WAKE_PATIENCE_S)
    assert [worker.received() for worker in workers] == [[]] * 3  # once in a sleep


def test_wake_all_wakes_who_comes_later_only_for_what_still_waits() -> None:
    rig = Rig(rules=Rules(wake_all=True))
    first, second = (rig.worker(b"f").send(SLEEP) for _ in range(2))
    client = rig.client()
    client.submit(b"f")
    first.received(), second.received()
    first.grab()
    second.send(GRAB, SLEEP)
    second.received()
    client.submit(b"f")
    assert second.received() == [NOOP]


@pytest.mark.parametrize("exceptions", [True, False])
def test_exceptions_for_all_or_for_who_asked(exceptions: bool) -> None:
    rig = Rig(rules=Rules(exceptions=exceptions))
    asked, silent, worker = rig.client(b"exceptions"), rig.client(), rig.worker(b"f")
    handle = asked.submit(b"f", unique=b"key")
    silent.submit(b"f", unique=b"key")
    worker.send(GRAB, request(p.WORK_EXCEPTION, handle, b"why"))
    whole = [response(p.WORK_EXCEPTION, handle, b"why")]
    assert asked.received() == whole
    assert silent.received() == (whole if exceptions else [response(p.WORK_FAIL, handle)])
