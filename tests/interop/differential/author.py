"""Makes up a script from a seed, while gearmand plays it: what comes next depends on who holds which job.

It keeps away from what the table of differences has, and only from that: each exclusion below names its row. So the
scripts may run on for hundreds of steps without the two servers' states drifting apart.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.interop.differential.play import NUMBERS, Got, Player

CLIENTS = ("c1", "c2", "c3")
WORKERS = ("w1", "w2", "w3")
FUNCTIONS = ("f", "g", "h", "Ü-\\xfc")
SUBMITS = ("SUBMIT_JOB", "SUBMIT_JOB_HIGH", "SUBMIT_JOB_LOW")
PRIORITY = {name: name.removesuffix("_BG").removeprefix("SUBMIT_JOB") for name in NUMBERS if "SUBMIT_JOB" in name}
NOT_REQUESTS = """
    NOOP JOB_CREATED NO_JOB JOB_ASSIGN ECHO_RES ERROR STATUS_RES ALL_YOURS OPTION_RES JOB_ASSIGN_UNIQ
    JOB_ASSIGN_ALL STATUS_RES_UNIQUE
""".split()  # noqa: SIM905
LISTINGS = (
    "status",
    "STATUS",
    "prioritystatus",
    "workers",
    "show jobs",
    "show unique jobs",
    "version",
    "getpid",
    "verbose",
)
WRONG_LINES = (
    "",
    "shutdown",
    "shutdown graceful",
    "nonsense",
    "show",
    "show me",
    "cancel",
    "cancel job",
    "cancel a b",
    "create",
    "create function",
    "drop it",
    "maxqueue",
)
PAYLOADS = ("", "x", "two words", "\\x00\\x01\\xff\\x00", "line\\n", "\\x00REQ", "p" * 3000)
REMARKS = ("WORK_DATA", "WORK_WARNING", "WORK_STATUS")
ENDS = ("WORK_COMPLETE", "WORK_FAIL", "WORK_EXCEPTION")


@dataclass
class Job:
    """What is known of a live job."""

    function: str
    key: str
    priority: str
    background: bool
    watchers: set[str] = field(default_factory=set)
    holder: str = ""


class Author:
    """Writes one script."""

    def __init__(self, seed: int, player: Player) -> None:
        self.random = random.Random(seed)
        self.player = player
        self.jobs: dict[int, Job] = {}
        self.abilities: dict[str, set[str]] = {worker: set() for worker in WORKERS}
        self.exceptions: set[str] = set()
        self.asleep: set[str] = set()
        self.woken: set[str] = set()
        self.functions: set[str] = set()

    def write(self, steps: int) -> list[str]:
        """So many steps, then every listing."""
        acts: list[tuple[Callable[[], None], int]] = [
            (self.submit, 24),
            (self.register, 10),
            (self.unregister, 3),
            (self.grab, 24),
            (self.sleep, 8),
            (self.remark, 8),
            (self.end, 14),
            (self.ask, 8),
            (self.option, 2),
            (self.listing, 10),
            (self.change, 5),
            (self.mistake, 5),
            (self.leave, 3),
        ]
        # Connections in one order on both sides.
        for name in (*CLIENTS, *WORKERS):
            self.say(f"{name} SET_CLIENT_ID {name}")
        while len(self.player.script) < steps:
            (act,) = self.random.choices([act for act, _ in acts], [weight for _, weight in acts])
            act()
        for command in ("status", "prioritystatus", "workers", "show jobs", "show unique jobs"):
            self.say(f"a: {command}")
        return self.player.script

    def say(self, step: str) -> list[Got]:
        got = self.player.step(step)
        self.woken.update(one.connection for one in got if one.what == "NOOP")
        return got

    def any(self, *things: str) -> str:
        return self.random.choice(things)

    # -- clients

    def submit(self) -> None:
        client, function = self.any(*CLIENTS), self.any(*FUNCTIONS)
        kind = self.any(
            *SUBMITS,
            *(f"{name}_BG" for name in SUBMITS),
            "SUBMIT_JOB_EPOCH",
            "SUBMIT_REDUCE_JOB",
            "SUBMIT_REDUCE_JOB_BACKGROUND",
        )
        background = kind.endswith(("_BG", "_EPOCH", "BACKGROUND"))
        unique = self.any("", "", f"{function}-1", f"{function}-2", f"{function}-3", "-", "u" * 63)
        if unique == "u" * 63:
            unique = (function[0] + unique)[:63]  # GET_STATUS_UNIQUE of a key in two functions: see the table
        payload = self.any(*PAYLOADS)
        key = payload and f"-{payload}" if unique == "-" else unique
        joined = next((job for job in self.jobs.values() if key and (job.function, job.key) == (function, key)), None)
        if joined and background and not joined.background:
            return  # in the table: a background submission that joins a foreground job
        if joined and not background and client in joined.watchers:
            return  # in the table: the same client twice
        extra = ""
        if kind == "SUBMIT_JOB_EPOCH":
            extra = self.any("0|", "1|", "1600000000|", "-5|", "junk|", "|")  # the future: in the table
        elif "REDUCE" in kind:
            extra = self.any("reducer||", "||")
        got = self.say(f"{client} {kind} {function}|{unique}|{extra}{payload}")
        self.functions.add(function)
        for one in got:
            if one.what == "JOB_CREATED":
                known = one.args[0] in self.player.handles
                number = self.player.handles.index(one.args[0]) + 1
                if number not in self.jobs:
                    assert known
                    priority = PRIORITY.get(kind, "") if "EPOCH" not in kind else ""
                    self.jobs[number] = Job(function, key, priority, background)
                if not background:
                    self.jobs[number].watchers.add(client)

    def ask(self) -> None:
        client = self.any(*CLIENTS)
        if self.random.random() < 0.5:
            handles = [f"#{number}" for number in range(1, len(self.player.handles) + 1)]
            self.say(f"{client} GET_STATUS {self.any('H:nobody:1', '', *handles[-12:])}")
        else:
            function = self.any(*FUNCTIONS)
            self.say(f"{client} GET_STATUS_UNIQUE {function}-{self.any('1', '2', '3', '4')}")

    def option(self) -> None:
        who = self.any(*CLIENTS, *WORKERS)
        option = self.any("exceptions", "Exceptions", "nonsense", "")
        self.say(f"{who} OPTION_REQ {option}")
        if option.lower() == "exceptions":
            self.exceptions.add(who)

    # -- workers

    def register(self) -> None:
        worker, function = self.any(*WORKERS), self.any(*FUNCTIONS)
        if function in self.abilities[worker]:
            return  # in the table: registered twice
        if worker in self.asleep and any(job.function == function and not job.holder for job in self.jobs.values()):
            return  # in the table: a sleeper that learns what waits already
        timeout = self.any("", "", "|60000", "|0", "|-1", "|junk")
        self.say(f"{worker} CAN_DO{'_TIMEOUT' if timeout else ''} {function}{timeout}")
        self.abilities[worker].add(function)
        self.functions.add(function)

    def unregister(self) -> None:
        worker, function = self.any(*WORKERS), self.any(*FUNCTIONS)
        held = {job.function for job in self.jobs.values() if job.holder == worker}
        if self.random.random() < 0.7:
            if function not in held:  # in the table: CANT_DO while holding
                self.say(f"{worker} CANT_DO {function}")
                self.abilities[worker].discard(function)
        elif not held:
            self.say(f"{worker} RESET_ABILITIES")
            self.abilities[worker].clear()

    def grab(self) -> None:
        worker = self.any(*WORKERS)
        self.asleep.discard(worker)
        self.woken.discard(worker)
        for one in self.say(f"{worker} {self.any('GRAB_JOB', 'GRAB_JOB_UNIQ', 'GRAB_JOB_ALL', 'GRAB_JOB_ALL')}"):
            if one.what.startswith("JOB_ASSIGN"):
                self.jobs[self.player.handles.index(one.args[0]) + 1].holder = worker

    def sleep(self) -> None:
        worker = self.any(*WORKERS)
        if worker in self.woken:
            return  # in the table: a worker that sleeps again without having grabbed
        self.say(f"{worker} PRE_SLEEP")
        self.asleep.add(worker)

    def _held(self) -> int:
        held = [number for number, job in self.jobs.items() if job.holder]
        return self.random.choice(held) if held else 0

    def remark(self) -> None:
        if number := self._held():
            kind = self.any(*REMARKS)
            more = self.any("1|2", "0|0", "50|100", "4294967295|1") if kind == "WORK_STATUS" else self.any(*PAYLOADS)
            self.say(f"{self.jobs[number].holder} {kind} #{number}|{more}")

    def end(self) -> None:
        if not (number := self._held()):
            return
        job = self.jobs[number]
        kind = self.any(*ENDS)
        if kind == "WORK_EXCEPTION" and not job.watchers <= self.exceptions:
            return  # in the table: the failure that is made of an exception
        more = "" if kind == "WORK_FAIL" else f"|{self.any(*PAYLOADS)}"
        self.say(f"{job.holder} {kind} #{number}{more}")
        del self.jobs[number]

    def leave(self) -> None:
        """A connection goes where that means the same to both: see the table for when it does not."""
        who = self.any(*CLIENTS, *WORKERS)
        if any(job.watchers == {who} for job in self.jobs.values()):
            return  # in the table: the last one who waits leaves
        held = [job for job in self.jobs.values() if job.holder == who]
        for job in held:
            others = [
                other
                for other in self.jobs.values()
                if (other.function, other.priority) == (job.function, job.priority) and not other.holder
            ]
            if len(held) > 1 or others:
                return  # in the table: where the jobs of a lost worker go
            job.holder = ""
        self.say(f"{who} closes")
        for job in self.jobs.values():
            job.watchers.discard(who)
        self.exceptions.discard(who)
        self.asleep.discard(who)
        self.woken.discard(who)
        if who in self.abilities:
            self.abilities[who].clear()
        self.say(f"{who} SET_CLIENT_ID {who}")

    # -- admin

    def listing(self) -> None:
        who = self.any("a", "a", "a", *CLIENTS, *WORKERS)
        self.say(f"{who}: {self.any(*LISTINGS)}")

    def change(self) -> None:
        function = self.any(*FUNCTIONS, "made", "made")
        what = self.any("create", "drop", "maxqueue", "maxqueue", "cancel")
        if what == "create":
            self.say(f"a: create function {function}\\r")  # without the CR: in the table
            self.functions.add(function)
        elif what == "drop":
            jobs = any(job.function == function for job in self.jobs.values())
            if not jobs:  # in the table: a function that has jobs
                self.say(f"a: drop function {function}")
        elif what == "maxqueue":
            self.say(f"a: maxqueue {function}{self.any('', ' 0', ' 2', ' 5', ' -1', ' 1 2 3', ' 9 0 4')}")
        else:
            self.say("a: cancel job H:nobody:7")  # one that lives: in the table

    # -- what should not be sent

    def mistake(self) -> None:
        who = self.any(*CLIENTS, *WORKERS)
        strange = f"{self.any(*REMARKS, *ENDS)} H:nobody:3"
        if "FAIL" not in strange:
            strange += "|1|2" if "STATUS" in strange else "|data"
        number = self._held()
        foreign = f"WORK_DATA #{number}|mine" if number and self.jobs[number].holder != who else strange
        self.say(
            self.any(
                f"{who} {strange}",
                f"{who} {foreign}",
                f"{who} {self.any(*NOT_REQUESTS)} a|b|c|d|e|f|g|h",
                f"{who} SUBMIT_JOB f|{'u' * 65}|x",
                f"{who} ECHO_REQ any\\x00thing",
                f"{who} raw \\x00RES\\x00\\x00\\x00\\x07\\x00\\x00\\x00\\x04f\\x00u\\x00",
                f"a: {self.any(*WRONG_LINES)}",
            )
        )
