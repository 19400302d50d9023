"""What a client that speaks farm's extension does about cron: adds entries, runs, pauses, removes, lists them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from farm.protocol import packets
from tests.sim.calendar import CERTAIN, EVERY_MINUTE, SHOWN

if TYPE_CHECKING:
    from tests.sim.client import Client

NAMES = ("a", "b", "c", "d", "e", "f")
_STRANGE = ("* * * *", "60 * * * *", "30 2 31 2 *", "@reboot", "")
_TERMS: tuple[dict[str, str], ...] = (
    {},
    {},
    {"retries": "2", "backoff": "0.25"},
    {"priority": "high"},
    {"priority": "low", "timeout": "1"},
    {"expires": "1", "keep": "600"},
)


class CronWishes:
    """The deeds of one client. Their answers come in order with those to its submissions: it waits for each."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._rng = client.rng
        self._world = client.world

    def act(self) -> None:
        """One of them."""
        if not self._is_free():
            return
        deeds = (self._add, self._import, self._of_one, self._list, self._again)
        again = 60 if self._queues() else 40 if self._ended() else 0
        weights = (30, 10, 40, 4, again) if self._world.ledger.book.crons else (10, 2, 1, 1, again / 4)
        self._rng.choices(deeds, weights)[0]()

    def _is_free(self) -> bool:
        return self._client.farm and not self._client.open and not self._client.held

    def _add(self) -> None:
        known = list(self._world.ledger.book.crons)
        name = self._rng.choice(NAMES)
        again = name in known
        if again and self._rng.random() < 0.15:
            self._add_again(name)
            return
        self._ask("cron add", {**self._entry(name), "replace": again and self._rng.random() < 0.8}, self._world.token())

    def _add_again(self, name: str) -> None:
        """As it is."""
        it = self._world.ledger.book.crons[name]
        said = {"line": it.line, "zone": it.zone, "function": it.function.decode(), "unique": it.unique.decode()}
        ways = {"terms": it.terms, "overlap": it.overlap, "catch_up": it.catch_up}
        self._ask("cron add", {"name": name, **said, **ways}, it.payload)

    def _import(self) -> None:
        names = self._rng.sample(NAMES, 2)
        known = list(self._world.ledger.book.crons)
        if known and self._rng.random() < 0.5:  # of which all are refused
            names[1] = self._rng.choice(known)
            names[0] = next(name for name in NAMES if name != names[1])
        entries = [{**self._entry(name), "payload": self._world.token().decode()} for name in names]
        self._ask("cron add", {"entries": entries, "replace": self._rng.random() < 0.7})

    def _of_one(self) -> None:
        known = list(self._world.ledger.book.crons)
        name = self._rng.choice(known) if known and self._rng.random() < 0.95 else "nothing"
        verbs = ("cron run", "cron pause", "cron resume", "cron remove")
        verb = self._rng.choices(verbs, (30, 30, 30, 18))[0]
        entry = self._world.ledger.book.crons.get(name)
        if entry is not None and entry.paused and self._rng.random() < 0.5:
            verb = "cron resume"
        self._ask(verb, {"name": name})
        if verb == "cron remove":
            self._world.later(self._rng.uniform(0.1, 0.5), self._again, name)
            self._world.later(self._rng.uniform(0.3, 1.0), self._add_anew, name)

    def _list(self) -> None:
        self._ask("cron", {})

    def _add_anew(self, name: str) -> None:
        if self._is_free():
            self._ask("cron add", self._entry(name), self._world.token())

    def _again(self, name: str = "") -> None:
        """An entry's job that has not ended well is run again: rather one of this entry, or of one whose others wait
        for their turn; where none of those has ended, one is cancelled for that."""
        ended, queues = self._ended({name.encode()}), self._queues()
        verb, handles = b"retry", ended or self._ended(queues) or self._ended()
        if queues and not name and (self._rng.random() < 0.2 or not self._ended(queues)):
            items = self._world.ledger.book.jobs.values()
            verb, handles = b"cancel", [item.handle for item in items if item.terms.get(b"cron") in queues]
            self._world.later(self._rng.uniform(0.1, 0.5), self._again)
        if handles and self._is_free() and self._client.link is not None:
            self._client.open += 1
            fields = {"ids": [self._rng.choice(handles).decode()]}
            self._client.send(packets.FARM_ASK, verb, json.dumps(fields).encode(), b"")

    def _queues(self) -> set[bytes]:
        """The entries whose jobs wait for their turn."""
        items = self._world.ledger.book.jobs.values()
        return {item.terms[b"cron"] for item in items if item.after and b"cron" in item.terms}

    def _ended(self, names: set[bytes] | None = None) -> list[bytes]:
        """The jobs of these entries, or of any, that have not ended well."""
        book = self._world.ledger.book
        ended = [handle for handle, row in book.kept.ended.items() if row[0] != "done"]
        entries = {handle: book.handles[handle].terms.get(b"cron", b"") for handle in ended}
        return [handle for handle, entry in entries.items() if entry and (names is None or entry in names)]

    def _entry(self, name: str) -> dict[str, Any]:
        rng, world = self._rng, self._world
        zones = (world.night.zone, world.night.zone, world.night.zone, "UTC", "Asia/Kolkata")
        line = rng.choice(rng.choice((CERTAIN, SHOWN)))
        overlap = rng.choice(("skip", "queue", "replace"))
        catch_up = rng.choice(("none", "last", "all"))
        if overlap == "skip" and rng.random() < 0.3:
            catch_up = "all"
        if (catch_up == "all" and line == EVERY_MINUTE) or (catch_up, overlap) == ("all", "replace"):
            catch_up = rng.choices(("last", "all"), (20, 1))[0]  # a hundred jobs, or refused
        if rng.random() < 0.03:
            line = rng.choice(_STRANGE)
        function, unique = rng.choice(world.functions), rng.choice(world.keys) if rng.random() < 0.2 else b""
        taken = [*world.ledger.book.keys, *(key[:2] for key in world.ledger.book.joinable if key[1] != b"-")]
        if taken and rng.random() < 0.3:
            function, unique = rng.choice(taken)
        return {
            "name": name,
            "line": line,
            "zone": rng.choice(zones),
            "function": function.decode(),
            "unique": unique.decode(),
            "terms": rng.choice(_TERMS),
            "overlap": overlap,
            "catch_up": catch_up,
        }

    def _ask(self, verb: str, fields: dict[str, Any], payload: bytes = b"") -> None:
        client = self._client
        client.ask("cron", packets.FARM_ASK, verb.encode(), json.dumps(fields).encode(), payload)
        client.held = len(client.asked)
