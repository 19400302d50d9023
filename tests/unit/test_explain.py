"""What `farm explain` says of a job that has ended and cannot be run again, or not yet."""

from __future__ import annotations

import pytest

from farm.broker import explain
from farm.broker.job import id_of
from farm.broker.stops import STOP_MAX_S
from farm.protocol import packets as p
from farm.protocol.packets import request
from tests.unit.bench_life import Asker, Life, completes
from tests.unit.test_stops import codes, stopping


def told(client: Asker, handle: bytes) -> list[tuple[str, str]]:
    """Text and hint of each reason."""
    return [(reason["text"], reason["hint"]) for reason in client.ask("explain", id=handle.decode())["reasons"]]


def outcome(client: Asker, handle: bytes) -> str:
    """Of `farm retry`."""
    return str(client.ask("retry", ids=[handle.decode()])["results"][0]["outcome"])


REPORTED = "it can be run again when worker slow has reported its end, or has gone"
FOR_EVER = "; a function of the library, or a stock worker, goes on for as long as it likes"


def test_no_retry_is_offered_while_the_job_is_held(life: Life, client: Asker) -> None:
    """As by a function of the library, which cannot be stopped."""
    worker, handle = stopping(life, client)
    id = handle.decode()
    logs, then = f"farm logs {id}", f"then: farm retry {id}"
    assert told(client, handle)[0] == ("it has ended: cancelled", logs)
    assert told(client, handle)[2] == (REPORTED, then)
    life.wait(STOP_MAX_S + 1)
    assert told(client, handle)[1:] == [(REPORTED + FOR_EVER, then)]
    assert outcome(client, handle) == "live"
    completes(worker, handle)
    assert told(client, handle) == [("it has ended: cancelled", f"{logs}; farm retry {id}")]
    assert outcome(client, handle) == "queued"


@pytest.mark.parametrize(("cancelled", "latest"), [(1.0, 30.0), (20.0, 36.0)])
def test_until_when_a_job_with_a_time_limit_is_held(life: Life, client: Asker, cancelled: float, latest: float) -> None:
    worker = life.farm_worker()
    worker.send(request(p.SET_CLIENT_ID, b"slow"), request(p.CAN_DO_TIMEOUT, b"f", b"30000"))
    handle = client.submit(b"f")
    worker.grab()
    life.wait(cancelled + 1)
    client.ask("cancel", ids=[handle.decode()])
    left = latest - cancelled - 1
    assert told(client, handle)[2][0] == f"{REPORTED}, in {left:.1f} s at the latest"
    life.wait(left - 0.1)
    assert outcome(client, handle) == "live"
    life.wait(0.2)
    assert outcome(client, handle) == "queued"


def test_until_when_a_dead_jobs_command_is_waited_for(life: Life, client: Asker) -> None:
    worker = life.farm_worker(b"f")
    worker.send(request(p.SET_CLIENT_ID, b"slow"))
    handle = client.submit(b"f", b"background=1 timeout=5")
    worker.grab()
    life.wait(5)
    life.wait(5)
    assert told(client, handle)[2][0] == f"{REPORTED}, in {STOP_MAX_S - 5:.1f} s at the latest"
    life.wait(STOP_MAX_S - 5)
    assert codes(client, handle) == ["ended"]
    assert outcome(client, handle) == "queued"


def test_of_a_job_at_a_stock_worker(life: Life, client: Asker) -> None:
    worker = life.worker(b"f")
    worker.send(request(p.SET_CLIENT_ID, b"slow"))
    handle = client.submit(b"f")
    worker.grab()
    client.ask("cancel", ids=[handle.decode()])
    assert codes(client, handle) == ["ended", "held"]
    assert told(client, handle)[1][0] == REPORTED + FOR_EVER


def test_what_else_stands_against_a_retry(life: Life, client: Asker) -> None:
    handle = client.submit(b"f", unique=b"k")
    client.ask("cancel", ids=[handle.decode()])
    other = client.submit(b"f", unique=b"k")
    assert told(client, handle) == [
        ("it has ended: cancelled", f"farm logs {handle.decode()}"),
        (
            f"it cannot be run again while {other.decode()} lives, which has its unique key",
            f"farm explain {other.decode()}",
        ),
    ]
    assert outcome(client, handle) == "exists"


def test_of_one_whose_payload_is_not_kept(life: Life, client: Asker) -> None:
    handle = client.submit(b"f")
    client.ask("cancel", ids=[handle.decode()])
    past = life.store.about(id_of(handle))
    assert past is not None
    ended, gone = explain.of_past(life.broker, past._replace(payload_size=-1), life.now)
    assert ended["hint"] == f"farm logs {handle.decode()}"
    assert (gone["code"], gone["text"]) == ("gone", "its payload is not kept any more: it cannot be run again")
