"""A whole small world from one seed: a clock, a server, clients and workers, and the story of what befalls them.

Story: chaos for a number of events; then no more faults, and every job that a connected worker can do must end; then
patient workers for everything arrive, and all must drain; then a last round of jobs, so that nobody sleeps for good.
The same seed gives the same story, packet by packet: one random source, no wall clock, no order of a set or a hash.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
import math
import traceback
from collections import Counter, deque
from collections.abc import Callable
from random import Random
from typing import NamedTuple

from farm.broker.broker import DEFAULT, Rules
from tests.sim.calendar import NIGHTS
from tests.sim.client import Client
from tests.sim.clock import LATEST_S, Clock
from tests.sim.ledger import Ledger
from tests.sim.model import SPARE, Wrong
from tests.sim.server import CRASH_POINTS, CheckFailed, SimServer
from tests.sim.worker import HUNG, Worker

STEPS = 600  # events of chaos; with fewer, the rare meetings of two faults become too rare
DRAIN_S = 60.0  # simulated; a few dozen jobs of milliseconds, and half a second for each worker that hangs
TRACE_KEPT = 60
FAULTS = (
    "clients leave",
    "mischief",
    "workers die",
    "strangers",
    "abilities change",
    "sleep twice",
    "hang",
    "decline",
    "crash",
    "slow wires",
    "overrun",
    "administrators",
    "clock",
    "disk full",
    "terms",
    "pauses",
)
CRON_ONE_OF = 3  # worlds: in the others all is over before any minute has passed
CRON_ROUNDS = 4
NOTICED_S = 1.5  # so soon it must be noticed that the clock was set
WALL_OFFSET = 1_000_000.0  # of the wall clock; it is set by quarters of a second, so that no rounding comes in


class Result(NamedTuple):
    """A story's end. caught_by: "" (nothing wrong), "oracle", "check" (broker.check) or "broker" (it broke down)."""

    seed: int
    events: int
    hash: str
    seen: Counter[str]
    caught_by: str
    message: str
    tail: list[str]


