"""Submitting: handles, priorities, coalescing, what is stored, what is refused. PROTOCOL 1.5."""

from __future__ import annotations

import pytest

from farm.broker.broker import Rules
from farm.broker.effects import Forget, Save
from farm.broker.job import first_id
from farm.protocol import packets as p
from farm.protocol.packets import request, response
from tests.unit.bench import GRAB, NO_JOB, SLEEP, Rig, error

BACKGROUND = (p.SUBMIT_JOB_HIGH_BG, p.SUBMIT_JOB_BG, p.SUBMIT_JOB_LOW_BG)
FOREGROUND = (p.SUBMIT_JOB_HIGH, p.SUBMIT_JOB, p.SUBMIT_JOB_LOW)
FIRST = first_id(1)


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_handles_count_within_a_life_of_the_server(rig: Rig) -> None:
    client = rig.client()
    assert [client.submit(b"f"), client.submit(b"g")] == [b"H:1:1", b"H:1:2"]
    assert Rig(shard=2).client().submit(b"f") == b"H:2:1"


def test_a_job_waits_for_ever_without_a_worker(rig: Rig) -> None:
    handle = rig.client().submit(b"f")
    rig.wait(1e9)
    assert rig.worker(b"f").grab() == handle


@pytest.mark.parametrize("numbers", [FOREGROUND, BACKGROUND], ids=["foreground", "background"])
def test_priority_first_then_age(rig: Rig, numbers: tuple[int, ...]) -> None:
    client, worker = rig.client(), rig.worker(b"f")
    high, normal, low = numbers
    handles: dict[int, list[bytes]] = {number: [] for number in numbers}
    for number in (low, normal, low, high, normal, high):
        handles[number].append(client.submit(b"f", number=number))
    assert [worker.grab() for _ in range(6)] == handles[high] + handles[normal] + handles[low]
    worker.send(GRAB)
    assert worker.received() == [NO_JOB]


def test_a_background_job_is_stored_with_all_that_it_needs(rig: Rig) -> None:
    client = rig.client()
    for number in BACKGROUND:
        client.submit(b"f", b"pay\0load", b"", number)
    assert rig.changes == [
        Save(FIRST + priority, b"f", b"", priority, b"pay\0load", b"", 0.0, rig.now) for priority in (0, 1, 2)
    ]


def test_a_foreground_job_is_never_stored(rig: Rig) -> None:
    client, worker = rig.client(), rig.worker(b"f")
    worker.send(request(p.WORK_FAIL, client.submit(b"f") and worker.grab()))
    assert rig.changes == []


def test_a_payload_may_be_empty_or_hold_any_byte(rig: Rig) -> None:
    client, worker = rig.client(), rig.worker(b"f")
    for payload in (b"", bytes(range(256)), b"\0" * 40_000):
        handle = client.submit(b"f", payload)
        worker.send(GRAB)
        assert worker.received() == [response(p.JOB_ASSIGN, handle, b"f", payload)]


# -- coalescing


def test_the_first_submission_wins(rig: Rig) -> None:
    client, other, worker = rig.client(), rig.client(), rig.worker(b"f")
    handle = client.submit(b"f", b"first", b"key", p.SUBMIT_JOB_LOW)
    assert other.submit(b"f", b"second", b"key", p.SUBMIT_JOB_HIGH) == handle
    normal = other.submit(b"f")
    assert worker.grab() == normal  # the high-priority duplicate did not raise the low job
    worker.send(GRAB)
    assert worker.received() == [response(p.JOB_ASSIGN, handle, b"f", b"first")]
    worker.send(GRAB)
    assert worker.received() == [NO_JOB]


def test_every_joiner_hears_and_none_hears_twice(rig: Rig) -> None:
    client, other, worker = rig.client(), rig.client(), rig.worker(b"f")
    handle = client.submit(b"f", unique=b"key")
    assert client.submit(b"f", unique=b"key") == other.submit(b"f", unique=b"key") == handle == worker.grab()
    worker.send(request(p.WORK_COMPLETE, handle, b"result"))
    assert client.received() == other.received() == [response(p.WORK_COMPLETE, handle, b"result")]


