"""Asks about jobs, one question at a time, and cancels some of them: what a submitter does on its last connection.

What `job` answers may not be durable yet, so it counts only once the echo of a farm-sync connection has come back.
"""

from __future__ import annotations

import json
import random
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from farm.protocol import packets as p
from tests.support import req

KNOWN_MAX = 40  # jobs at a time: each is asked about several times, also in later lives of the server
CANCELLED = 0.1  # of the asks


class Asker:
    """Makes packets and ledger lines; the connection is its owner's."""

    def __init__(self, chance: random.Random, say: Callable[..., None]) -> None:
        self._chance = chance
        self._say = say
        self._known: deque[bytes] = deque(maxlen=KNOWN_MAX)
        self._life = b""
        self._open = False  # an ask without its answer and its echo
        self._asked_at = 0.0
        self._about = b""
        self._seen: int | None = None  # how many failed attempts that job is said to have had

    def knows(self, handle: bytes) -> None:
        """One more to ask about."""
        self._known.append(handle)

    def opened(self) -> bytes:
        """What a new connection begins with."""
        self._open, self._seen = False, None
        return b"getpid\n" + req(p.OPTION_REQ, b"farm-1") + req(p.OPTION_REQ, b"farm-sync")

    def ask(self) -> bytes:
        """The next question, unless one is open."""
        if self._open or not self._known:
            return b""
        self._open, self._asked_at = True, time.monotonic()
        handle = self._about = self._chance.choice(self._known)
        if self._chance.random() < CANCELLED:
            self._known.remove(handle)
            self._say(b"K", handle)
            return _ask(b"cancel", {"ids": [handle.decode()]})
        return _ask(b"job", {"id": handle.decode()}) + req(p.ECHO_REQ, b"")

    def took(self, number: int, body: bytes) -> None:
        """A packet came. The echo may overtake an answer that waits for the job's end to be durable."""
        if number == p.TEXT:
            self._life = body
        elif number == p.FARM_ANSWER:
            verb, _, text = body.partition(b"\0")
            (self._cancelled if verb == b"cancel" else self._answered)(json.loads(text))
        elif number == p.ECHO_RES:
            if self._seen is not None:
                self._say(b"J", self._about, b"%d %.6f %.6f" % (self._seen, self._asked_at, time.monotonic()))
            self._open, self._seen = False, None
        elif number == p.ERROR:
            self._open = False

    def _answered(self, answer: dict[str, Any]) -> None:
        if self._open and answer["job"]["id"].encode() == self._about:
            self._seen = answer["job"]["failures"]

    def _cancelled(self, answer: dict[str, Any]) -> None:
        self._open = False
        (result,) = answer["results"]
        if result["outcome"] != "ended":
            handle, outcome = result["id"].encode(), result["outcome"].encode()
            self._say(b"C", handle, outcome, b"%.6f" % time.monotonic(), self._life)


def _ask(verb: bytes, request: dict[str, object]) -> bytes:
    return req(p.FARM_ASK, verb, json.dumps(request).encode(), b"")
