"""What a recorded server was told and has said, read from its connections: so what a power cut must leave it."""

from __future__ import annotations

import struct
from collections import deque

from farm.protocol import packets as p
from tests.reliability.power.disk import Op

BACKGROUND = {p.SUBMIT_JOB_HIGH_BG: 0, p.SUBMIT_JOB_BG: 1, p.SUBMIT_JOB_LOW_BG: 2, p.SUBMIT_JOB_EPOCH: 1}
FOREGROUND = {p.SUBMIT_JOB_HIGH: 0, p.SUBMIT_JOB: 1, p.SUBMIT_JOB_LOW: 2}

# What a job is: function, unique key, priority, payload, and when it is due.
Content = tuple[bytes, bytes, int, bytes, float]


class _Peer:
    """One connection as the server sees it."""

    def __init__(self) -> None:
        self.incoming = bytearray()
        self.outgoing = bytearray()
        self.asked: deque[tuple[bool, Content]] = deque()  # submissions without an answer; whether in the background
        self.ended: list[int] = []  # jobs that it has reported as ended, since the last ECHO_REQ that was answered
        self.echoes: deque[int] = deque()  # how many of those each unanswered ECHO_REQ is about


class Book:
    """acknowledged: every background job that the server has promised to keep, by id. may_end: those whose end it has
    been told. ended: those of which it has said that the end is durable, in order."""

    def __init__(self) -> None:
        self.submitted: dict[Content, int] = {}  # how often
        self.acknowledged: dict[int, Content] = {}
        self.may_end: set[int] = set()
        self.ended: dict[int, bytes] = {}  # with the result
        self._results: dict[int, bytes] = {}
        self._peers: dict[int, _Peer] = {}

    def due(self) -> set[int]:
        """The ids of the jobs that must be there."""
        return self.acknowledged.keys() - self.may_end

    def do(self, op: Op) -> None:
        """A record about a connection."""
        if op.kind == "A":
            self._peers[op.fd] = _Peer()
            return
        peer = self._peers[op.fd]
        stream = peer.incoming if op.kind == "<" else peer.outgoing
        stream += op.data
        while len(stream) >= 12:
            number, size = struct.unpack_from(">II", stream, 4)
            if len(stream) < 12 + size:
                break
            body = bytes(stream[12 : 12 + size])
            del stream[: 12 + size]
            (self._told if op.kind == "<" else self._said)(peer, number, body)

    def _told(self, peer: _Peer, number: int, body: bytes) -> None:
        if number in BACKGROUND or number in FOREGROUND:
            function, unique, *due, payload = body.split(b"\0", 3 if number == p.SUBMIT_JOB_EPOCH else 2)
            priority = BACKGROUND.get(number, FOREGROUND.get(number, 1))
            content = (function, unique, priority, payload, float(due[0]) if due else 0.0)
            self.submitted[content] = self.submitted.get(content, 0) + 1
            peer.asked.append((number in BACKGROUND, content))
        elif number in (p.WORK_COMPLETE, p.WORK_FAIL):
            handle, _, result = body.partition(b"\0")
            id = id_of(handle)
            self.may_end.add(id)
            self._results[id] = result
            peer.ended.append(id)
        elif number == p.ECHO_REQ:
            peer.echoes.append(len(peer.ended))

    def _said(self, peer: _Peer, number: int, body: bytes) -> None:
        if number == p.JOB_CREATED:
            background, content = peer.asked.popleft()
            if background:
                self.acknowledged.setdefault(id_of(body), content)
        elif number == p.ECHO_RES:
            count = peer.echoes.popleft()
            for id in peer.ended[:count]:
                self.ended[id] = self._results[id]
            del peer.ended[:count]
            peer.echoes = deque(left - count for left in peer.echoes)
        else:
            assert number != p.ERROR, body


def id_of(handle: bytes) -> int:
    """The id of a job, from its handle."""
    _, shard, sequence = handle.split(b":")
    return int(shard, 16) << 40 | int(sequence)
