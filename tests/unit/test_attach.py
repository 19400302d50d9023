"""Who joins a running background job late gets what it has said so far, where that is kept whole, and then the rest."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from farm.broker.broker import Rules
from farm.protocol import packets as p
from farm.protocol.packets import request, response
from tests.unit.bench import GRAB, Wire
from tests.unit.bench_life import KEEPING, Asker, Life, packet


def running(life: Life, client: Asker, terms: bytes = b"background=1") -> tuple[Wire, bytes]:
    """A worker that runs a job of f with the key k, and its handle."""
    worker = life.farm_worker(b"f")
    handle = client.submit(b"f", terms, b"k")
    assert worker.grab() == handle
    return worker, handle


def says(worker: Wire, handle: bytes, *said: tuple[int, bytes]) -> None:
    worker.send(*(request(number, handle, data) for number, data in said))


def join(life: Life, option: bytes = b"farm-1") -> tuple[Wire, list[tuple[int, bytes]]]:
    """Another client that submits a job of that key in the foreground, and what it hears: numbers and data."""
    wire = life.client(option) if option else life.client()
    wire.received()
    wire.send(request(p.SUBMIT_JOB, b"f", b"k", b""))
    return wire, list(heard(wire))


def heard(wire: Wire) -> Iterator[tuple[int, bytes]]:
    for number, body in map(packet, wire.received()):
        yield number, body.partition(b"\0")[2]


CREATED, JOINED = (p.JOB_CREATED, b""), (p.FARM_JOB_JOINED, b"")
DATA, WARNING, COMPLETE = p.WORK_DATA, p.WORK_WARNING, p.WORK_COMPLETE


def test_it_gets_all_of_it_once(life: Life, client: Asker) -> None:
    worker, handle = running(life, client)
    says(worker, handle, (DATA, b"one "), (WARNING, b"oops "), (DATA, b"two "), (WARNING, b"again"))
    late, said = join(life)
    assert said == [CREATED, (DATA, b"one two "), (WARNING, b"oops again")]
    says(worker, handle, (DATA, b"three "), (COMPLETE, b"four"))
    assert list(heard(late)) == [(DATA, b"three "), (COMPLETE, b"four")]


def test_two_that_join_at_different_times(life: Life, client: Asker) -> None:
    worker, handle = running(life, client)
    says(worker, handle, (DATA, b"one "))
    first, said = join(life)
    assert said == [CREATED, (DATA, b"one ")]
    says(worker, handle, (DATA, b"two "))
    second, said = join(life)
    assert said == [CREATED, (DATA, b"one two ")]
    assert list(heard(first)) == [(DATA, b"two ")]
    says(worker, handle, (COMPLETE, b""))
    assert list(heard(first)) == list(heard(second)) == [(COMPLETE, b"")]


def test_before_it_has_said_anything_there_is_nothing_to_tell(life: Life, client: Asker) -> None:
    running(life, client)
    assert join(life)[1] == [CREATED]


@pytest.mark.parametrize("trailer", [b"farm: exit 3\n", b"farm: exit 124 farm\n"])
def test_the_exit_code_that_was_told_is_told_last(life: Life, client: Asker, trailer: bytes) -> None:
    """Its failure is still to come."""
    worker, handle = running(life, client)
    says(worker, handle, (WARNING, b"bad"), (WARNING, trailer))
    late, said = join(life)
    assert said == [CREATED, (WARNING, b"bad"), (WARNING, trailer)]
    worker.send(request(p.WORK_FAIL, handle))
    assert late.received() == [response(p.WORK_FAIL, handle)]


def test_what_looks_like_an_exit_code_is_none(life: Life, client: Asker) -> None:
    """As a worker of farm's sends what a command writes: it is not taken for one when it is sent again."""
    worker, handle = running(life, client)
    says(worker, handle, (WARNING, b"f"), (WARNING, b"arm: exit 7\n"))
    assert join(life)[1] == [CREATED, (WARNING, b"f"), (WARNING, b"arm: exit 7\n")]


