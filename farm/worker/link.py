"""A worker's connection to one server: opened, kept, and opened again; never waited for.

Which packet may come when is a small state table. What to do with a job is the slot's business (`slot.py`).
"""

from __future__ import annotations

import os
import random
import socket
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from farm.errors import FarmError, NotGearman, PacketRefused, Unavailable
from farm.loop import READ, WRITE, Loop, Timer
from farm.net import Target, reason, tune
from farm.protocol import extension, packets
from farm.protocol.address import Address
from farm.protocol.decoder import Decoder
from farm.protocol.limits import PAYLOAD_HEADER_MAX
from farm.protocol.names import shown, words_of
from farm.protocol.packets import KINDS, RESPONSE, TEXT, request, split
from farm.worker.lookup import Found, Lookups
from farm.worker.pulse import Pulse
from farm.worker.run import Assignment

if TYPE_CHECKING:
    from farm.worker.slot import Slot

DOWN = "down"  # not connected; a timer is set, or the connection is being made
GREETING = "greeting"  # connected, and waiting for the first answer
AWAKE = "awake"  # the server may have a job, but has not been asked
GRABBING = "grabbing"  # it has been asked
ASLEEP = "asleep"  # it had none, and will say when it has
HOLDING = "holding"  # it gave one, which is being run
LEAVING = "leaving"  # everything is sent; waiting for the server's word that it has arrived
CLOSED = "closed"

CONNECT_TIMEOUT_S = 4.0
ANSWER_TIMEOUT_S = 30.0  # a server answers at once; one that takes this long hangs
LEAVE_TIMEOUT_S = 5.0
RETRY_MIN_S = 0.1
RETRY_MAX_S = 10.0
OUT_HIGH = 1024 * 1024  # the command waits while this much has not been taken by the server
OUT_LOW = 256 * 1024
READ_SIZE = 256 * 1024
WRITE_PIECES = 64