class World:
    """check: whether broker.check() is asked after every event. log: called with each line of the trace."""

    def __init__(
        self, seed: int, steps: int = STEPS, check: bool = True, log: Callable[[str], None] | None = None
    ) -> None:
        self.seed = seed
        self.check = check
        self.rng = Random(seed)
        self.now = 1000.0
        self.quiet = False
        self.events = 0
        self.tail: deque[str] = deque(maxlen=TRACE_KEPT)
        self._log = log
        self._steps = steps
        self._digest = hashlib.blake2b(digest_size=8)
        self._heap: list[tuple[float, int, Callable[..., object], tuple[object, ...]]] = []
        self._order = itertools.count()
        self._tokens = itertools.count(1)
        self._handles: list[bytes] = []
        # Not every kind of fault in every world: where all come together, each hides the others.
        self._faults = {fault: None for fault in FAULTS if self.rng.random() < 0.6}
        self.rules = DEFAULT
        if self.rng.random() < 0.5:
            by_registration, wake_all, exceptions = (self.rng.random() < 0.5 for _ in range(3))
            self.rules = Rules(by_registration, wake_all, exceptions, losses_max=self.rng.choice((0, 1, 2)))
        self.rules = self.rules._replace(
            result_max=self.rng.choice((0, 7, 1000, 1000)), payload_memory_max=self.rng.choice((0, 1, 1, 15))
        )
        self.waits = self.rng.random() < 0.9  # whether its store is on a disk
        self._commit_s = self.rng.choice((0.001, 0.01, 0.1, 0.5))
        self.disk_low = False
        self.ledger = Ledger(self.rules)
        self.wall_offset = WALL_OFFSET
        # Nothing takes longer than it may, a second at least, where all is over in one.
        self.pause_s = self.rng.choice((0.1, 0.3) if "overrun" in self._faults else (0.02, 0.02, 0.1, 0.3))
        self._job_s = self.rng.choice((0.005, 0.1, 1.0))
        self.night = NIGHTS[0]
        self.cron_weight = 0
        self._clock: Clock | None = None
        if seed % CRON_ONE_OF == 0:
            self.night = self.ledger.book.night = self.rng.choice(NIGHTS)
            self.cron_weight = 130
            self._clock = Clock(self, self.night)
        self.functions = [b"reap", b"sow", b"tab\tbed", b"mow"][: self.rng.randint(1, 4)]
        self.keys = [b"k%d" % number for number in range(self.rng.choice((1, 3, 10, 40)))]
        self.talk = self.rng.choice((0.2, 0.7))  # how often a worker reports instead of ending its job
        self.server = SimServer(self)
        self.farm_clients = 0.75 if "terms" in self._faults or self._clock else 0.5  # how many speak the extension
        self.clients = [Client(self, f"client{number}") for number in range(self.rng.randint(1, 5))]
        self.workers = [Worker(self, f"worker{number}") for number in range(self.rng.randint(1, 5))]

    # -- what the inhabitants ask of it

    def later(self, delay_s: float, deed: Callable[..., object], *args: object) -> None:
        """Call `deed(*args)` after a delay."""
        heapq.heappush(self._heap, (self.now + delay_s, next(self._order), deed, args))

    def latency(self) -> float:
        """How long a chunk is under way."""
        if "slow wires" in self._faults and not self.quiet and self.rng.random() < 0.1:
            return self.rng.uniform(0.05, 0.8)
        return self.rng.uniform(0.0001, 0.004)

    def work_s(self) -> float:
        """How long a piece of work takes."""
        return 0.01 if self.quiet else self.rng.uniform(0, self._job_s)

    def commit_s(self) -> float:
        """How long a commit takes."""
        return self.rng.uniform(0, min(self._commit_s, 0.01) if self.quiet else self._commit_s)

    def odds(self, fault: str, weight: int) -> int:
        """The weight of a fault: 0 in a world that is spared it."""
        return weight if fault in self._faults else 0

    def epoch(self) -> bytes:
        """A time for a job, mostly some seconds from now; what means now, sometimes."""
        if self.rng.random() < 0.15:
            return self.rng.choice((b"0", b"", b"junk", b"-1"))
        return b"%d" % (self.now + self.wall_offset + self.rng.uniform(-1, 4))

    def token(self) -> bytes:
        """A payload unlike any other."""
        return b"token %d" % next(self._tokens)

    def heard_of(self, handle: bytes) -> None:
        """A handle has become known outside the server; strangers may use it."""
        self._handles.append(handle)

    def some_handle(self) -> bytes:
        """A handle that was heard of, mostly lately, or one that never was."""
        if not self._handles or self.rng.random() < 0.05:
            return b"H:none:1"
        return self.rng.choice(self._handles[-12:])

    def note(self, what: str, detail: str | Callable[..., str], *args: object) -> None:
        """One line of the story."""
        line = f"{self.now:.4f} {what}: {detail if isinstance(detail, str) else detail(*args)}"
        self._digest.update(line.encode())
        self.tail.append(line)
        if self._log:
            self._log(line)

    # -- the story

    def run(self) -> Result:
        """Tell it to its end, or to the first thing that is wrong."""
        caught_by = message = ""
        try:
            self._chaos()
            self._calm()
            self._patience()
            self._last_round()
            if self._clock:
                self._clockwork(self._clock)
            if self.server.broker.payload_memory:
                raise Wrong(f"{self.server.broker.payload_memory} bytes of payloads are held for no job")
            self.ledger.closed()
        except Wrong as wrong:
            caught_by, message = "oracle", str(wrong)
        except CheckFailed as failed:
            caught_by, message = "check", str(failed)
        except Exception:  # noqa: BLE001 - whatever breaks the broker is what is looked for
            caught_by, message = "broker", traceback.format_exc(limit=-4)
        seen = self.ledger.book.seen
        return Result(self.seed, self.events, self._digest.hexdigest(), seen, caught_by, message, list(self.tail))

    def _chaos(self) -> None:
        self.server.start()
        for end in (*self.clients, *self.workers):
            self.later(self.rng.uniform(0, 0.5), end.connect)
            self.later(self.rng.uniform(0, 1.0), end.act)
        self.later(self.rng.uniform(0.5, 5.0), self._crash)
        self.later(self.rng.uniform(0.5, 3.0), self._clock.act if self._clock else self._set_clock)
        self.later(self.rng.uniform(0.5, 3.0), self._fill_disk)
        while self.events < self._steps:
            self._step()

    def _crash(self) -> None:
        """Now and then the server is stopped or killed, at any point of its turn."""
        if self.quiet:
            return
        self.later(self.rng.uniform(0.5, 8 * self.pause_s + 1), self._crash)
        if "crash" not in self._faults or not self.server.up:
            return
        kind = self.rng.randrange(8)
        if kind == 0:
            self.server.stop()
            self.later(self.rng.uniform(0, 1.5), self.rng.choice((self.server.end, self.server.die)))
        elif kind == 1:
            self.server.end()
        elif kind == 2:
            self.server.die()
        else:
            self.server.doom = self.rng.choice(CRASH_POINTS)

    def _set_clock(self) -> None:
        """Now and then somebody sets the wall clock."""
        if self.quiet or "clock" not in self._faults:
            return
        self.later(self.rng.uniform(0.5, 3.0), self._set_clock)
        self.wall_offset = WALL_OFFSET + self.rng.randint(-40, 40) / 4

    def _fill_disk(self) -> None:
        """Now and then the disk is nearly full for a while."""
        if not self.quiet and "disk full" in self._faults:
            self.later(self.rng.uniform(0.5, 3.0), self._fill_disk)
            self.disk_low = not self.disk_low

    def _calm(self) -> None:
        """No more faults, nobody new: what the workers that are there can do must be done."""
        self.note("calm", "")
        self.quiet = True
        self.disk_low = False
        self.server.doom = ""
        if self._clock:
            self._clock.catch_up()
        if self.server.up and self.server.broker.stopping:
            self.server.die()
        self._until(lambda: self._resumed() and not self.ledger.backlog(self._hung()), "a worker sleeps through")

    def _patience(self) -> None:
        """Patient workers for everything."""
        self.note("patience", "")
        for number in range(2):
            worker = Worker(self, f"patient{number}", patient=True)
            self.workers.append(worker)
            worker.connect()
        self._until(self._drained, "never drains")
        self._until(self._registered, "is never registered")
        self._until(lambda: not self.server.broker.no_room, "takes no background jobs though there is room")

    def _last_round(self) -> None:
        """A job at a time for each function, everybody being asleep before it."""
        self.note("last round", "")
        for client in self.clients:
            for function in self.functions:
                self._until(self._all_connected, "is never connected")
                client.submit(function)
                self._until(self._drained, "is not woken in the last round")

    def _clockwork(self, clock: Clock) -> None:
        """The next times of all entries, while nothing else happens: each is noticed, as is that the clock is set."""
        self.note("clockwork", "")
        book = self.ledger.book
        for number in range(CRON_ROUNDS):
            times = [time for entry in book.crons.values() if (time := entry.next(book)) is not None]
            time = min(times, default=math.inf)
            if time > self.night.change + LATEST_S:
                return
            clock.set(time + (0.5 if number % 2 else -0.5))
            self._until(lambda due=time: self._is_past(due), "is not done at its time", NOTICED_S)  # type: ignore[misc]
            self._until(self._drained, "never drains")

    def _is_past(self, time: float) -> bool:
        book = self.ledger.book
        return all((due := entry.next(book)) is None or due > time for entry in book.crons.values())

    def _resumed(self) -> bool:
        """Whether all are connected and no function is paused; whoever could pause one can take that back, also where
        that was on its way when all grew quiet."""
        if not self._all_connected():
            return False
        for client in self.clients if self.ledger.book.paused else ():
            client.resume_all()
        return not self.ledger.book.paused

    def _drained(self) -> bool:
        book = self.ledger.book
        return self._resumed() and not book.jobs and book.kept.settled and all(client.idle() for client in self.clients)

    def _registered(self) -> bool:
        patient = [worker.link.id for worker in self.workers if worker.patient and worker.link]
        parties = self.ledger.book.parties
        return all(len(parties[id].abilities) == len(self.functions) + len(SPARE) for id in patient)

    def _all_connected(self) -> bool:
        return self.server.up and all(end.link for end in (*self.clients, *self.workers))

    def _hung(self) -> list[int]:
        return [worker.link.id for worker in self.workers if worker.link and worker.phase == HUNG]

    def _until(self, condition: Callable[[], bool], complaint: str, within_s: float = DRAIN_S) -> None:
        limit = self.now + within_s
        while not condition():
            if not self._heap or self.now > limit:
                backlog = [item.handle for item in self.ledger.book.jobs.values()]
                owed = [client.name for client in self.clients if not client.idle()]
                raise Wrong(f"{complaint}: jobs {backlog}, clients that wait {owed}, hung workers {self._hung()}")
            self._step()

    def _step(self) -> None:
        self.now, _, deed, args = heapq.heappop(self._heap)
        self.events += 1
        deed(*args)


def tell(seed: int, steps: int = STEPS, check: bool = True) -> Result:
    """Run one seed."""
    return World(seed, steps, check).run()