def test_a_running_job_can_be_joined_and_an_ended_one_not(rig: Rig) -> None:
    client, worker = rig.client(), rig.worker(b"f")
    handle = client.submit(b"f", unique=b"key")
    worker.grab()
    assert client.submit(b"f", unique=b"key") == handle
    worker.send(request(p.WORK_FAIL, handle))
    client.received()
    assert client.submit(b"f", unique=b"key") != handle


def test_the_same_key_in_another_function_is_another_job(rig: Rig) -> None:
    client = rig.client()
    assert client.submit(b"f", unique=b"key") != client.submit(b"g", unique=b"key")


def test_an_empty_key_is_no_key(rig: Rig) -> None:
    client = rig.client()
    assert client.submit(b"f", b"same") != client.submit(b"f", b"same")


def test_the_key_dash_compares_payloads(rig: Rig) -> None:
    client, worker = rig.client(), rig.worker(b"f")
    handle = client.submit(b"f", b"one", b"-")
    assert client.submit(b"f", b"one", b"-") == handle
    assert client.submit(b"f", b"two", b"-") != handle
    assert client.submit(b"f", b"x", b"one") != handle  # a key that looks like the payload
    worker.send(request(p.GRAB_JOB_UNIQ))
    assert worker.received() == [response(p.JOB_ASSIGN_UNIQ, handle, b"f", b"-", b"one")]


def test_the_key_dash_with_an_empty_payload_is_no_key(rig: Rig) -> None:
    client = rig.client()
    assert client.submit(b"f", b"", b"-") != client.submit(b"f", b"", b"-")


def test_a_background_joiner_is_stored_once_with_the_first_payload(rig: Rig) -> None:
    client, other = rig.client(), rig.client()
    handle = client.submit(b"f", b"first", b"key", p.SUBMIT_JOB_HIGH)
    assert rig.changes == []
    assert other.submit(b"f", b"second", b"key", p.SUBMIT_JOB_LOW_BG) == handle
    assert other.submit(b"f", b"third", b"key", p.SUBMIT_JOB_BG) == handle
    assert rig.changes == [Save(FIRST, b"f", b"key", 0, b"first", b"", 0.0, rig.now)]


def test_a_background_joiner_hears_nothing_more(rig: Rig) -> None:
    client, other, worker = rig.client(), rig.client(), rig.worker(b"f")
    handle = client.submit(b"f", unique=b"key")
    other.submit(b"f", unique=b"key", number=p.SUBMIT_JOB_BG)
    worker.send(GRAB, request(p.WORK_COMPLETE, handle, b""))
    assert (len(client.received()), other.received()) == (1, [])


@pytest.mark.parametrize("watched", [True, False], ids=["watched", "unwatched"])
def test_who_joins_after_output_has_gone_by_is_told_so(rig: Rig, watched: bool) -> None:
    client, worker = rig.client(), rig.worker(b"f")
    handle = client.submit(b"f", unique=b"key", number=p.SUBMIT_JOB if watched else p.SUBMIT_JOB_BG)
    worker.send(GRAB, request(p.WORK_DATA, handle, b"piece"))
    late, stock = rig.client(b"farm-1"), rig.client()
    for joiner in (late, stock):
        joiner.send(request(p.SUBMIT_JOB, b"f", b"key", b""))
    created = response(p.JOB_CREATED, handle)
    assert late.received() == [created, response(p.FARM_JOB_JOINED, handle)]
    assert stock.received() == [created]


def test_who_joins_before_any_output_is_told_nothing(rig: Rig) -> None:
    client, worker = rig.client(b"farm-1"), rig.worker(b"f")
    handle = client.submit(b"f", unique=b"key")
    worker.send(GRAB, request(p.WORK_WARNING, handle, b""))
    client.received()
    client.send(request(p.SUBMIT_JOB, b"f", b"key", b""))
    assert client.received() == [response(p.JOB_CREATED, handle)]


# -- refusals


def test_a_key_has_64_bytes_at_most(rig: Rig) -> None:
    client = rig.client()
    assert client.submit(b"f", unique=b"u" * 64)
    client.send(request(p.SUBMIT_JOB, b"f", b"u" * 65, b""))
    assert client.received() == [error(b"ARGUMENT_TOO_LARGE", b"Unique value too large")]
    assert not client.closed


