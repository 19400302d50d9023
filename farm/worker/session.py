"""One connection's conversation, from the side of a worker that does one job at a time.

Pure: packets in, packets out through `send`. Which packet may come when is a table. It must know neither sockets nor
time, nor what a job does. (`link.py` is the same for slots, which run commands.)
"""

from __future__ import annotations

from collections.abc import Callable

from farm.errors import NotGearman, PacketRefused, Unavailable
from farm.protocol import extension, packets
from farm.protocol.names import quoted, words_of
from farm.protocol.packets import ERROR, KINDS, NOOP, request, split

GREETING = "greeting"  # waiting for the first answer
AWAKE = "awake"  # the server may have a job, but has not been asked
GRABBING = "grabbing"  # it has been asked
ASLEEP = "asleep"  # it had none, and will say when it has
HOLDING = "holding"  # it gave one, which is being done
LEAVING = "leaving"  # everything is sent; waiting for the server's word that it has arrived
LEFT = "left"

# (state, packet) -> next state. A missing key is the server's fault.
MOVES = {
    (GREETING, packets.OPTION_RES): AWAKE,
    (GREETING, ERROR): AWAKE,  # a stock server's answer
    (GRABBING, packets.NO_JOB): ASLEEP,
    (GRABBING, packets.JOB_ASSIGN): HOLDING,
    (GRABBING, packets.JOB_ASSIGN_UNIQ): HOLDING,
    (GRABBING, packets.JOB_ASSIGN_ALL): HOLDING,
    (ASLEEP, NOOP): AWAKE,
    (LEAVING, packets.ECHO_RES): LEFT,
    **{(state, NOOP): state for state in (AWAKE, GRABBING, HOLDING, LEAVING)},  # it crossed something of ours
    **{(state, ERROR): state for state in (AWAKE, GRABBING, ASLEEP, HOLDING, LEAVING)},
    # Of a job that ended just now, too.
    **{(state, packets.FARM_JOB_CANCEL): state for state in (AWAKE, GRABBING, ASLEEP, HOLDING, LEAVING)},
}


class Assigned:
    """A job as the server gave it."""

    __slots__ = ("function", "handle", "payload", "unique")

    def __init__(self, handle: bytes, function: bytes, unique: bytes, payload: bytes) -> None:
        self.handle = handle
        self.function = function
        self.unique = unique
        self.payload = payload


class Session:
    """The state of one connection.

    server: its address, for messages. extension: it is farm's. job: what it gave. cancelled: nobody wants that any
    more. complaint: an error that it sent, in words, for the owner to take.
    """

    def __init__(self, server: str, send: Callable[[tuple[bytes, ...]], None]) -> None:
        self.state = GREETING
        self.server = server
        self.extension = False
        self.job: Assigned | None = None
        self.cancelled = False
        self.complaint = ""
        self._send = send

    def greet(self, name: bytes, functions: dict[bytes, int]) -> None:
        """Say who this is and what it can do. functions: name -> timeout in ms, 0: none."""
        self._send((request(packets.OPTION_REQ, extension.OPTION),))
        self._send((request(packets.SET_CLIENT_ID, name),))
        for function, timeout_ms in functions.items():
            if timeout_ms:
                self._send((request(packets.CAN_DO_TIMEOUT, function, b"%d" % timeout_ms),))
            else:
                self._send((request(packets.CAN_DO, function),))

    def grab(self) -> None:
        """Ask for a job."""
        assert self.state == AWAKE
        self.state = GRABBING
        self._send((request(packets.GRAB_JOB_ALL),))

    def rouse(self) -> None:
        """Ask again soon, though the server has not said that it has a job."""
        if self.state == ASLEEP:
            self.state = AWAKE

    def ended(self) -> None:
        """The end of the job was sent."""
        assert self.state == HOLDING
        self.state, self.job, self.cancelled = AWAKE, None, False

    def leave(self) -> None:
        """Ask for the server's word that everything has arrived. A socket closed with unread input is reset, and the
        reset may overtake the last result."""
        if self.state in (AWAKE, ASLEEP):
            self.state = LEAVING
            self._send((request(packets.ECHO_REQ, b"leaving"),))
        elif self.state != LEAVING:
            self.state = LEFT  # nothing that must arrive; a job that was just given goes back

    def receive(self, number: int, body: bytes) -> None:
        """One packet. Raises NotGearman for what no server sends a worker now, Unavailable when it takes no workers."""
        kind = KINDS.get(number)
        if kind is None:
            raise NotGearman(f"the server at {self.server} does not speak Gearman: it said {quoted(body[:40])}")
        state = MOVES.get((self.state, number))
        if state is None:
            raise NotGearman(f"the server at {self.server} sent an unexpected {kind.name}")
        try:
            args = split(kind, body)
        except PacketRefused as refused:
            raise NotGearman(f"the server at {self.server} does not speak Gearman: {refused.text.decode()}") from None
        if number == ERROR:
            self._error(args)
        elif number == packets.OPTION_RES:
            self.extension = True
        elif number == packets.NO_JOB:
            self._send((request(packets.PRE_SLEEP),))
        elif number == packets.FARM_JOB_CANCEL:
            self.cancelled = self.cancelled or (self.job is not None and self.job.handle == args[0])
        elif state == HOLDING and self.state == GRABBING and number != NOOP:
            unique = args[2] if number != packets.JOB_ASSIGN else b""
            self.job = Assigned(args[0], args[1], unique, args[-1])
        self.state = state

    def _error(self, args: list[bytes]) -> None:
        code, text = args
        if self.state == GREETING:
            if code in (b"TOO_MANY_CONNECTIONS", b"SHUTDOWN"):
                raise Unavailable(words_of(text))
        elif code != b"JOB_NOT_FOUND":  # the server has given up the job meanwhile
            self.complaint = f"{words_of(text)} ({words_of(code)})"
