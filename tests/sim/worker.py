"""A simulated worker: registers, grabs, works, reports; and, while the world is not quiet, dies, hangs and lies.

It grabs only after it connected, after it ended a job, and after a NOOP: whoever forgets to wake it leaves its jobs
lying.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from farm.protocol import packets
from tests.sim.end import End
from tests.sim.model import SPARE, Wrong

if TYPE_CHECKING:
    from tests.sim.world import World

BUSY, GRABBING, ASLEEP, HUNG = "busy", "grabbing", "asleep", "hung"
_REPORTS = (packets.WORK_DATA, packets.WORK_WARNING, packets.WORK_STATUS)

_HEADS = {packets.JOB_ASSIGN: 2, packets.JOB_ASSIGN_UNIQ: 3, packets.JOB_ASSIGN_ALL: 4}  # arguments before the payload
_SAID = (b"", b"piece", b"more", b"farm: exit 7\n")
_TRAILERS = (
    *(b"farm: exit 3\n", b"farm: exit 75\n", b"farm: exit 137\n", b"farm: exit 124 farm\n"),
    *(b"farm: exit 999\n", b"farm: exit 3"),
)
_TERMS = (b"retries=1", b"retries=2 backoff=0.25", b"retries=1 retry-on=3 backoff=0.5 timeout=0.5", b"backoff=0.25")
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
        self._slots = 1 if patient or rng.random() < 0.5 else 3
        self._grab = rng.choice((packets.GRAB_JOB, packets.GRAB_JOB_UNIQ, packets.GRAB_JOB_ALL))
        self._functions = (
            [*world.functions, *SPARE] if patient else rng.sample(world.functions, rng.randint(1, len(world.functions)))
        )
        self._refusals = 0  # ERRORs that it has asked for
        self._options = 0
        self._sync = rng.random() < 0.5
        self._reported: list[bytes] = []  # handles of jobs that it ended
        self._barriers: deque[tuple[bytes, list[bytes]]] = deque()  # (echo that it waits for, what it ended before)
        self._timed = rng.random() < 0.5  # it says how long it may take, and may find that a job was taken from it
        self._stuck_until = 0.0
        self._stuck: dict[bytes, None] = {}  # handles of jobs that it cannot be stopped in
        self._after_exception = rng.random() < 0.5
        self._guess = b""  # the handle of a job that it has ended before it was given it
        self._connection = 0  # counts, so that what was planned on an old connection is dropped

    def begin(self) -> None:
        """See End."""
        self._connection += 1
        self.send(packets.SET_CLIENT_ID, self.name.encode())
        if self.farm:
            self._options += 1
            self.send(packets.OPTION_REQ, b"farm-1")
        if self._sync:
            self._options += 1
            self.send(packets.OPTION_REQ, b"farm-sync")
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
        self._reported.clear()
        self._barriers.clear()
        self._stuck.clear()
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
            if self.rng.random() < self.world.odds("terms", 30) / 100 and not self.world.quiet:
                self._refusals += not self.farm
                self.send(packets.FARM_TERMS, function, self.rng.choice(_TERMS))

    def _fetch(self) -> None:
        self.phase = GRABBING
        self.send(self._grab)
        self._guess = b""
        if not self.world.quiet and self.rng.random() < self.world.odds("strangers", 10) / 100:
            self._end_unseen()

    def _end_unseen(self) -> None:
        """In the same breath, end the job that it will be given: whoever knows its handle can."""
        waiting = [item.handle for item in self.world.ledger.book.waiting() if item.function in self._functions]
        guess = waiting[0] if waiting else self.world.some_handle()
        if guess not in self.jobs:
            self._guess = guess
            self._refusals += 1
            self.send(packets.WORK_FAIL, guess)

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
            if body in self.jobs and body not in self._stuck:
                self.world.ledger.book.saw("worker obeyed a cancel")
                self._end(body, packets.WORK_FAIL)
        elif number == packets.ECHO_RES and self._barriers:
            self._sealed(body)
        elif number == packets.OPTION_RES and self._options:
            self._options -= 1
        elif number == packets.ERROR and self._refusals:
            self._refusals -= 1
        else:
            raise Wrong(f"{self.name} gets packet {number} for nothing")

    def _sealed(self, token: bytes) -> None:
        """Whatever it ended before it asked is durable, unless its time had been up: then that counted for nothing."""
        asked, ended = self._barriers.popleft()
        if token != asked:
            raise Wrong(f"{self.name} asked for {asked!r} and gets {token!r}")
        if not self._timed:
            self.world.ledger.seal(ended)

    def _assigned(self, number: int, body: bytes) -> None:
        if self.phase != GRABBING:
            raise Wrong(f"{self.name} is given a job and did not grab")
        head = _HEADS[number]
        handle, payload = body.split(b"\0", head)[0], body.split(b"\0", head)[-1]
        self.world.heard_of(handle)
        if handle == self._guess:
            self._fetch()
            return
        self.jobs[handle] = payload
        overruns = self._timed and not self.world.quiet and self.rng.random() < self.world.odds("overrun", 60) / 100
        if overruns:
            self._stuck_until = self.world.now + 0.05  # and so are the jobs that it takes right after
        if self.world.now < self._stuck_until:
            self._stuck[handle] = None
            # A few for longer than anybody waits for whoever was told to stop.
            stuck_s = self.rng.uniform(0.9, 3.0) if self.rng.random() < 0.9 else self.rng.uniform(15.0, 20.0)
            self._later(stuck_s, self._work, handle)
        else:
            self._stuck.pop(handle, None)
            self._later(self.world.work_s(), self._work, handle)
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
            parts = (b"1", b"2") if number == packets.WORK_STATUS else (self.rng.choice(_SAID),)
            self.send(number, handle, *parts)
            self._later(self.world.work_s(), self._work, handle)
            return
        well = 2 if self.world.odds("terms", 1) else 5  # of so many more jobs
        ends = (packets.WORK_COMPLETE,) * well + (packets.WORK_FAIL,) + (packets.WORK_EXCEPTION,) * 2
        self._end(handle, self.rng.choice(ends))

    def _end(self, handle: bytes, number: int) -> None:
        payload = self.jobs.pop(handle)
        if self.farm and self.rng.random() < self.world.odds("terms", 30) / 100:
            self.send(packets.FARM_USAGE, handle, b"%.2f" % self.rng.uniform(0, 2), b"%d" % self.rng.randrange(1 << 20))
        if number == packets.WORK_FAIL:
            if self.rng.random() < 0.5:
                self.send(packets.WORK_WARNING, handle, self.rng.choice(_TRAILERS))
            self.send(number, handle)
        else:
            self.send(number, handle, payload[:20] + b" done")
        again = self.rng.random() < self.world.odds("strangers", 8) / 100
        if again and self.phase != GRABBING and not self.world.quiet:  # what it grabs may turn out to be just that job
            self._refusals += 1
            self.send(number, handle, *(() if number == packets.WORK_FAIL else (b"again",)))
        if number == packets.WORK_EXCEPTION and self._after_exception:
            self.send(packets.WORK_FAIL, handle)  # as Perl's workers do
        self._reported.append(handle)
        if self._sync and self.rng.random() < 0.5:
            self._barriers.append((self.world.token(), self._reported))
            self._reported = []
            self.send(packets.ECHO_REQ, self._barriers[-1][0])
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
            (20, odds("workers die", 15), odds("strangers", 15), odds("abilities change", 25), odds("sleep twice", 10)),
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
        elif whim == 2:
            self._functions = self.rng.sample(self._functions, len(self._functions))
            self._register()
        else:
            self.send(packets.CAN_DO, self.rng.choice(self.world.functions))

    def _sleep_again(self) -> None:
        """PRE_SLEEP once more, perhaps with a NOOP under way."""
        if self.phase == ASLEEP:
            self.send(packets.PRE_SLEEP)
