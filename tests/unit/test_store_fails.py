"""A payload that only the store has, and the store does not give it."""

from __future__ import annotations

import socket
from contextlib import closing
from typing import cast

from farm.broker.broker import Rules
from farm.broker.peer import Peer
from farm.loop import Loop
from farm.protocol import packets as p
from farm.server.connection import Connection
from farm.store.contract import StoreError
from farm.store.memory import MemoryStore
from tests.unit.test_server_faults import Ring


class Unreadable(MemoryStore):
    """It keeps everything and gives nothing back."""

    def payload(self, id: int) -> bytes:
        raise StoreError("the disk does not answer")


def test_the_server_leaves_and_gives_the_worker_no_job_without_its_payload() -> None:
    ring = Ring(Unreadable(), rules=Rules(payload_memory_max=1))  # type: ignore[arg-type]
    with ring.connect() as wire:
        wire.send(p.SUBMIT_JOB_BG, b"f", b"", b"payload")
        wire.send(p.CAN_DO, b"f")
        ring.loop.turn()
        assert wire.packet()[0] == p.JOB_CREATED
        wire.send(p.GRAB_JOB)
        ring.loop.turn()
        assert ring.server.failure
        ring.close()
        wire.expect_end()


def test_an_empty_piece_at_the_end_does_not_keep_the_server_busy_for_ever() -> None:
    here, there = socket.socketpair()
    with here, there, closing(Loop()) as loop:
        connection = Connection(here, cast(Peer, None), loop, 100)
        connection.queue(b"packet")
        connection.queue(b"")
        connection.flush()
        connection.queue(b"")
        connection.flush()
        assert there.recv(100) == b"packet"
        assert connection.out_size == 0
