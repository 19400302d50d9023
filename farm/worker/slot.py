"""A slot runs one job at a time, from whichever of its servers has one; `-j 4` means four slots.

Each slot has a connection of its own to each server, as if it were a worker process: so every server counts it as one
worker, and a client that reads slowly holds up its own job's connection and no other.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from farm.errors import FarmError
from farm.protocol import packets
from farm.protocol.names import shown, words_of
from farm.protocol.packets import request
from farm.worker.link import ASLEEP, AWAKE, CLOSED, GRABBING, HOLDING, Link
from farm.worker.run import Assignment, Run

if TYPE_CHECKING:
    from farm.loop import Loop, Timer
    from farm.worker.worker import Worker

POLL_S = 30.0  # a sleeping slot asks again after so long, in case a server has lost the wake-up (gearmand can)


class Slot:
    """One job at a time."""

    def __init__(self, number: int, worker: Worker, loop: Loop) -> None:
        self.number = number
        self.run: Run | None = None
        self._worker = worker
        self._loop = loop
        self._holder: Link | None = None  # the link that the running job came from; None when that was lost
        self._stopping = False
        self._aborted = False
        self._poll: Timer | None = None
        self.links = [Link(address, worker.lookups, self, loop) for address in worker.config.servers]

    def start(self) -> None:
        """Connect to every server."""
        for link in self.links:
            link.open()

    @property
    def closed(self) -> bool:
        """Whether nothing is left to do here."""
        return self.run is None and all(link.state == CLOSED for link in self.links)

    # -- what links tell

    def introduce(self, link: Link) -> None:
        """A connection was made: say who this is and what it can do."""
        config = self._worker.config
        name = f"{config.name}-{self.number}" if config.slots > 1 else config.name
        link.send((request(packets.SET_CLIENT_ID, os.fsencode(name)),))
        link.send((request(packets.CAN_DO, config.function),))

    def link_up(self, link: Link) -> None:
        """The server answered."""
        self._worker.server_up(link.address)
        self.next()

    def link_down(self, link: Link, words: str) -> None:
        """The connection failed. A job that came through it is given to somebody else: its command must not run on."""
        self._worker.server_down(link.address, words)
        if self._holder is link:
            self._holder = None
            if self.run:
                self._worker.say(f"job {shown(self.run.job.handle)}: ending its command, its server has gone")
                self.run.abort()
        self.next()

    def link_closed(self, link: Link) -> None:
        """A link that was told to leave has done so."""
        self._worker.check_closed()

    def fail(self, failure: FarmError) -> None:
        """Something that trying again cannot mend."""
        self._worker.fail(failure)

    def server_error(self, link: Link, args: list[bytes]) -> None:
        """ERROR: the server did not like something, such as the report on a job that it has given up."""
        code, text = args
        if code != b"JOB_NOT_FOUND":
            self._worker.complain(f"the server at {link.address} says: {words_of(text)} ({words_of(code)})")

    def cancel(self, link: Link, handle: bytes) -> None:
        """The server says that nobody wants the job any more."""
        if self.run and self._holder is link and self.run.job.handle == handle:
            self._worker.trace(f"job {shown(handle)}: cancelled")
            self.run.cancel()

    def pause(self, link: Link, paused: bool) -> None:
        """The server takes what the command writes more slowly than it comes."""
        if self.run and self._holder is link and self.run.child:
            self.run.child.pause(paused)

    # -- one job after the other

    def next(self) -> None:
        """If there is nothing to do: ask the next server that may have a job."""
        if self.run or any(link.state == GRABBING for link in self.links):
            return
        if self._stopping:
            self._leave()
            return
        for link in self.links:
            if link.state == AWAKE:
                # Turns: the server that was asked is the last to be asked again.
                self.links.remove(link)
                self.links.append(link)
                link.grab()
                return
        if not self._poll:
            self._poll = self._loop.call_in(POLL_S, self._poll_again)

    def _poll_again(self) -> None:
        self._poll = None
        for link in self.links:
            if link.state == ASLEEP:
                link.state = AWAKE
        self.next()

    def assigned(self, link: Link, job: Assignment) -> None:
        """A server gave a job: run it."""
        config = self._worker.config
        self._holder = link
        self._worker.trace(f"job {shown(job.handle)}: started, {len(job.payload)} bytes")
        self.run = Run(
            job,
            config.argv,
            self._loop,
            link.send,
            self._ended,
            mark_begin=not link.extension,
            collect=config.collect,
            guard=self._worker.guard,
            linger_s=config.linger_s,
        )

    def _ended(self, code: int) -> None:
        assert self.run
        self._worker.trace(f"job {shown(self.run.job.handle)}: exit {code}")
        holder, self.run, self._holder = self._holder, None, None
        if holder and self._aborted:
            holder.close()
        if holder and holder.state == HOLDING:
            holder.state = AWAKE
        self.next()
        self._worker.check_closed()

    # -- stopping

    def stop(self) -> None:
        """Take no more jobs; the one that runs is finished and reported first."""
        self._stopping = True
        for link in list(self.links):
            if link is not self._holder:
                link.leave()
        self.next()

    def abort(self) -> None:
        """End the command now and hand its job back: when it has ended, and not before, the connection closes without a
        report, and the job is given to another worker."""
        self._stopping = self._aborted = True
        for link in self.links:
            if link is not self._holder:
                link.close()
        if self.run:
            self.run.abort()
        elif self._holder:
            self._holder.close()

    def _leave(self) -> None:
        for link in list(self.links):
            if link.state != CLOSED:
                link.leave()
