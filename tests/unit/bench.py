"""A broker on a workbench: connections that send real bytes and see real bytes, a clock to turn, and no socket.

It does what the server does in one turn for each chunk: decode, decide, close what was refused. `broker.check()` is
asked after each, so every test of the rules is a test of the invariants too.
"""

from __future__ import annotations

from farm.broker import dispatch
from farm.broker.broker import DEFAULT, Broker, Rules
from farm.broker.effects import Change, Effects
from farm.broker.peer import Peer
from farm.protocol import packets as p
from farm.protocol.decoder import Decoder
from farm.protocol.limits import TEXT_LINE_MAX
from farm.protocol.packets import request, response

NOOP = response(p.NOOP)
NO_JOB = response(p.NO_JOB)
GRAB = request(p.GRAB_JOB)
SLEEP = request(p.PRE_SLEEP)


class Rig:
    """changes: what was to be stored, in order."""

    def __init__(self, shard: int = 1, rules: Rules = DEFAULT, line_max: int = TEXT_LINE_MAX) -> None:
        self.line_max = line_max
        self.broker = Broker(shard, rules)
        self.now = 100.0
        self.changes: list[Change] = []
        self.wires: dict[int, Wire] = {}

    def connect(self, *sends: bytes) -> Wire:
        """A new connection that sends this first."""
        id = len(self.wires) + 1
        wire = self.wires[id] = Wire(self, self.broker.connect(id, 10 + id, f"10.0.0.{id}"))
        if sends:
            wire.send(*sends)
        return wire

    def worker(self, *functions: bytes) -> Wire:
        """A connection that registered for these functions, in this order."""
        return self.connect(*(request(p.CAN_DO, function) for function in functions))

    def client(self, *options: bytes) -> Wire:
        """A connection that asked for these options, and has read the answers."""
        client = self.connect(*(request(p.OPTION_REQ, option) for option in options))
        client.received()
        return client

    def wait(self, seconds: float) -> None:
        """Let time pass, deadline by deadline, as the server does."""
        until = self.now + seconds
        while (deadline := self.broker.next_deadline()) is not None and deadline <= until:
            self.now = max(self.now, deadline)
            self.broker.tick(self.now)
            self.turn()
        self.now = until
        self.turn()

    def turn(self) -> None:
        """Carry out what the rules decided, and what follows from that."""
        while self.broker.effects:
            effects, self.broker.effects = self.broker.effects, Effects()
            self.changes += effects.changes
            for id, packet in effects.sends:
                self.wires[id].deliver(packet)
            for wire in self.wires.values():
                if wire.closed:
                    wire.forget()
        self.broker.check()


class Wire:
    """The other end of one connection. closed: by the server."""

    def __init__(self, rig: Rig, peer: Peer) -> None:
        self.rig = rig
        self.peer = peer
        self.closed = False
        self._decoder = Decoder(line_max=rig.line_max)
        self._inbox = b""

    def send(self, *packets: bytes) -> Wire:
        """All of this in one chunk."""
        assert not self.closed
        for number, body in self._decoder.feed(b"".join(packets)):
            dispatch.receive(self.rig.broker, self.peer, number, body, self.rig.now)
        self.rig.turn()
        return self

    def submit(self, function: bytes, payload: bytes = b"", unique: bytes = b"", number: int = p.SUBMIT_JOB) -> bytes:
        """Submit a job; returns its handle."""
        self.send(request(number, function, unique, payload))
        created = self.received().pop(0)
        assert created[:8] == response(p.JOB_CREATED)[:8], created
        return created[12:]

    def grab(self) -> bytes:
        """Grab a job; returns its handle."""
        self.send(GRAB)
        assigned = self.received().pop()
        assert assigned[:8] == response(p.JOB_ASSIGN)[:8], assigned
        return assigned[12:].partition(b"\0")[0]

    def received(self) -> list[bytes]:
        """What came since the last time: whole packets, and whatever is no packet in one piece."""
        data, self._inbox = self._inbox, b""
        packets = []
        while data[:1] == b"\0":
            end = 12 + int.from_bytes(data[8:12], "big")
            assert len(data) >= end, "a part of a packet"
            packets.append(data[:end])
            data = data[end:]
        return [*packets, data] if data else packets

    def ask(self, line: bytes) -> bytes:
        """Send an admin line; returns the answer."""
        self.send(line)
        return b"".join(self.received())

    def leave(self) -> None:
        """Close the connection."""
        self.forget()
        self.rig.turn()

    def deliver(self, packet: bytes | None) -> None:
        """What the server sends; None closes."""
        if packet is None:
            self.closed = True
        elif not self.closed:
            self._inbox += packet

    def forget(self) -> None:
        """The rules hear that the connection is gone."""
        if self.peer.id in self.rig.broker.peers:
            self.rig.broker.disconnect(self.peer, self.rig.now)


def error(code: bytes, text: bytes) -> bytes:
    """An ERROR packet."""
    return response(p.ERROR, code, text)