@pytest.mark.parametrize("name", [b"", b"a b", b"a\nb", b"a\x7f", b"f" * 513])
@pytest.mark.parametrize("number", [p.SUBMIT_JOB_BG, p.CAN_DO])
def test_a_bad_name_is_refused_and_the_connection_closed(rig: Rig, name: bytes, number: int) -> None:
    peer = rig.connect(request(number, name, *((b"", b"") if number == p.SUBMIT_JOB_BG else ())))
    (refusal,) = peer.received()
    assert refusal[12:].startswith(b"INVALID_FUNCTION_NAME\0")
    assert peer.closed
    assert (rig.changes, list(rig.broker.functions)) == ([], [])


@pytest.mark.parametrize("name", [b"f" * 512, b"prefix\tname", "größe".encode(), b"\xff\x80"])
def test_any_other_name_is_good(rig: Rig, name: bytes) -> None:
    assert rig.client().submit(name) == rig.worker(name).grab()


def test_nothing_after_a_fatal_packet_counts_in_the_same_chunk_either(rig: Rig) -> None:
    peer = rig.connect(request(p.SUBMIT_JOB, b"", b"", b""), request(p.SUBMIT_JOB_BG, b"f", b"", b""))
    assert len(peer.received()) == 1
    assert (rig.changes, rig.broker.jobs) == ([], {})


def test_a_missing_argument_is_refused_and_the_connection_closed(rig: Rig) -> None:
    peer = rig.connect(request(p.SUBMIT_JOB, b"f", b"key"))
    assert peer.received() == [error(b"INVALID_PACKET", b"SUBMIT_JOB lacks arguments: unique")]
    assert peer.closed


def test_a_full_queue_still_takes_duplicates(rig: Rig) -> None:
    rig.broker.rules = Rules(jobs_max=1)
    client = rig.client()
    handle = client.submit(b"f", unique=b"key")
    client.send(request(p.SUBMIT_JOB_BG, b"f", b"other", b""))
    assert client.received() == [error(b"QUEUE_ERROR", b"Job queue is full")]
    assert client.submit(b"f", unique=b"key") == handle


def test_functions_are_limited_and_those_known_stay_usable(rig: Rig) -> None:
    rig.broker.rules = Rules(functions_max=1)
    client = rig.client()
    client.submit(b"f")
    client.send(request(p.SUBMIT_JOB, b"g", b"", b""), request(p.CAN_DO, b"h"))
    assert client.received() == [error(b"QUEUE_ERROR", b"Too many functions")] * 2
    assert client.submit(b"f")


def test_a_stopping_server_takes_and_gives_nothing_new_and_hears_ends(rig: Rig) -> None:
    client, worker = rig.client(), rig.worker(b"f")
    handle = client.submit(b"f")
    client.submit(b"f")
    worker.grab()
    rig.broker.stopping = True
    client.send(request(p.SUBMIT_JOB, b"f", b"", b""))
    assert client.received() == [error(b"SHUTDOWN", b"Server is shutting down")]
    worker.send(GRAB, SLEEP, request(p.WORK_COMPLETE, handle, b"late"))
    assert worker.received() == [NO_JOB]
    assert client.received() == [response(p.WORK_COMPLETE, handle, b"late")]


# -- an earlier life's jobs


def test_restored_jobs_keep_handle_order_key_and_kind(rig: Rig) -> None:
    old = first_id(7)
    for number, priority in enumerate((2, 1, 1)):
        rig.broker.restore(Save(old + number, b"f", b"key%d" % number, priority, b"load"), rig.now)
    client, worker = rig.client(), rig.worker(b"f")
    assert client.submit(b"f", unique=b"key1") == b"H:7:2"
    client.leave()
    assert [worker.grab() for _ in range(3)] == [b"H:7:2", b"H:7:3", b"H:7:1"]
    worker.send(request(p.WORK_COMPLETE, b"H:7:2", b""))
    assert rig.changes == [Forget(old + 1)]