def test_of_another_attempt_only_that(life: Life, client: Asker) -> None:
    worker, handle = running(life, client, b"background=1 retries=1 backoff=1")
    says(worker, handle, (DATA, b"first"), (WARNING, b"farm: exit 3\n"))
    worker.send(request(p.WORK_FAIL, handle))
    late, said = join(life)
    assert said == [CREATED]
    life.wait(2)
    assert worker.grab() == handle
    says(worker, handle, (DATA, b"second"))
    assert list(heard(late)) == [(DATA, b"second")]
    assert join(life)[1] == [CREATED, (DATA, b"second")]


def test_it_is_told_when_the_job_begins_anew(life: Life, client: Asker) -> None:
    worker, handle = running(life, client)
    says(worker, handle, (DATA, b"piece"))
    late, _ = join(life)
    worker.leave()
    ((number, body),) = map(packet, late.received())
    assert number == p.FARM_JOB_RESTARTED and body.startswith(handle)


def test_what_is_cut_is_not_passed_off_as_a_whole(life: Life, client: Asker) -> None:
    worker, handle = running(life, client)
    says(worker, handle, (DATA, b"x" * KEEPING.result_max))
    assert join(life)[1] == [CREATED, (DATA, b"x" * KEEPING.result_max)]
    says(worker, handle, (WARNING, b"y"))
    assert join(life)[1] == [CREATED, JOINED]


def test_of_a_foreground_job_nothing_is_kept(life: Life, client: Asker) -> None:
    worker, handle = running(life, client, b"")
    says(worker, handle, (DATA, b"piece"))
    assert join(life)[1] == [CREATED, JOINED]


def test_nor_all_of_one_that_became_a_background_job(life: Life, client: Asker) -> None:
    worker, handle = running(life, client, b"")
    says(worker, handle, (DATA, b"piece"))
    assert client.submit(b"f", unique=b"k") == handle
    says(worker, handle, (DATA, b"more"))
    assert join(life)[1] == [CREATED, JOINED]


def test_but_all_of_one_that_became_one_before_it_said_anything(life: Life, client: Asker) -> None:
    worker, handle = running(life, client, b"")
    assert client.submit(b"f", unique=b"k") == handle
    says(worker, handle, (DATA, b"piece"))
    assert join(life)[1] == [CREATED, (DATA, b"piece")]


def test_where_nothing_is_to_be_kept() -> None:
    life = Life(Rules())
    worker, handle = running(life, life.farm_client())
    says(worker, handle, (DATA, b"piece"))
    assert join(life)[1] == [CREATED, JOINED]


def test_who_listens_already_is_not_told_again(life: Life, client: Asker) -> None:
    worker, handle = running(life, client)
    late, _ = join(life)
    says(worker, handle, (DATA, b"piece"))
    late.send(request(p.SUBMIT_JOB, b"f", b"k", b""))
    assert list(heard(late)) == [(DATA, b"piece"), CREATED, JOINED]


def test_a_stock_client_hears_the_rest_as_from_gearmand(life: Life, client: Asker) -> None:
    worker, handle = running(life, client)
    says(worker, handle, (DATA, b"one "))
    stock, said = join(life, b"")
    assert said == [CREATED]
    says(worker, handle, (DATA, b"two"))
    assert list(heard(stock)) == [(DATA, b"two")]


def test_after_a_restart_of_the_server_it_is_another_attempt(life: Life, client: Asker) -> None:
    worker, handle = running(life, client)
    says(worker, handle, (DATA, b"piece"))
    life = life.again()
    _, said = join(life)
    assert said == [CREATED]
    worker = life.farm_worker(b"f")
    worker.send(GRAB)
    says(worker, handle, (DATA, b"anew"))
    assert join(life)[1] == [CREATED, (DATA, b"anew")]
