"""How fast a client can be that waits for TCP's acknowledgements, as half of the packages above do.

The kernel delays an acknowledgement by 40 ms in the hope of an answer that could carry it. Where farm has none to give
it must say so at once: a gear, gearmanode or node-gearman worker did 22 jobs a second, libgearman sent 2 MB a second.
"""

from __future__ import annotations

import socket
import time

import pytest

from farm.protocol import packets as p
from tests.interop.languages.desk import Desk
from tests.support import Wire

pytestmark = [pytest.mark.interop, pytest.mark.languages]

DELAY_S = 0.04


def test_a_worker_with_nagles_algorithm(desk: Desk, function: str, wire: Wire) -> None:
    """The result of a job has no answer, and the next packet is not sent before it is acknowledged."""
    for _ in range(50):
        wire.submit(function.encode(), number=p.SUBMIT_JOB_BG)
    with desk.connect() as worker:
        worker.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
        worker.send(p.CAN_DO, function.encode())
        begin = time.monotonic()
        while body := worker.grab():
            worker.send(p.WORK_COMPLETE, body.partition(b"\0")[0], b"")
    assert time.monotonic() - begin < 50 * DELAY_S / 2


def test_a_client_with_a_small_send_buffer(desk: Desk, function: str) -> None:
    """Less than a segment of the loopback interface fits; so is libgearman's."""
    with desk.connect() as client:
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32768)
        begin = time.monotonic()
        client.submit(function.encode(), bytes(4 << 20), number=p.SUBMIT_JOB_BG)
    assert time.monotonic() - begin < (4 << 20) / 65536 * DELAY_S / 2