class Link:
    """One connection of one slot."""

    def __init__(self, address: Address, lookups: Lookups, slot: Slot, loop: Loop) -> None:
        self.address = address
        self.state = DOWN
        self.extension = False
        self._lookups = lookups
        self._slot = slot
        self._loop = loop
        self._sock: socket.socket | None = None
        self._decoder = Decoder(RESPONSE, payload_max=PAYLOAD_HEADER_MAX)
        self._targets: list[Target] = []
        self._retry_s = RETRY_MIN_S
        self._timer: Timer | None = None
        self._out: deque[bytes | memoryview] = deque()
        self._out_size = 0
        self._pulse = Pulse(loop, self._beat, self._lost)

    def __repr__(self) -> str:
        return f"<Link {self.address} {self.state}>"

    # -- connecting

    def open(self) -> None:
        """Connect, now and again until it succeeds."""
        self._set_timer(None)
        if self.state == CLOSED:
            return
        if self._targets:
            self._connect()
        else:
            self._lookups.find(self.address, self._found)

    def _found(self, found: Found) -> None:
        if self.state == CLOSED:
            return
        if isinstance(found, Unavailable):
            self._failed(found.message)
        elif isinstance(found, FarmError):
            self._slot.fail(found)
        else:
            self._targets = found
            self._connect()

    def _connect(self) -> None:
        family, where = self._targets.pop(0)
        try:
            sock = self._sock = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:  # no descriptor left: again after a while
            self._failed(reason(error))
            return
        sock.setblocking(False)
        try:
            sock.connect(where)
        except BlockingIOError:
            self._loop.watch(sock.fileno(), WRITE, self._connected)
            self._set_timer(CONNECT_TIMEOUT_S, lambda: self._failed("no answer"))
        except OSError as error:
            self._failed(reason(error))
        else:
            self._connected(WRITE)

    def _connected(self, events: int) -> None:
        assert self._sock
        error = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            self._failed(os.strerror(error).lower())
            return
        tune(self._sock)
        self._targets = []
        self.state = GREETING
        self.extension = False
        self._decoder = Decoder(RESPONSE, payload_max=PAYLOAD_HEADER_MAX)
        self._loop.watch(self._sock.fileno(), READ, self._ready)
        self._set_timer(ANSWER_TIMEOUT_S, lambda: self._failed("it does not answer"))
        # A line of text goes first: what is no Gearman server may wait for the end of a line before it says so.
        self.send((b"version\n", request(packets.OPTION_REQ, extension.OPTION)))
        self._slot.introduce(self)

    def _failed(self, words: str) -> None:
        """There is no connection, or no more: the other targets of the address, then again after a while."""
        self._drop()
        if self._targets:
            self.open()
            return
        self._slot.link_down(self, words)
        self._set_timer(self._retry_s * random.uniform(0.5, 1.0), self.open)
        self._retry_s = min(self._retry_s * 2, RETRY_MAX_S)

    def _drop(self) -> None:
        if self._sock:
            self._loop.watch(self._sock.fileno(), 0, self._ready)
            self._sock.close()
            self._sock = None
        self._out.clear()
        self._out_size = 0
        self._set_timer(None)
        self._pulse.stop()
        if self.state != CLOSED:
            self.state = DOWN

    def close(self) -> None:
        """For good."""
        self.state = CLOSED
        self._drop()

    def leave(self) -> None:
        """Close once the server has everything. A socket closed with unread input is reset, and the reset may overtake
        the last result; the answer to an ECHO_REQ says that nothing is on its way any more."""
        if self.state in (LEAVING, CLOSED):
            return
        if self.state in (DOWN, GREETING, GRABBING):  # nothing that must arrive; a job that was just given goes back
            self.close()
            self._slot.link_closed(self)
            return
        self.state = LEAVING
        self._set_timer(LEAVE_TIMEOUT_S, self._left)
        self.send((request(packets.ECHO_REQ, b"leaving"),))

    def _left(self) -> None:
        self.close()
        self._slot.link_closed(self)

    def _set_timer(self, delay_s: float | None, call: Callable[[], None] | None = None) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if delay_s is not None:
            assert call
            self._timer = self._loop.call_in(delay_s, call)

    # -- receiving

    def _ready(self, events: int) -> None:
        if events & WRITE:
            self._flush()
        if events & READ and self._sock is not None:
            self._receive()

    def _receive(self) -> None:
        assert self._sock
        try:
            chunk = self._sock.recv(READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._lost(reason(error))
            return
        if not chunk:
            self._lost("it closed the connection")
            return
        self._pulse.heard()
        for number, body in self._decoder.feed(chunk):
            try:
                self._handle(number, body)
            except PacketRefused as refused:  # an argument is missing
                self._not_gearman(refused.text.decode())
            if self.state in (DOWN, CLOSED):
                return
        if self._decoder.failed:
            self._not_gearman(self._decoder.failed.text.decode())

    def _lost(self, words: str) -> None:
        if self.state == LEAVING:
            self._left()
        else:
            self._failed(words)

    def _not_gearman(self, words: str) -> None:
        self._drop()
        self._slot.fail(
            NotGearman(
                f"the server at {self.address} does not speak Gearman: {words}",
                "check the address: is another program listening there?",
            )
        )

    def _handle(self, number: int, body: bytes) -> None:
        kind = KINDS.get(number)
        if kind is None:
            self._no_packet(number, body)
            return
        if self.state == GREETING and number in (packets.OPTION_RES, packets.ERROR):
            self._greeted(number, split(kind, body))
        elif number == packets.NOOP:
            if self.state == ASLEEP:
                self.state = AWAKE
                self._slot.next()
        elif number == packets.NO_JOB:
            if self.state == GRABBING:
                self.state = ASLEEP
                self.send((request(packets.PRE_SLEEP),))
                self._slot.next()
        elif number in _ASSIGNS:
            self._assigned(number, split(kind, body))
        elif number == packets.ECHO_RES:
            if self.state == LEAVING:
                self._left()
        elif number == packets.ERROR:
            self._error(split(kind, body))
        elif number in (packets.FARM_JOB_CANCEL, packets.FARM_HEARTBEAT, packets.OPTION_RES):
            self._farm_says(number, body)
        else:
            self._not_gearman(f"unexpected {kind.name}")

    def _no_packet(self, number: int, body: bytes) -> None:
        """The answer to the line that went first, a version, is the only text that a server sends."""
        if number != TEXT or self.state != GREETING or not body.startswith(b"OK "):
            self._not_gearman(f"it said {shown(body[:40])!r}")

    def _farm_says(self, number: int, body: bytes) -> None:
        """A packet of the extension."""
        if number == packets.FARM_JOB_CANCEL:
            self._slot.cancel(self, body)
        elif number == packets.FARM_HEARTBEAT:
            try:
                self._pulse.follow(body)
            except ValueError:
                self._not_gearman(f"a strange heartbeat: {shown(body[:40])!r}")

    def _greeted(self, number: int, args: list[bytes]) -> None:
        """The answer to the extension's option; a stock server does not know it."""
        if number == packets.ERROR and args[0] != b"UNKNOWN_OPTION":
            self._failed(f"it says: {words_of(args[1])}")
            return
        self._set_timer(None)
        self._retry_s = RETRY_MIN_S
        self.extension = number == packets.OPTION_RES
        self.state = AWAKE
        if self.extension:
            self.send((request(packets.OPTION_REQ, extension.OPTION_HEARTBEAT),))
        self._slot.link_up(self)

    def _error(self, args: list[bytes]) -> None:
        if args[0] != b"UNKNOWN_OPTION":  # an older farm server knows no heartbeats
            self._slot.server_error(self, args)

    def _beat(self) -> None:
        """Show that this end lives, unless there is more than enough to show it with."""
        if not self._out:
            self.send((request(packets.FARM_ALIVE),))

    def _assigned(self, number: int, args: list[bytes]) -> None:
        if self.state != GRABBING:
            self._not_gearman("a job that was not asked for")
            return
        handle, function = args[:2]
        unique = args[2] if number != packets.JOB_ASSIGN else b""
        self.state = HOLDING
        self._slot.assigned(self, Assignment(handle, function, unique, args[-1]))

    # -- sending

    def grab(self) -> None:
        """Ask for a job."""
        self.state = GRABBING
        self.send((request(packets.GRAB_JOB_ALL),))

    def send(self, pieces: tuple[bytes, ...]) -> None:
        """Queue a packet and send what the system takes."""
        if not self._sock:
            return
        self._out += pieces
        self._out_size += sum(map(len, pieces))
        self._flush()

    def _flush(self) -> None:
        while self._out and self._sock:
            pieces = [self._out[index] for index in range(min(len(self._out), WRITE_PIECES))]
            try:
                self._sent(self._sock.sendmsg(pieces))
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                # From the loop: the caller is in the middle of something that a lost link would undo.
                words = reason(error)
                self._out.clear()
                self._set_timer(0, lambda words=words: self._lost(words))  # type: ignore[misc]
                break
        if self._sock:
            self._loop.watch(self._sock.fileno(), READ | WRITE if self._out else READ, self._ready)
        if self._out_size > OUT_HIGH:
            self._slot.pause(self, True)
        elif self._out_size <= OUT_LOW:
            self._slot.pause(self, False)

    def _sent(self, size: int) -> None:
        self._out_size -= size
        while size:
            first = self._out.popleft()
            if len(first) > size:
                self._out.appendleft(memoryview(first)[size:])
                return
            size -= len(first)


_ASSIGNS = (packets.JOB_ASSIGN, packets.JOB_ASSIGN_UNIQ, packets.JOB_ASSIGN_ALL)
