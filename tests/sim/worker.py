"""A simulated worker: registers, grabs, works, reports; and, while the world is not quiet, dies, hangs and lies.

It grabs only after it connected, after it ended a job, and after a NOOP: whoever forgets to wake it leaves its jobs
lying.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from farm.protocol import packets
from tests.sim.end import End
from tests.sim.model import Wrong

if TYPE_CHECKING:
    from tests.sim.world import World

BUSY, GRABBING, ASLEEP, HUNG = "busy", "grabbing", "asleep", "hung"
_REPORTS = (packets.WORK_DATA, packets.WORK_WARNING, packets.WORK_STATUS)
_HEADS = {packets.JOB_ASSIGN: 2, packets.JOB_ASSIGN_UNIQ: 3, packets.JOB_ASSIGN_ALL: 4}  # arguments before the payload
_STRANGE = (*_REPORTS, packets.WORK_COMPLETE, packets.WORK_FAIL, packets.WORK_EXCEPTION)


class Worker(End):
    """jobs: handle -> payload of what it runs. slots: how many it runs at a time. patient: it never misbehaves, and
    registers only after it has gone to sleep."""

    def __init__(self, world: World, name: str, patient: bool = False) -> None:
        super().__init__(world, name)
        rng = self.rng
        self.patient = patient
        self.jobs: dict[bytes, bytes] = {}
        self.phase = BUSY
        self._slots = 1 if patient or rng.random() < 0.6 else 3
        self._grab = rng.choice((packets.GRAB_JOB, packets.GRAB_JOB_UNIQ, packets.GRAB_JOB_ALL))
        self._functions = (
            world.functions if patient else rng.sample(world.functions, rng.randint(1, len(world.functions)))
        )
        self._refusals = 0  # ERRORs that it has asked for
        self._options = 0
        self._timed = rng.random() < 0.5  # it says how long it may take, and may find that a job was taken from it
        self._after_exception = 0.3 if rng.random() < 0.5 else 0.0
        self._connection = 0  # counts, so that what was planned on an old connection is dropped

    def begin(self) -> None:
        """See End."""
        self._connection += 1
        self.send(packets.SET_CLIENT_ID, self.name.encode())
        if self.farm:
            self._options += 1
            self.send(packets.OPTION_REQ, b"farm-1")
        if self.patient or self.rng.random() < 0.2:
            self._sleep()
            self._later(self.rng.uniform(0.05, 0.3), self._register)
            return
        self._register()
        if self.rng.random() < 0.5:
            self._fetch()
        else:
            self._sleep()

    def lost(self) -> None:
        """See End. Its work goes on nowhere: the server gives it to somebody else."""
        self._connection += 1
        self.jobs.clear()
        self.phase = BUSY
        self._refusals = self._options = 0

    def _later(self, delay_s: float, deed, *args: object) -> None:  # type: ignore[no-untyped-def]
        """Do something later unless the connection is gone by then."""
        connection = self._connection
        self.world.later(delay_s, lambda: deed(*args) if connection == self._connection else None)

    def _register(self) -> None:
        for function in self._functions:
            if self._timed and self.rng.random() < 0.8:
                self.send(packets.CAN_DO_TIMEOUT, function, self.rng.choice((b"500", b"1250", b"5000")))
            else:
                self.send(packets.CAN_DO, function)

    def _fetch(self) -> None:
        self.phase = GRABBING
        self.send(self._grab)

    def _sleep(self) -> None:
        self.phase = ASLEEP
        self.send(packets.PRE_SLEEP)

    # -- what it is told

    def receive(self, number: int, body: bytes) -> None:
        """See End."""
        if number in _HEADS:
            self._assigned(number, body)
        elif number == packets.NO_JOB:
            if self.phase != GRABBING:
                raise Wrong(f"{self.name} is told NO_JOB and did not grab")
            self._sleep()
        elif number == packets.NOOP:
            if self.phase == ASLEEP:
                self._woken()
        elif number == packets.FARM_JOB_CANCEL:
            if not self.farm:
                raise Wrong(f"{self.name} is told to cancel and cannot know what that means")
            if body in self.jobs:
                self.world.ledger.book.saw("worker obeyed a cancel")
                self._end(body, packets.WORK_FAIL)
        elif number == packets.OPTION_RES and self._options:
            self._options -= 1
        elif number == packets.ERROR and self._refusals:
            self._refusals -= 1
        else:
            raise Wrong(f"{self.name} gets packet {number} for nothing")

    def _assigned(self, number: int, body: bytes) -> None:
        if self.phase != GRABBING:
            raise Wrong(f"{self.name} is given a job and did not grab")
        head = _HEADS[number]
        handle, payload = body.split(b"\0", head)[0], body.split(b"\0", head)[-1]
        self.world.heard_of(handle)
        self.jobs[handle] = payload
        overruns = self._timed and not self.world.quiet and self.rng.random() < self.world.odds("overrun", 20) / 100
        self._later(self.rng.uniform(0.9, 3.0) if overruns else self.world.work_s(), self._work, handle)
        if len(self.jobs) < self._slots:
            self._fetch()
        else:
            self.phase = BUSY

    def _woken(self) -> None:
        """Mostly it comes at once; some decline, some take longer than the server is ready to wait, some never come."""
        if self.patient or self.world.quiet:
            self._fetch()
        elif self.rng.random() < self.world.odds("decline", 15) / 100:
            self._decline()
        elif self.rng.random() < self.world.odds("hang", 25) / 100:
            self._hang()
        else:
            self._fetch()

    def _decline(self) -> None:
        """It will not come: it says so, or goes to sleep again."""
        whim = self.rng.randrange(3)
        if whim == 0:
            self._sleep()
            return
        self.phase = HUNG
        if whim == 1:
            self.send(packets.RESET_ABILITIES)
        for function in self._functions if whim == 2 else ():
            self.send(packets.CANT_DO, function)
        self._later(self.rng.uniform(0.0, 0.5), self._register)
        self._later(self.rng.uniform(0.5, 1.0), self._fetch)

    def _hang(self) -> None:
        self.phase = HUNG
        self.world.note("hangs", self.name)
        if self.rng.random() < 0.6:
            self._later(self.rng.uniform(0.1, 2.0), self._fetch)
        else:
            self.world.ledger.book.saw("woken worker hangs for good")

    # -- what it does

    def _work(self, handle: bytes) -> None:
        """The next piece of work on a job: a report, or its end."""
        if handle not in self.jobs:
            return
        if self.rng.random() < self.world.talk and not self.world.quiet:
            number = self.rng.choice(_REPORTS)
            parts = (b"1", b"2") if number == packets.WORK_STATUS else (self.rng.choice((b"", b"piece", b"more")),)
            self.send(number, handle, *parts)
            self._later(self.world.work_s(), self._work, handle)
            return
        self._end(handle, self.rng.choice((packets.WORK_COMPLETE,) * 6 + (packets.WORK_FAIL, packets.WORK_EXCEPTION)))

    def _end(self, handle: bytes, number: int) -> None:
        payload = self.jobs.pop(handle)
        if number == packets.WORK_FAIL:
            self.send(number, handle)
        else:
            self.send(number, handle, payload[:20] + b" done")
        if number == packets.WORK_EXCEPTION and self.rng.random() < self._after_exception:
            self.send(packets.WORK_FAIL, handle)  # as Perl's workers do
        if self.phase in (BUSY, ASLEEP):
            self._fetch()

    def act(self) -> None:
        """One random misdeed or whim, then another one later, until the world is quiet."""
        if self.world.quiet or self.patient:
            return
        self.world.later(self.rng.expovariate(1 / (3 * self.world.pause_s)), self.act)
        if self.link is None:
            return
        odds = self.world.odds
        deed = self.rng.choices(
            (self._nothing, self._die, self._lie, self._change_abilities, self._sleep_again),
            (20, odds("workers die", 15), odds("strangers", 15), odds("abilities change", 15), odds("sleep twice", 10)),
        )[0]
        deed()

    def _nothing(self) -> None:
        pass

    def _die(self) -> None:
        self.leave(cut=self.rng.random() < 0.5)

    def _lie(self) -> None:
        """Report on a job that it does not run."""
        handle = self.world.some_handle()
        if handle in self.jobs or self.phase == GRABBING:  # what it grabs may turn out to be just that job
            return
        number = self.rng.choice(_STRANGE)
        parts = {packets.WORK_FAIL: (), packets.WORK_STATUS: (b"9", b"9")}.get(number, (b"a lie",))
        self._refusals += 1
        self.send(number, handle, *parts)

    def _change_abilities(self) -> None:
        whim = self.rng.randrange(4)
        if whim == 0:
            self.send(packets.CANT_DO, self.rng.choice(self.world.functions))
        elif whim == 1:
            self.send(packets.RESET_ABILITIES)
            self._later(self.rng.uniform(0.0, 0.5), self._register)
        else:
            self.send(packets.CAN_DO, self.rng.choice(self.world.functions))

    def _sleep_again(self) -> None:
        """PRE_SLEEP once more, perhaps with a NOOP under way."""
        if self.phase == ASLEEP:
            self.send(packets.PRE_SLEEP)
