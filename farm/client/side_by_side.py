"""Several servers are spoken to at the same time: one that is frozen costs no more than its own answer.

Each conversation has a thread of its own, for already a name that is looked up blocks. Threads share nothing: each
gives its result back, and one that is not waited for any more gives it to nobody.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar, cast

from farm.client.connection import Connection

T = TypeVar("T")

# So long a server may be silent where another one has answered: what that said is not kept from a person for longer. A
# server answers at once; one that is busy gets the time of a few slow commits.
SILENT_S = 3.0
# So long the others have when the answer that was sought is there: enough for those that are well.
TWIN_S = 0.3
WAIT_MAX_S = 3600.0  # in one go: what the system can count


class Talk(Generic[T]):
    """A conversation with one server. connection: as soon as it is there, so that it can be broken off."""

    def __init__(self, work: Callable[[Talk[T]], T]) -> None:
        self.connection: Connection | None = None
        self.result: T | None = None
        self.error: BaseException | None = None
        self._work = work
        self._began = time.monotonic()

    @property
    def heard(self) -> float:
        """When the server last gave a sign of life; before the first one, when it was called."""
        return max(self._began, self.connection.heard) if self.connection else self._began

    def on(self, connection: Connection) -> None:
        """It is held through this connection."""
        self.connection = connection

    def run(self) -> None:
        """Talk; the outcome is in `result` or `error`."""
        try:
            self.result = self._work(self)
        except BaseException as error:  # noqa: BLE001 it is raised where it is waited for
            self.error = error

    def break_off(self) -> None:
        """Nobody waits for it any more."""
        if self.connection:
            self.connection.break_off()


def side_by_side(
    works: Sequence[Callable[[Talk[T]], T]],
    answered: Callable[[T], bool],
    *,
    enough: Callable[[T], bool] | None = None,
    others: bool = False,
    deadline: float | None = None,
) -> list[T | None]:
    """What each comes to, in their order; None: it was not waited for any longer. Raises what one of them raises.

    answered: whether a result means that the server is there. From the first such one on another one may be silent for
    SILENT_S. others: one that is not among these has answered already. enough: whether a result is
    all that was sought; then the others have TWIN_S. deadline: monotonic seconds, after which nobody is waited for.
    """
    talks = [Talk(work) for work in works]
    if len(talks) == 1 and deadline is None and not others:
        talks[0].run()
        return [_outcome(talks[0])]
    done: queue.SimpleQueue[Talk[T]] = queue.SimpleQueue()
    for talk in talks:
        threading.Thread(target=_run, args=(talk, done), daemon=True).start()
    left, results = list(talks), dict[Talk[T], T | None]()
    first = time.monotonic() if others else math.inf  # when the first answered
    found = math.inf  # when the answer that was sought came

    def limit(talk: Talk[T]) -> float:
        silent = max(first, talk.heard) + SILENT_S
        return min(silent, found + TWIN_S, math.inf if deadline is None else deadline)

    while left:
        came = _next(done, min(map(limit, left)) - time.monotonic())
        if came is None:
            now = time.monotonic()
            for late in [each for each in left if limit(each) <= now]:
                late.break_off()
                left.remove(late)
        elif came in left:
            left.remove(came)
            result = results[came] = _outcome(came)
            if answered(result):
                first = min(first, time.monotonic())
            if enough and enough(result):
                found = min(found, time.monotonic())
    return [results.get(talk) for talk in talks]


def _next(done: queue.SimpleQueue[Talk[T]], timeout_s: float) -> Talk[T] | None:
    """The next conversation that has ended; None: none has in time."""
    try:
        return done.get(timeout=min(max(0.0, timeout_s), WAIT_MAX_S))
    except queue.Empty:
        return None


def _run(talk: Talk[T], done: queue.SimpleQueue[Talk[T]]) -> None:
    talk.run()
    done.put(talk)


def _outcome(talk: Talk[T]) -> T:
    if talk.error is not None:
        raise talk.error
    return cast(T, talk.result)
