"""Questions that a server cannot answer before it is durable how a job ended."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing

import pytest

from farm.broker.broker import Rules
from farm.protocol import packets as p
from tests.support import Wire, req
from tests.unit.test_server_faults import Ring, SlowDisk


@pytest.fixture
def ring() -> Iterator[Ring]:
    with closing(Ring(SlowDisk(), rules=Rules(result_max=100))) as ring:
        yield ring


@pytest.fixture
def wire(ring: Ring) -> Iterator[Wire]:
    with ring.connect() as wire:
        wire.send(p.OPTION_REQ, b"farm-1")
        ring.loop.turn()
        wire.expect(p.OPTION_RES, b"farm-1")
        yield wire


def running_job(ring: Ring, wire: Wire) -> bytes:
    """A job that is durable, and that this connection runs."""
    disk = ring.server._store
    disk.go.set()  # type: ignore[attr-defined]
    wire.raw(req(p.SUBMIT_JOB_BG, b"f", b"", b"") + req(p.CAN_DO, b"f") + req(p.GRAB_JOB))
    ring.turn_until(lambda: ring.server._journal.durable == 1)
    _, handle = wire.packet()
    assert wire.packet()[0] == p.JOB_ASSIGN
    disk.go.clear()  # type: ignore[attr-defined]
    return handle


def question(handle: bytes) -> bytes:
    return req(p.FARM_ASK, b"job", b'{"id": "%b"}' % handle, b"")


def asked(ring: Ring, wire: Wire) -> str:
    """The state that the answer tells, for which nothing else need happen than that the commit ends."""
    ring.turn_until(lambda: bool(ring.server._later))
    ring.server._store.go.set()  # type: ignore[attr-defined]
    ring.turn_until(lambda: not ring.server._later and not ring.server._broker.later)
    number, body = wire.packet()
    assert number == p.FARM_ANSWER, (number, body)
    return str(json.loads(body.partition(b"\0")[2])["job"]["state"])


def test_one_that_comes_while_the_end_is_on_its_way_is_answered_when_nothing_else_happens(
    ring: Ring, wire: Wire
) -> None:
    handle = running_job(ring, wire)
    wire.send(p.WORK_COMPLETE, handle, b"")
    ring.turn_until(lambda: ring.server._journal.behind)
    wire.raw(question(handle))
    assert asked(ring, wire) == "done"


def test_one_that_comes_in_the_same_turn_as_the_end_waits_for_it(ring: Ring, wire: Wire) -> None:
    handle = running_job(ring, wire)
    wire.raw(req(p.WORK_COMPLETE, handle, b"") + question(handle))
    assert asked(ring, wire) == "done"
