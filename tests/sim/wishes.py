"""What a client that speaks farm's extension does besides: submits with terms, and asks about jobs and changes them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from farm.protocol import packets
from tests.sim.model import SPARE

if TYPE_CHECKING:
    from tests.sim.client import Client

_STRANGE = (b"colour=red", b"retries=-1", b"retries", b"priority=urgent", b"in=soon", b"retries=1 retries=2")
_CONDITIONS = (b"3", b"75", b"signal", b"timeout", b"exit", b"1-9", b"1-9,signal,timeout", b"any")
# Name, one of how many jobs says so, what it says.
_TERMS = (
    (b"retries", 2, (b"0", b"1", b"2", b"3", b"3")),
    (b"retry-on", 4, _CONDITIONS),
    (b"backoff", 2, (b"0", b"0", b"0.25", b"0.5", b"2")),
    (b"backoff-max", 3, (b"0.5", b"1")),
    (b"timeout", 3, (b"0.5", b"1", b"2", b"5")),
    (b"queue-timeout", 8, (b"0.25", b"1", b"2")),
    (b"expires", 8, (b"0.25", b"1", b"2")),
    (b"keep", 8, (b"60", b"600")),
    (b"priority", 4, (b"high", b"normal", b"low")),
    (b"unique-for", 5, (b"1", b"5", b"20")),
    (b"if-exists", 2, (b"attach", b"skip", b"fail", b"replace")),
)
_SETTINGS = ("retries", "retry-on", "backoff", "backoff-max", "timeout", "queue-timeout", "expires", "keep")
_VALUES = {name.decode(): [value.decode() for value in values] for name, _, values in _TERMS}


class Wishes:
    """The deeds of one client."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._rng = client.rng
        self._world = client.world

    def act(self) -> None:
        """One of them."""
        odds = self._world.odds
        asks = (self._cancel, self._retry, self._purge, self._wait, self._job, self._set, self._pause)
        deeds = (self.submit, *asks, self._drop)
        weights = (60, 10, 12, 3, 14, 14, odds("pauses", 10), odds("pauses", 6), 5)
        self._rng.choices(deeds, weights)[0]()
        if self._rng.random() < 0.02:
            self._ask(self._rng.choice(("nonsense", "job")), None)

    # -- submissions

    def submit(self) -> None:
        """With terms, of any function and key."""
        rng, world, client = self._rng, self._world, self._client
        unique = b"" if client.open else rng.choices((b"", b"-", rng.choice(world.keys[:4])), (25, 5, 70))[0]
        payload = rng.choice((b"same", b"alike", b"")) if unique == b"-" else world.token()
        after = [] if client.open else self._after()
        words = b" ".join([*self._words(), *after]) if rng.random() > 0.02 else rng.choice(_STRANGE)
        function = rng.choice(world.functions)
        if unique and world.ledger.book.keys and rng.random() < 0.45:
            function, unique = rng.choice(list(world.ledger.book.keys))
        if rng.random() < 0.05:
            function, unique = rng.choice(SPARE), rng.choice((b"", b"k")) if unique else b""
        if function in SPARE:  # nobody comes for it
            words = b"expires=%g unique-for=5 background=%d" % (rng.choice((0.25, 1)), rng.random() < 0.8)
            after = []
        client.ask("submit", packets.FARM_SUBMIT, function, unique, words, payload)
        # It may be put off until it is known how a job ended: what follows would be answered first.
        client.held = len(client.asked) if after or unique else 0

    def _words(self) -> list[bytes]:
        rng, world = self._rng, self._world
        words = [name + b"=" + rng.choice(values) for name, one_of, values in _TERMS if rng.random() < 1 / one_of]
        if rng.random() < 0.65:
            words.append(b"background=1")
        if rng.random() < 0.12:
            words.append(b"in=%g" % rng.choice((0.5, 1, 3)))
        elif rng.random() < 0.1:
            words.append(b"at=%d" % (world.now + world.wall_offset + rng.uniform(-1, 4)))
        rng.shuffle(words)
        return words

    def _after(self) -> list[bytes]:
        """Now and then it waits for other jobs, one after the other or several."""
        if self._rng.random() > 0.45:
            return []
        handles = dict.fromkeys(self._some_dependency() for _ in range(self._rng.choice((1, 1, 2, 3))))
        conditions = (b"ok", b"ok", b"ok", b"any", b"fail")
        return [b"after=" + b",".join(self._rng.choice(conditions) + b":" + handle for handle in handles)]

    def _some_dependency(self) -> bytes:
        """Now and then of a job that waits itself, or that its own client waits for."""
        waiting = [item.handle for item in self._world.ledger.book.jobs.values() if item.after]
        own = list(self._client.waiting)
        if own and self._rng.random() < self._world.odds("clients leave", 30) / 100:
            self._world.later(self._rng.uniform(0, 0.3), self._client.leave, False)
        whim = self._rng.random()
        if waiting and whim < 0.4:
            return self._rng.choice(waiting)
        return self._rng.choice(own) if own and whim < 0.7 else self._some_handle()

    # -- questions and commands

    def _cancel(self) -> None:
        reason = self._rng.choice(("", "no longer needed"))
        waiting = [item for item in self._world.ledger.book.jobs.values() if item.after]
        ids = self._some_ids()
        if waiting and self._rng.random() < 0.4:  # a job and one that waits for it
            item = next((other for other in waiting if waiting[0].handle in other.after), self._rng.choice(waiting))
            ids = [next(iter(item.after)).decode(), item.handle.decode()]
        self._ask("cancel", {"ids": ids, "reason": reason})

    def _retry(self) -> None:
        given_up = [item.handle.decode() for item in self._world.ledger.book.jobs.values() if item.over]
        if given_up and self._rng.random() < 0.5:  # its worker has it still
            self._ask("retry", {"ids": given_up[:1]})
            return
        self._ask("retry", {"ids": self._ended_ids() or self._some_ids()})

    def _purge(self) -> None:
        self._ask("purge", {"ids": self._ended_ids() if self._rng.random() < 0.5 else self._some_ids()})

    def _wait(self) -> None:
        if self._client.farm and self._client.link:
            ids = self._some_ids()
            self._client.expected.update({word.encode(): 1 for word in ids})
            self._ask("wait", {"ids": ids})

    def _job(self) -> None:
        self._ask("job", {"id": (self.rare_handle() if self._rng.random() < 0.7 else self._some_handle()).decode()})

    def _set(self) -> None:
        rng = self._rng
        fields: dict[str, object] = {"function": self._function()}
        if rng.random() < 0.9:
            names = rng.sample(_SETTINGS, rng.randint(1, 3))
            fields["set"] = {name: None if rng.random() < 0.4 else rng.choice(_VALUES[name]) for name in names}
        self._ask("function", fields)

    def _pause(self) -> None:
        function = self._function()
        self._ask("pause" if self._rng.random() < 0.6 else "resume", {"function": function})
        if self._rng.random() < 0.7:
            self._world.later(self._rng.uniform(0.1, 1.0), self._ask, "resume", {"function": function})

    def resume(self, function: bytes) -> None:
        """Let its jobs be given again."""
        self._ask("resume", {"function": function.decode()})

    def _drop(self) -> None:
        """Forget a function of which something is kept."""
        book = self._world.ledger.book
        names = [name for name in SPARE if name in book.settings or any(name == of for of, _ in book.keys)]
        if names:
            self._client.command(b"drop function " + self._rng.choice(names))

    def _function(self) -> str:
        """Mostly one that has jobs."""
        return self._rng.choice(self._world.functions if self._rng.random() < 0.75 else SPARE).decode()

    def _some_ids(self) -> list[str]:
        return [self._some_handle().decode() for _ in range(self._rng.choice((1, 1, 2, 4)))]

    def _some_handle(self) -> bytes:
        """Of any job that was heard of, or of one in a rare state."""
        if self._rng.random() < 0.5:
            return self._world.some_handle()
        return self.rare_handle()

    def rare_handle(self) -> bytes:
        """Of a job in any state, each being as likely, if there is one."""
        book = self._world.ledger.book
        by_state: dict[object, list[bytes]] = {}
        for item in book.jobs.values():
            by_state.setdefault(item.state, []).append(item.handle)
        for handle in list(book.kept.ended)[-8:]:
            by_state.setdefault(book.kept.ended[handle][0], []).append(handle)
        if "abandoned" in by_state and self._rng.random() < 0.5:  # it is not for long
            return self._rng.choice(by_state["abandoned"])
        return self._rng.choice(self._rng.choice(list(by_state.values()))) if by_state else b"H:none:1"

    def _ended_ids(self) -> list[str]:
        """Jobs that have not ended well, lately."""
        ended = [handle for handle, row in self._world.ledger.book.kept.ended.items() if row[0] != "done"]
        return [handle.decode() for handle in self._rng.sample(ended[-6:], min(len(ended), self._rng.choice((1, 2))))]

    def _ask(self, verb: str, fields: dict[str, object] | None) -> None:
        client = self._client
        if client.link is None or client.held:
            return
        question = b"not JSON" if fields is None else json.dumps(fields).encode()
        if not client.farm or fields is None:  # it is refused, and at once
            client.ask("question", packets.FARM_ASK, verb.encode(), question, b"")
            return
        client.open += 1
        client.send(packets.FARM_ASK, verb.encode(), question, b"")