def test_limits_are_for_what_is_new() -> None:
    """A server with lower limits than the one before, or after an import, must start."""
    rig = Rig(rules=Rules(functions_max=1, jobs_max=1))
    for number in range(3):
        rig.broker.restore(Save(first_id(7) + number, b"f%d" % number, b"", 1, b""), rig.now)
    client, worker = rig.client(), rig.worker(b"f0", b"f1", b"f2")
    client.send(request(p.SUBMIT_JOB, b"f0", b"", b""))
    assert client.received() == [error(b"QUEUE_ERROR", b"Job queue is full")]
    assert [worker.grab() for _ in range(3)] == [b"H:7:1", b"H:7:2", b"H:7:3"]
    client.send(request(p.SUBMIT_JOB, b"g", b"", b""))
    assert client.received() == [error(b"QUEUE_ERROR", b"Too many functions")]


def test_no_job_is_taken_that_does_not_fit_on_the_disk(rig: Rig) -> None:
    """Each takes room for its payload twice, until the server looks again; one that somebody waits for takes none."""
    client = rig.client()
    rig.broker.room = 25
    client.submit(b"f", b"0123456789", b"1", p.SUBMIT_JOB_BG)
    client.submit(b"f", b"0123456789", b"2", p.SUBMIT_JOB)
    refusal = error(b"QUEUE_ERROR", b"Disk nearly full: no room for a payload of 10 bytes")
    for unique in (b"2", b"3"):
        client.send(request(p.SUBMIT_JOB_BG, b"f", unique, b"0123456789"))
        assert client.received() == [refusal]
    client.submit(b"f", b"01", b"4", p.SUBMIT_JOB_BG)
    assert [save.unique for save in rig.changes] == [b"1", b"4"]


# -- memory

NO_MEMORY = error(b"QUEUE_ERROR", b"Job queue is full: no memory for the payload")


@pytest.mark.parametrize("number", [p.SUBMIT_JOB, p.SUBMIT_JOB_BG])
def test_payloads_take_so_much_memory_and_no_more(number: int) -> None:
    """Without a store. What has ended makes room, and what is joined needs none."""
    rig = Rig(rules=Rules(memory_max=10))
    client, worker = rig.client(), rig.worker(b"f")
    client.submit(b"f", b"123456", b"u", number=number)
    client.send(request(number, b"f", b"", b"12345"))
    assert client.received() == [NO_MEMORY]
    client.submit(b"f", b"12345", b"u", number=number)
    client.submit(b"f", b"1234", number=number)
    client.submit(b"f", number=number)
    handle = worker.grab()
    client.send(request(number, b"f", b"", b"1"))
    assert client.received() == [NO_MEMORY]  # it may have to run again
    worker.send(request(p.WORK_COMPLETE, handle, b""))
    client.received()
    client.submit(b"f", b"123456", number=number)
    assert rig.broker.memory == 10


def test_a_client_that_leaves_makes_room() -> None:
    rig = Rig(rules=Rules(memory_max=10))
    leaving, client = rig.client(), rig.client()
    leaving.submit(b"f", b"1234567890")
    client.send(request(p.SUBMIT_JOB, b"f", b"", b"1"))
    assert client.received() == [NO_MEMORY]
    leaving.leave()
    client.submit(b"f", b"1234567890")


def test_what_the_store_keeps_needs_no_memory() -> None:
    """A background job is taken, and its payload stays there; also where it was a foreground job first."""
    rig = Rig(rules=Rules(memory_max=10, payload_memory_max=8))
    client = rig.client()
    client.submit(b"f", b"123456", b"u")
    client.submit(b"f", b"123456", number=p.SUBMIT_JOB_BG)
    assert (rig.broker.memory, rig.broker.payload_memory) == (6, 0)
    client.submit(b"f", b"1234", number=p.SUBMIT_JOB_BG)
    assert (rig.broker.memory, rig.broker.payload_memory) == (10, 4)
    client.send(request(p.SUBMIT_JOB, b"f", b"", b"1"))
    assert client.received() == [NO_MEMORY]
    client.submit(b"f", b"123456", b"u", number=p.SUBMIT_JOB_BG)
    assert (rig.broker.memory, rig.broker.payload_memory) == (4, 4)


def test_what_was_acknowledged_is_taken_again() -> None:
    """Whatever the limit is by now."""
    rig = Rig(rules=Rules(memory_max=1))
    rig.broker.restore(Save(FIRST, b"f", b"", 1, b"payload"), rig.now)
    rig.turn()
    assert rig.worker(b"f").grab()
