"""A simulated client: submits, waits, cancels, asks, leaves; and holds the server to what a client is promised.

Answers come in the order of the questions. A job that it waits for gets exactly one end, after its JOB_CREATED; nothing
comes for any other job.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from typing import TYPE_CHECKING

from farm.protocol import packets
from tests.sim.cron_wishes import CronWishes
from tests.sim.end import End
from tests.sim.model import SPARE, SUBMITS, Wrong
from tests.sim.wishes import Wishes

if TYPE_CHECKING:
    from tests.sim.world import World

_UPDATES = (packets.WORK_DATA, packets.WORK_WARNING, packets.WORK_STATUS)
_ENDS = (packets.WORK_COMPLETE, packets.WORK_FAIL, packets.WORK_EXCEPTION)
_ANSWERS = {
    packets.JOB_CREATED: "submit",
    packets.STATUS_RES: "status",
    packets.STATUS_RES_UNIQUE: "unique",
    packets.FARM_CANCEL_RES: "cancel",
    packets.OPTION_RES: "option",
    packets.ECHO_RES: "echo",
    packets.FARM_EXISTS: "submit",
}


class Client(End):
    """asked: questions that have no answer yet, and whether each submits a background job. waiting, over: handles."""

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name)
        self.farm = self.rng.random() < world.farm_clients
        self._exceptions = self.rng.random() < 0.4
        self._sync = self.rng.random() < 0.3
        self.asked: deque[tuple[str, bool]] = deque()
        self.waiting: dict[bytes, None] = {}
        self._over: dict[bytes, None] = {}
        self.open = 0  # questions about jobs that have no answer yet: those may be answered in any order
        self.expected = Counter[bytes]()  # how often it asked to hear of which job's end, and did not since
        self.held = 0  # so many of its questions must be answered before it goes on: the last may be put off
        self._wishes = Wishes(self)
        self._cron_wishes = CronWishes(self)

    def begin(self) -> None:
        """See End."""
        if self.farm:
            self.ask("option", packets.OPTION_REQ, b"farm-1")
        if self._exceptions:
            self.ask("option", packets.OPTION_REQ, b"exceptions")
        if self._sync:
            self.ask("option", packets.OPTION_REQ, b"farm-sync")

    def lost(self) -> None:
        """See End. Whatever it waited for is given up."""
        self.asked.clear()
        self.waiting.clear()
        self._over.clear()
        self.expected.clear()
        self.open = self.held = 0

    def idle(self) -> bool:
        """Whether nothing is owed to it."""
        return not self.asked and not self.waiting and not self.open

    # -- what it does

    def act(self) -> None:
        """One random deed, then another one later, until the world is quiet."""
        if self.world.quiet:
            return
        self.world.later(self.rng.expovariate(1 / self.world.pause_s), self.act)
        if self.link is None or self.held:
            return
        deed = self.rng.choices(
            (
                self._wishes.act,
                self._cron_wishes.act,
                self.submit,
                self._burst,
                self._status,
                self._status_unique,
                self._cancel,
                self._admin,
                self._echo,
                self._go,
                self._misbehave,
            ),
            (
                self.world.odds("terms", 130 if self.farm else 1),
                self.world.cron_weight,
                50,
                8,
                8,
                4,
                10,
                self.world.odds("administrators", 12) + 2,
                2,
                self.world.odds("clients leave", 8),
                self.world.odds("mischief", 4),
            ),
        )[0]
        deed()

    def submit(self, function: bytes = b"") -> None:
        """Submit a job: to any function, with any kind of key and priority."""
        rng, world = self.rng, self.world
        number = rng.choice(tuple(SUBMITS))
        unique = rng.choices((b"", b"-", rng.choice(world.keys)), (25, 15, 60))[0]
        payload = rng.choice((b"same", b"alike", b"")) if unique == b"-" else world.token()
        if world.rng.random() < 0.02:
            payload += b"." * 20_000  # too large to be copied behind its header
        function = function or rng.choice(world.functions)
        running = [item for item in world.ledger.book.jobs.values() if item.streamed and item.key is not None]
        if running and rng.random() < 0.4 and not world.quiet:
            function, unique = running[-1].function, running[-1].unique
        head = [function, unique]
        if number == packets.SUBMIT_JOB_EPOCH:
            head.append(world.epoch())
        elif number in (packets.SUBMIT_REDUCE_JOB, packets.SUBMIT_REDUCE_JOB_BACKGROUND):
            head += [rng.choice((b"", b"sum", b"join")), b""]
        self.ask("submit", number, *head, payload)

    def resume_all(self) -> None:
        """Once it knows of nothing that is under way: have the jobs of all paused functions given again."""
        if self.farm and self.link and not self.open and not self.held:
            party = self.world.ledger.book.parties.get(self.link.id)
            if party is not None and not party.may_change:
                self.leave(cut=False)
            for function in self.world.ledger.book.paused:
                self._wishes.resume(function)

    def _burst(self) -> None:
        for _ in range(self.rng.randint(2, 6)):
            self.submit()

    def _status(self) -> None:
        self.ask("status", packets.GET_STATUS, self.world.some_handle())

    def _status_unique(self) -> None:
        self.ask("unique", packets.GET_STATUS_UNIQUE, self.rng.choice((*self.world.keys, b"-", b"", b"none")))

    def _cancel(self) -> None:
        handles = list(self.waiting)
        handle = self.rng.choice(handles) if handles and self.rng.random() < 0.9 else self.world.some_handle()
        self.ask("cancel", packets.FARM_CANCEL, handle)

    def _echo(self) -> None:
        self.ask("echo", packets.ECHO_REQ, self.world.token())

    def _admin(self) -> None:
        line = self._command()
        for _ in range(2 if self.rng.random() < 0.2 else 1):
            self.command(line)

    def command(self, line: bytes) -> None:
        """An administrator's line."""
        if self.link:
            self.asked.append(("admin", False))
            self.link.to_server.write(line + self.rng.choice((b"\n", b"\r\n")))

    def _command(self) -> bytes:
        rng, world = self.rng, self.world
        whim = rng.randrange(10) if world.odds("administrators", 1) else 0
        name = rng.choice(world.functions) if whim < 7 or rng.random() < 0.5 else rng.choice(SPARE)
        if whim < 2:
            listings = (b"status", b"prioritystatus", b"show jobs", b"show unique jobs")
            return rng.choice(listings) if rng.random() < 0.9 else rng.choice((b"stratus", b"show\tjobs"))
        if whim < 6:
            rare = rng.random() < 0.3
            return b"cancel job " + (self._wishes.rare_handle() if rare else world.some_handle())
        if whim < 7:
            numbers = [b"%d" % rng.randint(-1, 6) for _ in range(rng.choice((0, 1, 1, 3)))]
            if rng.random() < 0.2:
                numbers = [rng.choice((b"1x", b"x", b"1.5", b"-"))]
            return b" ".join((b"maxqueue", name, *numbers))
        return (b"create" if whim < 8 else b"drop") + b" function " + name

    def _go(self) -> None:
        self.leave(cut=self.rng.random() < 0.5)

    def _misbehave(self) -> None:
        """Something that is refused: with the connection kept, or closed."""
        assert self.link
        deed = self.rng.randrange(6)
        if deed == 0:
            self.ask("submit", packets.SUBMIT_JOB, self.world.functions[0], b"u" * 65, b"")
        elif deed == 1:
            self.ask("submit", packets.SUBMIT_JOB_BG, self.rng.choice((b"", b"a b", b"f" * 513)), b"", b"")
        elif deed == 2:
            self.ask("schedule", packets.SUBMIT_JOB_SCHED, self.world.functions[0], b"", b"60", *(b"",) * 5)
        elif deed == 3:
            self.ask("option", packets.OPTION_REQ, self.rng.choice((b"unheard-of", b"o" * 64)))
        else:
            self.asked.append(("garbage", False))
            self.link.to_server.write(
                self.rng.choice((b"\0BAD", b"\0REQ\0\0\0\7\xff\xff\xff\xff", b"\0REQ\0\0\1\0\0\0\0\0"))
            )

    def ask(self, question: str, number: int, *parts: bytes) -> None:
        if self.link is None:
            return
        background = question == "submit" and (number == packets.FARM_SUBMIT or SUBMITS[number][1])
        if number == packets.FARM_SUBMIT:
            background = b"background=1" in parts[2].split()
        self.asked.append((question, background))
        self.send(number, *parts)

    # -- what it is told

    def receive(self, number: int, body: bytes) -> None:
        """See End."""
        handle = body.partition(b"\0")[0]
        if number in _UPDATES or number in _ENDS:
            self._about_job(number, handle)
        elif number == packets.FARM_ANSWER:
            self._hear_answer(body)
        elif number == packets.FARM_ENDED:
            self.expected[handle] -= 1
            if self.expected[handle] < 0:
                raise Wrong(f"{self.name} hears that {handle!r} has ended and did not want to")
        elif number in (packets.FARM_JOB_JOINED, packets.FARM_JOB_RESTARTED):
            if not self.farm or handle not in self.waiting:
                raise Wrong(f"{self.name} is told of {handle!r} and did not ask for that")
        else:
            self._answer(number, body, handle)

    def _about_job(self, number: int, handle: bytes) -> None:
        if handle in self._over:
            raise Wrong(f"{self.name} hears of {handle!r} after its end")
        if handle not in self.waiting:
            raise Wrong(f"{self.name} hears of {handle!r}, for which it does not wait")
        if number == packets.WORK_EXCEPTION and not (self._exceptions or self.world.rules.exceptions):
            raise Wrong(f"{self.name} gets an exception and did not ask for them")
        if number in _ENDS:
            del self.waiting[handle]
            self._over[handle] = None

    def _answer(self, number: int, body: bytes, handle: bytes) -> None:
        if number == packets.TEXT:
            if body in (b".", b"OK") or body.startswith(b"ERR "):
                self._expect("admin")
            return
        if number == packets.ERROR and self.open and self._is_about_jobs(handle):
            self.open -= 1
            return
        if not self.asked:
            raise Wrong(f"{self.name} gets an answer and has asked nothing")
        if number == packets.ERROR:
            self._pop()
            return
        background = self._expect(_ANSWERS[number])
        if number == packets.JOB_CREATED:
            self._created(handle, background)
        elif number == packets.FARM_CANCEL_RES and not body.endswith(b"\0unknown"):
            del self.waiting[handle]

    def _pop(self) -> tuple[str, bool]:
        self.held = max(0, self.held - 1)
        return self.asked.popleft()

    def _expect(self, question: str) -> bool:
        asked, background = self._pop()
        if asked != question:
            raise Wrong(f"{self.name} asked for {asked} and gets an answer to {question}")
        return background

    def _hear_answer(self, body: bytes) -> None:
        if body.startswith(b"cron"):
            self._expect("cron")
            return
        if not self.open:
            raise Wrong(f"{self.name} gets an answer and has asked nothing about jobs")
        self.open -= 1
        verb, _, data = body.partition(b"\0")
        if verb == b"wait":
            for word in json.loads(data)["unknown"]:
                self.expected.pop(word.encode(), None)

    def _is_about_jobs(self, code: bytes) -> bool:
        """Whether an ERROR answers a question about jobs."""
        return not self.held and code in (b"PERMISSION_DENIED", b"UNKNOWN_FUNCTION", b"JOB_NOT_FOUND")

    def _created(self, handle: bytes, background: bool) -> None:
        again = handle in self.world.ledger.book.again
        if handle in self._over and not background and not again:
            raise Wrong(f"{self.name} is given {handle!r} again after its end")
        self.world.heard_of(handle)
        if background:
            self.world.ledger.acknowledged(handle)
        else:
            self.waiting[handle] = None
            self._over.pop(handle, None)
