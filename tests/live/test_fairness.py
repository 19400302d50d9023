"""What one connection sends at once may be work for seconds: the others are served in between."""

from __future__ import annotations

import threading
import time

import pytest

from farm.protocol import packets as p
from farm.server.config import TURN_S
from tests.live.conftest import Start
from tests.support import PATIENCE_S, Wire, req, wait_until

FUNCTIONS = 5000
COUNT = 2000
SLOW_S = 15 * TURN_S  # without turns it is seconds
MANY = 20  # echoes during one flood: on a machine so loaded that a turn takes that long, a flood takes longer too

UNKNOWN = b"no such key"
FLOODS = {
    "sleep": (req(p.PRE_SLEEP), []),
    "grab": (req(p.GRAB_JOB), [(p.NO_JOB, b"")]),
    "unique": (
        req(p.GET_STATUS_UNIQUE, UNKNOWN),
        [(p.STATUS_RES_UNIQUE, b"\0".join((UNKNOWN, b"0", b"0", b"0", b"0", b"0")))],
    ),
}


@pytest.mark.alone
@pytest.mark.parametrize("kind", FLOODS)
def test_a_flood_keeps_nobody_waiting(start: Start, kind: str) -> None:
    """And all of it is answered, in order. The one who sends it can do 5,000 functions, and many packets walk over
    them."""
    packet, answers = FLOODS[kind]
    server = start()
    with server.connect() as flooder, server.connect() as other:
        flooder.raw(b"".join(req(p.CAN_DO, b"function%d" % n) for n in range(FUNCTIONS)))
        flooder.expect_nothing()
        other.expect_nothing()
        wrong: list[object] = []

        def flood() -> None:
            flooder.raw(packet * COUNT + req(p.ECHO_REQ, b"end"))
            wrong.extend(found for wanted in answers * COUNT if (found := flooder.packet()) != wanted)
            flooder.expect(p.ECHO_RES, b"end")

        thread = threading.Thread(target=flood)
        thread.start()
        times = [echo_s(other)]
        while thread.is_alive():
            times.append(echo_s(other))
        thread.join(PATIENCE_S)
        assert not wrong
        assert max(times) < SLOW_S or len(times) > MANY


def echo_s(wire: Wire) -> float:
    """How long it takes."""
    began = time.monotonic()
    wire.expect_nothing()
    return time.monotonic() - began


def test_a_flood_whose_sender_leaves(start: Start) -> None:
    """What had come of it is forgotten with it, and its job goes to another worker."""
    server = start()
    with server.connect() as other:
        with server.connect() as flooder:
            flooder.raw(b"".join(req(p.CAN_DO, b"function%d" % n) for n in range(FUNCTIONS)))
            other.submit(b"function1", b"payload")
            assert flooder.grab()
            flooder.raw(req(p.PRE_SLEEP) * 1000)
        wait_until(lambda: len(other.listing(b"workers")) == 1, what="it has gone")
        other.send(p.CAN_DO, b"function1")
        assert other.grab().endswith(b"payload")


def test_a_flood_ends_in_its_fault(start: Start) -> None:
    """What is wrong in the middle closes the connection there, after whatever came before it was taken."""
    server = start()
    with server.connect() as flooder, server.connect() as other:
        flooder.raw(b"".join(req(p.CAN_DO, b"function%d" % n) for n in range(FUNCTIONS)))
        flooder.expect_nothing()
        flooder.raw(req(p.PRE_SLEEP) * 1000 + req(p.SUBMIT_JOB_BG, b"g", b"", b"1") + b"\0XXX" + bytes(8))
        assert flooder.packet()[0] == p.JOB_CREATED
        flooder.expect_error(b"INVALID_MAGIC")
        flooder.expect_end()
        assert b"g\t1\t0\t0\n" in other.listing(b"status")


def test_draining_takes_what_has_come(start: Start) -> None:
    """A job at the end of a flood is one of those that a drain waits for."""
    server = start()
    with server.connect() as flooder, server.connect() as worker:
        flooder.raw(b"".join(req(p.CAN_DO, b"function%d" % n) for n in range(FUNCTIONS)))
        flooder.expect_nothing()
        worker.send(p.CAN_DO, b"g")
        worker.expect_nothing()
        flooder.raw(req(p.PRE_SLEEP) * 1000 + req(p.SUBMIT_JOB, b"g", b"", b"1"))
        worker.expect_nothing()
        server.drain()
        assert flooder.packet()[0] == p.JOB_CREATED
        assert worker.grab()
